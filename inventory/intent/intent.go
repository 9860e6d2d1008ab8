// Package intent holds the values that change the network: revision, approval
// and envelope. Only a revision may widen what the network lets pass or change
// its configuration (design §1, "the law").
package intent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Number counts revisions from 1; numbers only rise, a return to old content is
// a new revision.
type Number uint64

// Revision is an immutable, numbered, signed intent with its envelope.
type Revision struct {
	Number Number          `json:"number"`
	Org    inventory.OrgID `json:"org"`
	Author string          `json:"author"` // user name
	// Others prepared it too; none of them may approve it.
	Others   []string            `json:"others,omitempty"`
	At       time.Time           `json:"at"` // UTC
	Message  string              `json:"message"`
	Content  inventory.Inventory `json:"content"`
	Envelope Envelope            `json:"envelope"`
	// Hash is the lower-case hex SHA-256 of number, org, author, content and
	// envelope; see [ContentHash].
	Hash      string `json:"hash"`
	KeyID     string `json:"key_id"`
	Signature []byte `json:"signature"` // ASN.1 ECDSA over the hash bytes, by the revision key
}

// Envelope declares the named runtime sets and the most each may ever hold.
// The proof is made with every set at its maximum.
type Envelope struct {
	// Peers are the devices that may ever be admitted as tunnel peers.
	Peers []inventory.DeviceID `json:"peers"`
	// GrantsPerSite bounds the session grants an edge may hold at once.
	GrantsPerSite int `json:"grants_per_site"`
}

// Approval is a signed record that names one revision and its hash. It is void
// when the revision's hash differs, past Expires, or when the approver is the
// author.
type Approval struct {
	Revision  Number    `json:"revision"`
	Hash      string    `json:"hash"`
	Approver  string    `json:"approver"`
	At        time.Time `json:"at"`
	Expires   time.Time `json:"expires"`
	Comment   string    `json:"comment"`
	KeyID     string    `json:"key_id"`
	Signature []byte    `json:"signature"`
}

// Valid says whether a approves r at now; the error is the reason why not and
// wraps [inventory.ErrInvalid].
func (a Approval) Valid(r Revision, now time.Time) error {
	switch {
	case a.Revision != r.Number || a.Hash != r.Hash:
		return fmt.Errorf("%w: the approval by %s names revision %d (%.12s), not %d (%.12s)", inventory.ErrInvalid, a.Approver, a.Revision, a.Hash, r.Number, r.Hash)
	case slices.Contains(r.Others, a.Approver):
		return fmt.Errorf("%w: %s prepared a part of revision %d; a person who did not must approve it", inventory.ErrInvalid, a.Approver, r.Number)
	case a.Approver == r.Author:
		return fmt.Errorf("%w: %s is the author of revision %d; another person must approve it", inventory.ErrInvalid, a.Approver, r.Number)
	case !now.Before(a.Expires):
		return fmt.Errorf("%w: the approval by %s expired at %s", inventory.ErrInvalid, a.Approver, a.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// ContentHash is the hash a revision is signed and approved by: SHA-256 over
// the canonical JSON (Go's field order, sorted slices) of what it puts in force
// and of its author, on whom the validity of approvals depends.
func ContentHash(r Revision) (string, error) {
	b, err := json.Marshal(struct {
		Number   Number
		Org      inventory.OrgID
		Author   string
		Content  inventory.Inventory
		Envelope Envelope
		Others   []string `json:",omitempty"` // left out where there are none, as before there could be
	}{r.Number, r.Org, r.Author, r.Content.Normalize(), r.Envelope, r.Others})
	if err != nil {
		return "", fmt.Errorf("hash revision %d: %w", r.Number, err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
