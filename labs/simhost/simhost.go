// Package simhost is a SIMULATED data plane for labs and the demo: hosts under
// real agents, with circuits, tunnels, BGP and BFD sessions, counters and
// probes that are computed, not measured. Devices on it report the platform
// "simulated-edge". No packet of a tunnel is ever sent; only the agents'
// management connections are real.
//
// Hosts of one process share an [Underlay], which knows the carriers and is
// where faults are injected. A tunnel is up when both ends are configured, each
// admits the other's public key, and both circuits pass traffic. An end that is
// not in this process is taken as up: faults at the far end are not seen across
// processes. Loss of 90 % or more takes BFD down. Impairments act on tunnels,
// not on the management connections; a cut acts on both.
package simhost

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Circuit is one WAN attachment as only the simulator knows it: the carrier is
// never sent to the controller.
type Circuit struct {
	ID      inventory.CircuitID   `json:"id"`
	Device  inventory.DeviceID    `json:"device"`
	Site    inventory.SiteID      `json:"site"`
	Kind    inventory.CircuitKind `json:"kind"`
	Carrier inventory.CarrierID   `json:"carrier"`
}

// Config of an underlay; zero means default.
type Config struct {
	Seed     uint64
	Circuits []Circuit // in order of preference, per device
	// HalfOpen is how long the far end of a management connection over a cut
	// circuit sees nothing at all before it sees the end; default 60 s. The
	// near end sees an error after a second, as from a port that lost its line.
	HalfOpen time.Duration
	// From, optional, gives the address that a device's management connection
	// comes from; an invalid one, as the machine routes.
	From func(inventory.DeviceID) netip.Addr
}

// Underlay is the world under the hosts of one process. Its methods are safe
// for concurrent use.
type Underlay struct {
	cfg Config

	mu    sync.Mutex // guards all below and all fields of hosts, links and ports
	hosts map[inventory.DeviceID]*Host
	links map[string]*link
	ports map[inventory.CircuitID]*port
	order map[inventory.DeviceID][]inventory.CircuitID // of preference; not changed after New
}

// port is the near end of a circuit.
type port struct {
	Circuit
	cut     bool
	since   time.Time // of the cut or heal
	loss    float64   // ratio in [0,1]
	latency float64   // added round trip, ms
	gone    [2]totals // in, out: of tunnels that are no more
	conns   map[*conn]struct{}
}

// New makes an underlay of healthy circuits without hosts.
func New(cfg Config) (*Underlay, error) {
	if cfg.HalfOpen == 0 {
		cfg.HalfOpen = time.Minute
	}
	u := &Underlay{
		cfg:   cfg,
		hosts: map[inventory.DeviceID]*Host{},
		links: map[string]*link{},
		ports: make(map[inventory.CircuitID]*port, len(cfg.Circuits)),
		order: map[inventory.DeviceID][]inventory.CircuitID{},
	}
	var errs []error
	for _, c := range cfg.Circuits {
		switch {
		case c.ID == "" || c.Device == "":
			errs = append(errs, fmt.Errorf("%w: circuit %q of device %q: both ids are needed", inventory.ErrInvalid, c.ID, c.Device))
		case u.ports[c.ID] != nil:
			errs = append(errs, fmt.Errorf("%w: circuit %q is listed twice", inventory.ErrInvalid, c.ID))
		default:
			u.ports[c.ID] = &port{Circuit: c, conns: map[*conn]struct{}{}}
			u.order[c.Device] = append(u.order[c.Device], c.ID)
		}
	}
	return u, errors.Join(errs...)
}

// Select returns the circuits of carrier at sites; an empty argument selects
// all.
func (u *Underlay) Select(carrier inventory.CarrierID, sites []inventory.SiteID) []inventory.CircuitID {
	var ids []inventory.CircuitID
	for _, c := range u.cfg.Circuits {
		if (carrier == "" || c.Carrier == carrier) && (len(sites) == 0 || slices.Contains(sites, c.Site)) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// Cut stops everything on the circuits.
func (u *Underlay) Cut(ids ...inventory.CircuitID) error {
	return u.fault(ids, func(p *port, now time.Time) {
		if !p.cut {
			p.cut, p.since = true, now
			p.blackhole(u.cfg.HalfOpen)
		}
	})
}

// Heal ends cuts and impairments of the circuits.
func (u *Underlay) Heal(ids ...inventory.CircuitID) error {
	return u.fault(ids, func(p *port, now time.Time) {
		p.loss, p.latency = 0, 0
		if p.cut {
			p.cut, p.since = false, now
			p.release()
		}
	})
}

// Impair adds loss (a ratio in [0,1]) and round-trip latency (milliseconds) to
// the circuits, in place of what an earlier call added.
func (u *Underlay) Impair(loss, latencyMS float64, ids ...inventory.CircuitID) error {
	if !(loss >= 0 && loss <= 1) || !(latencyMS >= 0 && latencyMS <= 10e3) {
		return fmt.Errorf("%w: impair: loss %v is not in [0,1] or latency %v ms not in [0,10000]", inventory.ErrInvalid, loss, latencyMS)
	}
	return u.fault(ids, func(p *port, _ time.Time) { p.loss, p.latency = loss, latencyMS })
}

// fault changes all of ids or, if one is unknown, none.
func (u *Underlay) fault(ids []inventory.CircuitID, change func(*port, time.Time)) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var errs []error
	for _, id := range ids {
		if u.ports[id] == nil {
			errs = append(errs, fmt.Errorf("circuit %q: %w in this simulator", id, inventory.ErrNotFound))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	now := time.Now()
	for _, id := range ids {
		p := u.ports[id]
		touched := u.linksOf(id)
		for _, l := range touched {
			u.settle(l, now) // the past under the old conditions
		}
		change(p, now)
		for _, l := range touched {
			u.judge(l, now)
		}
		u.wakeAfter(detect, p.Device) // the circuit's own state
	}
	return nil
}

// linksOf are the links over circuit id.
func (u *Underlay) linksOf(id inventory.CircuitID) []*link {
	var found []*link
	for _, h := range u.hosts {
		for _, t := range h.config.Tunnels {
			if t.Circuit == string(id) {
				found = append(found, u.links[t.Name])
			}
		}
	}
	return found
}

func (u *Underlay) settle(l *link, now time.Time) {
	loss, _, _ := u.quality(l)
	l.settle(loss, now)
}

// judge looks whether l passes packets now and plans what follows from it.
func (u *Underlay) judge(l *link, now time.Time) {
	u.settle(l, now)
	var ids []inventory.DeviceID
	for id := range l.ends {
		ids = append(ids, id)
	}
	for _, d := range l.turn(u.passes(l), now) {
		u.wakeAfter(d, ids...)
	}
}

// wakeAfter lets the hosts look again after d: what they observe has changed.
func (u *Underlay) wakeAfter(d time.Duration, ids ...inventory.DeviceID) {
	time.AfterFunc(d, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		for _, id := range ids {
			if h := u.hosts[id]; h != nil {
				h.reroute(time.Now())
				h.wake()
			}
		}
	})
}

// up says whether the port is seen to work at now; it takes detect to see a
// change.
func (p *port) up(now time.Time) bool {
	if now.Sub(p.since) < detect {
		return p.cut
	}
	return !p.cut
}

// Tunnels counts the tunnel ends of all hosts, and those that are up.
func (u *Underlay) Tunnels() (configured, up int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	for _, l := range u.links {
		configured += len(l.ends)
		if l.bfd(now) {
			up += len(l.ends)
		}
	}
	return configured, up
}
