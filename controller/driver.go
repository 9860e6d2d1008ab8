package controller

import (
	"context"
	"time"

	"github.com/wardnet/wardnet/edge"
)

// Driver is all the controller needs of a device. Packages under edge/ satisfy
// it without importing this one. Every method is idempotent, honours ctx, and
// wraps [edge.ErrUnreachable] or [edge.ErrRejected] where they apply.
type Driver interface {
	// Running returns the configuration in force, confirmed or not, limited to
	// what we own. A device that never had one returns the zero value.
	Running(ctx context.Context) (edge.Signed, error)
	// Apply puts want in force at once under the caller's commit id; the device
	// returns to the old one by itself unless Confirm(id) arrives within revert.
	// A controller that dies half-way therefore leaves the network as it found it.
	// Another commit in flight is [edge.ErrRejected].
	Apply(ctx context.Context, id edge.CommitID, want edge.Signed, revert time.Duration) error
	// Confirm keeps what Apply(id) put in force; repeating it is a no-op. An id
	// that has already reverted is [edge.ErrRejected].
	Confirm(ctx context.Context, id edge.CommitID) error
	// Pending returns the commit that waits for its Confirm, or "".
	Pending(ctx context.Context) (edge.CommitID, error)
	// State returns operational facts, at most a second old.
	State(ctx context.Context) (edge.State, error)
}

// Credentialer is a driver that can also fill the runtime set of tunnel peers.
// It is apart from [Driver] because credentials are no configuration: they pass
// no gate and are never rolled back (design §1, "the law").
type Credentialer interface {
	// SetCredentials stores and applies c. The epoch must not be lower than the
	// stored one; the same epoch with the same content is a no-op.
	SetCredentials(ctx context.Context, c edge.Credentials) error
}
