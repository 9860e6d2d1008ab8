package enrol

import (
	"crypto/x509"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// RenewSignedPath is the renewal, below the CA base URL, for a device that
// cannot show its certificate in TLS, mostly because it has ended: it proves to
// hold its key by a signature instead.
const RenewSignedPath = "/v1/renew-signed"

// SignedRenewal asks for the next certificate. Whoever replays it gets the
// certificate of a key that only the device has.
type SignedRenewal struct {
	Certificate        string    `json:"certificate"` // PEM, the leaf that it renews
	CSR                string    `json:"csr"`
	WireGuardPublicKey string    `json:"wireguard_public_key"`
	Time               time.Time `json:"time,omitzero"` // the device's clock
	SSHHostKey         string    `json:"ssh_host_key,omitempty"`
	// Signature is ASN.1 ECDSA over the SHA-256 of [SignedRenewalPayload], by
	// the key of Certificate.
	Signature []byte `json:"signature"`
}

// SignedRenewalPayload is what the signature covers.
func SignedRenewalPayload(leaf *x509.Certificate, csrHash, wireGuard, sshHostKey string) []byte {
	return fmt.Appendf(nil, "wardnet-renew/1\n%s\n%s\n%s\n%s\n", digest(leaf.Raw), csrHash, wireGuard, digest([]byte(sshHostKey)))
}

// DecodeSignedRenewal reads one SignedRenewal as [DecodeRequest] does.
func DecodeSignedRenewal(r io.Reader) (SignedRenewal, error) {
	var q SignedRenewal
	if err := decode(r, &q); err != nil {
		return SignedRenewal{}, fmt.Errorf("signed renewal: %w", err)
	}
	if q.Certificate == "" || q.CSR == "" || q.WireGuardPublicKey == "" || len(q.Signature) == 0 {
		return SignedRenewal{}, fmt.Errorf("signed renewal: %w: certificate, csr, wireguard_public_key and signature must be given", inventory.ErrInvalid)
	}
	return q, nil
}

// AwaitingConfirmation is the reason in an [Error] while a person has to
// confirm a device that has shown an offline token.
const AwaitingConfirmation = "awaiting-confirmation"

// Code is what a person compares to know a device by its CSR: 64 bits of the
// CSR's hash, in groups.
func Code(csrHash string) string {
	if len(csrHash) < 16 {
		return csrHash
	}
	return strings.Join([]string{csrHash[:4], csrHash[4:8], csrHash[8:12], csrHash[12:16]}, "-")
}
