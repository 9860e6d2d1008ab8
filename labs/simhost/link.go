package simhost

import (
	"math"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/inventory"
)

// Times of the simulated protocols; each link has its own, within 20 %.
const (
	detect    = time.Second     // BFD 3 × 300 ms, and a margin
	revive    = 2 * time.Second // handshake and BFD up
	converge  = time.Second     // BGP after BFD
	deadRatio = 0.9             // loss at which BFD cannot stay up
)

// link is one tunnel with its one or two ends in this process.
type link struct {
	name string
	ends map[inventory.DeviceID]*end
	slow float64 // in [0.8, 1.2), of the times above

	good  bool // whether packets pass, since…
	since time.Time
	was   bool // whether BFD was up at that instant

	toHub, toEdge flow
	active        bool // carries the site's traffic
	settled       time.Time
	sumHub        totals // towards the hub
	sumEdge       totals // towards the edge
}

// end is one side of a link.
type end struct {
	host  *Host
	tun   edge.Tunnel
	key   string // the peer's public key it admits; empty: none
	taken [2]totals
}

func newLink(seed uint64, name string, site inventory.DeviceID, now time.Time) *link {
	return &link{
		name: name, ends: map[inventory.DeviceID]*end{},
		slow:    0.8 + 0.4*unit(mix(seed, name, 1)),
		since:   now,
		settled: now,
		toHub:   newFlow(seed, string(site)+"/up", 200e3),
		toEdge:  newFlow(seed, string(site)+"/down", 700e3),
	}
}

func (l *link) after(d time.Duration) time.Duration { return time.Duration(float64(d) * l.slow) }

// bfd says whether the session is up at now.
func (l *link) bfd(now time.Time) bool {
	wait := detect
	if l.good {
		wait = revive
	}
	if now.Sub(l.since) < l.after(wait) {
		return l.was
	}
	return l.good
}

// bgp says whether the session is established at now; BFD takes it down.
func (l *link) bgp(now time.Time) bool {
	if !l.bfd(now) {
		return false
	}
	return l.was || !l.good || now.Sub(l.since) >= l.after(revive+converge)
}

// turn records that packets pass (or not) from now on, and returns when what
// can be observed will change.
func (l *link) turn(good bool, now time.Time) []time.Duration {
	if good == l.good {
		return nil
	}
	l.was, l.good, l.since = l.bfd(now), good, now
	if good {
		return []time.Duration{l.after(revive), l.after(revive + converge)}
	}
	return []time.Duration{l.after(detect)}
}

// settle adds up the traffic until now under the conditions until now.
func (l *link) settle(loss float64, now time.Time) {
	switch {
	case !l.bfd(now):
	case l.active:
		l.sumHub.add(l.toHub.octets(l.settled, now), loss)
		l.sumEdge.add(l.toEdge.octets(l.settled, now), loss)
	default:
		idle := idleRate * now.Sub(l.settled).Seconds()
		l.sumHub.add(idle, loss)
		l.sumEdge.add(idle, loss)
	}
	l.settled = now
}

// inOut are the link's totals as e sees them.
func (l *link) inOut(e *end) (in, out totals) {
	if e.host.config.Role == inventory.RoleHub {
		return l.sumHub, l.sumEdge
	}
	return l.sumEdge, l.sumHub
}

// carried is what e passed since it was attached.
func (l *link) carried(e *end) (in, out totals) {
	in, out = l.inOut(e)
	return in.plus(e.taken[0], -1), out.plus(e.taken[1], -1)
}

// passes says whether packets can pass l: every end in this process has its
// circuit and admits its peer, and the two agree. An end that is not in this
// process is taken as up.
func (u *Underlay) passes(l *link) bool {
	for id, e := range l.ends {
		if p := u.ports[inventory.CircuitID(e.tun.Circuit)]; p == nil || p.cut || p.loss >= deadRatio {
			return false
		}
		if e.key == "" {
			return false
		}
		peer := u.hosts[e.tun.Peer]
		if peer == nil {
			continue
		}
		other := l.ends[e.tun.Peer]
		if other == nil || other.tun.Peer != id || other.tun.Local.Addr() != e.tun.Remote || e.key != peer.key() {
			return false
		}
	}
	return len(l.ends) > 0
}

// quality is the loss ratio, the one-way delay and the added latency (ms) of
// l's circuits that are in this process.
func (u *Underlay) quality(l *link) (loss, oneWay, extra float64) {
	pass := 1.0
	for _, e := range l.ends {
		if p := u.ports[inventory.CircuitID(e.tun.Circuit)]; p != nil {
			pass *= 1 - p.loss
			oneWay += delay(p.Kind)
			extra += p.latency
		}
	}
	return 1 - pass, oneWay, extra
}

func (u *Underlay) tunnelState(l *link, e *end, now time.Time) agent.TunnelState {
	loss, oneWay, extra := u.quality(l)
	l.settle(loss, now)
	up := l.bfd(now)
	in, out := l.carried(e)
	st := agent.TunnelState{
		TunnelState: edge.TunnelState{Name: l.name, Up: up, BFD: up, BGP: l.bgp(now)},
		Counters:    counters(in, out),
		Probe:       agent.Probe{LossRatio: 1},
	}
	if l.good {
		st.Probe = probe(l.toEdge, l.name, oneWay, loss, extra, now)
		st.Probe.LossRatio = math.Min(st.Probe.LossRatio, 1)
	}
	return st
}
