package netconf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/foreign"
)

// Write implements foreign.Box: container router is replaced as a whole, and
// the device works out what that changes.
func (b *Box) Write(ctx context.Context, _, want edge.Config) error {
	return b.with(ctx, func(s *session) error { return b.change(ctx, s, want, commitNow) })
}

// Try implements foreign.Confirmer (RFC 6241 §8.4). Where the device has
// persistent confirmed commits the commit is named by its id and outlives the
// session; otherwise the device takes it back when the session ends, too.
func (b *Box) Try(ctx context.Context, id edge.CommitID, _, want edge.Config, revert time.Duration) error {
	return b.with(ctx, func(s *session) error {
		if b.Emulated() {
			return foreign.ErrEmulate
		}
		op := commitConfig{Confirmed: &empty{}, Timeout: int64((revert + time.Second - 1) / time.Second)}
		persist := s.persists()
		if persist {
			op.Persist = string(id)
		}
		err := b.change(ctx, s, want, op)
		if err == nil && !persist {
			s.trial = id
		}
		return err
	})
}

// Keep implements foreign.Confirmer.
func (b *Box) Keep(ctx context.Context, id edge.CommitID) error {
	return b.with(ctx, func(s *session) error {
		var op any = commitNow
		switch {
		case b.Emulated():
			return foreign.ErrEmulate
		case s.persists():
			op = commitConfig{PersistID: string(id)}
		case s.trial != id:
			return fmt.Errorf("%w: commit %q ended with its session, and the device took it back", edge.ErrRejected, id)
		}
		keep := func() error {
			if _, err := s.rpc(ctx, op); err != nil {
				return refused("commit", err)
			}
			s.trial = ""
			return nil
		}
		// A commit takes the whole candidate, which is to hold nothing that somebody
		// else left there. A device may give no lock while a commit is on trial
		// (§7.5): then nobody can have written to it.
		err := b.lock(ctx, s, candidate)
		switch {
		case errors.Is(err, errOnTrial):
			return keep()
		case err != nil:
			return err
		}
		return b.unlocked(ctx, s, candidate, keep())
	})
}

// Cancel implements foreign.Confirmer.
func (b *Box) Cancel(ctx context.Context, id edge.CommitID) error {
	return b.with(ctx, func(s *session) error {
		switch {
		case b.Emulated():
			return foreign.ErrEmulate
		case s.persists():
			if _, err := s.rpc(ctx, cancelCommit{PersistID: string(id)}); err != nil {
				return refused("cancel-commit", err)
			}
			return nil
		case s.trial != id:
			return fmt.Errorf("%w: commit %q ended with its session, and the device took it back", edge.ErrRejected, id)
		}
		s.trial = ""
		b.drop() // confirmed-commit:1.0 has no cancel-commit; the end of the session is one
		return nil
	})
}

// change puts want in place by the candidate datastore and commits it by op.
// The device validates the candidate while it takes the edit and again in the
// commit (§7.2, §8.3.4.1). There is no validate operation in between: after one
// netconfd (yuma123 2.13) answers ok to the commit and commits nothing.
func (b *Box) change(ctx context.Context, s *session, want edge.Config, op any) error {
	return b.locked(ctx, s, func() error {
		edit := editConfig{Target: candidate, Default: "none"}
		edit.Config.Router = render(want)
		edit.Config.Router.Base, edit.Config.Router.Op = baseNS, "replace"
		if s.can(capValidate, capValidate2) {
			edit.Test = "test-then-set"
		}
		_, err := s.rpc(ctx, edit)
		if err != nil {
			err = refused("edit-config", err)
		} else if _, err = s.rpc(ctx, op); err != nil {
			err = refused("commit", err)
		}
		if err != nil && !s.broken {
			_, _ = s.rpc(ctx, discard) // unlocking does so, too
		}
		return err
	}, running, candidate)
}

// locked runs fn with what locked. What is left uncommitted in the candidate
// when it is unlocked is gone (§8.3.1).
func (b *Box) locked(ctx context.Context, s *session, fn func() error, what ...datastore) error {
	if len(what) == 0 {
		return fn()
	}
	if err := b.lock(ctx, s, what[0]); err != nil {
		return err
	}
	return b.unlocked(ctx, s, what[0], b.locked(ctx, s, fn, what[1:]...))
}

// unlocked gives the lock of what back and returns err.
func (b *Box) unlocked(ctx context.Context, s *session, what datastore, err error) error {
	if !s.broken {
		if _, uerr := s.rpc(ctx, unlock{Target: what}); uerr != nil {
			s.broken = true // the end of the session frees its locks
		}
	}
	return err
}

// lock takes a lock. One that a broken session of ours still holds is freed by
// ending that session; anybody else's is respected.
func (b *Box) lock(ctx context.Context, s *session, what datastore) error {
	for {
		_, err := s.rpc(ctx, lock{Target: what})
		var no rpcError
		if !errors.As(err, &no) {
			return err
		}
		holder := no.Info.SessionID
		switch i := slices.Index(b.lost, holder); {
		case no.Tag == "lock-denied" && i >= 0:
			b.lost = slices.Delete(b.lost, i, i+1)
			if _, err := s.rpc(ctx, killSession{ID: holder}); err != nil {
				return fmt.Errorf("end our lost session %d, which locks the %s datastore: %w", holder, what, err)
			}
			continue
		case no.Tag == "lock-denied" && holder != 0:
			return fmt.Errorf("%w: session %d locks the %s datastore; wait, or end that session on the device (kill-session %d)", foreign.ErrBusy, holder, what, holder)
		case no.Tag == "in-use":
			return fmt.Errorf("%w: the %s datastore: %w; wait, or cancel it on the device (cancel-commit)", errOnTrial, what, no)
		case no.Tag == "lock-denied" || no.Tag == "resource-denied":
			return fmt.Errorf("%w: the %s datastore cannot be locked: %w; somebody left uncommitted changes in the candidate: commit or discard them on the device (discard-changes)", foreign.ErrBusy, what, no)
		}
		return refused("lock "+what.String(), err)
	}
}

// errOnTrial: a lock is refused because a commit is on trial.
var errOnTrial = fmt.Errorf("%w: a commit is on trial", foreign.ErrBusy)

// refused makes a device's error a rejection, or busy where waiting helps. Any
// other error stays what it is.
func refused(step string, err error) error {
	var no rpcError
	switch {
	case !errors.As(err, &no):
		return fmt.Errorf("%s: %w", step, err)
	case no.Tag == "in-use" || no.Tag == "lock-denied" || no.Tag == "resource-denied":
		return fmt.Errorf("%w: %s: %w", foreign.ErrBusy, step, no)
	}
	return fmt.Errorf("%w: %s: %w", edge.ErrRejected, step, no)
}
