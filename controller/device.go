package controller

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// device is what the controller holds of one device. Controller.mu guards all
// of it; only the device's own goroutine writes what is observed.
type device struct {
	id       inventory.DeviceID
	role     inventory.DeviceRole
	declared bool
	wake     chan struct{}
	cancel   context.CancelFunc // nil: no goroutine
	done     chan struct{}      // closed when the last goroutine has ended
	fresh    bool               // a session came up since the last pass

	status Status
	want   *Want         // under status.Target; nil: nothing is wanted
	failed string        // why what is assigned cannot be brought out; empty: it can
	looked bool          // a pass has run in this process
	upAt   time.Time     // when its session came up
	readAt time.Time     // when it was last found to run what it should
	lost   int           // pushes of what is assigned that ended without our hearing how
	missed edge.CommitID // the last one of them

	dueEpoch uint64 // credentials to set, nil: none known yet
	due      map[inventory.DeviceID]string
	set      map[inventory.DeviceID]string // last set in this session
	setAt    time.Time
	refused  uint64    // epoch that the device refused
	mendedAt time.Time // of the newest report of the device's own repairs

	doubt *Drift // the store reported an error of it and may hold it

	record sync.Mutex // one write of its drift at a time; taken before Controller.mu, and guards nothing else
}

// Event is one change for live views; exactly one field is set.
type Event struct {
	Device  *Status
	Rollout *Rollout
}

// Subscribe calls fn after every change until the returned function is called.
// fn must not block.
func (c *Controller) Subscribe(fn func(Event)) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.nextSub
	c.nextSub++
	c.subs[id] = fn
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.subs, id)
	}
}

// emit tells the subscribers; c.mu is not held.
func (c *Controller) emit(ev Event) {
	c.mu.Lock()
	fns := make([]func(Event), 0, len(c.subs))
	for _, id := range slices.Sorted(maps.Keys(c.subs)) {
		fns = append(fns, c.subs[id])
	}
	c.mu.Unlock()
	for _, fn := range fns {
		fn(ev)
	}
}

// Status returns the row of one device, or wraps [inventory.ErrNotFound].
func (c *Controller) Status(id inventory.DeviceID) (Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.devices[id]
	if d == nil {
		return Status{}, fmt.Errorf("status of device %q: %w", id, inventory.ErrNotFound)
	}
	return d.status, nil
}

// Statuses returns every row, sorted by device.
func (c *Controller) Statuses() []Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Status, 0, len(c.devices))
	for _, d := range c.devices {
		out = append(out, d.status)
	}
	slices.SortFunc(out, func(a, b Status) int { return cmp.Compare(a.Device, b.Device) })
	return out
}

// Want returns the config assigned to a device, or wraps
// [inventory.ErrNotFound] when there is none.
func (c *Controller) Want(id inventory.DeviceID) (edge.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.devices[id]
	if d == nil || d.want == nil {
		return edge.Config{}, fmt.Errorf("config of device %q: %w: no revision is assigned to it", id, inventory.ErrNotFound)
	}
	return d.want.Config, nil
}

// observe changes what is observed of d, durably, and tells the subscribers.
// Entries get their id, time, device and rollout here.
func (c *Controller) observe(ctx context.Context, d *device, change func(*Status), entries ...Entry) error {
	return c.observeBy(ctx, d, c.deps.Store.Save, change, entries...)
}

// observeBy is observe with what writes the row.
func (c *Controller) observeBy(ctx context.Context, d *device, save func(context.Context, Status, ...Entry) error, change func(*Status), entries ...Entry) error {
	c.mu.Lock()
	s := d.status
	rollout := c.rolloutOf(s.Target.Revision)
	c.mu.Unlock()
	before := s
	change(&s)
	now := time.Now().UTC()
	if s.differs(before) || len(entries) > 0 {
		s.At = now
		for i := range entries {
			id, err := uuid.NewV7()
			if err != nil {
				return fmt.Errorf("make a journal id: %w", err)
			}
			entries[i].ID, entries[i].At, entries[i].Device, entries[i].Rollout = id.String(), now, d.id, rollout
		}
		if err := save(ctx, s, entries...); err != nil {
			return fmt.Errorf("write the row of %s: %w", d.id, err)
		}
	} else if s.Online == before.Online && s.Epoch == before.Epoch && slices.Equal(s.Limits, before.Limits) {
		return nil
	}
	c.mu.Lock()
	s.Target, s.Want = d.status.Target, d.status.Want // a rollout may have moved on meanwhile
	d.status = s
	c.mu.Unlock()
	c.emit(Event{Device: &s})
	return nil
}

// differs compares what is stored.
func (s Status) differs(o Status) bool {
	return s.Revision != o.Revision || s.Hash != o.Hash || s.Commit != o.Commit || s.Pushed != o.Pushed || s.Outcome != o.Outcome || s.Error != o.Error || s.Drifts != o.Drifts
}

// rolloutOf returns the id of the newest rollout of a revision; c.mu is held.
func (c *Controller) rolloutOf(n intent.Number) string {
	for _, r := range slices.Backward(c.rollouts) {
		if r.Revision == n {
			return r.ID
		}
	}
	return ""
}

func (t Target) revisions() []intent.Number {
	if t.Revision == 0 {
		return nil
	}
	return append([]intent.Number{t.Revision}, t.Keep...)
}

// assign sets the target of d; everything it names is compiled; c.mu is held.
func (c *Controller) assign(d *device, t Target) {
	d.status.Target, d.status.Want, d.failed, d.lost = t, "", "", 0
	if d.want = c.wantOf(d.id, t); d.want != nil {
		d.status.Want = d.want.Hash
	}
}

// wantOf gives what t asks of a device; nil: nothing. Everything that t names
// is compiled; c.mu is held.
func (c *Controller) wantOf(id inventory.DeviceID, t Target) *Want {
	to := c.compiled[t.Revision]
	if to == nil {
		return nil
	}
	w, ok := to.Devices[id]
	if !ok {
		return nil
	}
	if len(t.Keep) == 0 {
		return &w
	}
	for _, n := range t.Keep {
		if from := c.compiled[n]; from != nil {
			if old, ok := from.Devices[id]; ok {
				w.Config = keepOld(w.Config, old.Config)
			}
		}
	}
	w.Hash = w.Config.Hash()
	return &w
}

// compile returns revision n compiled. It stays in memory when keep says so,
// until no device and no open rollout needs it; a few others stay as well.
func (c *Controller) compile(ctx context.Context, n intent.Number, keep bool) (*Compiled, error) {
	c.compiling.Lock()
	defer c.compiling.Unlock()
	c.mu.Lock()
	got := c.compiled[n]
	if keep {
		c.spare = slices.DeleteFunc(c.spare, func(x intent.Number) bool { return x == n })
	}
	c.mu.Unlock()
	if got != nil {
		return got, nil
	}
	rev, err := c.deps.Revisions.Get(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("read revision %d: %w", n, err)
	}
	start := time.Now()
	if got, err = CompileAgain(rev, c.nearest(n)); err != nil {
		return nil, err
	}
	c.metrics.compile.Observe(time.Since(start).Seconds())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.compiled[n] = got
	if !keep {
		c.spare = append(c.spare, n)
		c.trim()
	}
	return got, nil
}

// forget drops compiled revisions that nothing refers to; c.mu is held.
func (c *Controller) forget() {
	used := c.referred()
	for n := range c.compiled {
		if !used[n] {
			delete(c.compiled, n)
		}
	}
}

// referred are the revisions that devices and open rollouts need; c.mu is held.
func (c *Controller) referred() map[intent.Number]bool {
	used := map[intent.Number]bool{}
	for _, d := range c.devices {
		for _, n := range d.status.Target.revisions() {
			used[n] = true
		}
	}
	for _, r := range c.rollouts {
		if r.Open() {
			used[r.Revision] = true
		}
	}
	return used
}
