// Package probe measures what a box cannot see from its interfaces: loss,
// latency and jitter of every tunnel, by ICMP echo from one end to the other,
// and whether the servers of the health contract answer.
package probe

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/inventory"
)

const (
	// perTunnel is what a tunnel that is ridden may add to the pause between two
	// probes of one of them: together they send at most 100 a second…
	perTunnel = 10 * time.Millisecond
	// slowest bounds that pause, and is the one of all other tunnels.
	slowest = time.Second
	// burst is how many tunnels of a kind are probed at once: what wakes the
	// box, here and at the far end, costs more than the packet does.
	burst = 10
	// dscpControl is CS6 (RFC 2474 §4.2.2.2) in the TOS byte.
	dscpControl = 48 << 2
	// fewest is how many probes a judgement over [Prober.Window] rests on.
	fewest = 20
)

// Target is a tunnel to measure. Both ends are IPv4 (design §3: transit
// addresses are out of 172.16.0.0/13).
type Target struct {
	Tunnel string     // its name
	Dev    string     // network interface; at a hub several tunnels share one
	Local  netip.Addr // source of the probes
	Remote netip.Addr // the peer's end
	// Every is how often the tunnel deserves a probe while it is ridden; 0: as
	// [Config.Interval] has it. All that are ridden are probed as often as the
	// one that deserves it most.
	Every time.Duration
}

// Config of a prober. Log is required, zero means default.
type Config struct {
	// Interval between two probes of a tunnel that is ridden; default 200 ms.
	// Many are probed less often: n of them every n × 10 ms, at most every
	// second. A tunnel that nothing rides is probed every second.
	Interval time.Duration
	Window   time.Duration // of [Prober.Window]; default 10 s
	Log      *slog.Logger
}

// Prober probes from [Prober.Run]; its methods are safe for concurrent use and
// never wait for the network.
type Prober struct {
	cfg   Config
	conn  *icmp.PacketConn
	nonce uint64 // tells our answers from those of an earlier process
	check checker

	mu      sync.Mutex // guards below
	paths   map[string]*path
	order   []*path         // all, in the order of Update
	ridden  map[string]bool // by tunnel
	quick   []*path         // of order, those that are ridden, in the order of probing
	slow    []*path         // and the others
	every   time.Duration   // the ones that are ridden deserve
	changed chan struct{}
}

// path is a target with its probes.
type path struct {
	Target
	series series
	index  int // of the interface; 0: look it up
	said   string
}

// Open makes the prober's socket in the current network namespace; it needs
// CAP_NET_RAW. Nothing is sent before Run.
func Open(cfg Config) (*Prober, error) {
	if cfg.Log == nil {
		return nil, fmt.Errorf("%w: prober: Log is required", inventory.ErrInvalid)
	}
	cfg.Interval = cmp.Or(cfg.Interval, 200*time.Millisecond)
	cfg.Window = cmp.Or(cfg.Window, 10*time.Second)
	conn, err := icmp.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return nil, fmt.Errorf("open the probes' ICMP socket: %w; it needs CAP_NET_RAW", err)
	}
	var f ipv4.ICMPFilter
	f.SetAll(true)
	f.Accept(ipv4.ICMPTypeEchoReply)
	if err := conn.IPv4PacketConn().SetICMPFilter(&f); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("filter the probes' ICMP socket: %w", err)
	}
	// Probes go in the class of routing's own packets, and so do the answers,
	// which the far kernel sends as they came: what is judged is the path, not
	// the box's own queue for bulk traffic.
	if err := conn.IPv4PacketConn().SetTOS(dscpControl); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("mark the probes with DSCP CS6: %w", err)
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return &Prober{
		cfg: cfg, conn: conn, nonce: binary.BigEndian.Uint64(b[:]),
		check:   checker{ok: map[string]time.Time{}},
		paths:   map[string]*path{},
		every:   cfg.Interval,
		changed: make(chan struct{}, 1),
	}, nil
}

// Run probes until ctx ends, then closes the socket and returns nil.
func (p *Prober) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { _ = p.conn.Close() })
	defer stop()
	g.Go(func() error { return p.send(ctx) })
	g.Go(func() error { return p.receive(ctx) })
	g.Go(func() error { return p.check.run(ctx) })
	if err := g.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// Update makes targets what is measured, and the DNS servers and services of c
// what is asked, from the address from where that is valid. What stays keeps
// its history.
func (p *Prober) Update(targets []Target, c edge.Contract, from netip.Addr) {
	p.check.update(c, from, time.Now())
	p.mu.Lock()
	defer p.mu.Unlock()
	size := int((p.cfg.Window+patience)/p.cfg.Interval) + fewest
	next := make(map[string]*path, len(targets))
	p.order = p.order[:0:0]
	for _, t := range targets {
		have := p.paths[t.Tunnel]
		if have == nil || have.Target != t {
			have = &path{Target: t, series: newSeries(size)}
		}
		next[t.Tunnel] = have
		p.order = append(p.order, have)
	}
	p.paths = next
	p.sort()
}

// Ride names the tunnels that something rides on: they are probed quickly.
func (p *Prober) Ride(tunnels []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := make(map[string]bool, len(tunnels))
	for _, t := range tunnels {
		next[t] = true
	}
	if !maps.Equal(next, p.ridden) {
		p.ridden = next
		p.sort()
	}
}

// sort divides the tunnels by how often they are probed; p.mu is held.
func (p *Prober) sort() {
	p.quick, p.slow = nil, nil
	p.every = slowest
	for _, t := range p.order {
		if p.ridden[t.Tunnel] {
			p.quick = append(p.quick, t)
			p.every = min(p.every, max(p.cfg.Interval, t.Every))
		} else {
			p.slow = append(p.slow, t)
		}
	}
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// Quality is the tunnel's over the last two seconds that can be judged, five
// where nothing rides it: a probe counts as lost a second after it was sent. All is lost on a tunnel
// that has not been measured yet.
func (p *Prober) Quality(tunnel string) agent.Probe {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.over(tunnel, p.recent(tunnel))
	if s.Sent == 0 || s.Lost == s.Sent {
		return agent.Probe{LossRatio: 1}
	}
	return agent.Probe{LossRatio: float64(s.Lost) / float64(s.Sent), LatencyMS: s.LatencyMS, JitterMS: s.JitterMS}
}

// Window is the tunnel's quality over Config.Window, long enough to choose
// paths by; Sent is zero when nothing has been measured. A tunnel that is
// silent now, as Quality has it, lost all.
func (p *Prober) Window(tunnel string) Sample {
	p.mu.Lock()
	defer p.mu.Unlock()
	span := max(p.cfg.Window, fewest*p.interval(tunnel))
	s := p.over(tunnel, span)
	s.LostSince = p.over(tunnel, span*7/10).LostSince // what was lost before is forgotten too soon to last
	if now := p.over(tunnel, p.recent(tunnel)); now.Sent > 1 && now.Lost == now.Sent {
		return Sample{Sent: s.Sent, Lost: s.Sent}
	}
	return s
}

// recent is the span that Quality looks at; p.mu is held.
func (p *Prober) recent(tunnel string) time.Duration {
	return max(2*time.Second, 5*p.interval(tunnel))
}

// over looks back over span; p.mu is held.
func (p *Prober) over(tunnel string, span time.Duration) Sample {
	if t := p.paths[tunnel]; t != nil {
		return t.series.over(time.Now(), span)
	}
	return Sample{}
}

// interval between two probes of the tunnel; p.mu is held.
func (p *Prober) interval(tunnel string) time.Duration {
	if !p.ridden[tunnel] {
		return slowest
	}
	return max(p.every, min(slowest, time.Duration(len(p.quick))*perTunnel))
}

// Holds are the items "dns/…" and "service/…" of the contract that hold, see
// [edge.Contract.Items].
func (p *Prober) Holds() []string { return p.check.holds(time.Now()) }

// send sends the probes, in bursts that are spread evenly.
func (p *Prober) send(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-p.changed:
		case <-timer.C:
		}
		now, pause := p.turn(i)
		for _, t := range now {
			p.probe(t)
		}
		timer.Reset(pause)
	}
}

// turn is the i-th burst, and the pause after it: both kinds of tunnels share
// the moments at which the box wakes.
func (p *Prober) turn(i int) ([]*path, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.order) == 0 {
		return nil, slowest
	}
	kinds := []struct {
		all   []*path
		every time.Duration
	}{{p.slow, slowest}, {p.quick, slowest}}
	if len(p.quick) > 0 {
		kinds[1].every = p.interval(p.quick[0].Tunnel)
	}
	pause := slowest
	for _, k := range kinds {
		pause = min(pause, k.every/time.Duration(bursts(len(k.all))))
	}
	var out []*path
	for _, k := range kinds {
		n, round := len(k.all), max(1, int((k.every+pause/2)/pause)) // turns until all have had theirs
		at := i % round
		out = append(out, k.all[at*n/round:(at+1)*n/round]...)
	}
	return out, pause
}

// bursts is in how many parts n tunnels are probed.
func bursts(n int) int { return max(1, (n+burst-1)/burst) }

// probe sends one probe. One that cannot be sent is lost: the path does not
// work.
func (p *Prober) probe(t *path) {
	p.mu.Lock()
	seq := t.series.send(time.Now())
	index := t.index
	p.mu.Unlock()
	var err error
	if index == 0 {
		index, err = indexOf(t.Dev)
	}
	if err == nil {
		err = p.echo(t.Target, index, seq)
	}
	text := ""
	if err != nil {
		index, text = 0, err.Error()
	}
	p.mu.Lock()
	t.index = index
	repeated := t.said == text
	t.said = text
	p.mu.Unlock()
	if err != nil && !repeated {
		p.cfg.Log.Debug("tunnel cannot be probed", "tunnel", t.Tunnel, "err", err)
	}
}

func indexOf(dev string) (int, error) {
	i, err := net.InterfaceByName(dev)
	if err != nil {
		return 0, err
	}
	return i.Index, nil
}
