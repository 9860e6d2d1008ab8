package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/edge"
)

const (
	grace  = 10 * time.Second       // how long an item that held may fail on trial
	start  = 30 * time.Second       // how long a new process may take to see what holds
	linger = 500 * time.Millisecond // for the answer to leave before the agent does
)

// Why an agent leaves its process, as causes of its context.
var (
	// ErrActivated: the process becomes the guard of the version on trial.
	ErrActivated = errors.New("another agent version is tried")
	// ErrKept: this version was confirmed; the guard runs it for good.
	ErrKept = errors.New("this agent version was confirmed")
	// ErrTakenBack: this version did not hold; the guard runs the old one.
	ErrTakenBack = errors.New("this agent version is taken back")
)

// child is the state of a process that is on trial. It is guarded by
// Upgrade.mu.
type child struct {
	try     Try
	started time.Time
	held    bool      // everything but the channel held at least once
	good    time.Time // when it last did
	over    bool
}

// Use tells u of the agent once it runs, and how to end it.
func (u *Upgrade) Use(a Agent, leave context.CancelCauseFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.agent, u.leave = a, leave
}

// Trial says whether this process is on trial.
func (u *Upgrade) Trial() bool { return u.child != nil }

// Hold refuses new configurations while an agent version is on trial, for the
// old one must understand what it may come back to.
func (u *Upgrade) Hold() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if t := u.journal.Try; t != nil {
		return fmt.Errorf("agent version %s is on trial under commit %q", t.Version, t.Commit)
	}
	return nil
}

// Adopt is the first step of a start on trial under commit.
func (u *Upgrade) Adopt(commit string, now time.Time) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	t := u.journal.Try
	if t == nil || t.Commit != commit || t.Slot != u.deps.Running {
		return fmt.Errorf("%w: commit %q of slot %s is not what the journal has on trial", ErrRefused, commit, u.deps.Running)
	}
	if have := u.deps.Version; u.deps.Stamped && have != t.Version {
		return fmt.Errorf("%w: the binary says it is version %s and was released as %s", ErrRefused, have, t.Version)
	}
	u.child = &child{try: *t, started: now, good: now}
	return nil
}

// Run watches a version on trial until it is kept, taken back, or ctx ends; at
// once when this process is not on trial.
func (u *Upgrade) Run(ctx context.Context) {
	if !u.Trial() {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if why := u.look(ctx, time.Now()); why != "" {
			u.deps.Log.WarnContext(ctx, "agent version gives up", "version", u.child.try.Version, "commit", u.child.try.Commit, "err", why)
			u.leaveWith(fmt.Errorf("%w: %s", ErrTakenBack, why))
			return
		}
	}
}

// look judges the version on trial at now; "": it goes on.
func (u *Upgrade) look(ctx context.Context, now time.Time) string {
	failing := u.failing(ctx)
	u.mu.Lock()
	defer u.mu.Unlock()
	why := u.child.judge(failing, now)
	if why != "" {
		u.child.over = true
	}
	return why
}

// judge is the pure part of [Upgrade.look]: why c is over at now, "" when it is
// not. The channel has until the deadline, for the controller may be away.
func (c *child) judge(failing []string, now time.Time) string {
	if c.over {
		return ""
	}
	left := slices.DeleteFunc(slices.Clone(failing), func(item string) bool { return item == edge.ChannelItem })
	if len(left) == 0 {
		c.held, c.good = true, now
	}
	patience := min(start, c.try.Revert/2)
	if c.held {
		patience = grace
	}
	switch {
	case now.Sub(c.started) >= c.try.Revert && len(failing) > 0:
		return fmt.Sprintf("no Confirm arrived within %s, and these held before and do not now: %s", c.try.Revert, strings.Join(failing, ", "))
	case now.Sub(c.started) >= c.try.Revert:
		return fmt.Sprintf("no Confirm arrived within %s", c.try.Revert)
	case len(left) > 0 && now.Sub(c.good) >= patience:
		return fmt.Sprintf("the health contract failed for %s: %s", patience, strings.Join(left, ", "))
	}
	return ""
}

// failing are the items held before the change that do not hold now. u.mu is
// not held: the host is asked.
func (u *Upgrade) failing(ctx context.Context) []string {
	u.mu.Lock()
	a, c := u.agent, u.child
	u.mu.Unlock()
	if a == nil {
		return slices.Clone(c.try.Held)
	}
	held := a.Held(ctx, c.started)
	return slices.DeleteFunc(slices.Clone(c.try.Held), func(item string) bool { return slices.Contains(held, item) })
}

// confirm keeps the version on trial.
func (u *Upgrade) confirm(ctx context.Context, commit string) error {
	var failing []string
	if u.Trial() {
		failing = u.failing(ctx)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.child != nil && u.child.over {
		return fmt.Errorf("%w: confirm %q: it is being taken back", ErrRefused, commit)
	}
	if t := u.journal.Try; t != nil && u.child == nil {
		return fmt.Errorf("%w: confirm %q: version %s is being started", ErrNotYet, commit, t.Version)
	}
	j, err := u.journal.confirm(commit, failing)
	if err != nil || j.Try == u.journal.Try {
		return err
	}
	if err := u.keep(j); err != nil {
		return err
	}
	u.child.over = true
	u.deps.Log.InfoContext(ctx, "agent version confirmed", "version", u.child.try.Version, "commit", commit)
	u.soon(ErrKept)
	return nil
}

// activate puts an installed version on trial and makes the agent leave its
// process.
func (u *Upgrade) activate(ctx context.Context, t Try) error {
	u.mu.Lock()
	a, idle := u.agent, u.journal.Try == nil
	u.mu.Unlock()
	if a == nil {
		return fmt.Errorf("%w: the agent is not started yet", ErrNotYet)
	}
	if p := a.Pending(); p != "" && idle {
		return fmt.Errorf("%w: configuration commit %q is on trial; wait for its end", ErrBusy, p)
	}
	t.Held = a.Held(ctx, time.Now())
	if !u.installing.TryLock() {
		return fmt.Errorf("%w: a transfer is under way", ErrBusy)
	}
	defer u.installing.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	j, err := u.journal.activate(t, u.version(), time.Now())
	if err != nil || j.Try == u.journal.Try {
		return err
	}
	if err := u.checkSlot(j.Try.Slot); err != nil {
		return fmt.Errorf("activate %s: %w; install it again", t.Version, err)
	}
	if err := u.keep(j); err != nil {
		return err
	}
	u.deps.Log.InfoContext(ctx, "trying agent version", "version", t.Version, "commit", t.Commit, "slot", j.Try.Slot, "revert", t.Revert)
	u.leaving = true
	u.soon(ErrActivated)
	return nil
}

// soon ends the agent once its answer has had time to leave; u.mu is held.
func (u *Upgrade) soon(cause error) {
	leave := u.leave
	time.AfterFunc(linger, func() { leave(cause) })
}

func (u *Upgrade) leaveWith(cause error) {
	u.mu.Lock()
	leave := u.leave
	u.mu.Unlock()
	if leave != nil {
		leave(cause)
	}
}
