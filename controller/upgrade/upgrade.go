// Package upgrade brings a new agent to the edges as a rollout: a signed
// binary into each device's free slot, in waves, hubs last and one by one, tried
// under a commit id and kept only when the device is as well as before. A device
// goes back to its old agent by itself; the first that does halts the rollout.
package upgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/release"
	"github.com/wardnet/wardnet/inventory"
)

// Agent is all the conductor needs of a device. Errors wrap
// [edge.ErrUnreachable] or [edge.ErrRejected] where they apply; every method
// may be repeated.
type Agent interface {
	// Verify says what runs and how the last try ended.
	Verify(ctx context.Context) (Report, error)
	// Install brings the binary into the free slot. A transfer that broke goes
	// on where it stopped; sent is told of the bytes that are safe there.
	Install(ctx context.Context, r release.Release, binary io.ReaderAt, sent func(int64)) error
	// Activate tries the version: unless Confirm(id) arrives within revert, the
	// device goes back by itself.
	Activate(ctx context.Context, version string, id edge.CommitID, revert time.Duration) error
	// Confirm keeps what Activate(id) put in force.
	Confirm(ctx context.Context, id edge.CommitID) error
}

// Binary is a release as the controller keeps it: signed, with its file in the
// shelf under the hash.
type Binary struct {
	release.Release
	Added time.Time // UTC
	By    string
}

// Store keeps what must survive the process. Every method is durable on return.
type Store interface {
	// Rollouts returns all rollouts, oldest first, and the rows of their devices.
	Rollouts(ctx context.Context) ([]Rollout, map[string][]Device, error)
	// Save writes a rollout and the given rows of its devices in one step.
	Save(ctx context.Context, r Rollout, rows ...Device) error
	// Binaries returns all releases, newest first.
	Binaries(ctx context.Context) ([]Binary, error)
	// AddBinary writes a release. Another binary of the same version and platform
	// is [inventory.ErrConflict]; the same one again is a no-op.
	AddBinary(ctx context.Context, b Binary) error
}

// Deps are what a Conductor cannot work without. All are required but Audit and
// Reg.
type Deps struct {
	Store Store
	Shelf *Shelf
	// Dial gives the agent of a device, or wraps [edge.ErrUnreachable] at once
	// when it has no session.
	Dial func(ctx context.Context, id inventory.DeviceID) (Agent, error)
	// Health says how well a device is now.
	Health func(ctx context.Context, id inventory.DeviceID) (Health, error)
	// City is the inventory in force.
	City func(ctx context.Context) (inventory.Inventory, error)
	// Sign signs a release with the agent key.
	Sign func(release.Release) (release.Release, error)
	// Audit records what the conductor did by itself; what is "agent.upgraded",
	// "agent.failed", "agent.returned" or "agent.rollout.<state>".
	Audit func(ctx context.Context, what, object, reason string)
	Log   *slog.Logger
	Reg   prometheus.Registerer // nil: metrics work, nobody collects them
}

// Config holds the knobs; zero means default.
type Config struct {
	Transfers int               `yaml:"transfers" json:"transfers"` // at once; default 4
	Rate      inventory.BitRate `yaml:"rate" json:"rate"`           // of one transfer, bits per second; default 2 Mbit/s
	Revert    time.Duration     `yaml:"revert" json:"revert"`       // a device goes back unless confirmed within it; default 2 min
	Grace     time.Duration     `yaml:"grace" json:"grace"`         // an offline device is waited for so long in its wave; default 1 min
	Slow      time.Duration     `yaml:"slow" json:"slow"`           // and one whose transfer takes so long; default 2 h
	Pending   time.Duration     `yaml:"pending" json:"pending"`     // and so long altogether; default 336 h (14 days)
	Poll      time.Duration     `yaml:"poll" json:"poll"`           // between two looks at a device on trial; default 1 s
}

// Bounds of Config.Revert, which are the edge's own.
const (
	minRevert = 10 * time.Second
	maxRevert = 10 * time.Minute
)

// WithDefaults fills in what is zero.
func (c Config) WithDefaults() Config {
	c.Transfers = cmp.Or(c.Transfers, 4)
	c.Rate = cmp.Or(c.Rate, 2*inventory.Mbps)
	c.Revert = cmp.Or(c.Revert, 2*time.Minute)
	c.Grace = cmp.Or(c.Grace, time.Minute)
	c.Slow = cmp.Or(c.Slow, 2*time.Hour)
	c.Pending = cmp.Or(c.Pending, 14*24*time.Hour)
	c.Poll = cmp.Or(c.Poll, time.Second)
	return c
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: agents.%s: %s", inventory.ErrInvalid, field, fmt.Sprintf(format, args...)))
	}
	if c.Transfers < 1 || c.Transfers > 64 {
		bad("transfers", "%d is not in 1 to 64", c.Transfers)
	}
	if c.Rate < 64*inventory.Kbps {
		bad("rate", "%d bit/s is under 64000", c.Rate)
	}
	if c.Revert < minRevert || c.Revert > maxRevert {
		bad("revert", "%s is not in %s to %s", c.Revert, minRevert, maxRevert)
	}
	for field, v := range map[string]time.Duration{"grace": c.Grace, "slow": c.Slow, "pending": c.Pending, "poll": c.Poll} {
		if v < 0 {
			bad(field, "%s is negative", v)
		}
	}
	return errors.Join(errs...)
}

// back is how long after its return a device may take to be heard of again.
const back = 3 * time.Minute

func (c Config) limits() Limits {
	return Limits{Grace: c.Grace, Slow: c.Slow, Pending: c.Pending, Revert: c.Revert, Back: back}
}

// Conductor carries rollouts of agents out. One is enough for a process.
type Conductor struct {
	deps    Deps
	cfg     Config
	metrics *metrics
	kick    chan struct{} // wakes the loop
	slots   chan struct{} // one element for each transfer under way
	wg      sync.WaitGroup

	commands sync.Mutex // one stored change at a time; taken before mu
	loaded   bool       // guarded by commands

	mu       sync.Mutex // guards all below
	started  time.Time  // of Run: what came before cannot have been heard
	rollouts []*entry   // oldest first
}

// entry is a rollout with its devices, as held in memory.
type entry struct {
	Rollout
	devices map[inventory.DeviceID]*device
}

// device is a row with what is only known while this process lives.
type device struct {
	Device
	version  string // of the rollout
	online   bool
	busy     bool      // a pass is under way
	next     time.Time // not before it the next pass
	answered time.Time // last
	fails    int       // passes in a row that ended with an error
	accepted int       // see [Sight]
	stop     context.CancelCauseFunc
	sent     int64 // bytes of the transfer under way that are safe on the device
	size     int64
}

// New checks deps and cfg and makes a Conductor. Nothing happens before
// [Conductor.Run].
func New(deps Deps, cfg Config) (*Conductor, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Store == nil || deps.Shelf == nil || deps.Dial == nil || deps.Health == nil || deps.City == nil || deps.Sign == nil || deps.Log == nil {
		return nil, errors.New("upgrade: a required dependency is missing")
	}
	if deps.Audit == nil {
		deps.Audit = func(context.Context, string, string, string) {}
	}
	return &Conductor{
		deps: deps, cfg: cfg, metrics: newMetrics(deps.Reg),
		kick: make(chan struct{}, 1), slots: make(chan struct{}, cfg.Transfers),
	}, nil
}

// Load reads the rollouts, once. Run and the commands call it.
func (c *Conductor) Load(ctx context.Context) error {
	c.commands.Lock()
	defer c.commands.Unlock()
	return c.load(ctx)
}

// load is Load with c.commands held.
func (c *Conductor) load(ctx context.Context) error {
	if c.loaded {
		return nil
	}
	rollouts, rows, err := c.deps.Store.Rollouts(ctx)
	if err != nil {
		return fmt.Errorf("load agent rollouts: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rollouts = nil
	for _, r := range rollouts {
		c.rollouts = append(c.rollouts, newEntry(r, rows[r.ID]))
	}
	c.loaded = true
	return nil
}

func newEntry(r Rollout, rows []Device) *entry {
	e := &entry{Rollout: r, devices: make(map[inventory.DeviceID]*device, len(rows))}
	for _, row := range rows {
		e.devices[row.Device] = &device{Device: row, version: r.Version}
	}
	return e
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
