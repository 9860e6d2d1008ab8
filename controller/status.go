package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// ErrHeld says a person or a window must come first; it is not a failure.
var ErrHeld = errors.New("held")

// StepError says where in the loop one device stopped.
type StepError struct {
	Device inventory.DeviceID
	Step   string // "dial", "credentials", "read", "adopt", "drift", "gate", "journal", "push", "verify", "confirm"
	Err    error
}

func (e *StepError) Error() string { return fmt.Sprintf("%s: %s: %v", e.Device, e.Step, e.Err) }
func (e *StepError) Unwrap() error { return e.Err }

// Target is what a rollout has assigned to one device. The zero value assigns
// nothing.
type Target struct {
	Revision intent.Number
	// Keep lists older revisions whose tunnels, networks and rules stay beside
	// those of Revision: the additions stage of a hub.
	Keep []intent.Number
}

func (t Target) equal(o Target) bool {
	return t.Revision == o.Revision && slices.Equal(t.Keep, o.Keep)
}

// Assignment gives a device its target.
type Assignment struct {
	Device inventory.DeviceID
	Target Target
	Want   string // hash of the config under Target
}

// Status is the device row: what is assigned to it and what is observed of it.
type Status struct {
	Device inventory.DeviceID
	Target Target
	Want   string // hash of the config under Target, as compiled when it was assigned

	Revision intent.Number // confirmed on the device; 0: none
	Hash     string        // of the confirmed config
	Commit   edge.CommitID // of the push under way or the last one; empty once given up
	Pushed   string        // hash of what Commit pushed; empty without one
	Outcome  string        // of the last pass, see Outcomes
	Error    string        // of the last pass; empty when it went well
	Drifts   int           // times found changed by someone else
	At       time.Time     // when this row last changed, UTC

	Online bool     // the last pass had a session; not stored
	Epoch  uint64   // of the credentials last set; not stored
	Limits []string // what the device cannot do or tell, as far as is known, a sentence each; not stored
}

// InSync says whether the device has confirmed what is assigned to it.
func (s Status) InSync() bool { return s.Target.Revision != 0 && s.Want != "" && s.Hash == s.Want }

// Step names of journal entries.
const (
	StepPush    = "push"    // written before the push
	StepAdopt   = "adopt"   // a push under way was found after a restart
	StepConfirm = "confirm" // the device keeps the config
	StepFail    = "fail"    // given up; the device reverts by itself
	StepDrift   = "drift"   // found changed by someone else
)

// Entry is one line of the push journal, never changed.
type Entry struct {
	ID       string // sorts by time
	At       time.Time
	Rollout  string // id; empty outside of a rollout
	Device   inventory.DeviceID
	Revision intent.Number
	Hash     string
	Commit   edge.CommitID
	Step     string
	Error    string
}

// Store keeps what must survive the process. Every method is durable on
// return.
type Store interface {
	// Statuses returns every device row.
	Statuses(ctx context.Context) ([]Status, error)
	// Save writes what is observed of s, but neither Target nor Want, and appends the
	// entries, all in one step.
	Save(ctx context.Context, s Status, entries ...Entry) error
	// Entries returns the journal of one rollout, oldest first.
	Entries(ctx context.Context, rollout string) ([]Entry, error)
	// SaveRollout writes r and the targets it assigns in one step.
	SaveRollout(ctx context.Context, r Rollout, assign []Assignment) error
	// Rollouts returns all rollouts, oldest first.
	Rollouts(ctx context.Context) ([]Rollout, error)
}

// Revisions reads the immutable revisions.
type Revisions interface {
	// Get wraps [inventory.ErrNotFound] for an unknown number.
	Get(ctx context.Context, n intent.Number) (intent.Revision, error)
}

// Approvals reads the approvals on record whose signatures verified.
type Approvals interface {
	ApprovalsOf(ctx context.Context, n intent.Number) ([]intent.Approval, error)
}
