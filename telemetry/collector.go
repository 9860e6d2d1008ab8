package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/wardnet/wardnet/inventory"
)

// Deps is what the collector needs.
type Deps struct {
	// Dial returns the connection to a device's gNMI server; an error means
	// that there is none at the moment.
	Dial func(context.Context, inventory.DeviceID) (grpc.ClientConnInterface, error)
	// Sinks get every sample in order, one call at a time; they must not block.
	Sinks  []func(Sample)
	Labels Labels // nil: no site, no carrier
	// Expected lists devices that ought to be connected; one that has not come
	// within Grace is reported down. Nil: none.
	Expected func() []inventory.DeviceID
	Log      *slog.Logger
	Reg      prometheus.Registerer // nil: metrics work, nobody collects them
}

// Config of the collector; zero means default.
type Config struct {
	SampleInterval time.Duration // of counters and gauges; default 10 s
	Heartbeat      time.Duration // states are repeated this often; default 60 s
	Stall          time.Duration // a stream silent for so long is restarted; default 6 × SampleInterval
	Past           time.Duration // oldest device time taken; default 10 min
	Future         time.Duration // newest device time taken, from now; default 30 s
	Queue          int           // samples waiting for the sinks; default 65,536
	SeriesPer      int           // most series of one device; default 8,192
	Grace          time.Duration // for Deps.Expected after start; default 2 min
	Stale          time.Duration // series left out of the exposition; default 5 min
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.SampleInterval, 10*time.Second)
	def(&c.Heartbeat, time.Minute)
	def(&c.Stall, 6*c.SampleInterval)
	def(&c.Past, 10*time.Minute)
	def(&c.Future, 30*time.Second)
	def(&c.Grace, 2*time.Minute)
	def(&c.Stale, 5*time.Minute)
	if c.Queue == 0 {
		c.Queue = 1 << 16
	}
	if c.SeriesPer == 0 {
		c.SeriesPer = 8192
	}
	return c
}

// Collector subscribes to every device and hands samples to the sinks.
type Collector struct {
	deps             Deps
	cfg              Config
	m                *collectorMetrics
	expo             *exposition
	wake             chan struct{}
	states, measures *ring

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before
	wg      sync.WaitGroup
	targets map[inventory.DeviceID]*target
}

// NewCollector makes a collector; [Collector.Run] starts it.
func NewCollector(deps Deps, cfg Config) (*Collector, error) {
	if deps.Dial == nil || deps.Log == nil {
		return nil, fmt.Errorf("%w: telemetry collector: Dial and Log are required", inventory.ErrInvalid)
	}
	if deps.Labels == nil {
		deps.Labels = func(inventory.DeviceID, string) (inventory.SiteID, inventory.CarrierID) { return "", "" }
	}
	cfg = cfg.withDefaults()
	wake := make(chan struct{}, 1)
	c := &Collector{
		deps: deps, cfg: cfg, wake: wake, states: newRing(max(cfg.Queue/4, 1), wake), measures: newRing(cfg.Queue, wake),
		expo: newExposition(deps.Labels, cfg.Stale), targets: map[inventory.DeviceID]*target{},
	}
	c.m = newCollectorMetrics(deps.Reg, c)
	return c, nil
}

// Run feeds the sinks and keeps the streams until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	if c.ctx != nil {
		c.mu.Unlock()
		cancel()
		return errors.New("telemetry collector runs already")
	}
	c.ctx = ctx
	for _, t := range c.targets {
		c.start(t)
	}
	c.mu.Unlock()
	defer c.wg.Wait()
	defer cancel()

	begun := time.Now()
	tick := time.NewTicker(c.cfg.SampleInterval)
	defer tick.Stop()
	batch := make([]Sample, 0, 1024)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
			c.drain(batch)
		case now := <-tick.C:
			if c.deps.Expected != nil && now.Sub(begun) >= c.cfg.Grace {
				for _, id := range c.deps.Expected() {
					c.target(id)
				}
			}
			c.beat(now)
			c.drain(batch)
		}
	}
}

// drain hands what waits to the sinks, states first.
func (c *Collector) drain(batch []Sample) {
	for _, r := range []*ring{c.states, c.measures} {
		for {
			batch = r.take(batch)
			for _, s := range batch {
				for _, sink := range c.deps.Sinks {
					sink(s)
				}
			}
			if len(batch) > 0 {
				c.m.sinkLag.Set(time.Since(batch[len(batch)-1].At).Seconds())
			}
			if len(batch) < cap(batch) {
				break
			}
		}
	}
}

// Up says that the device has a session: subscribe now.
func (c *Collector) Up(id inventory.DeviceID) { c.target(id).poke() }

// Down says that a session of the device ended. Where another session took its
// place the stream is made again on that one at once.
func (c *Collector) Down(id inventory.DeviceID) {
	c.mu.Lock()
	t := c.targets[id]
	c.mu.Unlock()
	if t != nil {
		t.drop()
	}
}

// Forget ends the device's series, for one that was retired.
func (c *Collector) Forget(id inventory.DeviceID) {
	c.mu.Lock()
	t := c.targets[id]
	delete(c.targets, id)
	c.mu.Unlock()
	if t != nil {
		t.stop()
	}
}

// Relabel looks all labels up again, after a change of the inventory.
func (c *Collector) Relabel() { c.expo.relabel() }

// Handler serves the device series in Prometheus' text format, without taking
// a lock that ingest takes.
func (c *Collector) Handler() http.Handler { return c.expo }

// TargetStatus is what the collector knows of one device's telemetry.
type TargetStatus struct {
	Device   inventory.DeviceID
	Up       bool
	Last     time.Time // of the last update; zero: none yet
	Lag      time.Duration
	Series   int
	Clamped  uint64 // samples whose time was moved
	Restarts uint64 // streams begun
}

// Targets lists every device known, sorted.
func (c *Collector) Targets() []TargetStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]TargetStatus, 0, len(c.targets))
	for _, t := range c.targets {
		out = append(out, t.status())
	}
	slices.SortFunc(out, func(a, b TargetStatus) int {
		if a.Device < b.Device {
			return -1
		}
		return 1
	})
	return out
}

func (c *Collector) count() (all, up int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.targets {
		if t.up.Load() {
			up++
		}
	}
	return len(c.targets), up
}

// target returns the device's target, made and started on first use.
func (c *Collector) target(id inventory.DeviceID) *target {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.targets[id]
	if t == nil {
		t = newTarget(c, id)
		c.targets[id] = t
		if c.ctx != nil {
			c.start(t)
		}
	}
	return t
}

// start needs c.mu and c.ctx.
func (c *Collector) start(t *target) {
	ctx, cancel := context.WithCancel(c.ctx)
	t.setStop(cancel)
	c.wg.Go(func() { t.run(ctx) })
}

// beat repeats the collector's own series, so that they never vanish, and
// restarts streams that fell silent.
func (c *Collector) beat(now time.Time) {
	c.mu.Lock()
	list := make([]*target, 0, len(c.targets))
	for _, t := range c.targets {
		list = append(list, t)
	}
	c.mu.Unlock()
	for _, t := range list {
		t.beat(now)
	}
	c.expo.sweep()
}

func (c *Collector) emit(s Sample) {
	m, ok := Lookup(s.Metric)
	queue, r := "measurement", c.measures
	if ok && m.Kind == State {
		queue, r = "state", c.states
	}
	if r.put(s) {
		c.m.dropped.WithLabelValues(queue).Inc()
	}
}
