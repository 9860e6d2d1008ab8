// Package agent is the Wardnet agent on an edge device: it keeps the last good
// signed configuration on disk, puts it in force on its [Host], tries new ones
// under a revert timer, and serves gNMI to the controller over the connection
// it dials itself. A device with a confirmed configuration needs no controller.
package agent

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/commit"
	"github.com/wardnet/wardnet/edge/agent/disk"
	"github.com/wardnet/wardnet/inventory"
)

// applyTimeout bounds one transaction on the host; a caller that goes away does
// not interrupt it.
const applyTimeout = 30 * time.Second

// Deps are what an agent needs; all required.
type Deps struct {
	Device inventory.DeviceID
	Host   Host
	Dir    *disk.Dir
	// Keys returns the pinned revision keys, by key id.
	Keys func() map[string]crypto.PublicKey
	Log  *slog.Logger

	Version string // of the build, optional
	// Hold refuses new configurations while it answers an error, nil: never. A
	// binary on trial asks for it: the one it may give way to must understand
	// what is in force.
	Hold func() error
	// Strict makes New fail where it would start without a stored configuration
	// because it does not trust it.
	Strict bool
}

// Agent is one device's agent. Its methods are safe for concurrent use.
type Agent struct {
	deps Deps

	mu    sync.Mutex // serialises all changes; held over disk writes and Host.Apply
	state commit.State
	link  link // the management channel

	viewMu sync.Mutex // guards what readers see; taken after mu, never the other way
	view   view
	woken  chan struct{} // closed and replaced when something observable changed
	ticks  chan struct{} // one slot: the loop must look at the state again
}

// view is what readers see of the state; a read never waits for an Apply.
type view struct {
	state  commit.State
	trying edge.CommitID // being put in force now
	turns  uint64        // times that another configuration came in force
	tree   *tree
}

// New loads the state directory and puts the last confirmed configuration in
// force, without any controller. A host that refuses it is no error: the agent
// starts, so that it can be managed, and [Agent.Loop] tries again. Damaged
// state and a bad signature are logged and count as no configuration.
func New(ctx context.Context, deps Deps) (*Agent, error) {
	if deps.Device == "" || deps.Host == nil || deps.Dir == nil || deps.Keys == nil || deps.Log == nil {
		return nil, errors.New("start agent: Deps has an empty field")
	}
	deps.Log = deps.Log.With("device", deps.Device)
	a := &Agent{deps: deps, woken: make(chan struct{}), ticks: make(chan struct{}, 1)}
	state, err := deps.Dir.Load()
	switch {
	case errors.Is(err, disk.ErrDamaged) && !deps.Strict:
		deps.Log.ErrorContext(ctx, "state is damaged", "err", err)
	case err != nil:
		return nil, fmt.Errorf("start agent: %w", err)
	}
	if run := state.Running; run.Revision != 0 {
		if err := a.check(run); err != nil {
			if deps.Strict {
				return nil, fmt.Errorf("start agent: the configuration in force, revision %d, is not one for this version: %w", run.Revision, err)
			}
			deps.Log.ErrorContext(ctx, "stored configuration is not trusted", "rev", run.Revision, "err", err)
			state.Running = edge.Signed{}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state = state
	if err := a.carry(ctx, state.Boot(time.Now())); err != nil {
		deps.Log.WarnContext(ctx, "configuration is not in force yet", "rev", state.Running.Revision, "err", err)
	}
	return a, nil
}

// Loop watches the host, the deadline and the health contract until ctx ends.
func (a *Agent) Loop(ctx context.Context) {
	watch := a.deps.Host.Watch(ctx)
	second := time.NewTimer(time.Second)
	defer second.Stop()
	look := time.NewTicker(alarmPause)
	defer look.Stop()
	said := a.alarm(ctx, nil)
	for {
		waiting := a.tick(ctx)
		var timer <-chan time.Time
		if waiting {
			second.Reset(time.Second)
			timer = second.C
		}
		select {
		case <-ctx.Done():
			return
		case <-timer:
		case <-look.C:
			said = a.alarm(ctx, said)
		case <-a.ticks:
		case _, ok := <-watch:
			if !ok {
				return
			}
			a.wake()
		}
	}
}

// tick runs the state machine once and says whether it must run again soon.
func (a *Agent) tick(ctx context.Context) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.state.Waiting() {
		return false
	}
	st := a.state.Tick(a.failing(ctx), time.Now())
	if err := a.carry(ctx, st); err != nil && ctx.Err() == nil {
		a.deps.Log.WarnContext(ctx, "host is behind, trying again", "err", err)
	}
	return a.state.Waiting()
}

// carry carries out st; a.mu is held.
func (a *Agent) carry(ctx context.Context, st commit.Step) error {
	if r := st.Reverts; r != nil {
		a.deps.Log.WarnContext(ctx, "reverting", "rev", r.Revision, "to", st.Next.Running.Revision, "commit", r.Commit, "failed", r.Failed, "err", r.Why)
	}
	if st.Idle() {
		a.state = st.Next
		return nil
	}
	if st.Journal != nil {
		if err := a.deps.Dir.Save(disk.RecordFile, st.Journal); err != nil {
			return err
		}
	}
	if st.Credentials != nil {
		if err := a.deps.Dir.Save(disk.CredentialsFile, st.Credentials); err != nil {
			return err
		}
	}
	if st.Apply {
		if err := a.apply(ctx, st.Next); err != nil {
			a.become(st.Failed)
			if st.Undo != nil {
				err = errors.Join(err, a.deps.Dir.Save(disk.RecordFile, st.Undo))
			}
			return err
		}
	}
	if st.Settle != nil {
		if err := a.deps.Dir.Save(disk.RecordFile, st.Settle); err != nil {
			a.become(st.Failed)
			return err
		}
	}
	a.become(st.Next)
	return nil
}

func (a *Agent) apply(ctx context.Context, s commit.State) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), applyTimeout, fmt.Errorf("the host took over %s", applyTimeout))
	defer cancel()
	run := s.Active()
	if err := a.deps.Host.Apply(ctx, run.Config, s.Credentials); err != nil {
		return fmt.Errorf("put revision %d in force: %w", run.Revision, err)
	}
	return nil
}

// become adopts s and lets readers see it; a.mu is held.
func (a *Agent) become(s commit.State) {
	a.state = s
	a.viewMu.Lock()
	if a.view.state.Active().Hash != s.Active().Hash {
		a.view.turns++
	}
	a.view.state = s
	if run := s.Active(); a.view.tree == nil || a.view.tree.hash != run.Hash {
		a.view.tree = newTree(run)
	}
	a.viewMu.Unlock()
	a.wake()
}

// wake tells every subscription to look again.
func (a *Agent) wake() {
	a.viewMu.Lock()
	defer a.viewMu.Unlock()
	close(a.woken)
	a.woken = make(chan struct{})
}

// changed returns a channel that is closed at the next change.
func (a *Agent) changed() <-chan struct{} {
	a.viewMu.Lock()
	defer a.viewMu.Unlock()
	return a.woken
}

func (a *Agent) look() view {
	a.viewMu.Lock()
	defer a.viewMu.Unlock()
	return a.view
}

// check says whether a document is whole, ours and signed by a pinned key.
func (a *Agent) check(s edge.Signed) error {
	if s.Device != a.deps.Device {
		return fmt.Errorf("%w: the document is for device %q, this is %q", inventory.ErrInvalid, s.Device, a.deps.Device)
	}
	if err := s.Verify(a.deps.Keys()); err != nil {
		return fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
	}
	return nil
}
