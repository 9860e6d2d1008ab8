package pki

import (
	"context"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Token is a one-time enrolment token as kept: its secret only as a hash.
type Token struct {
	Hash    string // lower-case hex SHA-256 of the token
	Device  inventory.DeviceID
	Serial  string // hardware serial it may be presented with
	By      string
	At      time.Time
	Expires time.Time
	// UsedAt is zero until the first valid presentation, which sets it together
	// with CSRHash and Certificate.
	UsedAt      time.Time
	CSRHash     string
	Certificate string // serial number
	// Offline tokens live longer and are good only for the CSR that a person
	// has confirmed; until then ConfirmedCSR is empty.
	Offline      bool
	ConfirmedCSR string
	ConfirmedBy  string
	ConfirmedAt  time.Time
}

// Certificate is one issued certificate.
type Certificate struct {
	Serial    string // number, lower-case hex
	Issuer    Issuer
	IssuerKey string // key id of the issuer's key
	Subject   string
	SPIFFEID  string             // empty on the controller's own
	Device    inventory.DeviceID // empty unless the devices issuer's
	// Lineage is the serial number of the enrolment this certificate was
	// renewed from, its own for the first. Revocation takes a lineage whole:
	// who stole one key may have renewed with it.
	Lineage   string
	Parent    string // serial number of the certificate it renews
	CSRHash   string // one certificate per CSR
	WireGuard string // public key bound to it, base64
	NotBefore time.Time
	NotAfter  time.Time
	IssuedAt  time.Time
	IssuedBy  string
	Chain     string    // PEM, leaf first
	RevokedAt time.Time // zero: not revoked; filled on reading
}

// State is the certificate's state at now: valid, expired or revoked.
func (c Certificate) State(now time.Time) string {
	switch {
	case !c.RevokedAt.IsZero():
		return "revoked"
	case now.After(c.NotAfter):
		return "expired"
	}
	return "valid"
}

// Revocation is one entry of the append-only revocation log. It is complete in
// itself: after a restore it may name a certificate the database has forgotten.
type Revocation struct {
	Seq       int64              `json:"seq"` // order in this database; 0 in an import
	Serial    string             `json:"serial"`
	IssuerKey string             `json:"issuer_key"`
	Device    inventory.DeviceID `json:"device,omitempty"`
	Lineage   string             `json:"lineage,omitempty"`
	Reason    string             `json:"reason"`
	By        string             `json:"by"`
	At        time.Time          `json:"at"`
	NotAfter  time.Time          `json:"not_after"`
}

// Redemption is the outcome of presenting a token.
type Redemption struct {
	First       bool         // this call consumed the token
	Token       Token        // as it stands now
	Certificate Certificate  // recorded for the token; zero while it is unused
	Revoked     []Revocation // earlier certificates of the device, superseded
}

// Tokens keeps enrolment tokens.
type Tokens interface {
	// AddToken keeps t and ends every unused token of the same device.
	AddToken(ctx context.Context, t Token) error
	// Token gives a token with the certificate recorded for it;
	// [inventory.ErrNotFound] when there is none.
	Token(ctx context.Context, hash string) (Redemption, error)
	// Redeem consumes the token and records c in one transaction, or changes
	// nothing when it is used or expired at c.IssuedAt: of any number of
	// presentations, exactly one is First. Earlier lineages of the device are
	// superseded. A WireGuard key known from another lineage wraps
	// [inventory.ErrConflict].
	Redeem(ctx context.Context, hash string, c Certificate) (Redemption, error)
	// UseToken keeps the id of a signed one-time token until expires; false
	// means it was there already. Exactly one of many callers gets true.
	UseToken(ctx context.Context, id string, expires time.Time) (bool, error)
}

// Certificates keeps what was issued.
type Certificates interface {
	// AddCertificate records a certificate that is no device's;
	// [inventory.ErrConflict]: its CSR was used before.
	AddCertificate(ctx context.Context, c Certificate) error
	// Renew records c, which continues the lineage of c.Parent; a second call
	// with the same CSR hash gives the certificate recorded first.
	// [ErrLineageRevoked]: the lineage is; [inventory.ErrConflict]: the CSR was
	// used for another certificate, or the WireGuard key is another's.
	Renew(ctx context.Context, c Certificate) (Certificate, error)
	// Certificate finds one by serial number.
	Certificate(ctx context.Context, serial string) (Certificate, error)
	// CertificateByCSR finds a device's by the hash of its CSR.
	CertificateByCSR(ctx context.Context, hash string) (Certificate, error)
	// Certificates lists all, newest first.
	Certificates(ctx context.Context) ([]Certificate, error)
}

// Revocations keeps the revocation log.
type Revocations interface {
	// Revoke revokes the certificate and every live one of its lineage, and
	// gives what is new. [inventory.ErrNotFound]: no such certificate.
	Revoke(ctx context.Context, r Revocation) ([]Revocation, error)
	// Revocations lists what was logged after seq, in order.
	Revocations(ctx context.Context, after int64) ([]Revocation, error)
	// MergeRevocations adds entries that are missing, revokes their lineages,
	// and moves the peer epoch past any handed out before a restore.
	MergeRevocations(ctx context.Context, list []Revocation, now time.Time) ([]Revocation, error)
}

// Ledger keeps what must only grow.
type Ledger interface {
	// NextNumber raises the named counter to floor, or by one when it is there
	// already, and gives it. No number is given twice.
	NextNumber(ctx context.Context, name string, floor uint64) (uint64, error)
	// Peers gives the WireGuard key of every device whose lineage is not
	// revoked and that is not in quarantine, and the epoch, which rises with
	// every change of the set.
	Peers(ctx context.Context) (epoch uint64, keys map[inventory.DeviceID]string, err error)
	// Mark is a text that changes whenever a certificate is recorded or revoked,
	// and never to one that it had before. That expired rows are purged does not
	// change it.
	Mark(ctx context.Context) (string, error)
	// BindRoot keeps the root's key id for ever on first call, and wraps
	// [inventory.ErrConflict] when another one is kept.
	BindRoot(ctx context.Context, keyID string) error
	// Root gives the root's key id that is kept, "" before BindRoot.
	Root(ctx context.Context) (string, error)
}

// Store is all that the PKI keeps outside its key files.
type Store interface {
	Tokens
	Issued
	Revocations
	Ledger
	Life
}
