package pki

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// ErrLineageRevoked means that the enrolment a certificate comes from has been
// revoked or replaced: nothing of it is renewed.
var ErrLineageRevoked = fmt.Errorf("%w: the certificate is revoked, or its device has been enrolled anew", inventory.ErrConflict)

// Filter says which certificates are wanted; zero fields ask for nothing.
type Filter struct {
	Device  inventory.DeviceID
	Issuer  Issuer
	Serial  string // or the beginning of one, lower-case hex
	State   string // "valid", "expired" or "revoked" at Now
	By      string // who issued: a user, "system", or the user behind an enrolment token
	Lineage string
	// ExpiresFrom and ExpiresBefore bound the end of the certificate: from the
	// first on, before the second.
	ExpiresFrom, ExpiresBefore time.Time
	Now                        time.Time // for State; required with it
	After                      string    // cursor of the page before
	Limit                      int       // default 100, at most 1000
}

// MaxPage bounds Filter.Limit.
const MaxPage = 1000

// Check completes f and reports every fault at once, wrapped in
// [inventory.ErrInvalid].
func (f Filter) Check() (Filter, error) {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: certificate filter: "+format, append([]any{inventory.ErrInvalid}, args...)...))
	}
	if f.Limit == 0 {
		f.Limit = 100
	}
	if f.Limit < 1 || f.Limit > MaxPage {
		bad("limit %d is not within 1 and %d", f.Limit, MaxPage)
	}
	switch f.State {
	case "":
	case "valid", "expired", "revoked":
		if f.Now.IsZero() {
			bad("a state needs a time")
		}
	default:
		bad("state %q is not valid, expired or revoked", f.State)
	}
	for _, c := range f.Serial {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			bad("serial %q is no lower-case hex", f.Serial)
			break
		}
	}
	if !f.ExpiresFrom.IsZero() && !f.ExpiresBefore.IsZero() && !f.ExpiresFrom.Before(f.ExpiresBefore) {
		bad("the end is to be from %s and before %s: nothing can", f.ExpiresFrom.Format(time.RFC3339), f.ExpiresBefore.Format(time.RFC3339))
	}
	return f, errors.Join(errs...)
}

// Page is a part of what a [Filter] found, newest first.
type Page struct {
	Certificates []Certificate // without their chains
	Next         string        // cursor; empty on the last page
}

// Stretch is a time in which certificates could be had without a gap.
type Stretch struct{ From, Until time.Time }

// Quarantine is a device that a person has to look at.
type Quarantine struct {
	Device inventory.DeviceID
	Since  time.Time
	Reason string
}

// Release ends a quarantine.
type Release struct {
	Device inventory.DeviceID
	At     time.Time
	By     string
	Reason string
}

// Pending is a device that has shown an offline token and waits for a person.
type Pending struct {
	Hash    string // of the token
	CSRHash string
	Device  inventory.DeviceID
	Serial  string
	Remote  string
	First   time.Time
	Last    time.Time
}

// Confirmation is a person's word that a CSR is the device's own.
type Confirmation struct {
	Hash    string // of the token
	CSRHash string
	By      string
	At      time.Time
}

// Searches finds certificates.
type Searches interface {
	// Search gives one page; the filter has been checked.
	Search(ctx context.Context, f Filter) (Page, error)
	// Newest gives the newest certificate of every lineage that is not revoked,
	// without chains.
	Newest(ctx context.Context) ([]Certificate, error)
}

// Uptime keeps when certificates could be had.
type Uptime interface {
	// Beat extends the stretch that ended less than gap ago, or begins one.
	Beat(ctx context.Context, now time.Time, gap time.Duration) error
	Stretches(ctx context.Context) ([]Stretch, error)
}

// Quarantines keeps which devices are in quarantine. Each change raises the
// peer epoch, for who is in quarantine is no peer.
type Quarantines interface {
	// Quarantine puts those in that are not yet, and gives them.
	Quarantine(ctx context.Context, list []Quarantine) ([]Quarantine, error)
	// Release wraps [inventory.ErrNotFound] when the device is not in.
	Release(ctx context.Context, r Release) error
	Quarantined(ctx context.Context) ([]Quarantine, error)
}

// Waiting keeps offline tokens that have been shown.
type Waiting interface {
	// Show notes that a request waits with an unconfirmed offline token; fresh
	// says that it is new. [inventory.ErrConflict]: [MaxPending] others do.
	Show(ctx context.Context, p Pending) (fresh bool, err error)
	Pending(ctx context.Context) ([]Pending, error)
	// Confirm binds the token to the CSR. It wraps [inventory.ErrNotFound] when
	// that was not shown, [inventory.ErrConflict] when the token is used,
	// expired or confirmed for another.
	Confirm(ctx context.Context, c Confirmation) (Token, error)
}

// MaxPending bounds how many different requests one offline token may wait
// with.
const MaxPending = 8

// Retention says until when rows are kept that nobody needs any more.
type Retention struct {
	Certificates time.Time // of certificates that ended before; never the newest of a live lineage
	Tokens       time.Time // of tokens that ended before
	History      time.Time // of ended quarantines, stretches of uptime and revoked lineages
	UsedIDs      time.Time // of one-time ids that ended before
	Batch        int       // rows of a table in one transaction
}

// Housekeeping removes what nobody needs.
type Housekeeping interface {
	// Purge removes one batch of each table and says how many rows of which;
	// an empty answer means that nothing is left to remove. The revocation log
	// stays whole, for CRLs, OCSP and restores read it.
	Purge(ctx context.Context, r Retention) (map[string]int, error)
}

// Issued keeps certificates and who issued them.
type Issued interface {
	Certificates
	Searches
	Generations
}

// Life is what the store keeps of devices between enrolment and the end of
// their certificates.
type Life interface {
	Uptime
	Quarantines
	Waiting
	Housekeeping
}
