//go:build lab

package shape

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/edge/host/capacity"
	"github.com/wardnet/wardnet/edge/host/hosttest"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/impair/forward"
)

// TestMeasuredRate: a circuit contracted at 50 Mbit/s carries 10, then 30, then
// all the machine can. Trains through WireGuard find each within 15 %, the
// queue follows down and up, and a call beside bulk traffic that fills the
// circuit loses less than 1 %; at the contracted rate it would be ruined.
func TestMeasuredRate(t *testing.T) {
	if !hosttest.Enter(t, "far") {
		return
	}
	in := measuredInput()
	s := wired(t, in, wireGuard)
	end := slowed(t, 10*inventory.Mbps)
	stop := load(t)
	s.calls.call(t, 2*time.Second)
	bare := s.calls.call(t, 3*time.Second)
	stop()
	t.Logf("contracted %s", bare)
	if bare.loss() < 0.05 && bare.p(50) < 30*time.Millisecond {
		t.Error("the call is fine at the contracted rate too: this proves nothing")
	}

	meter := metered(t, s.queues, in)
	follows(t, meter, s.queues, in, 10e6)
	s.calls.call(t, time.Second)
	stop = load(t)
	s.calls.call(t, 2*time.Second)
	s.bulk.bytes.Store(0)
	start := time.Now()
	loaded := s.calls.call(t, 8*time.Second)
	mbps := float64(s.bulk.bytes.Load()) * 8 / 1e6 / time.Since(start).Seconds()
	t.Logf("measured   %s beside %.1f Mbit/s", loaded, mbps)
	if loaded.loss() >= 0.01 {
		t.Errorf("the call loses %.1f %%, want under 1 %%", 100*loaded.loss())
	}
	if mbps < 6 {
		t.Errorf("the rest gets %.1f Mbit/s of the circuit's 10", mbps)
	}
	stop()

	end()
	end = slowed(t, 30*inventory.Mbps)
	follows(t, meter, s.queues, in, 30e6)
	end()
	follows(t, meter, s.queues, in, 50e6)
}

func measuredInput() render.Input {
	in := input()
	c := &in.Config
	c.Role, c.Circuits[0].UpBPS = inventory.RoleEdge, 50*inventory.Mbps
	for i := range c.Tunnels {
		tn := &c.Tunnels[i]
		tn.Peer, tn.Preference = inventory.DeviceID(fmt.Sprintf("h%d", i+1)), 1000-i
		tn.Local, tn.Remote = netip.MustParsePrefix(fmt.Sprintf("10.9.%d.1/30", i)), netip.MustParseAddr(fmt.Sprintf("10.9.%d.2", i))
	}
	in.Credentials.Keys = map[inventory.DeviceID]string{"h1": "k", "h2": "k"}
	return in
}

// metered runs a meter at the box and one, a hub's, at the far end.
func metered(t *testing.T, queues *Queues, in render.Input) *capacity.Meter {
	t.Helper()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	state := func(context.Context) (agent.HostState, error) {
		link, err := netlink.LinkByName("wan0")
		if err != nil {
			return agent.HostState{}, err
		}
		st := agent.HostState{Circuits: []agent.CircuitState{{Name: "c-1-a", Up: true, Counters: agent.Counters{OutOctets: link.Attrs().Statistics.TxBytes}}}}
		for _, tn := range in.Config.Tunnels {
			st.Tunnels = append(st.Tunnels, agent.TunnelState{TunnelState: edge.TunnelState{Name: tn.Name, Up: true}})
		}
		return st, nil
	}
	open := func(in render.Input, adjust func(context.Context, map[string]uint64) error) (*capacity.Meter, error) {
		m, err := capacity.Open(capacity.Config{
			RunDir: t.TempDir(), Adjust: adjust, Log: log,
			Look: 500 * time.Millisecond, Settle: time.Second, Spread: -1, Every: 2 * time.Second, Again: time.Second, Retry: time.Second,
		})
		if err != nil {
			return nil, err
		}
		go func() { ended <- m.Run(ctx, state) }()
		return m, m.Apply(ctx, in)
	}
	hub := in
	hub.Config.Role = inventory.RoleHub
	hub.Config.Tunnels = nil
	for _, tn := range in.Config.Tunnels {
		tn.Local, tn.Remote = netip.PrefixFrom(tn.Remote, 30), tn.Local.Addr()
		hub.Config.Tunnels = append(hub.Config.Tunnels, tn)
	}
	inFar(t, func() error {
		_, err := open(hub, func(context.Context, map[string]uint64) error { return nil })
		return err
	})
	m, err := open(in, queues.Follow)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return m
}

// follows waits until the meter says want, within 15 %, and the queue does.
func follows(t *testing.T, m *capacity.Meter, queues *Queues, in render.Input, want float64) {
	t.Helper()
	start := time.Now()
	var r capacity.Record
	near := func(x float64) bool { return math.Abs(x/want-1) <= 0.15 }
	hosttest.Eventually(t, 40*time.Second, fmt.Sprintf("%.0f Mbit/s are measured", want/1e6), func() bool {
		var ok bool
		r, ok = m.Measured("c-1-a")
		return ok && near(float64(r.Upload)) && (near(float64(r.BPS)) || r.AtLeast || want == 50e6)
	})
	t.Logf("%.0f Mbit/s: measured %.2f (at least: %v) after %s, used %.2f", want/1e6, float64(r.BPS)/1e6, r.AtLeast, time.Since(start).Round(time.Millisecond), float64(r.Upload)/1e6)
	link, err := netlink.LinkByName(render.Shape(in, nil)[0].Device)
	if err != nil {
		t.Fatal(err)
	}
	hosttest.Eventually(t, 5*time.Second, "the queue follows", func() bool {
		list, err := netlink.ClassList(link, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if h, ok := c.(*netlink.HtbClass); ok && h.Handle&0xffff == 1 {
				return near(float64(h.Rate) * 8 / 0.95)
			}
		}
		return false
	})
}

// slowed lets the circuit carry so much each way until end is called.
func slowed(t *testing.T, rate inventory.BitRate) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	port := forward.Port{Namespace: hosttest.Space("far"), Name: "eth0"}
	go func() { done <- forward.Run(ctx, port, forward.Shape{Rate: rate}, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("the forwarder: %v", err)
	}
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("end of the forwarder: %v", err)
		}
	}
}
