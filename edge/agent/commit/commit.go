// Package commit is the life of a configuration on the device: on trial under
// a commit id, then kept or reverted. It is pure: every method takes the time
// and answers a [Step], which the agent carries out; there is no clock and no
// I/O here.
package commit

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// Reasons to refuse, beside [inventory.ErrInvalid].
var (
	ErrRefused = errors.New("refused")     // the state forbids it; retrying cannot help
	ErrBusy    = errors.New("busy")        // another commit is in flight
	ErrNotYet  = errors.New("not yet")     // the health contract does not hold; ask again
	ErrExpired = errors.New("expired")     // the deadline passed before the Confirm
	errUnknown = errors.New("not pending") // wrapped in ErrRefused
)

const (
	// DefaultRollback is used when a commit names no duration (gnmi_ext.Commit).
	DefaultRollback = 10 * time.Minute
	// MaxRollback bounds how long a device may stay on an unconfirmed config.
	MaxRollback = time.Hour
	// Grace is how long the health contract may fail while on trial.
	Grace = 10 * time.Second

	// renewed is how much later a set must be said again for that to be stored.
	renewed = time.Hour

	remembered = 16 // confirmed commit ids kept, so that a repeated Confirm is a no-op
)

// Record is what survives a power loss, but for the credentials, which have a
// file of their own because they are never rolled back.
type Record struct {
	Running   edge.Signed     `json:"running"` // last confirmed; revision 0: none yet
	Highest   uint64          `json:"highest"` // highest revision ever confirmed
	Pending   *Pending        `json:"pending,omitempty"`
	Confirmed []edge.CommitID `json:"confirmed,omitempty"` // oldest first
	// LastRevert is the latest commit that was taken back after it was in
	// force, until another one is; a later Confirm leaves it.
	LastRevert *edge.Reverted `json:"last_revert,omitempty"`
}

// Pending is a configuration on trial.
type Pending struct {
	ID       edge.CommitID `json:"id"`
	Want     edge.Signed   `json:"want"`
	Deadline time.Time     `json:"deadline"`
	// Held are the items, named as in [edge.Contract.Items], that held before
	// the change and must hold after it. A record of an older agent names
	// tunnels only.
	Held []string `json:"held,omitempty"`
	// Since is the time of the change, Good when the items were last seen to
	// hold; the time of the change at first.
	Since time.Time `json:"since,omitzero"`
	Good  time.Time `json:"good"`

	// taken is set while the host refuses to go back: what is to be recorded.
	taken *edge.Reverted
}

// State is the record, the credentials, and whether the host is behind them.
type State struct {
	Record
	Credentials edge.Credentials
	// Stale: the host may not run [State.Active] with Credentials; apply again.
	Stale bool
}

// Step is what to do, in the order of its fields. A failing write stops it and
// leaves the old state in force.
type Step struct {
	Journal     *Record           // write first
	Credentials *edge.Credentials // write first
	Apply       bool              // then put Next.Active() with Next.Credentials on the host
	Settle      *Record           // write last
	Next        State             // the state when all went well

	Failed State   // the state when the host refused to apply
	Undo   *Record // written then
	// Reverts is the commit being taken back, for the log; nil: none.
	Reverts *edge.Reverted
}

// Idle says whether there is nothing to carry out.
func (st Step) Idle() bool {
	return st.Journal == nil && st.Credentials == nil && !st.Apply && st.Settle == nil
}

// Active is the configuration that should be in force now.
func (s State) Active() edge.Signed {
	if s.Pending != nil {
		return s.Pending.Want
	}
	return s.Running
}

// Boot starts at now from what the disk holds: nobody can confirm a commit
// whose health was not watched, so one found pending is reverted.
func (s State) Boot(now time.Time) Step {
	next := s
	next.Stale = false
	st := Step{Apply: true}
	if p := s.Pending; p != nil {
		st.Reverts = p.reverted("the agent restarted before the commit was confirmed", nil, now)
		next.Pending, next.LastRevert = nil, st.Reverts
		st.Settle = &next.Record
	}
	st.Next = next
	st.Failed = next
	st.Failed.Stale = true
	return st
}

// Trial is the request to try a configuration. The caller has verified the
// signature and the hash of Want and validated it on the host.
type Trial struct {
	ID       edge.CommitID
	Want     edge.Signed
	Rollback time.Duration // zero: DefaultRollback
	Held     []string      // contract items that hold now, see [Held]
}

// Try puts t on trial at now. Repeating an id with the same content changes
// nothing.
func (s State) Try(t Trial, now time.Time) (Step, error) {
	if t.Rollback == 0 {
		t.Rollback = DefaultRollback
	}
	same := func(have edge.Signed) bool {
		return have.Revision == t.Want.Revision && have.Hash == t.Want.Hash
	}
	switch p := s.Pending; {
	case t.ID == "":
		return Step{}, fmt.Errorf("%w: the commit has no id; choose one", inventory.ErrInvalid)
	case t.Rollback < 0 || t.Rollback > MaxRollback:
		return Step{}, fmt.Errorf("%w: commit %q: rollback duration %s is not in (0, %s]", inventory.ErrInvalid, t.ID, t.Rollback, MaxRollback)
	case t.Want.Revision == 0:
		return Step{}, fmt.Errorf("%w: commit %q: revision 0; revisions count from 1", inventory.ErrInvalid, t.ID)
	case p != nil && p.ID == t.ID && same(p.Want):
		return Step{Next: s}, nil
	case slices.Contains(s.Confirmed, t.ID) && same(s.Running):
		return Step{Next: s}, nil
	case p != nil && p.ID == t.ID || slices.Contains(s.Confirmed, t.ID):
		return Step{}, fmt.Errorf("%w: commit id %q was used for other content; choose a new one", ErrRefused, t.ID)
	case p != nil:
		return Step{}, fmt.Errorf("%w: commit %q is in flight until %s; confirm, cancel or wait", ErrBusy, p.ID, p.Deadline.UTC().Format(time.RFC3339))
	case t.Want.Revision < s.Highest:
		return Step{}, fmt.Errorf("%w: revision %d is older than confirmed revision %d; make a new revision with the old content", ErrRefused, t.Want.Revision, s.Highest)
	}
	undo := s.Record
	next, failed := s, s
	next.Pending = &Pending{ID: t.ID, Want: t.Want, Deadline: now.Add(t.Rollback), Held: t.Held, Since: now, Good: now}
	next.Stale = false
	return Step{Journal: &next.Record, Apply: true, Next: next, Failed: failed, Undo: &undo}, nil
}

// Confirm keeps the commit id for good. failing are the held contract items
// that do not hold at now: the agent's own condition comes before the
// controller's.
func (s State) Confirm(id edge.CommitID, failing []string, now time.Time) (Step, error) {
	p := s.Pending
	switch {
	case slices.Contains(s.Confirmed, id):
		return Step{Next: s}, nil
	case p == nil || p.ID != id:
		return Step{}, fmt.Errorf("%w: confirm commit %q: %w; it was reverted or never sent", ErrRefused, id, errUnknown)
	case !now.Before(p.Deadline):
		return Step{}, fmt.Errorf("%w: confirm commit %q: its deadline %s passed, it is being reverted", ErrExpired, id, p.Deadline.UTC().Format(time.RFC3339))
	case len(failing) > 0:
		return Step{}, fmt.Errorf("%w: confirm commit %q: %s held before the change and does not now; confirm again once it does", ErrNotYet, id, strings.Join(failing, ", "))
	}
	next := s
	next.Running, next.Pending = p.Want, nil
	next.Highest = max(s.Highest, p.Want.Revision)
	next.Confirmed = append(slices.Clone(s.Confirmed), id)
	if n := len(next.Confirmed); n > remembered {
		next.Confirmed = next.Confirmed[n-remembered:]
	}
	return Step{Journal: &next.Record, Next: next}, nil
}

// Cancel reverts the commit id at once.
func (s State) Cancel(id edge.CommitID, now time.Time) (Step, error) {
	if s.Pending == nil || s.Pending.ID != id {
		return Step{}, fmt.Errorf("%w: cancel commit %q: %w; it was confirmed, reverted or never sent", ErrRefused, id, errUnknown)
	}
	return s.revert("the controller cancelled the commit", nil, now), nil
}

// Extend moves the deadline of the commit id to now plus rollback.
func (s State) Extend(id edge.CommitID, rollback time.Duration, now time.Time) (Step, error) {
	switch {
	case s.Pending == nil || s.Pending.ID != id:
		return Step{}, fmt.Errorf("%w: extend commit %q: %w", ErrRefused, id, errUnknown)
	case !now.Before(s.Pending.Deadline):
		return Step{}, fmt.Errorf("%w: extend commit %q: it is being reverted", ErrExpired, id)
	case rollback <= 0 || rollback > MaxRollback:
		return Step{}, fmt.Errorf("%w: extend commit %q: rollback duration %s is not in (0, %s]", inventory.ErrInvalid, id, rollback, MaxRollback)
	}
	next, p := s, *s.Pending
	p.Deadline = now.Add(rollback)
	next.Pending = &p
	return Step{Journal: &next.Record, Next: next}, nil
}

// Tick is called about once a second while [State.Waiting]. failing are the
// held contract items that do not hold at now.
func (s State) Tick(failing []string, now time.Time) Step {
	p := s.Pending
	switch {
	case p == nil && s.Stale:
		next := s
		next.Stale = false
		return Step{Apply: true, Next: next, Failed: s}
	case p == nil:
		return Step{Next: s}
	case p.taken != nil:
		return s.revert(p.taken.Why, p.taken.Failed, now)
	case !now.Before(p.Deadline):
		return s.revert("no Confirm arrived before the deadline", failing, now)
	case len(failing) > 0 && now.Sub(p.Good) >= Grace:
		return s.revert(fmt.Sprintf("the health contract failed for %s", Grace), failing, now)
	case len(failing) > 0:
		return Step{Next: s}
	}
	next, q := s, *p
	q.Good = now
	next.Pending, next.Stale = &q, false
	return Step{Apply: s.Stale, Next: next, Failed: s}
}

// Waiting says whether Tick has anything to do.
func (s State) Waiting() bool { return s.Pending != nil || s.Stale }

// revert goes back to Running and records why. While the host cannot, the
// commit stays pending past its deadline: it cannot be confirmed and every Tick
// tries again.
func (s State) revert(why string, failing []string, now time.Time) Step {
	next, failed, p := s, s, *s.Pending
	if p.taken == nil {
		p.taken = p.reverted(why, failing, now)
	}
	next.Pending, next.Stale, next.LastRevert = nil, false, p.taken
	if p.Deadline.After(now) {
		p.Deadline = now
	}
	failed.Pending = &p
	return Step{Apply: true, Settle: &next.Record, Next: next, Failed: failed, Reverts: p.taken}
}

func (p *Pending) reverted(why string, failing []string, now time.Time) *edge.Reverted {
	return &edge.Reverted{Commit: p.ID, Revision: p.Want.Revision, At: now.UTC(), Why: why, Failed: failing}
}

// Admit takes a credential set whose epoch must rise; the same set again is a
// no-op, but that it is said to hold now is stored.
func (s State) Admit(c edge.Credentials) (Step, error) {
	have := s.Credentials
	switch {
	case c.Epoch == 0:
		return Step{}, fmt.Errorf("%w: credentials: epoch 0; epochs count from 1", inventory.ErrInvalid)
	case c.Epoch < have.Epoch:
		return Step{}, fmt.Errorf("%w: credentials: epoch %d is older than epoch %d in force", inventory.ErrInvalid, c.Epoch, have.Epoch)
	case c.Epoch == have.Epoch && !maps.Equal(c.Keys, have.Keys):
		return Step{}, fmt.Errorf("%w: credentials: other keys under epoch %d in force; raise the epoch", inventory.ErrInvalid, c.Epoch)
	case c.Epoch == have.Epoch && !s.Stale:
		next := s
		if c.At.Sub(have.At) < renewed {
			return Step{Next: s}, nil
		}
		next.Credentials = c
		return Step{Credentials: &c, Next: next}, nil
	}
	next := s
	next.Credentials, next.Stale = c, false
	st := Step{Credentials: &c, Apply: true, Next: next, Failed: next}
	st.Failed.Stale = true
	return st, nil
}

// Held are the items of c, and [edge.ChannelItem], that hold now.
func Held(c edge.Contract, holds func(item string) bool) []string {
	return slices.DeleteFunc(append(c.Items(), edge.ChannelItem), func(item string) bool { return !holds(item) })
}

// Failing are the items of p that do not hold; none without a trial.
func (p *Pending) Failing(holds func(item string) bool) []string {
	if p == nil {
		return nil
	}
	var failing []string
	for _, item := range p.Held {
		if item != edge.ChannelItem && !strings.Contains(item, "/") {
			item = "bfd/" + item // of an older agent
		}
		if !holds(item) {
			failing = append(failing, item)
		}
	}
	return failing
}
