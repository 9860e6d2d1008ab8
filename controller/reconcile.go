package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory/intent"
)

var (
	// errBusy: another commit waits on the device; it ends by itself.
	errBusy = errors.New("another commit is in flight on the device; it reverts by itself")
	// errTurn: what is to be pushed must wait until others are confirmed.
	errTurn = errors.New("as many devices as may be are between push and confirm")
	// errOver tells a pass that took too long from one that was stopped.
	errOver = errors.New("the pass took too long")
)

// Result is what one pass did; err beside it says what went wrong.
type Result struct {
	Idle    bool // nothing is assigned to the device
	Changed bool
}

// reconcile brings one device to what is assigned to it, or explains in a
// [*StepError] why not. It looks at state, never at the event that woke it.
func (c *Controller) reconcile(ctx context.Context, d *device) (Result, error) {
	res, err := c.pass(ctx, d, false)
	if !errors.Is(err, errTurn) {
		return res, err
	}
	// Outside of the pass: what it read is read again after the wait.
	if err := c.turns.take(ctx, d.id); err != nil {
		return Result{}, err
	}
	defer c.turns.give(d.id)
	return c.pass(ctx, d, true)
}

// pass is one look at one device, with what follows from it. turn says that the
// device has its turn to be pushed to; without one it takes one that is free.
func (c *Controller) pass(ctx context.Context, d *device, turn bool) (Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Pass, fmt.Errorf("%w: over %s", errOver, c.cfg.Pass))
	defer cancel()
	stop := func(step string, err error) (Result, error) { return Result{}, &StepError{d.id, step, err} }

	dev, err := c.deps.Dial(ctx, d.id)
	if err != nil {
		return stop("dial", err)
	}
	if err := c.setCredentials(ctx, d, dev); err != nil {
		return stop("credentials", err)
	}
	want, st := c.assigned(d)
	if want == nil {
		if c.dialled(d) { // whether it is there, and what it can, shows only when it is asked
			if _, err := c.look(ctx, d, dev); err != nil {
				return stop(c.reading(d, err), err)
			}
		}
		return Result{Idle: true}, c.observe(ctx, d, func(s *Status) { s.Online = true })
	}
	pending, err := dev.Pending(ctx)
	if err != nil {
		return stop("read", err)
	}
	have, err := dev.Running(ctx)
	if err != nil {
		return stop(c.reading(d, err), err)
	}
	c.archive(ctx, d, dev, have, pending)
	same := have.Hash == want.Hash && have.Device == d.id
	switch {
	case pending != "" && (pending != st.Commit || !same):
		return stop("adopt", errBusy)
	case pending == "" && same:
		return c.settled(ctx, d, dev, st, have)
	case pending == "":
		if st, err = c.unheard(ctx, d, st, have); err != nil {
			return stop("journal", err)
		}
		if err := c.adrift(ctx, d, dev, want, st, have); err != nil {
			return stop("drift", err)
		}
	}
	if err := c.gate(st); err != nil {
		return stop("gate", err)
	}
	if pending == "" && st.Commit != "" {
		if err := c.reverted(ctx, d, dev, want, st); err != nil {
			return stop("verify", err)
		}
	}
	if pending != "" {
		entry := Entry{Revision: st.Target.Revision, Hash: want.Hash, Commit: pending, Step: StepAdopt}
		if err := c.observe(ctx, d, func(s *Status) { s.Online = true }, entry); err != nil {
			return stop("journal", err)
		}
		return c.finish(ctx, d, dev, push{pending, st.Target.Revision, want, have.Config, nil}, "adopted")
	}
	if !turn {
		if !c.turns.try(d.id) {
			return stop("push", errTurn)
		}
		defer c.turns.give(d.id)
	}
	return c.push(ctx, d, dev, st, want, have)
}

// reading names the step at which a device was first asked: a router is dialled
// by that, and offline when it does not answer.
func (c *Controller) reading(d *device, err error) string {
	if c.dialled(d) && errors.Is(err, edge.ErrUnreachable) {
		return "dial"
	}
	return "read"
}

// push is one attempt to put a config in force.
type push struct {
	commit edge.CommitID
	rev    intent.Number
	want   *Want
	have   edge.Config     // in force before
	before map[string]bool // tunnels and sessions, and whether they were up before; nil: not known
}

// push journals, applies, verifies and confirms.
func (c *Controller) push(ctx context.Context, d *device, dev Driver, st Status, want *Want, have edge.Signed) (Result, error) {
	stop := func(step string, err error) (Result, error) { return Result{}, &StepError{d.id, step, err} }
	state, err := c.look(ctx, d, dev)
	if err != nil {
		return stop("read", err)
	}
	before := make(map[string]bool, len(state.Tunnels))
	for _, t := range state.Tunnels {
		before[t.Name] = worked(want.Config.Role, t)
	}
	signed, err := edge.SignConfig(want.Config, uint64(st.Target.Revision), c.deps.Signer, c.deps.KeyID)
	if err != nil {
		return stop("push", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return stop("push", err)
	}
	p := push{edge.CommitID(id.String()), st.Target.Revision, want, have.Config, before}
	err = c.observe(ctx, d, func(s *Status) { s.Commit, s.Pushed, s.Online = p.commit, want.Hash, true },
		Entry{Revision: p.rev, Hash: want.Hash, Commit: p.commit, Step: StepPush})
	if err != nil {
		return stop("journal", err)
	}
	c.deps.Log.InfoContext(ctx, "pushing", "device", d.id, "rev", p.rev)
	if err := dev.Apply(ctx, p.commit, signed, c.cfg.Revert); err != nil {
		c.deps.Reached(ctx, d.id, StepPush, err)
		if errors.Is(err, edge.ErrRejected) {
			if other, perr := dev.Pending(ctx); perr == nil && other != "" && other != p.commit {
				return stop("push", errBusy) // of a call that went unanswered; no fault of the config's
			}
			err = c.giveUp(ctx, d, p, err)
		}
		return stop("push", err)
	}
	c.deps.Reached(ctx, d.id, StepPush, nil)
	return c.finish(ctx, d, dev, p, "confirmed")
}

// finish verifies and confirms what has been applied.
func (c *Controller) finish(ctx context.Context, d *device, dev Driver, p push, result string) (Result, error) {
	stop := func(step string, err error) (Result, error) { return Result{}, &StepError{d.id, step, err} }
	if err := c.verify(ctx, d, dev, p); err != nil {
		stopped := ctx.Err() != nil && !errors.Is(context.Cause(ctx), errOver)
		if !stopped {
			c.deps.Reached(ctx, d.id, StepConfirm, err)
		}
		if !stopped && !errors.Is(err, edge.ErrUnreachable) {
			err = c.giveUp(ctx, d, p, err) // not confirmed: the device reverts itself
		}
		return stop("verify", err)
	}
	if err := dev.Confirm(ctx, p.commit); err != nil {
		c.deps.Reached(ctx, d.id, StepConfirm, err)
		if errors.Is(err, edge.ErrRejected) {
			err = c.giveUp(ctx, d, p, err)
		}
		return stop("confirm", err)
	}
	err := c.observe(ctx, d, func(s *Status) {
		s.Revision, s.Hash, s.Commit, s.Pushed, s.Online, s.Outcome, s.Error = p.rev, p.want.Hash, "", "", true, "changed", ""
	},
		Entry{Revision: p.rev, Hash: p.want.Hash, Commit: p.commit, Step: StepConfirm})
	if err != nil {
		return stop("journal", err)
	}
	c.metrics.pushes.WithLabelValues(result).Inc()
	c.deps.Reached(ctx, d.id, StepConfirm, nil)
	if err := c.restored(ctx, d, p.want.Hash); err != nil {
		return stop("drift", err)
	}
	return Result{Changed: true}, nil
}

// giveUp notes a push that failed for good, so that it is not adopted later
// and its rollout halts. It returns why, joined with what went wrong noting it.
func (c *Controller) giveUp(ctx context.Context, d *device, p push, why error) error {
	c.metrics.pushes.WithLabelValues("failed").Inc()
	c.mu.Lock()
	if d.want == p.want {
		d.failed = why.Error()
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second) // the pass may be over time
	defer cancel()
	err := c.observe(ctx, d, func(s *Status) { s.Commit, s.Pushed = "", "" },
		Entry{Revision: p.rev, Hash: p.want.Hash, Commit: p.commit, Step: StepFail, Error: why.Error()})
	return errors.Join(why, err)
}

// unheard records a push that the device has confirmed though its answer was
// lost, when something else has been assigned since: what it runs is our own
// doing, neither changed by hand nor a push that came to nothing.
func (c *Controller) unheard(ctx context.Context, d *device, st Status, have edge.Signed) (Status, error) {
	if st.Commit == "" || have.Hash != st.Pushed || have.Device != d.id {
		return st, nil
	}
	kept := func(s *Status) {
		s.Online, s.Revision, s.Hash, s.Commit, s.Pushed = true, intent.Number(have.Revision), have.Hash, "", ""
	}
	entry := Entry{Revision: intent.Number(have.Revision), Hash: have.Hash, Commit: st.Commit, Step: StepConfirm}
	kept(&st) // not read again: it must stay what was assigned along with want
	return st, c.observe(ctx, d, kept, entry)
}

// mostLost is how many pushes may end in silence before the fault is taken to
// be the config's: a device that loses its channel each time reverts each time.
const mostLost = 2

// reverted judges a push that is neither in force nor pending, and of which we
// did not hear: it never arrived, or the device took it back. A device that
// says its health contract failed has a faulty config, but for the channel,
// which fails with us too; what ended otherwise is counted.
func (c *Controller) reverted(ctx context.Context, d *device, dev Driver, want *Want, st Status) error {
	state, err := dev.State(ctx)
	if err != nil {
		return err
	}
	p := push{commit: st.Commit, rev: st.Target.Revision, want: want}
	said := took(state, st.Commit, "the config may cut the management channel")
	if r := state.LastRevert; r != nil && r.Commit == st.Commit && slices.ContainsFunc(r.Failed, func(item string) bool { return item != edge.ChannelItem }) {
		return c.giveUp(ctx, d, p, fmt.Errorf("the device has reverted by itself: %s", said))
	}
	c.mu.Lock()
	if d.missed != st.Commit { // a pass may look at the same one again
		d.missed = st.Commit
		d.lost++
	}
	n := d.lost
	c.mu.Unlock()
	if n < mostLost {
		return nil
	}
	return c.giveUp(ctx, d, p, fmt.Errorf("%d pushes ended without an answer and are not in force: %s", n, said))
}

// settled records that the device runs, confirmed, what is wanted.
func (c *Controller) settled(ctx context.Context, d *device, dev Driver, st Status, have edge.Signed) (Result, error) {
	if err := c.restored(ctx, d, have.Hash); err != nil {
		return Result{}, &StepError{d.id, "drift", err}
	}
	res := Result{Changed: st.Hash != have.Hash}
	var entries []Entry
	if res.Changed {
		entries = append(entries, Entry{Revision: intent.Number(have.Revision), Hash: have.Hash, Commit: st.Commit, Step: StepConfirm})
	}
	err := c.observe(ctx, d, func(s *Status) {
		s.Online, s.Revision, s.Hash, s.Commit, s.Pushed = true, intent.Number(have.Revision), have.Hash, "", ""
	}, entries...)
	if err != nil {
		return Result{}, &StepError{d.id, "journal", err}
	}
	c.deps.Reached(ctx, d.id, StepConfirm, nil)
	state, err := c.look(ctx, d, dev)
	if err != nil {
		return Result{}, &StepError{d.id, "read", err}
	}
	_, st = c.assigned(d)
	if err := c.mended(ctx, d, st, state.Mends); err != nil {
		return Result{}, &StepError{d.id, "drift", err}
	}
	return res, nil
}

// assigned returns what d is to run, and its row.
func (c *Controller) assigned(d *device) (*Want, Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return d.want, d.status
}

// gate says whether what is assigned to a device may be pushed now. A device has
// a revision as its target only once its wave was admitted; what is left to ask
// is whether the rollout still stands. Repairing a device that had confirmed
// the revision needs no leave.
func (c *Controller) gate(st Status) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := st.Target.Revision
	for _, r := range slices.Backward(c.rollouts) {
		switch {
		case r.Revision != n:
		case r.State == RolloutRunning || r.State == RolloutDone || st.Revision == n:
			return nil
		default:
			return fmt.Errorf("%w: the rollout of revision %d is %s: %s", ErrHeld, n, r.State, r.Reason)
		}
	}
	return fmt.Errorf("%w: no rollout of revision %d", ErrHeld, n)
}
