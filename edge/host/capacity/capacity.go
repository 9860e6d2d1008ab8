// Package capacity measures what an edge's circuits carry upwards, by short
// packet trains through a tunnel to its hub, which says when they arrived. The
// queues then run at what was measured instead of what was contracted. It is
// runtime state: no configuration knows of it.
package capacity

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	chance "math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// Config of a meter; RunDir, Adjust and Log are required, zero means default.
type Config struct {
	RunDir string // keeps what was measured over a restart of the agent
	// Adjust makes queues run at these rates, bit/s, by circuit; those that are
	// missing run at their contract's.
	Adjust func(ctx context.Context, uploads map[string]uint64) error
	Log    *slog.Logger
	Reg    prometheus.Registerer // nil: nobody collects

	Look   time.Duration // between two looks at the circuits; default 5 s
	Settle time.Duration // from a circuit's coming up to its measurement at least; default 20 s
	// Spread is the most that a circuit's measurement waits beyond Settle: each
	// has a share of its own, drawn by chance, so that a city that comes back from
	// a power cut does not send all its trains to the hubs at once. Default 15 min;
	// negative: nothing.
	Spread time.Duration
	Every  time.Duration // between two measurements of a circuit; default 6 h
	Again  time.Duration // from a measurement that fell to its repetition; default 15 s
	Retry  time.Duration // after one that gave nothing, doubled up to Every; default 5 min
}

func (c Config) withDefaults() Config {
	c.Look = cmp.Or(c.Look, 5*time.Second)
	c.Settle = cmp.Or(c.Settle, 20*time.Second)
	c.Spread = max(cmp.Or(c.Spread, 15*time.Minute), 0)
	c.Every = cmp.Or(c.Every, 6*time.Hour)
	c.Again = cmp.Or(c.Again, 15*time.Second)
	c.Retry = cmp.Or(c.Retry, 5*time.Minute)
	return c
}

// Meter measures at an edge and answers at a hub. It is a part of the box that
// learns the configuration by Apply; its methods are safe for concurrent use.
type Meter struct {
	cfg     Config
	conn    *net.UDPConn
	session uint64 // tells our answers from those to an earlier process
	metrics *metrics

	mu       sync.Mutex // guards below
	hub      bool
	circuits []circuit
	ends     map[netip.Addr]netip.Addr // own end of the tunnel, by the far one
	records  map[string]Record
	train    uint32
	answers  chan []byte // the answer to train, when one is awaited
	collect  collector
}

// circuit is what is measured.
type circuit struct {
	name       string
	contracted uint64 // bit/s
	overhead   int    // bytes that a packet of a tunnel grows by on the wire
	tunnels    []tunnel
}

// tunnel is a way to measure by.
type tunnel struct {
	name, dev     string
	local, remote netip.Addr
	preference    int
}

// Open makes the meter's socket in the current network namespace; it needs
// CAP_NET_ADMIN. Nothing is sent before Run.
func Open(cfg Config) (*Meter, error) {
	if cfg.RunDir == "" || cfg.Adjust == nil || cfg.Log == nil {
		return nil, fmt.Errorf("open meter: %w: Config has an empty field", inventory.ErrInvalid)
	}
	conn, err := listen()
	if err != nil {
		return nil, fmt.Errorf("open meter: %w", err)
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	m := &Meter{
		cfg: cfg.withDefaults(), conn: conn, session: binary.BigEndian.Uint64(b[:]),
		metrics: newMetrics(cfg.Reg), records: load(filepath.Join(cfg.RunDir, recordFile), cfg.Log),
	}
	return m, nil
}

// Name says what part of the box this is.
func (m *Meter) Name() string { return "capacity" }

// Check finds nothing to object to.
func (m *Meter) Check(context.Context, render.Input) error { return nil }

// Diff finds nothing: a meter keeps no state in the kernel.
func (m *Meter) Diff(context.Context, render.Input) ([]string, error) { return nil, nil }

// Apply learns the circuits to measure and the peers to answer: the tunnels
// whose far end is admitted.
func (m *Meter) Apply(ctx context.Context, in render.Input) error {
	hub := in.Config.Role == inventory.RoleHub
	ends := map[netip.Addr]netip.Addr{}
	var circuits []circuit
	for _, s := range render.Shape(in, nil) {
		c := circuit{name: s.Circuit, overhead: s.Overhead}
		for _, x := range in.Config.Circuits {
			if x.Name == s.Circuit {
				c.contracted = uint64(x.UpBPS)
			}
		}
		for _, t := range in.Config.Tunnels {
			_, admitted := in.Credentials.Keys[t.Peer]
			if t.Circuit != s.Circuit || !admitted {
				continue
			}
			c.tunnels = append(c.tunnels, tunnel{t.Name, render.Interface(t), t.Local.Addr(), t.Remote, t.Preference})
		}
		slices.SortStableFunc(c.tunnels, func(a, b tunnel) int { return cmp.Compare(b.preference, a.preference) })
		circuits = append(circuits, c)
	}
	for _, t := range in.Config.Tunnels {
		if _, admitted := in.Credentials.Keys[t.Peer]; admitted {
			ends[t.Remote] = t.Local.Addr()
		}
	}
	m.mu.Lock()
	m.hub, m.circuits, m.ends = hub, circuits, ends
	if hub {
		m.collect.know(slices.Collect(maps.Keys(ends)))
	} else {
		m.collect.know(nil)
	}
	m.mu.Unlock()
	return m.adjust(ctx)
}

// Measured is what holds of a circuit now; false: nothing was measured lately.
func (m *Meter) Measured(name string) (Record, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.holding(name, time.Now())
}

// Upload is the rate that was measured, bit/s; 0: nothing was lately.
func (m *Meter) Upload(name string) uint64 {
	if r, ok := m.Measured(name); ok {
		return r.BPS
	}
	return 0
}

// holding is Measured under m.mu.
func (m *Meter) holding(name string, now time.Time) (Record, bool) {
	i := slices.IndexFunc(m.circuits, func(c circuit) bool { return c.name == name })
	r, ok := m.records[name]
	return r, ok && i >= 0 && !m.hub && r.holds(m.circuits[i].contracted, now)
}

// adjust tells the queues what holds now.
func (m *Meter) adjust(ctx context.Context) error {
	m.mu.Lock()
	uploads := map[string]uint64{}
	for _, c := range m.circuits {
		if r, ok := m.holding(c.name, time.Now()); ok {
			uploads[c.name] = r.Upload
		}
	}
	m.mu.Unlock()
	return m.cfg.Adjust(ctx, uploads)
}

// Run answers and measures until ctx ends, then closes the socket and returns
// nil. State tells which tunnels are up and what the circuits carry.
func (m *Meter) Run(ctx context.Context, state func(context.Context) (agent.HostState, error)) error {
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { _ = m.conn.Close() })
	defer stop()
	g.Go(func() error { return m.receive(ctx) })
	g.Go(func() error { return m.watch(ctx, state) })
	if err := g.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// watch looks at the circuits and measures one that is due.
func (m *Meter) watch(ctx context.Context, state func(context.Context) (agent.HostState, error)) error {
	tick := time.NewTicker(m.cfg.Look)
	defer tick.Stop()
	watches := map[string]*watch{}
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := m.turn(ctx, watches, state)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if err != nil && ctx.Err() == nil && text != said {
			m.cfg.Log.WarnContext(ctx, "circuits are not measured", "err", err)
		}
		said = text
	}
}

func (m *Meter) turn(ctx context.Context, watches map[string]*watch, state func(context.Context) (agent.HostState, error)) error {
	m.mu.Lock()
	hub, circuits := m.hub, slices.Clone(m.circuits)
	m.mu.Unlock()
	if hub || len(circuits) == 0 {
		return nil
	}
	if err := m.adjust(ctx); err != nil { // what was measured may have grown old
		return err
	}
	st, err := state(ctx)
	if err != nil {
		return err
	}
	for _, c := range circuits {
		w := watches[c.name]
		if w == nil {
			w = &watch{}
			if m.cfg.Spread > 0 {
				w.share = chance.N(m.cfg.Spread)
			}
			watches[c.name] = w
		}
		now := time.Now()
		up, octets := seen(st, c.name)
		w.look(up, octets, now)
		m.mu.Lock()
		last, rate := m.records[c.name], c.contracted
		if r, ok := m.holding(c.name, now); ok {
			rate = r.Upload
		}
		m.mu.Unlock()
		if !w.due(m.cfg, last, c.contracted, rate, now) {
			continue
		}
		w.done(m.cfg, now, m.measure(ctx, c, state))
		w.looked = time.Time{} // the measurement's own packets are no load
		return nil             // one at a time
	}
	return nil
}

// seen is what st says of a circuit.
func seen(st agent.HostState, name string) (up bool, octets uint64) {
	for _, c := range st.Circuits {
		if c.Name == name {
			return c.Up, c.Counters.OutOctets
		}
	}
	return false, 0
}
