package intent

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// MaxWaiver is the longest life of a waiver.
const MaxWaiver = 90 * 24 * time.Hour

// Waiver is a signed record by which a person takes the risk of one revision
// whose proof does not hold, until a date. It is void when the revision's hash
// differs and past Until.
type Waiver struct {
	Revision Number `json:"revision"`
	Hash     string `json:"hash"`
	By       string `json:"by"`     // user name
	Reason   string `json:"reason"` // why the risk is taken
	// Finding is what the proof said when the waiver was signed: the risk.
	Finding   string    `json:"finding"`
	At        time.Time `json:"at"`
	Until     time.Time `json:"until"`
	KeyID     string    `json:"key_id"`
	Signature []byte    `json:"signature"`
}

// Waivers keeps waivers. It is append-only.
type Waivers interface {
	// AppendWaiver stores w durably. It wraps [inventory.ErrNotFound] when the
	// revision is unknown; it does not judge w, see [Waiver.Valid].
	AppendWaiver(ctx context.Context, w Waiver) error
	// WaiversOf returns the waivers that name n, oldest first; none is no error.
	WaiversOf(ctx context.Context, n Number) ([]Waiver, error)
}

// Valid says whether w covers r at now; the error is the reason why not and
// wraps [inventory.ErrInvalid].
func (w Waiver) Valid(r Revision, now time.Time) error {
	switch {
	case w.Revision != r.Number || w.Hash != r.Hash:
		return fmt.Errorf("%w: the waiver by %s names revision %d (%.12s), not %d (%.12s)", inventory.ErrInvalid, w.By, w.Revision, w.Hash, r.Number, r.Hash)
	case !now.Before(w.Until):
		return fmt.Errorf("%w: the waiver by %s ended at %s", inventory.ErrInvalid, w.By, w.Until.UTC().Format(time.RFC3339))
	}
	return nil
}

// payload is what the signature of a waiver covers.
func (w Waiver) payload() [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "wardnet-waiver/1\n%d\n%s\n%q\n%q\n%q\n%s\n%s\n",
		w.Revision, w.Hash, w.By, w.Reason, w.Finding, w.At.UTC().Format(time.RFC3339Nano), w.Until.UTC().Format(time.RFC3339Nano)))
}

// SignWaiver signs w with the revision key on behalf of the person who waives.
// It wraps [inventory.ErrInvalid], and lists all that is missing, when w lacks a
// reason, a name or an end within [MaxWaiver].
func SignWaiver(w Waiver, key crypto.Signer, keyID string) (Waiver, error) {
	var faults []string
	for _, f := range []struct {
		missing bool
		what    string
	}{
		{w.Revision == 0 || w.Hash == "", "the revision with its hash"},
		{strings.TrimSpace(w.By) == "", "the name of the person who takes the risk"},
		{strings.TrimSpace(w.Reason) == "", "a reason"},
		{w.Finding == "", "what the proof found"},
		{!w.Until.After(w.At), "an end date after now"},
		{w.Until.Sub(w.At) > MaxWaiver, fmt.Sprintf("an end date within %d days", int(MaxWaiver.Hours()/24))},
	} {
		if f.missing {
			faults = append(faults, f.what)
		}
	}
	if len(faults) > 0 {
		return Waiver{}, fmt.Errorf("%w: a waiver of revision %d needs %s", inventory.ErrInvalid, w.Revision, strings.Join(faults, "; "))
	}
	w.At, w.Until = w.At.UTC(), w.Until.UTC()
	digest := w.payload()
	sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return Waiver{}, fmt.Errorf("sign the waiver of revision %d with key %s: %w", w.Revision, keyID, err)
	}
	w.KeyID, w.Signature = keyID, sig
	return w, nil
}

// VerifyWaiver says whether pub signed w as it is. The error wraps
// [inventory.ErrInvalid].
func VerifyWaiver(w Waiver, pub crypto.PublicKey) error {
	digest := w.payload()
	if !verified(pub, digest[:], w.Signature) {
		return fmt.Errorf("%w: the waiver of revision %d by %s is not signed by key %s", inventory.ErrInvalid, w.Revision, w.By, w.KeyID)
	}
	return nil
}
