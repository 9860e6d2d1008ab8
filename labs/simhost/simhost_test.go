package simhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/inventory"
)

// city is one ward with two circuits and one hub, all in this process.
type city struct {
	*Underlay
	ward, hub *Host
}

func newCity(tb testing.TB, seed uint64) city {
	tb.Helper()
	u, err := New(Config{Seed: seed, Circuits: []Circuit{
		{ID: "w-a", Device: "e-1", Site: "s-1", Kind: inventory.FTTH, Carrier: "vnpt"},
		{ID: "w-b", Device: "e-1", Site: "s-1", Kind: inventory.LTE, Carrier: "viettel"},
		{ID: "h-a", Device: "hub-1", Site: "hub", Kind: inventory.Metronet, Carrier: "tsl"},
	}})
	if err != nil {
		tb.Fatal(err)
	}
	c := city{Underlay: u}
	for id, h := range map[inventory.DeviceID]**Host{"e-1": &c.ward, "hub-1": &c.hub} {
		if *h, err = u.Host(id, func() string { return "key of " + string(id) }); err != nil {
			tb.Fatal(err)
		}
	}
	return c
}

var names = []string{"w-a--hub-1", "w-b--hub-1"}

func wardConfig(tunnels ...string) edge.Config {
	c := edge.Config{Device: "e-1", Site: "s-1", Role: inventory.RoleEdge, Circuits: []edge.Circuit{{Name: "w-a"}, {Name: "w-b"}}}
	for _, n := range tunnels {
		i := map[string]int{"w-a--hub-1": 0, "w-b--hub-1": 1}[n]
		c.Tunnels = append(c.Tunnels, edge.Tunnel{
			Name: n, Kind: edge.WireGuard, Circuit: n[:3], Peer: "hub-1", MTU: 1400, Preference: 200 - i,
			Local: netip.MustParsePrefix(fmt.Sprintf("172.18.%d.1/31", i)), Remote: netip.MustParseAddr(fmt.Sprintf("172.18.%d.0", i)),
		})
	}
	return c
}

func hubConfig() edge.Config {
	c := edge.Config{Device: "hub-1", Site: "hub", Role: inventory.RoleHub, Circuits: []edge.Circuit{{Name: "h-a"}}}
	for i, n := range names {
		c.Tunnels = append(c.Tunnels, edge.Tunnel{
			Name: n, Kind: edge.WireGuard, Circuit: "h-a", Peer: "e-1", MTU: 1400, Preference: 200 - i,
			Local: netip.MustParsePrefix(fmt.Sprintf("172.18.%d.0/31", i)), Remote: netip.MustParseAddr(fmt.Sprintf("172.18.%d.1", i)),
		})
	}
	return c
}

var keys = edge.Credentials{Epoch: 1, Keys: map[inventory.DeviceID]string{"e-1": "key of e-1", "hub-1": "key of hub-1"}}

func apply(tb testing.TB, h *Host, c edge.Config, k edge.Credentials) {
	tb.Helper()
	if err := h.Apply(tb.Context(), c, k); err != nil {
		tb.Fatal(err)
	}
}

func tunnel(tb testing.TB, h *Host, name string) agent.TunnelState {
	tb.Helper()
	st, err := h.State(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	for _, t := range st.Tunnels {
		if t.Name == name {
			return t
		}
	}
	tb.Fatalf("no tunnel %s", name)
	return agent.TunnelState{}
}

func TestTunnelFollowsItsCircuits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t, 1)
		apply(t, c.ward, wardConfig(names...), keys)
		apply(t, c.hub, hubConfig(), keys)
		watch := c.ward.Watch(t.Context())
		expect := func(when, name string, want bool) {
			t.Helper()
			w, h := tunnel(t, c.ward, name), tunnel(t, c.hub, name)
			if w.BFD != want || h.BFD != want || w.Up != want || (!want && w.BGP) {
				t.Fatalf("%s: %s: ward %+v, hub %+v, want up %v", when, name, w.TunnelState, h.TunnelState, want)
			}
		}
		expect("at once", names[0], false)
		time.Sleep(4 * time.Second)
		<-watch // woken by BFD or BGP coming up
		expect("after 4 s", names[0], true)
		if !tunnel(t, c.ward, names[0]).BGP {
			t.Error("BGP is not up a while after BFD")
		}
		if err := c.Cut("w-a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		expect("0.5 s after the cut", names[0], true)
		if p := tunnel(t, c.ward, names[0]).Probe; p.LossRatio != 1 {
			t.Errorf("probe right after the cut: %+v", p)
		}
		time.Sleep(time.Second)
		expect("1.5 s after the cut", names[0], false)
		expect("the other circuit", names[1], true)
		if st, _ := c.ward.State(t.Context()); st.Circuits[0].Up || !st.Circuits[1].Up {
			t.Errorf("circuits after the cut: %+v", st.Circuits)
		}
		if err := c.Heal(c.Select("vnpt", []inventory.SiteID{"s-1"})...); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		expect("1 s after the heal", names[0], false)
		time.Sleep(1500 * time.Millisecond)
		expect("2.5 s after the heal", names[0], true)
		if err := c.Impair(0.95, 0, "h-a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond)
		expect("95 % loss at the hub", names[0], false)
		expect("95 % loss at the hub", names[1], false)
	})
}

func TestBothEndsMustAgree(t *testing.T) {
	revoked := edge.Credentials{Epoch: 2, Keys: map[inventory.DeviceID]string{"hub-1": "key of hub-1"}}
	rotated := edge.Credentials{Epoch: 2, Keys: map[inventory.DeviceID]string{"e-1": "another key", "hub-1": "key of hub-1"}}
	for name, tt := range map[string]struct {
		hub   func(*edge.Config)
		creds edge.Credentials
		want  bool
	}{
		"agree":                   {creds: keys, want: true},
		"ward revoked at the hub": {creds: revoked},
		"old key at the hub":      {creds: rotated},
		"no keys yet":             {},
		"hub without the tunnel":  {creds: keys, hub: func(c *edge.Config) { c.Tunnels = nil }},
		"other address":           {creds: keys, hub: func(c *edge.Config) { c.Tunnels[0].Local = netip.MustParsePrefix("172.18.9.0/31") }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCity(t, 1)
				apply(t, c.ward, wardConfig(names[0]), keys)
				h := hubConfig()
				if tt.hub != nil {
					tt.hub(&h)
				}
				apply(t, c.hub, h, tt.creds)
				time.Sleep(5 * time.Second)
				if got := tunnel(t, c.ward, names[0]).BFD; got != tt.want {
					t.Errorf("up = %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestFarEndElsewhereIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, err := New(Config{Circuits: []Circuit{{ID: "w-a", Device: "e-1"}, {ID: "w-b", Device: "e-1"}}})
		if err != nil {
			t.Fatal(err)
		}
		h, err := u.Host("e-1", func() string { return "k" })
		if err != nil {
			t.Fatal(err)
		}
		apply(t, h, wardConfig(names...), keys)
		time.Sleep(5 * time.Second)
		if all, up := u.Tunnels(); all != 2 || up != 2 {
			t.Errorf("%d of %d up", up, all)
		}
	})
}

func TestTrafficFailsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t, 1)
		apply(t, c.ward, wardConfig(names...), keys)
		apply(t, c.hub, hubConfig(), keys)
		time.Sleep(10 * time.Second)
		rate := func(name string) float64 {
			before := tunnel(t, c.ward, name)
			time.Sleep(10 * time.Second)
			return float64(tunnel(t, c.ward, name).Counters.InOctets-before.Counters.InOctets) / 10
		}
		if r := rate(names[0]); r < 20*idleRate {
			t.Errorf("preferred tunnel carries %v bytes/s", r)
		}
		if r := rate(names[1]); r > 2*idleRate {
			t.Errorf("standby tunnel carries %v bytes/s", r)
		}
		if err := c.Cut("w-a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if r := rate(names[1]); r < 20*idleRate {
			t.Errorf("backup carries %v bytes/s after the cut", r)
		}
		if r := rate(names[0]); r != 0 {
			t.Errorf("the cut tunnel carries %v bytes/s", r)
		}
	})
}

// TestCountersOnlyRise: whatever happens, no counter of a configured object
// falls, and what one end sends the other receives.
func TestCountersOnlyRise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(r *rapid.T) { // hides t.Deadline, which a bubble forbids
			c := newCity(t, rapid.Uint64().Draw(r, "seed"))
			apply(t, c.ward, wardConfig(names...), keys)
			apply(t, c.hub, hubConfig(), keys)
			last := map[string]agent.Counters{}
			ids := rapid.SampledFrom([]inventory.CircuitID{"w-a", "w-b", "h-a"})
			r.Repeat(map[string]func(*rapid.T){
				"cut":    func(r *rapid.T) { _ = c.Cut(ids.Draw(r, "circuit")) },
				"heal":   func(r *rapid.T) { _ = c.Heal(ids.Draw(r, "circuit")) },
				"impair": func(r *rapid.T) { _ = c.Impair(rapid.Float64Range(0, 1).Draw(r, "loss"), 20, ids.Draw(r, "circuit")) },
				"time": func(r *rapid.T) {
					time.Sleep(time.Duration(rapid.Int64Range(1, int64(4*time.Hour)).Draw(r, "pause")))
				},
				"reconfigure": func(r *rapid.T) {
					cfg := wardConfig(names[:rapid.IntRange(0, 2).Draw(r, "tunnels")]...)
					apply(t, c.ward, cfg, keys)
					for _, n := range names { // a new interface starts at any value
						delete(last, "e-1/"+n)
					}
				},
				"": func(r *rapid.T) { checkCounters(r, c, last) },
			})
		})
	})
}

func checkCounters(r *rapid.T, c city, last map[string]agent.Counters) {
	look := func(key string, now agent.Counters) {
		was := last[key]
		if now.InOctets < was.InOctets || now.OutOctets < was.OutOctets || now.InPkts < was.InPkts || now.OutPkts < was.OutPkts ||
			now.InErrors < was.InErrors || now.OutDiscards < was.OutDiscards {
			r.Fatalf("%s fell from %+v to %+v", key, was, now)
		}
		last[key] = now
	}
	for _, h := range []*Host{c.ward, c.hub} {
		st, err := h.State(context.Background())
		if err != nil {
			r.Fatal(err)
		}
		for _, p := range st.Circuits {
			look(string(h.device)+"/"+p.Name, p.Counters)
		}
		for _, w := range st.Tunnels {
			look(string(h.device)+"/"+w.Name, w.Counters)
			if p := w.Probe; p.LossRatio < 0 || p.LossRatio > 1 || p.LatencyMS < 0 || p.JitterMS < 0 {
				r.Fatalf("probe of %s: %+v", w.Name, p)
			}
		}
	}
}

func TestFlowRhythm(t *testing.T) {
	f := newFlow(7, "e-1/down", 1e6)
	day := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	hour := func(h int) float64 {
		a := day.Add(time.Duration(h) * time.Hour)
		return f.octets(a, a.Add(time.Hour))
	}
	if noon, night := hour(4), hour(18); noon < 2*night { // 11:00 and 01:00 in UTC+7
		t.Errorf("11:00 carries %.0f, 01:00 %.0f: no daily rhythm", noon, night)
	}
	rapid.Check(t, func(r *rapid.T) {
		f := newFlow(rapid.Uint64().Draw(r, "seed"), "x", 1e6)
		at := time.Unix(rapid.Int64Range(0, 4e9).Draw(r, "at"), rapid.Int64Range(0, 999999999).Draw(r, "ns"))
		d1, d2 := rapid.Int64Range(1, 1e13).Draw(r, "d1"), rapid.Int64Range(1, 1e13).Draw(r, "d2")
		b, c := at.Add(time.Duration(d1)), at.Add(time.Duration(d1+d2))
		if whole, parts := f.octets(at, c), f.octets(at, b)+f.octets(b, c); whole-parts > 1 || parts-whole > 1 {
			r.Fatalf("%v in one go, %v in two", whole, parts)
		}
		if f.octets(at, b) <= 0 {
			r.Fatal("no traffic in a positive time")
		}
	})
}

func TestDialFollowsCircuits(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := newCity(t, 1)
	near, err := c.ward.Dial(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := near.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := c.Cut("w-a"); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Write([]byte("b")); err != nil { // nobody knows of the cut yet
		t.Errorf("write right after the cut: %v", err)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, edge.ErrUnreachable) {
		t.Errorf("read over a cut circuit: %v", err)
	}
	near.Close()
	// The far end is half open: neither the data nor the end arrives.
	_ = far.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := far.Read(make([]byte, 1)); n != 0 || !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Errorf("far end read %d, %v; want silence", n, err)
	}
	other, err := c.ward.Dial(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatalf("dial with the other circuit working: %v", err)
	}
	defer other.Close()
	if err := c.Cut("w-b"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ward.Dial(t.Context(), "tcp", ln.Addr().String()); !errors.Is(err, edge.ErrUnreachable) {
		t.Errorf("dial with no circuit: %v", err)
	}
	if err := c.Heal("w-a"); err != nil {
		t.Fatal(err)
	}
	_ = far.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := far.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("far end after the heal: %v, want the end", err)
	}
}
