package intent

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Sign normalizes the content of r, hashes it and signs the hash with the
// revision key, an ECDSA P-256 [crypto.Signer]. r.Number and r.Author must be
// set; r.Org, when empty, becomes the content's. It wraps
// [inventory.ErrInvalid] when r is incomplete.
func Sign(r Revision, key crypto.Signer, keyID string) (Revision, error) {
	r.Content = r.Content.Normalize()
	r.At = r.At.UTC()
	if r.Org == "" {
		r.Org = r.Content.Org
	}
	switch {
	case r.Number == 0:
		return Revision{}, fmt.Errorf("%w: sign a revision: it has no number", inventory.ErrInvalid)
	case r.Author == "":
		return Revision{}, fmt.Errorf("%w: sign revision %d: it has no author", inventory.ErrInvalid, r.Number)
	case r.Org != r.Content.Org:
		return Revision{}, fmt.Errorf("%w: sign revision %d: it belongs to %q, its content to %q", inventory.ErrInvalid, r.Number, r.Org, r.Content.Org)
	}
	hash, err := ContentHash(r)
	if err != nil {
		return Revision{}, err
	}
	digest, err := hex.DecodeString(hash)
	if err != nil {
		return Revision{}, fmt.Errorf("sign revision %d: %w", r.Number, err)
	}
	r.Hash, r.KeyID = hash, keyID
	if r.Signature, err = key.Sign(rand.Reader, digest, crypto.SHA256); err != nil {
		return Revision{}, fmt.Errorf("sign revision %d with key %s: %w", r.Number, keyID, err)
	}
	return r, nil
}

// Verify says whether the content of r has its hash and pub signed it. The
// error wraps [inventory.ErrInvalid].
func Verify(r Revision, pub crypto.PublicKey) error {
	hash, err := ContentHash(r)
	if err != nil {
		return err
	}
	if hash != r.Hash {
		return fmt.Errorf("%w: revision %d has the hash %.12s, its content hashes to %.12s: it was changed after it was signed", inventory.ErrInvalid, r.Number, r.Hash, hash)
	}
	digest, _ := hex.DecodeString(hash) // our own hex
	if !verified(pub, digest, r.Signature) {
		return fmt.Errorf("%w: revision %d is not signed by key %s", inventory.ErrInvalid, r.Number, r.KeyID)
	}
	return nil
}

// payload is what the signature of an approval covers.
func (a Approval) payload() [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "wardnet-approval/1\n%d\n%s\n%q\n%s\n%s\n%q\n",
		a.Revision, a.Hash, a.Approver, a.At.UTC().Format(time.RFC3339Nano), a.Expires.UTC().Format(time.RFC3339Nano), a.Comment))
}

// SignApproval signs a with the revision key on behalf of its approver. It
// wraps [inventory.ErrInvalid] when a is incomplete.
func SignApproval(a Approval, key crypto.Signer, keyID string) (Approval, error) {
	if a.Revision == 0 || a.Hash == "" || a.Approver == "" || !a.Expires.After(a.At) {
		return Approval{}, fmt.Errorf("%w: sign an approval of revision %d: it needs a hash, an approver and an expiry after its time", inventory.ErrInvalid, a.Revision)
	}
	a.At, a.Expires = a.At.UTC(), a.Expires.UTC()
	digest := a.payload()
	sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return Approval{}, fmt.Errorf("sign the approval of revision %d with key %s: %w", a.Revision, keyID, err)
	}
	a.KeyID, a.Signature = keyID, sig
	return a, nil
}

// VerifyApproval says whether pub signed a as it is. The error wraps
// [inventory.ErrInvalid].
func VerifyApproval(a Approval, pub crypto.PublicKey) error {
	digest := a.payload()
	if !verified(pub, digest[:], a.Signature) {
		return fmt.Errorf("%w: the approval of revision %d by %s is not signed by key %s", inventory.ErrInvalid, a.Revision, a.Approver, a.KeyID)
	}
	return nil
}

// verified fails closed: a key of another kind verifies nothing.
func verified(pub crypto.PublicKey, digest, sig []byte) bool {
	k, ok := pub.(*ecdsa.PublicKey)
	return ok && ecdsa.VerifyASN1(k, digest, sig)
}

// ApprovalRequired says whether r may only be rolled out with an approval:
// every revision but the very first one, which finds nothing in force
// (inForce 0).
func ApprovalRequired(r Revision, inForce Number) bool {
	return inForce != 0 && r.Number != inForce
}

// Approved says whether one of the approvals, signed by pub, lets r be rolled
// out at now. Otherwise the error wraps [inventory.ErrInvalid] and gives the
// reason why each one does not.
func Approved(r Revision, approvals []Approval, now time.Time, pub crypto.PublicKey) error {
	reasons := make([]error, 0, len(approvals)+1)
	for _, a := range approvals {
		err := a.Valid(r, now)
		if err == nil {
			err = VerifyApproval(a, pub)
		}
		if err == nil {
			return nil
		}
		reasons = append(reasons, err)
	}
	if len(reasons) == 0 {
		return fmt.Errorf("%w: revision %d has no approval; a person other than its author %s approves it", inventory.ErrInvalid, r.Number, r.Author)
	}
	return errors.Join(reasons...)
}

// minGrants is the least an edge must be able to hold.
const minGrants = 256

// EnvelopeOf is the envelope an inventory needs: every device that is not
// retired as a peer, and at each edge one grant per person and application at
// the largest site.
func EnvelopeOf(inv inventory.Inventory) Envelope {
	e := Envelope{Peers: []inventory.DeviceID{}, GrantsPerSite: minGrants}
	for _, d := range inv.Devices {
		if d.Intended != inventory.Retired {
			e.Peers = append(e.Peers, d.ID)
		}
	}
	slices.Sort(e.Peers)
	for _, s := range inv.Sites {
		e.GrantsPerSite = max(e.GrantsPerSite, s.People*len(inv.Applications))
	}
	return e
}
