// Package foreign drives devices that do not run our agent: it gives a platform
// driver's [Box] what the controller's contract asks for and the platform may
// not have: the signature check, the revision floor, one commit in flight, and
// a commit that returns by itself unless it is confirmed.
package foreign

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/commit"
)

// Errors of a [Box], beside [edge.ErrUnreachable] and [edge.ErrRejected].
var (
	// ErrOtherDevice: what answers has another serial number than the device had.
	// Nothing was changed. It is an [edge.ErrRejected].
	ErrOtherDevice = fmt.Errorf("%w: another device answers at this address; connect the right one, or replace the device in the inventory (wardnet device replace)", edge.ErrRejected)
	// ErrBusy: somebody else is changing the device. Nothing was changed, and
	// later it may go.
	ErrBusy = errors.New("the device is being changed by somebody else")
	// ErrEmulate is a [Confirmer]'s answer for a device that turns out not to
	// return by itself. Nothing was done; the return is emulated then.
	ErrEmulate = errors.New("the device does not return by itself")
)

// Box is a device as a platform's driver reaches it. It holds some kinds of a
// Config's parts ([Holds]); it never touches what is not ours. It is called by
// one goroutine at a time.
type Box interface {
	// Holds lists the parts that the platform can hold, in a fixed order.
	Holds() []edge.Kind
	// Read returns c with every part that the platform holds replaced by what
	// the device has: equal to c when nothing drifted. What is there and is not
	// ours is left out. An answer that cannot be read whole is an error.
	Read(ctx context.Context, c edge.Config) (edge.Config, error)
	// Write makes the device hold want in place of have, which is what Read
	// gave last. It wraps [edge.ErrRejected] or [ErrBusy] when the device refused
	// and is as before; any other error leaves open what it holds, and Write is called
	// again, with what Read gives then.
	Write(ctx context.Context, have, want edge.Config) error
	// Tunnels observes the tunnels (or, where there are none, the BGP sessions)
	// of c, all of them, named as in it; Unknown where the device does not tell.
	Tunnels(ctx context.Context, c edge.Config) ([]edge.TunnelState, error)
}

// Confirmer is a Box whose device returns by itself (RFC 6241 §8.4, gNMI Commit
// Confirmed). Without it the return is emulated: this process writes the old
// config when the deadline passes, and after a restart when it had passed.
type Confirmer interface {
	// Try is Write with the device's own deadline, which must not be earlier
	// than revert from now. [ErrEmulate]: it has none, and nothing was done.
	Try(ctx context.Context, id edge.CommitID, have, want edge.Config, revert time.Duration) error
	// Keep makes what Try(id) wrote permanent; Cancel takes it back at once. Both
	// wrap [edge.ErrRejected] when no such commit is on trial there.
	Keep(ctx context.Context, id edge.CommitID) error
	Cancel(ctx context.Context, id edge.CommitID) error
}

// Emulator is a [Confirmer] that learns only from the device whether it returns
// by itself.
type Emulator interface {
	// Emulated says that it does not, as far as is known now.
	Emulated() bool
}

// Leaver is a Box that holds some parts of a Config only in part.
type Leaver interface {
	// Left says what of c does not come to the device, a sentence each, as far as
	// is known now. Kinds that are not held at all are not in it.
	Left(c edge.Config) []string
}

// Texter is a Box whose device writes its whole configuration as a text, of which
// ours is a part. The text may hold secrets.
type Texter interface {
	// Text reads it; complete says that the answer had its end.
	Text(ctx context.Context) (text string, complete bool, err error)
}

// Saver is a Box whose device forgets what runs when it restarts, unless that is
// saved: only what is confirmed is.
type Saver interface {
	Save(ctx context.Context) error
}

// NotSaved is the alarm of a device that would lose what is confirmed when it
// restarts.
const NotSaved = "config-not-saved"

// Journal keeps what must survive a restart, one for each device: written
// before the device is. What Save acknowledged is there after a power loss; what
// it did not may be there, whole.
type Journal interface {
	Load(ctx context.Context) (Entry, error) // the zero Entry: never written
	Save(ctx context.Context, e Entry) error
}

// Entry is what a [Journal] holds.
type Entry struct {
	commit.Record
	Credentials edge.Credentials `json:"credentials"`
	// Before is what the device held when the pending commit was tried, which is
	// what it returns to: the network is left as it was found. nil: none is
	// pending.
	Before *edge.Config `json:"before,omitempty"`
}
