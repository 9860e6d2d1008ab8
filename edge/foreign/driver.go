package foreign

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/commit"
	"github.com/wardnet/wardnet/inventory"
)

// Deps are what a [Driver] needs; all required.
type Deps struct {
	Device  inventory.DeviceID
	Keys    map[string]crypto.PublicKey // revision keys, by key id
	Box     Box
	Journal Journal
	Log     *slog.Logger
}

// Config is how a [Driver] works. The zero value means defaults.
type Config struct {
	// Timeout bounds one change of the device. The call that asked for it may
	// end earlier; the change goes on. Default 60 s.
	Timeout time.Duration
	// Retry is the longest pause between two attempts to put a device back.
	// Default 30 s.
	Retry time.Duration
}

// Driver drives one device that has no agent. It satisfies the controller's
// Driver and Credentialer, and is safe for concurrent use. A device must have
// one Driver only.
//
// No item of the health contract is watched: the device returns when the
// deadline passes without a Confirm, and for no other reason.
type Driver struct {
	deps Deps
	cfg  Config

	turn chan struct{} // one slot: who holds it uses the device; Close keeps it
	now  standing      // guarded by turn
	kept bool          // what is confirmed is saved on the device; guarded by turn

	mu      sync.Mutex // guards pending, which readers see while turn is held
	pending edge.CommitID

	plain atomic.Bool   // the device was found not to return by itself
	kick  chan struct{} // one slot: the loop must look again
	life  context.Context
	end   context.CancelFunc
	done  chan struct{} // closed when the loop has ended
	close sync.Once
}

// New loads the journal and takes up what it tells: a commit found pending is
// adopted when its deadline has not passed and the device holds it, and is
// taken back otherwise, as soon as the device can be reached. ctx bounds the
// loading only. The caller closes the Driver, and then what is behind the Box.
func New(ctx context.Context, deps Deps, cfg Config) (*Driver, error) {
	if deps.Device == "" || deps.Box == nil || deps.Journal == nil || deps.Log == nil {
		return nil, errors.New("drive a device without agent: Deps has an empty field")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute
	}
	if cfg.Retry == 0 {
		cfg.Retry = 30 * time.Second
	}
	deps.Log = deps.Log.With("device", deps.Device)
	e, err := deps.Journal.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("load the journal of %s: %w", deps.Device, err)
	}
	if of := e.Running.Device; of != "" && of != deps.Device {
		return nil, fmt.Errorf("load the journal of %s: it is that of %s", deps.Device, of)
	}
	d := &Driver{deps: deps, cfg: cfg, turn: make(chan struct{}, 1), kick: make(chan struct{}, 1), done: make(chan struct{})}
	d.life, d.end = context.WithCancel(context.WithoutCancel(ctx))
	d.become(standing{State: commit.State{Record: e.Record, Credentials: e.Credentials}, before: e.Before})
	go d.loop()
	return d, nil
}

// Close waits for the change under way, at most twice the timeout, and ends the
// Driver. What is on trial stays so, for the next Driver of the device.
func (d *Driver) Close() error {
	d.close.Do(func() {
		d.end()
		<-d.done
		d.turn <- struct{}{} // for good: nothing can start
	})
	return nil
}

// Emulated says whether the device cannot return by itself, so that this
// process has to be alive for that.
func (d *Driver) Emulated() bool {
	if _, ok := d.deps.Box.(Confirmer); !ok || d.plain.Load() {
		return true
	}
	e, ok := d.deps.Box.(Emulator)
	return ok && e.Emulated()
}

// Limits implements controller.Limited: how the device falls short of c.
func (d *Driver) Limits(c edge.Config) []string {
	var out []string
	if d.Emulated() {
		out = append(out, "the device cannot take an unconfirmed change back by itself: this controller does, while it runs")
	}
	if kinds := d.Unheld(c); len(kinds) > 0 {
		out = append(out, fmt.Sprintf("the device does not hold these kinds of parts: %v", kinds))
	}
	if l, ok := d.deps.Box.(Leaver); ok {
		out = append(out, l.Left(c)...)
	}
	return out
}

// Holds lists the parts of a Config that the device holds.
func (d *Driver) Holds() []edge.Kind { return d.deps.Box.Holds() }

// Unheld lists the kinds of c's parts that the device does not hold: they stay
// in the document and have no effect there. Whose config it is counts as held.
func (d *Driver) Unheld(c edge.Config) []edge.Kind {
	holds := append(d.Holds(), edge.KindIdentity)
	var out []edge.Kind
	for _, op := range edge.Diff(edge.Config{}, c) {
		if !slices.Contains(holds, op.Kind) && !slices.Contains(out, op.Kind) {
			out = append(out, op.Kind)
		}
	}
	return out
}

// Text implements controller.Texter: the device's own text; "" where it has none.
func (d *Driver) Text(ctx context.Context) (text string, complete bool, err error) {
	t, ok := d.deps.Box.(Texter)
	if !ok {
		return "", true, nil
	}
	if err := d.take(ctx); err != nil {
		return "", false, err
	}
	defer d.release()
	return t.Text(ctx)
}

// Running implements controller.Driver: the document in force with the parts
// that the device holds read back. It is the document itself when they are as
// wanted; otherwise Config and Hash tell what is there.
func (d *Driver) Running(ctx context.Context) (edge.Signed, error) {
	if err := d.take(ctx); err != nil {
		return edge.Signed{}, err
	}
	defer d.release()
	doc := d.now.Active()
	got, err := d.deps.Box.Read(ctx, doc.Config)
	if err != nil {
		return edge.Signed{}, fmt.Errorf("read the configuration of %s: %w", d.deps.Device, err)
	}
	if change := edge.Diff(doc.Config, got); !change.Empty() {
		// In the form of the document: what differs in form alone, an empty list from
		// none, is no difference and would give another hash.
		if same := change.Apply(doc.Config); edge.Diff(got, same).Empty() {
			got = same
		}
		doc.Device, doc.Config, doc.Hash = d.deps.Device, got, got.Hash()
		return doc, nil
	}
	d.keep(ctx)
	return doc, nil
}

// Apply implements controller.Driver. When ctx ends the change goes on, and is
// found by Pending.
func (d *Driver) Apply(ctx context.Context, id edge.CommitID, want edge.Signed, revert time.Duration) error {
	if want.Device != d.deps.Device {
		return fmt.Errorf("%w: the document is for %q, this is %q", edge.ErrRejected, want.Device, d.deps.Device)
	}
	if err := want.Verify(d.deps.Keys); err != nil {
		return err
	}
	if revert <= 0 {
		return fmt.Errorf("%w: commit %q: revert time %s; it must be longer than 0", edge.ErrRejected, id, revert)
	}
	return d.detached(ctx, func(ctx context.Context) error {
		return d.try(ctx, commit.Trial{ID: id, Want: want, Rollback: revert})
	})
}

// Confirm implements controller.Driver. When ctx ends it goes on.
func (d *Driver) Confirm(ctx context.Context, id edge.CommitID) error {
	return d.detached(ctx, func(ctx context.Context) error { return d.confirm(ctx, id) })
}

// Pending implements controller.Driver. A commit that is being put in force, or
// back, is pending.
func (d *Driver) Pending(ctx context.Context) (edge.CommitID, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pending, nil
}

// State implements controller.Driver. Revision and Hash are those of the
// document in force; whether the device still holds it is for Running to say.
func (d *Driver) State(ctx context.Context) (edge.State, error) {
	if err := d.take(ctx); err != nil {
		return edge.State{}, err
	}
	defer d.release()
	run := d.now.Active()
	tunnels, err := d.deps.Box.Tunnels(ctx, run.Config)
	if err != nil {
		return edge.State{}, fmt.Errorf("read the state of %s: %w", d.deps.Device, err)
	}
	st := edge.State{
		At: time.Now().UTC(), Revision: run.Revision, Hash: run.Hash, Epoch: d.now.Credentials.Epoch,
		Tunnels: tunnels, LastRevert: d.now.LastRevert, Protocol: edge.Protocol,
	}
	if p := d.now.Pending; p != nil {
		st.Pending = p.ID
	} else if _, forgets := d.deps.Box.(Saver); forgets && !d.kept && run.Revision != 0 {
		st.Alarms = []string{NotSaved}
	}
	return st, nil
}

// keep saves what is confirmed, and in force, on a device that would forget it;
// what fails is tried again with the next look. The turn is held.
func (d *Driver) keep(ctx context.Context) {
	s, forgets := d.deps.Box.(Saver)
	if !forgets || d.kept || d.now.Pending != nil || d.now.Running.Revision == 0 {
		return
	}
	if err := s.Save(ctx); err != nil {
		d.deps.Log.WarnContext(ctx, "configuration not saved on the device: a restart loses it", "alarm", NotSaved, "err", err)
		return
	}
	d.kept = true
}

// SetCredentials implements controller.Credentialer. The set is kept, and its
// epoch told; a device without agent has no peers of ours to fill.
func (d *Driver) SetCredentials(ctx context.Context, c edge.Credentials) error {
	return d.detached(ctx, func(ctx context.Context) error {
		st, err := d.now.Admit(c)
		if err != nil {
			return refused(err)
		}
		if st.Credentials == nil {
			return nil
		}
		next := d.now
		next.State = st.Next
		if err := d.save(ctx, next, next.Record); err != nil {
			return err
		}
		d.become(next)
		return nil
	})
}

// take waits for the device's turn.
func (d *Driver) take(ctx context.Context) error {
	if ctx.Err() != nil {
		return d.ended(ctx)
	}
	select {
	case d.turn <- struct{}{}:
		if d.life.Err() == nil {
			return nil
		}
		d.release()
		return fmt.Errorf("%w: the driver of %s is closed", edge.ErrUnreachable, d.deps.Device)
	case <-d.life.Done():
		return fmt.Errorf("%w: the driver of %s is closed", edge.ErrUnreachable, d.deps.Device)
	case <-ctx.Done():
		return d.ended(ctx)
	}
}

func (d *Driver) release() { <-d.turn }

// ended is the error of a call whose context ended: that the caller stopped is
// no news of the device.
func (d *Driver) ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) {
		return fmt.Errorf("call to %s: %w", d.deps.Device, cause)
	}
	return fmt.Errorf("%w: %s: %w", edge.ErrUnreachable, d.deps.Device, cause)
}

// detached runs fn with the device's turn. A change is not broken off because
// the caller went away: that is how a device gets half-written.
func (d *Driver) detached(ctx context.Context, fn func(context.Context) error) error {
	if err := d.take(ctx); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer d.release()
		ctx, cancel := d.bounded(ctx)
		defer cancel()
		done <- fn(ctx)
		select {
		case d.kick <- struct{}{}:
		default:
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("it goes on: %w", d.ended(ctx))
	}
}

// bounded is ctx without its end, bounded by the timeout.
func (d *Driver) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), d.cfg.Timeout, fmt.Errorf("%w: the device took over %s", edge.ErrUnreachable, d.cfg.Timeout))
}

// loop takes back what was not confirmed, at its deadline or, while the device
// cannot be reached, as soon as it can.
func (d *Driver) loop() {
	defer close(d.done)
	var (
		timer = time.NewTimer(0)
		pause time.Duration
		said  string
	)
	defer timer.Stop()
	for {
		select {
		case <-d.life.Done():
			return
		case <-d.kick:
		case <-timer.C:
		}
		if d.take(d.life) != nil {
			return
		}
		wait, err := d.tend()
		d.release()
		if err != nil {
			pause = min(max(2*pause, time.Second), d.cfg.Retry)
			if wait == 0 || pause < wait {
				wait = pause
			}
			if err.Error() != said {
				said = err.Error()
				d.deps.Log.WarnContext(d.life, "device is behind, trying again", "err", err)
			}
		} else {
			pause, said = 0, ""
		}
		timer.Stop()
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}
