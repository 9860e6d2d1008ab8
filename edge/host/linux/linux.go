// Package linux is the data plane of a real Linux box under the agent: it makes
// interfaces, addresses, routes, rules, WireGuard, the packet filter and FRR
// equal to what package render says for a configuration, reads them back, and
// keeps them so. Everything converges: only what differs is changed, so a crash
// at any point heals by applying again.
package linux

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/edge/host/frr"
	"github.com/wardnet/wardnet/edge/host/nft"
	"github.com/wardnet/wardnet/edge/host/probe"
	"github.com/wardnet/wardnet/edge/host/wireguard"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// Tunnels runs WireGuard; package wireguard is one.
type Tunnels interface {
	// Apply makes the box run exactly devices under the private key (base64).
	Apply(ctx context.Context, key string, devices []render.WireGuard) error
	// State returns the devices that run, by interface name.
	State(ctx context.Context) (map[string]wireguard.Device, error)
	// Kick makes device shake hands anew with the peer of that public key.
	Kick(ctx context.Context, device, peer string) error
}

// Prober measures what interfaces cannot tell; package probe is one.
type Prober interface {
	Update(targets []probe.Target, c edge.Contract, from netip.Addr)
	Quality(tunnel string) agent.Probe
	Holds() []string // "dns/…" and "service/…"
}

// IPsec runs the IPsec tunnels; package strongswan with the device's identity
// is one. Their addresses are the host's.
type IPsec interface {
	// Apply makes the box run exactly these tunnels.
	Apply(ctx context.Context, tunnels []render.IPsecTunnel) error
}

// Deps are what a host needs; all required but IPsec, Parts, Leases, Upload and Reg.
type Deps struct {
	Tunnels Tunnels
	IPsec   IPsec // nil: a configuration with IPsec tunnels is refused
	Prober  Prober
	Parts   []Part // put in force in this order, before routing
	// Leases returns the addresses lent in each segment; nil: none are.
	Leases func(context.Context) (map[inventory.SegmentKind][]agent.Lease, error)
	// Upload returns what a circuit was measured to carry upwards, bit/s; 0:
	// unknown. Nil: nothing is measured.
	Upload func(circuit string) uint64
	Log    *slog.Logger
	Reg    prometheus.Registerer
}

// Config is how a box is driven.
type Config struct {
	// Ports are the WAN ports before there is a configuration; only name, kind,
	// port, addressing, address, gateway and mtu are read.
	Ports     []edge.Circuit
	Pathspace string // FRR's -N name of an instance of its own; empty: the system's
	// RunDir is for what a boot may forget: leases, records of what was loaded.
	RunDir string
	// Key returns the WireGuard private key, base64; empty before enrolment.
	Key func() string
}

// Host is a Linux box. It works in the network namespace of the process.
type Host struct {
	deps    Deps
	cfg     Config
	metrics *metrics
	filter  *nft.Filter
	routing *frr.Instance
	tables  tables
	wan     *wan
	render  func(render.Input) (render.Box, error)
	between func(step string) // before each step of a transaction; nil outside of tests

	mu sync.Mutex // held while the box is changed

	viewMu sync.Mutex // guards what readers see; taken after mu, never the other way
	view   inForce
	viewed time.Time // since when
	cached *observation
	asked  answer
	totals map[string]total // peers' counters, by tunnel
	heirs  map[chan struct{}]bool

	edited editor                      // of the packet filter
	mends  []edge.Mend                 // the newest
	mended uint64                      // all of this process' life
	cut    map[inventory.PermitID]bool // permits of which the filter in force cut a flow in use

	healing chan struct{} // one slot: look at the box again
	moving  chan struct{} // one slot: look at the sessions again
}

// inForce is what the box should be.
type inForce struct {
	config  edge.Config
	keys    edge.Credentials
	box     render.Box
	ipsec   []render.IPsecTunnel
	applied bool // since this process started
}

// Open returns the host of this box. A box without our packet filter starts
// closed: forwarding off, filter denying, and only the WAN ports of cfg. A box
// that has one is left as it runs until the first Apply. The host works from
// [Host.Run] on.
func Open(ctx context.Context, deps Deps, cfg Config) (*Host, error) {
	if deps.Tunnels == nil || deps.Prober == nil || deps.Log == nil || cfg.RunDir == "" || cfg.Key == nil {
		return nil, fmt.Errorf("open Linux host: %w: Deps or Config has an empty field", inventory.ErrInvalid)
	}
	h := &Host{
		deps: deps, cfg: cfg, metrics: newMetrics(deps.Reg), render: render.New,
		totals: map[string]total{}, heirs: map[chan struct{}]bool{}, healing: make(chan struct{}, 1), moving: make(chan struct{}, 1),
	}
	if err := os.MkdirAll(cfg.RunDir, 0o755); err != nil {
		return nil, fmt.Errorf("open Linux host: make run directory: %w", err)
	}
	routing := filepath.Join(cfg.RunDir, "frr")
	if err := os.MkdirAll(routing, 0o755); err != nil {
		return nil, fmt.Errorf("open Linux host: make run directory: %w", err)
	}
	var err1, err2 error
	h.filter, err1 = nft.Open(filepath.Join(cfg.RunDir, "nft.json"))
	h.routing, err2 = frr.Open(frr.Config{Pathspace: cfg.Pathspace, Dir: routing})
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("open Linux host: %w", err)
	}
	h.wan = newWAN(cfg.RunDir, deps.Log, h.heal)
	h.wan.set(cfg.Ports)
	return h, h.start(ctx)
}

// start closes a box that nothing of ours protects yet.
func (h *Host) start(ctx context.Context) error {
	closed, err := h.filter.Present(ctx)
	if err != nil || closed {
		return err
	}
	if err := setForwarding(false); err != nil {
		return fmt.Errorf("open Linux host: %w", err)
	}
	if err := h.Apply(ctx, edge.Config{}, edge.Credentials{}); err != nil {
		return fmt.Errorf("open Linux host: close the box: %w", err)
	}
	return nil
}

// Run keeps the box as it should be until ctx ends: leases, daemons, what
// others change, and the sessions that [Host.Watch] reports. What runs on the
// box runs on.
func (h *Host) Run(ctx context.Context) error {
	defer h.routing.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.wan.run(ctx) })
	g.Go(func() error { return h.keep(ctx) })
	g.Go(func() error { return h.listen(ctx) })
	g.Go(func() error { return h.hearFilter(ctx) })
	g.Go(func() error { return h.poll(ctx) })
	return g.Wait()
}

// Validate implements [agent.Host].
func (h *Host) Validate(ctx context.Context, c edge.Config) error {
	want, err := h.make(c, edge.Credentials{})
	if err != nil {
		return err
	}
	return h.check(ctx, want)
}

// make renders what c and k mean with what the circuits learned; no
// configuration means the WAN ports and a filter that denies.
func (h *Host) make(c edge.Config, k edge.Credentials) (inForce, error) {
	in := render.Input{Config: c, Credentials: k}
	if nothing(c) {
		in.Config = edge.Config{Circuits: h.cfg.Ports}
	}
	in.WAN = h.wan.learned(in.Config.Circuits)
	box, err1 := h.render(in)
	ipsec, err2 := render.IPsec(in)
	if err := errors.Join(err1, err2); err != nil {
		return inForce{}, fmt.Errorf("render configuration: %w", err)
	}
	return inForce{config: c, keys: k, box: box, ipsec: ipsec, applied: true}, nil
}

func nothing(c edge.Config) bool { return c.Device == "" }

// circuits are the WAN ports that run under c.
func (h *Host) circuits(c edge.Config) []edge.Circuit {
	if nothing(c) {
		return h.cfg.Ports
	}
	return c.Circuits
}

// current returns what should be in force.
func (h *Host) current() inForce {
	h.viewMu.Lock()
	defer h.viewMu.Unlock()
	return h.view
}

// heal asks for another look at the box.
func (h *Host) heal() {
	select {
	case h.healing <- struct{}{}:
	default:
	}
}

// Watch implements [agent.Host].
func (h *Host) Watch(ctx context.Context) <-chan struct{} {
	ch := make(chan struct{}, 1)
	h.viewMu.Lock()
	h.heirs[ch] = true
	h.viewMu.Unlock()
	context.AfterFunc(ctx, func() {
		h.viewMu.Lock()
		defer h.viewMu.Unlock()
		delete(h.heirs, ch)
		close(ch)
	})
	return ch
}

// wake tells every reader of Watch, and forgets what was observed.
func (h *Host) wake() {
	h.viewMu.Lock()
	defer h.viewMu.Unlock()
	h.cached = nil
	for ch := range h.heirs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (h *Host) watched() bool {
	h.viewMu.Lock()
	defer h.viewMu.Unlock()
	return len(h.heirs) > 0
}

// ports are the circuits whose addresses are not ours to set: a PPP daemon's.
func adopted(circuits []edge.Circuit) []string {
	var ports []string
	for _, c := range circuits {
		if c.Addressing == inventory.PPPoE {
			ports = append(ports, c.Port)
		}
	}
	slices.Sort(ports)
	return ports
}

// fresh is how long an observation serves.
const fresh = 300 * time.Millisecond
