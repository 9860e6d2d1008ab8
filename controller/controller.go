// Package controller makes devices run what was intended: it compiles a
// revision into every device's config, plans what that changes, pushes it in
// waves, verifies, confirms, and keeps it so. One goroutine per device does
// what is needed for that device, one more conducts the rollout.
package controller

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wardnet/wardnet/controller/proof"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// Deps are what a Controller cannot work without. All are required but Archive,
// Audit, Drifts, Keys, Prover, Reached, Reg and Waivers.
type Deps struct {
	Store     Store
	Revisions Revisions
	Approvals Approvals
	// Waivers let a revision out whose proof does not hold; nil: none does.
	Waivers Waivers
	// Dial gives the driver of a device, or wraps [edge.ErrUnreachable] at once
	// when it has no session. A driver that is a [Credentialer] gets credentials.
	Dial func(ctx context.Context, id inventory.DeviceID) (Driver, error)
	// Signer is the revision key, which edges pin; KeyID is its name there.
	Signer crypto.Signer
	KeyID  string
	// Keys returns the WireGuard public keys of all devices that are neither
	// revoked nor quarantined, and an epoch that rises with each change.
	Keys func(ctx context.Context) (epoch uint64, keys map[inventory.DeviceID]string, err error)
	// Return stores a new revision with the content of to and returns its
	// number. It is asked again after a crash and should then give the same.
	Return func(ctx context.Context, failed, to intent.Number, reason string) (intent.Number, error)
	// Drifts keeps what was found changed; nil: only the process does.
	Drifts Drifts
	// Archive is given every configuration that is read back; nil: none is kept.
	Archive Archive
	// Audit records what the controller did by itself; what is "drift",
	// "drift." with its state, "rollout.halted", "rollout.returned", "rollout.overdue", "rollout.paused" or
	// "proof.waiver-ended". A line about a drift that it says it could not keep is
	// given to it again.
	Audit func(ctx context.Context, what, object, reason string) error
	// Reached is told how far a device has come with what is assigned to it, at
	// every pass that pushes or finds it in force; step is [StepPush] or
	// [StepConfirm], err why it got no further. It must be quick.
	Reached func(ctx context.Context, id inventory.DeviceID, step string, err error)
	// Prover proves revisions; nil: one of its own.
	Prover *proof.Prover
	Log    *slog.Logger
	Reg    prometheus.Registerer // nil: metrics work, nobody collects them
}

// Config holds the knobs; zero means default.
type Config struct {
	Pass    time.Duration `yaml:"pass" json:"pass"`       // for one pass over one device; default 30 s
	Revert  time.Duration `yaml:"revert" json:"revert"`   // rollback timer on the device; default 45 s, must exceed Pass
	Resync  time.Duration `yaml:"resync" json:"resync"`   // look for drift at least so often; default 10 min
	Look    time.Duration `yaml:"look" json:"look"`       // the same at routers, which do not tell of a change; default 8 s
	Poll    time.Duration `yaml:"poll" json:"poll"`       // between two looks while verifying; default 250 ms
	Settle  time.Duration `yaml:"settle" json:"settle"`   // after it a circuit that is dead altogether is not asked for; default 10 s
	Wave    time.Duration `yaml:"wave" json:"wave"`       // a reachable device must confirm within it; default 3 min
	Grace   time.Duration `yaml:"grace" json:"grace"`     // wait for an offline device in its wave; default 15 s
	Pending time.Duration `yaml:"pending" json:"pending"` // wait for it after the rollout; default 24 h
	// Parallel is how many devices may be between push and confirm at once;
	// default 64. The others of a wave wait their turn.
	Parallel int `yaml:"parallel" json:"parallel"`
	// Budget bounds what of that may share a district, a carrier, or be critical.
	Budget Budget `yaml:"budget" json:"budget"`
	// Windows are when waves may start; none: always. A return does not wait.
	Windows []Window `yaml:"windows" json:"windows"`
	// NoApproval lets a revision go out unapproved. For labs only.
	NoApproval bool `yaml:"-" json:"-"`
}

// WithDefaults fills in what is zero and lists what cannot be; faults wrap
// [inventory.ErrInvalid].
func (c Config) WithDefaults() (Config, error) {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&c.Pass, 30 * time.Second},
		{&c.Revert, 45 * time.Second},
		{&c.Resync, 10 * time.Minute},
		{&c.Look, 8 * time.Second},
		{&c.Poll, 250 * time.Millisecond},
		{&c.Settle, 10 * time.Second},
		{&c.Wave, 3 * time.Minute},
		{&c.Grace, 15 * time.Second},
		{&c.Pending, 24 * time.Hour},
	} {
		if *d.v < 0 {
			return c, fmt.Errorf("%w: a duration is negative: %s", inventory.ErrInvalid, *d.v)
		}
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if c.Parallel < 0 {
		return c, fmt.Errorf("%w: parallel %d is negative", inventory.ErrInvalid, c.Parallel)
	}
	c.Parallel = cmp.Or(c.Parallel, 64)
	var err error
	if c.Budget, err = c.Budget.withDefaults(); err != nil {
		return c, err
	}
	if err := checkWindows(c.Windows); err != nil {
		return c, err
	}
	if c.Revert <= c.Pass {
		return c, fmt.Errorf("%w: revert %s must exceed pass %s, or a device reverts while it is verified", inventory.ErrInvalid, c.Revert, c.Pass)
	}
	return c, nil
}

// Controller is the one reconciler of a process.
type Controller struct {
	deps    Deps
	cfg     Config
	metrics *metrics
	kick    chan struct{} // wakes the conductor
	keyed   chan struct{} // wakes the credentials loop
	turns   *turns        // who is between push and confirm

	compiling sync.Mutex // one compilation at a time; taken before mu, never under it

	mu       sync.Mutex // guards all below
	run      context.Context
	wg       sync.WaitGroup
	devices  map[inventory.DeviceID]*device
	compiled map[intent.Number]*Compiled
	spare    []intent.Number // compiled for a look only, the oldest first
	rollouts []*Rollout      // oldest first; the pointed-to values are replaced, never changed
	keyEpoch uint64
	keys     map[inventory.DeviceID]string
	subs     map[int]func(Event)
	drifts   map[inventory.DeviceID]*Drift // the newest of each device; replaced, never changed
	nextSub  int

	prover *proof.Prover

	commands sync.Mutex // one rollout command or step at a time; taken first
	loaded   bool       // guarded by commands
	// unsure is until when the rollouts are read again before each step, as the
	// store may hold one that it reported an error of; guarded by commands.
	unsure time.Time
	// waiverTold is the revision whose waiver's end was reported; guarded by commands.
	waiverTold intent.Number
}

// New checks deps and cfg and makes a Controller. Nothing runs before
// [Controller.Run].
func New(deps Deps, cfg Config) (*Controller, error) {
	cfg, err := cfg.WithDefaults()
	if err != nil {
		return nil, fmt.Errorf("controller: %w", err)
	}
	if deps.Store == nil || deps.Revisions == nil || deps.Approvals == nil || deps.Dial == nil || deps.Signer == nil || deps.Return == nil || deps.Log == nil {
		return nil, errors.New("controller: a required dependency is missing")
	}
	if deps.Audit == nil {
		deps.Audit = func(context.Context, string, string, string) error { return nil }
	}
	if deps.Prover == nil {
		deps.Prover = &proof.Prover{}
	}
	if deps.Reached == nil {
		deps.Reached = func(context.Context, inventory.DeviceID, string, error) {}
	}
	c := &Controller{
		deps: deps, cfg: cfg, metrics: newMetrics(deps.Reg),
		kick: make(chan struct{}, 1), keyed: make(chan struct{}, 1), turns: newTurns(cfg.Parallel),
		devices: map[inventory.DeviceID]*device{}, compiled: map[intent.Number]*Compiled{}, prover: deps.Prover,
		subs: map[int]func(Event){}, drifts: map[inventory.DeviceID]*Drift{},
	}
	c.metrics.readbacks(deps.Reg, c.oldestReadback)
	return c, nil
}

// Load reads rows and rollouts and compiles what is assigned, once. Run, Plan
// and the rollout commands call it; called earlier it lets Status answer too.
func (c *Controller) Load(ctx context.Context) error {
	c.commands.Lock()
	defer c.commands.Unlock()
	return c.load(ctx)
}

// load is Load with c.commands held.
func (c *Controller) load(ctx context.Context) error {
	if c.loaded {
		return c.recall(ctx)
	}
	if err := c.loadDrifts(ctx); err != nil {
		return err
	}
	rows, rollouts, err := c.stored(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	for _, s := range rows {
		d := c.ensure(s.Device)
		d.status = s
		c.take(ctx, d, s)
	}
	c.rollouts = nil
	for _, r := range rollouts {
		c.rollouts = append(c.rollouts, &r)
	}
	c.mu.Unlock()
	c.budget()
	c.loaded = true
	return nil
}

// Run works until ctx ends and returns its cause. It adopts what an earlier
// process left under way: open rollouts go on, commits in flight are verified.
func (c *Controller) Run(ctx context.Context) error {
	if err := c.Load(ctx); err != nil {
		return fmt.Errorf("controller: %w", err)
	}
	c.mu.Lock()
	c.run = ctx
	for _, d := range c.devices {
		c.start(d)
	}
	c.mu.Unlock()
	c.wg.Go(func() { c.conduct(ctx) })
	c.wg.Go(func() { c.keysLoop(ctx) })
	<-ctx.Done()
	c.mu.Lock() // nobody starts a device any more
	c.run = nil
	c.mu.Unlock()
	c.wg.Wait()
	return context.Cause(ctx)
}

// SetDevices declares the devices to look after: those in service or planned.
// Devices that are missing are let go; their rows stay.
func (c *Controller) SetDevices(devices []inventory.Device) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := map[inventory.DeviceID]bool{}
	for _, dev := range devices {
		if dev.Intended == inventory.Retired {
			continue
		}
		wanted[dev.ID] = true
		d := c.ensure(dev.ID)
		d.declared, d.role = true, dev.Role
		c.start(d)
	}
	for id, d := range c.devices {
		if !wanted[id] {
			d.declared = false
			if d.cancel != nil {
				d.cancel()
				d.cancel = nil
			}
		}
	}
	c.spreadKeys()
}

// ensure returns the device's record; c.mu is held.
func (c *Controller) ensure(id inventory.DeviceID) *device {
	d := c.devices[id]
	if d == nil {
		d = &device{id: id, wake: make(chan struct{}, 1), status: Status{Device: id}}
		c.devices[id] = d
	}
	return d
}

// start runs the device's goroutine if it should and does not; c.mu is held.
// A goroutine that was let go may still end its pass: the next one waits for
// it, so a device is never reconciled twice at once.
func (c *Controller) start(d *device) {
	if c.run == nil || !d.declared || d.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(c.run)
	before := d.done
	done := make(chan struct{})
	d.cancel, d.done = cancel, done
	c.wg.Go(func() {
		defer close(done)
		defer cancel()
		if before != nil {
			<-before
		}
		c.watch(ctx, d)
	})
}

// Wake asks for a pass over id now, for instance because its session came up.
// It never blocks and never queues more than one.
func (c *Controller) Wake(id inventory.DeviceID) {
	c.mu.Lock()
	d := c.devices[id]
	if d != nil {
		d.fresh, d.upAt = true, time.Now()
	}
	c.mu.Unlock()
	if d != nil {
		signal(d.wake)
	}
}

// Down notes that the device's session has ended.
func (c *Controller) Down(id inventory.DeviceID) {
	c.mu.Lock()
	d := c.devices[id]
	var ev Event
	if d != nil {
		d.status.Online = false
		s := d.status
		ev.Device = &s
	}
	c.mu.Unlock()
	if d != nil {
		c.emit(ev)
		signal(c.kick)
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
