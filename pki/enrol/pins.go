package enrol

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// PinsPayload is what the signature over the pins of an answer covers; the hash
// of the CSR keeps an old answer from being replayed.
func PinsPayload(csrHash string, pins []string) []byte {
	return fmt.Appendf(nil, "wardnet-pins/1\n%s\n%s\n", csrHash, strings.Join(pins, ","))
}

// repin takes over the pins of a renewal's answer when the checkpoint key that
// was pinned at enrolment vouches for them: who holds the hub issuer's key alone
// cannot make a device accept another issuer. Otherwise the old pins stay.
func (s slot) repin(r Response, checkpoint map[string]*ecdsa.PublicKey) slot {
	if len(r.HubPins) == 0 || slices.Equal(r.HubPins, s.HubPins) {
		return s
	}
	csr, err := ParseCSR(s.CSR)
	if err != nil {
		return s
	}
	sum := sha256.Sum256(PinsPayload(CSRHash(csr), r.HubPins))
	for _, key := range checkpoint {
		if ecdsa.VerifyASN1(key, sum[:], r.PinsSignature) {
			s.HubPins = slices.Clone(r.HubPins)
			return s
		}
	}
	return s
}
