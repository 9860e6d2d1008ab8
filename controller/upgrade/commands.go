package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/wardnet/wardnet/inventory"
)

// Add signs an agent binary and keeps it. The same file again is a no-op that
// also mends a missing file; another file of the same version and platform is
// [inventory.ErrConflict].
func (c *Conductor) Add(ctx context.Context, version string, file []byte, by string) (Binary, error) {
	rel, err := inspect(version, file)
	if err != nil {
		return Binary{}, err
	}
	c.commands.Lock()
	defer c.commands.Unlock()
	all, err := c.deps.Store.Binaries(ctx)
	if err != nil {
		return Binary{}, fmt.Errorf("add agent %s: %w", rel, err)
	}
	b := Binary{Release: rel, Added: time.Now().UTC(), By: by}
	for _, o := range all {
		if o.Version != rel.Version || o.GOOS != rel.GOOS || o.GOARCH != rel.GOARCH {
			continue
		}
		if !o.Same(rel) {
			return Binary{}, fmt.Errorf("add agent %s: %w: there is another binary of this version and platform (sha256 %.12x); give this one a version of its own", rel, inventory.ErrConflict, o.SHA256)
		}
		b = o
	}
	if err := c.deps.Shelf.Put(file); err != nil {
		return Binary{}, err
	}
	if b.Release, err = c.deps.Sign(rel); err != nil { // anew: the key may be another since
		return Binary{}, fmt.Errorf("add agent %s: %w", rel, err)
	}
	if err := c.deps.Store.AddBinary(ctx, b); err != nil {
		return Binary{}, fmt.Errorf("add agent %s: %w", rel, err)
	}
	return b, nil
}

// Binaries returns all releases, newest first, and which of them have their
// file on the shelf.
func (c *Conductor) Binaries(ctx context.Context) (all []Binary, whole []bool, err error) {
	if all, err = c.deps.Store.Binaries(ctx); err != nil {
		return nil, nil, fmt.Errorf("list agents: %w", err)
	}
	for _, b := range all {
		whole = append(whole, c.deps.Shelf.Holds(b.SHA256))
	}
	return all, whole, nil
}

// binary finds the release of a version for a platform; goarch "" means the
// only one there is.
func (c *Conductor) binary(ctx context.Context, version, goarch string) (Binary, error) {
	all, err := c.deps.Store.Binaries(ctx)
	if err != nil {
		return Binary{}, fmt.Errorf("find agent %s: %w", version, err)
	}
	of := slices.DeleteFunc(all, func(b Binary) bool { return b.Version != version || goarch != "" && b.GOARCH != goarch })
	if len(of) != 1 {
		return Binary{}, fmt.Errorf("%w: there are %d binaries of agent %s for %s; see 'wardnet agent list'", inventory.ErrNotFound, len(of), version, orUnknown(goarch))
	}
	return of[0], nil
}

// Order says what to upgrade.
type Order struct {
	Version string
	Devices []inventory.DeviceID // empty: all in service
	Purpose string
}

// Start begins a rollout. It is [inventory.ErrConflict] while another runs, is
// paused, or has a device on trial; of one that only waits for offline devices
// it takes over the devices named.
func (c *Conductor) Start(ctx context.Context, o Order, by string) (Rollout, error) {
	c.commands.Lock()
	defer c.commands.Unlock()
	if err := c.load(ctx); err != nil {
		return Rollout{}, fmt.Errorf("upgrade agents: %w", err)
	}
	if err := c.mayStart(); err != nil {
		return Rollout{}, fmt.Errorf("upgrade agents: %w", err)
	}
	city, err := c.deps.City(ctx)
	if err != nil {
		return Rollout{}, fmt.Errorf("upgrade agents: %w", err)
	}
	rows, err := c.choose(ctx, o, &city)
	if err != nil {
		return Rollout{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Rollout{}, fmt.Errorf("make a rollout id: %w", err)
	}
	now := time.Now().UTC()
	ids := make([]inventory.DeviceID, len(rows))
	for i, row := range rows {
		ids[i] = row.Device
	}
	r := Rollout{
		ID: id.String(), Version: o.Version, Author: by, Purpose: o.Purpose, State: Running, Started: now,
		Deadline: now.Add(c.cfg.Pending), Waves: makeWaves(ids, &city),
	}
	if err := c.deps.Store.Save(ctx, r, rows...); err != nil {
		return Rollout{}, fmt.Errorf("store agent rollout: %w", err)
	}
	c.mu.Lock()
	c.rollouts = append(c.rollouts, newEntry(r, rows))
	c.mu.Unlock()
	c.stateReached(ctx, r)
	signal(c.kick)
	return r, nil
}

func (c *Conductor) mayStart() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.rollouts {
		if e.State == Running || e.State == Paused {
			return fmt.Errorf("%w: rollout %s of agent %s is %s; wait for its end or abort it", inventory.ErrConflict, e.ID, e.Version, e.State)
		}
		if id := e.trying(); id != "" {
			return fmt.Errorf("%w: %s still tries agent %s; it is over within %s", inventory.ErrConflict, id, e.Version, c.cfg.Revert+back)
		}
	}
	return nil
}

// choose finds the devices of an order; it names every fault.
func (c *Conductor) choose(ctx context.Context, o Order, city *inventory.Inventory) ([]Device, error) {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{inventory.ErrInvalid}, args...)...))
	}
	all, err := c.deps.Store.Binaries(ctx)
	if err != nil {
		return nil, fmt.Errorf("upgrade agents: %w", err)
	}
	known := map[string]bool{}
	for _, b := range all {
		if b.Version == o.Version && !c.deps.Shelf.Holds(b.SHA256) {
			bad("the file of agent %s is not on the controller any more; add it again with 'wardnet agent add'", b.Release)
		}
		known[b.Version] = true
	}
	if !known[o.Version] {
		bad("there is no agent %q; see 'wardnet agent list'", o.Version)
	}
	var rows []Device
	named := map[inventory.DeviceID]bool{}
	for _, id := range o.Devices {
		named[id] = true
	}
	for _, d := range city.Devices {
		if len(o.Devices) == 0 && d.Intended == inventory.InService || named[d.ID] && d.Intended != inventory.Retired {
			rows = append(rows, Device{Device: d.ID, Hub: d.Role == inventory.RoleHub, Phase: Waiting})
			delete(named, d.ID)
		}
	}
	for _, id := range o.Devices {
		if named[id] {
			bad("there is no device %q, or it is retired", id)
			delete(named, id)
		}
	}
	if len(errs) == 0 && len(rows) == 0 {
		bad("no device is in service")
	}
	return rows, errors.Join(errs...)
}

// Pause lets nothing begin; a try under way is still judged and confirmed.
func (c *Conductor) Pause(ctx context.Context, id, by string) (Rollout, error) {
	return c.command(ctx, id, "pause", []State{Running, Lingering}, func(r *Rollout) {
		r.State, r.Reason, r.ETA = Paused, "paused by "+by, time.Time{}
	})
}

// Resume lets a paused rollout go on. A wave none of whose devices is reachable
// is then passed over; they are upgraded when they return.
func (c *Conductor) Resume(ctx context.Context, id, by string) (Rollout, error) {
	return c.command(ctx, id, "resume", []State{Paused}, func(r *Rollout) {
		r.State, r.Reason = Running, "resumed by "+by
		for i := range r.Waves {
			if w := &r.Waves[i]; w.State == WaveRunning {
				w.Accepted = w.Done == 0 && w.Pending > 0
				w.Started = time.Now().UTC() // its time limits begin anew
			}
		}
	})
}

// Abort ends a rollout for good. What is confirmed stays; what is on trial is
// not confirmed any more and goes back by itself.
func (c *Conductor) Abort(ctx context.Context, id, by string) (Rollout, error) {
	return c.command(ctx, id, "abort", []State{Running, Paused, Lingering}, func(r *Rollout) {
		r.State, r.Reason, r.Ended, r.ETA = Aborted, "aborted by "+by, time.Now().UTC(), time.Time{}
	})
}

func (c *Conductor) command(ctx context.Context, id, verb string, from []State, change func(*Rollout)) (Rollout, error) {
	c.commands.Lock()
	defer c.commands.Unlock()
	if err := c.load(ctx); err != nil {
		return Rollout{}, fmt.Errorf("%s agent rollout: %w", verb, err)
	}
	e, err := c.find(id)
	if err != nil {
		return Rollout{}, fmt.Errorf("%s: %w", verb, err)
	}
	c.mu.Lock()
	r := e.Rollout
	c.mu.Unlock()
	if !slices.Contains(from, r.State) {
		return Rollout{}, fmt.Errorf("%s agent rollout %s: %w: it is %s", verb, id, inventory.ErrConflict, r.State)
	}
	r.Waves = slices.Clone(r.Waves)
	change(&r)
	c.mu.Lock()
	rows := e.closing(time.Now().UTC(), r)
	c.mu.Unlock()
	if err := c.save(ctx, e, r, rows...); err != nil {
		return Rollout{}, err
	}
	signal(c.kick)
	return r, nil
}

func (c *Conductor) find(id string) (*entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.rollouts, func(e *entry) bool { return e.ID == id })
	if i < 0 {
		return nil, fmt.Errorf("agent rollout %q: %w", id, inventory.ErrNotFound)
	}
	return c.rollouts[i], nil
}

// View is a rollout with where its devices stand.
type View struct {
	Rollout
	Devices []DeviceView // sorted by id
}

// DeviceView is one device of a rollout.
type DeviceView struct {
	Device
	Online     bool
	Sent, Size int64 // bytes of the transfer under way; Size 0: none
}

// Rollout returns one rollout, or wraps [inventory.ErrNotFound].
func (c *Conductor) Rollout(id string) (View, error) {
	e, err := c.find(id)
	if err != nil {
		return View{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return e.view(c.cfg.limits()), nil
}

// Rollouts returns all rollouts, newest first.
func (c *Conductor) Rollouts() []View {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]View, 0, len(c.rollouts))
	for _, e := range slices.Backward(c.rollouts) {
		out = append(out, e.view(c.cfg.limits()))
	}
	return out
}

func (e *entry) view(lim Limits) View {
	v := View{Rollout: e.Rollout}
	v.Waves = slices.Clone(v.Waves)
	for i := range v.Waves {
		v.Waves[i].count(time.Now(), e.seen, lim)
	}
	for _, d := range e.devices {
		v.Devices = append(v.Devices, DeviceView{d.Device, d.online, d.sent, d.size})
	}
	slices.SortFunc(v.Devices, func(a, b DeviceView) int {
		return strings.Compare(string(a.Device.Device), string(b.Device.Device))
	})
	return v
}
