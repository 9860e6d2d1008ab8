package foreign

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/commit"
	"github.com/wardnet/wardnet/inventory"
)

// standing is where a device stands: its commit's life, and what is known of
// the device beside it.
type standing struct {
	commit.State
	before *edge.Config // see [Entry]
	// sure: the device was seen, or told, to hold the pending config. It is not
	// known of a commit that was found in the journal.
	sure bool
}

// Everything below is called with the device's turn.

// become adopts s and lets readers see its commit.
func (d *Driver) become(s standing) {
	d.now = s
	var id edge.CommitID
	if s.Pending != nil {
		id = s.Pending.ID
	}
	d.show(id)
}

func (d *Driver) show(id edge.CommitID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pending = id
}

// save journals s with r as its record.
func (d *Driver) save(ctx context.Context, s standing, r commit.Record) error {
	e := Entry{Record: r, Credentials: s.Credentials}
	if r.Pending != nil {
		e.Before = s.before
	}
	if err := d.deps.Journal.Save(ctx, e); err != nil {
		return fmt.Errorf("write the journal of %s: %w", d.deps.Device, err)
	}
	return nil
}

// refused makes the state machine's refusals the controller's.
func refused(err error) error {
	for _, no := range []error{inventory.ErrInvalid, commit.ErrRefused, commit.ErrBusy, commit.ErrExpired} {
		if errors.Is(err, no) {
			return fmt.Errorf("%w: %w", edge.ErrRejected, err)
		}
	}
	return err
}

// try puts t in force: journal, then the device, so that a crash at any point
// finds in the journal what may be on the device and what was there before.
func (d *Driver) try(ctx context.Context, t commit.Trial) error {
	if p := d.now.Pending; p != nil && !time.Now().Before(p.Deadline) {
		if _, err := d.tend(); err != nil {
			return fmt.Errorf("%w: %s is still to be put back from commit %q: %w; it is tried again by itself", edge.ErrUnreachable, d.deps.Device, p.ID, hide(err))
		}
	}
	if st, err := d.now.Try(t, time.Now()); err != nil || !st.Apply { // refused, or nothing to do
		return refused(err)
	}
	have, err := d.deps.Box.Read(ctx, d.now.Running.Config)
	if err != nil {
		return fmt.Errorf("read %s before the change: %w", d.deps.Device, err)
	}
	st, err := d.now.Try(t, time.Now()) // reading took time
	if err != nil {
		return refused(err)
	}
	next := standing{State: st.Next, before: &have, sure: true}
	if err := d.save(ctx, next, *st.Journal); err != nil {
		return err
	}
	d.show(t.ID)
	d.deps.Log.InfoContext(ctx, "trying configuration", "rev", t.Want.Revision, "commit", t.ID, "rollback", t.Rollback)
	err = d.write(ctx, t, have)
	switch {
	case err == nil:
		d.become(next)
		return nil
	case errors.Is(err, edge.ErrRejected), errors.Is(err, ErrBusy):
		d.become(standing{State: st.Failed})
		return errors.Join(fmt.Errorf("put revision %d in force: %w", t.Want.Revision, err), d.save(ctx, d.now, *st.Undo))
	}
	next.sure = false
	d.become(next)
	outcome := "it was put back"
	if rerr := d.giveBack(fmt.Sprintf("writing it failed: %v", err)); rerr != nil {
		outcome = fmt.Sprintf("it is to be put back, which is tried until it is done (%v)", rerr)
	}
	return fmt.Errorf("put revision %d in force: %w; %s", t.Want.Revision, err, outcome)
}

// hide keeps the text of err and not its kind: that putting back is refused is
// no verdict on the configuration that waits for it.
func hide(err error) error { return errors.New(err.Error()) }

// write puts t on the device, under its own deadline where it has one.
func (d *Driver) write(ctx context.Context, t commit.Trial, have edge.Config) error {
	if c, ok := d.deps.Box.(Confirmer); ok {
		err := c.Try(ctx, t.ID, have, t.Want.Config, t.Rollback)
		d.plain.Store(errors.Is(err, ErrEmulate))
		if !errors.Is(err, ErrEmulate) {
			return err
		}
	}
	return d.deps.Box.Write(ctx, have, t.Want.Config)
}

// confirm keeps the commit id: the device first, for what the journal calls
// confirmed the device must never take back.
func (d *Driver) confirm(ctx context.Context, id edge.CommitID) error {
	st, err := d.now.Confirm(id, nil, time.Now())
	if err != nil || st.Idle() {
		return refused(err)
	}
	if !d.now.sure {
		if err := d.stands(ctx, "it was not on the device when the controller came back"); err != nil {
			return err
		}
	}
	if c, ok := d.deps.Box.(Confirmer); ok {
		err := c.Keep(ctx, id)
		switch {
		case err == nil || errors.Is(err, edge.ErrRejected):
			// A rejection: not on trial there, so kept already, or taken back. But a
			// device that has taken it back may say yes, too (RFC 6241 §8.4: a commit
			// without a name confirms nothing then, and succeeds).
			if err := d.stands(ctx, "the device took it back before the deadline"); err != nil {
				return err
			}
		case !errors.Is(err, ErrEmulate):
			return fmt.Errorf("confirm commit %q on %s: %w", id, d.deps.Device, err)
		}
	}
	next := standing{State: st.Next}
	if err := d.save(ctx, next, *st.Journal); err != nil {
		return err
	}
	d.deps.Log.InfoContext(ctx, "configuration confirmed", "rev", next.Running.Revision, "commit", id)
	d.become(next)
	d.kept = false
	d.keep(ctx)
	return nil
}

// stands looks whether the device holds the pending config. When it does not,
// the commit is given back for the reason why, and the error is a rejection.
func (d *Driver) stands(ctx context.Context, why string) error {
	p := d.now.Pending
	got, err := d.deps.Box.Read(ctx, p.Want.Config)
	if err != nil {
		return fmt.Errorf("look whether %s holds commit %q: %w", d.deps.Device, p.ID, err)
	}
	if edge.Diff(got, p.Want.Config).Empty() {
		d.now.sure = true
		return nil
	}
	if err := d.giveBack(why); err != nil {
		return fmt.Errorf("put back commit %q: %w", p.ID, hide(err))
	}
	return fmt.Errorf("%w: commit %q: %s", edge.ErrRejected, p.ID, why)
}

// giveBack reverts the pending commit before its deadline. While that fails it
// cannot be confirmed, and tend tries again.
func (d *Driver) giveBack(why string) error {
	st, err := d.now.Cancel(d.now.Pending.ID, time.Now())
	if err != nil {
		return err
	}
	st.Reverts.Why = why // the record that is to be settled, too
	return d.revert(st)
}

// tend does what is due for the pending commit and returns when it is to be
// looked at again at the latest, after an error before long; 0: nothing is due.
func (d *Driver) tend() (time.Duration, error) {
	p := d.now.Pending
	if p == nil {
		return 0, nil
	}
	now := time.Now()
	if !now.Before(p.Deadline) {
		return 0, d.revert(d.now.Tick(nil, now))
	}
	if !d.now.sure {
		ctx, cancel := d.bounded(d.life)
		defer cancel()
		err := d.stands(ctx, "it was not on the device when the controller came back")
		if d.now.Pending == nil {
			return 0, nil
		}
		if err != nil {
			return max(time.Until(d.now.Pending.Deadline), 0), err
		}
		d.deps.Log.InfoContext(ctx, "commit adopted", "rev", p.Want.Revision, "commit", p.ID)
	}
	return max(time.Until(p.Deadline), 1), nil
}

// revert carries out st, which takes back the pending commit.
func (d *Driver) revert(st commit.Step) error {
	ctx, cancel := d.bounded(d.life) // whatever the change has left of its time
	defer cancel()
	next, failed := standing{State: st.Next}, standing{State: st.Failed, before: d.now.before}
	err := d.putBack(ctx, st.Reverts.Commit)
	if err == nil {
		err = d.save(ctx, next, *st.Settle)
	}
	if err != nil {
		d.become(failed)
		return err
	}
	d.deps.Log.WarnContext(ctx, "reverted", "rev", st.Reverts.Revision, "to", st.Next.Running.Revision, "commit", st.Reverts.Commit, "err", st.Reverts.Why)
	d.become(next)
	return nil
}

// putBack makes the device hold what it did before commit id. It writes only
// where that is not so: a device that returned by itself is left alone.
func (d *Driver) putBack(ctx context.Context, id edge.CommitID) error {
	if c, ok := d.deps.Box.(Confirmer); ok {
		// A change made while its own timer runs would confirm what is on trial.
		if err := c.Cancel(ctx, id); err != nil && !errors.Is(err, edge.ErrRejected) && !errors.Is(err, ErrEmulate) {
			return fmt.Errorf("cancel commit %q on %s: %w", id, d.deps.Device, err)
		}
	}
	back := d.now.Running.Config
	if d.now.before != nil {
		back = *d.now.before
	}
	got, err := d.deps.Box.Read(ctx, back)
	if err != nil {
		return fmt.Errorf("read %s to put it back: %w", d.deps.Device, err)
	}
	if edge.Diff(got, back).Empty() {
		return nil
	}
	if err := d.deps.Box.Write(ctx, got, back); err != nil {
		return fmt.Errorf("put back %s: %w", d.deps.Device, err)
	}
	return nil
}
