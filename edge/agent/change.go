package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/commit"
)

// Try verifies want, validates it on the host and puts it in force under a
// revert timer. Errors wrap inventory.ErrInvalid or one of package commit's.
func (a *Agent) Try(ctx context.Context, id edge.CommitID, want edge.Signed, rollback time.Duration) error {
	if err := a.check(want); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	t := commit.Trial{ID: id, Want: want, Rollback: rollback}
	if st, err := a.state.Try(t, time.Now()); err != nil || !st.Apply { // refused, or nothing to do
		return err
	}
	if hold := a.deps.Hold; hold != nil {
		if err := hold(); err != nil {
			return fmt.Errorf("%w: %w", commit.ErrNotYet, err)
		}
	}
	if err := a.deps.Host.Validate(ctx, want.Config); err != nil {
		return fmt.Errorf("validate revision %d: %w", want.Revision, err)
	}
	now := a.holding(ctx, time.Now())
	t.Held = commit.Held(want.Config.Contract, func(item string) bool { return edge.IsFlowsItem(item) || now(item) })
	st, err := a.state.Try(t, time.Now())
	if err != nil {
		return err
	}
	a.trying(id)
	defer a.trying("")
	a.deps.Log.InfoContext(ctx, "trying configuration", "rev", want.Revision, "commit", id, "rollback", rollback)
	return a.change(ctx, st)
}

// trying lets readers see the commit that is being put in force: a controller
// whose call went unanswered must find it, and not send another.
func (a *Agent) trying(id edge.CommitID) {
	a.viewMu.Lock()
	defer a.viewMu.Unlock()
	a.view.trying = id
}

// change carries out st and sets the loop ticking; a.mu is held.
func (a *Agent) change(ctx context.Context, st commit.Step) error {
	err := a.carry(ctx, st)
	if a.state.Waiting() {
		select {
		case a.ticks <- struct{}{}:
		default:
		}
	}
	return err
}

// Confirm keeps the commit id; repeating it is a no-op.
func (a *Agent) Confirm(ctx context.Context, id edge.CommitID) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	st, err := a.state.Confirm(id, a.failing(ctx), time.Now())
	if err != nil {
		return err
	}
	if st.Journal != nil {
		a.deps.Log.InfoContext(ctx, "configuration confirmed", "rev", st.Next.Running.Revision, "commit", id)
	}
	return a.change(ctx, st)
}

// Cancel reverts the commit id at once.
func (a *Agent) Cancel(ctx context.Context, id edge.CommitID) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	st, err := a.state.Cancel(id, time.Now())
	if err != nil {
		return err
	}
	return a.change(ctx, st)
}

// Extend moves the deadline of the commit id to now plus rollback.
func (a *Agent) Extend(ctx context.Context, id edge.CommitID, rollback time.Duration) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	st, err := a.state.Extend(id, rollback, time.Now())
	if err != nil {
		return err
	}
	return a.change(ctx, st)
}

// Admit puts a credential set in force. It is stored first and never rolled
// back; when the host refuses it the agent keeps trying. Of a set older than
// [EpochLife] a hub takes what it lacks, and the error names who is new in it.
func (a *Agent) Admit(ctx context.Context, c edge.Credentials) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, late := admissible(a.state.Active().Config.Role, a.state.Credentials, c, time.Now())
	st, err := a.state.Admit(c)
	if err != nil {
		return err
	}
	return errors.Join(a.change(ctx, st), errLate(c, late))
}

// Running returns the document in force, on trial or confirmed; revision 0:
// none.
func (a *Agent) Running() edge.Signed { return a.look().state.Active() }

// State returns what the device says of itself.
func (a *Agent) State(ctx context.Context) (edge.State, error) {
	h, err := a.deps.Host.State(ctx)
	if err != nil {
		return edge.State{}, fmt.Errorf("read host state: %w", err)
	}
	v := a.look()
	s := v.state
	run := s.Active()
	st := edge.State{At: h.At.UTC(), Revision: run.Revision, Hash: run.Hash, Epoch: s.Credentials.Epoch, LastRevert: s.LastRevert, Protocol: edge.Protocol, Version: a.deps.Version, Alarms: a.Alarms()}
	st.Pending, st.Mends = v.trying, h.Mends
	if s.Pending != nil {
		st.Pending = s.Pending.ID
	}
	st.Tunnels = make([]edge.TunnelState, len(h.Tunnels))
	for i, t := range h.Tunnels {
		st.Tunnels[i] = t.TunnelState
	}
	return st, nil
}
