package steer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

func pfx(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// ward is an edge with two circuits and two hubs, hub 1 preferred.
func ward() edge.Config {
	c := edge.Config{
		Device: "e-1", Role: inventory.RoleEdge, Classes: []edge.Class{voice, bulk},
		BGP:      edge.BGP{Networks: pfx("10.64.0.0/20", "fd12::/56")},
		Segments: []edge.Segment{{Kind: inventory.Voice, V4: netip.MustParsePrefix("10.64.3.0/24"), V6: netip.MustParsePrefix("fd12:0:0:3::/64"), Port: "eth3"}},
		Rules: []edge.Rule{
			{From: inventory.Voice, Dst: pfx("10.64.0.0/10", "10.64.3.0/24"), Class: "voice"},
			{Src: pfx("10.70.0.0/16", "fd13::/48"), Dst: pfx("10.64.3.0/24"), Class: "voice"},
			{From: inventory.Staff, Dst: pfx("10.200.0.10/32"), Class: "bulk"},
			{From: inventory.Public, Internet: true, Class: "voice"},
		},
	}
	for i, n := range []string{"a--hub-1", "b--hub-1", "a--hub-2", "b--hub-2"} {
		c.Tunnels = append(c.Tunnels, edge.Tunnel{
			Name: n, Kind: edge.WireGuard, Peer: inventory.DeviceID(n[3:]), Preference: 200 - 10*i,
			Local: netip.MustParsePrefix(fmt.Sprintf("172.16.0.%d/31", 2*i+1)), Remote: netip.MustParseAddr(fmt.Sprintf("172.16.0.%d", 2*i)),
		})
	}
	return c
}

func allUp(c edge.Config) []Path {
	st := agent.HostState{}
	for _, t := range c.Tunnels {
		st.Tunnels = append(st.Tunnels, agent.TunnelState{TunnelState: edge.TunnelState{Name: t.Name, Up: true, BFD: true, BGP: true}})
	}
	return Paths(c, st, func(string) Quality { return fine() })
}

func texts(routes []render.Route) []string {
	var out []string
	for _, r := range routes {
		out = append(out, fmt.Sprintf("%d %s via %s dev %s", r.Table-render.ClassTable(0), r.Dst, r.Via, r.Dev))
	}
	return out
}

func TestEdgeDeviates(t *testing.T) {
	c := ward()
	dev := render.Interface(c.Tunnels[1])
	detour := []string{
		"0 10.64.0.0/10 via 172.16.0.2 dev " + dev,
		"0 10.64.3.0/24 via invalid IP dev eth3", // our own segment lies within
		"0 10.70.0.0/16 via 172.16.0.2 dev " + dev,
		"0 fd12:0:0:3::/64 via invalid IP dev eth3",
		"0 fd13::/48 via " + render.Inner(c.Tunnels[1].Remote).String() + " dev " + dev,
	}
	choice := func(class, group, tunnel string) Choice { return Choice{Class: class, Group: group, Tunnel: tunnel} }
	for name, tt := range map[string]struct {
		choices []Choice
		down    int // index of a tunnel that is down; -1: none
		want    []string
	}{
		"as routing":               {[]Choice{choice("voice", "hub-1", "a--hub-1")}, -1, nil},
		"voice leaves":             {[]Choice{choice("voice", "hub-1", "b--hub-1"), choice("bulk", "hub-1", "a--hub-1")}, -1, detour},
		"only to the hub in use":   {[]Choice{choice("voice", "hub-2", "b--hub-2")}, -1, nil},
		"routing has moved itself": {[]Choice{choice("voice", "hub-1", "b--hub-1")}, 0, nil},
		"unknown class or tunnel":  {[]Choice{choice("x", "hub-1", "b--hub-1"), choice("voice", "hub-1", "x")}, -1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			paths := allUp(c)
			if tt.down >= 0 {
				paths[tt.down].Up = false
			}
			if got := texts(Deviations(c, paths, tt.choices)); !slices.Equal(got, tt.want) {
				t.Errorf("got\n%q\nwant\n%q", got, tt.want)
			}
		})
	}
}

// An edge leaves for a hub only what routing sends to that hub already.
func TestFollow(t *testing.T) {
	c := ward()
	devs := make([]string, len(c.Tunnels))
	for i, tn := range c.Tunnels {
		devs[i] = render.Interface(tn)
	}
	deviations := Deviations(c, allUp(c), []Choice{{Class: "voice", Group: "hub-1", Tunnel: "b--hub-1"}})
	at := func(dst, dev string) render.Route {
		return render.Route{Dst: netip.MustParsePrefix(dst), Dev: dev}
	}
	pool := "0 10.64.0.0/10 via 172.16.0.2 dev " + devs[1]
	own := []string{"0 10.64.3.0/24 via invalid IP dev eth3", "0 fd12:0:0:3::/64 via invalid IP dev eth3"}
	for name, tt := range map[string]struct {
		main []render.Route
		want []string
	}{
		"no routes at all":       {nil, nil},
		"only a default":         {[]render.Route{at("0.0.0.0/0", "wan0"), at("10.70.0.0/16", "wan0")}, nil},
		"by the other hub":       {[]render.Route{at("10.70.0.0/16", devs[2]), at("10.64.16.0/20", devs[3])}, nil},
		"parts by this hub":      {[]render.Route{at("10.64.16.0/20", devs[0]), at("10.64.32.0/20", devs[1])}, []string{pool, own[0], own[1]}},
		"the whole by this hub":  {[]render.Route{at("10.0.0.0/8", devs[0])}, []string{pool, own[0], "0 10.70.0.0/16 via 172.16.0.2 dev " + devs[1], own[1]}},
		"some by one, some else": {[]render.Route{at("10.64.16.0/20", devs[0]), at("10.64.32.0/20", devs[2])}, []string{own[0], "0 10.64.16.0/20 via 172.16.0.2 dev " + devs[1], own[1]}},
	} {
		if got := texts(Follow(c, deviations, tt.main)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got\n%q\nwant\n%q", name, got, tt.want)
		}
	}
	c.Role = inventory.RoleHub
	if got := Follow(c, deviations, nil); !slices.Equal(got, deviations) {
		t.Errorf("a hub: %q", texts(got))
	}
}

func TestHubDeviatesPerSite(t *testing.T) {
	c := edge.Config{Device: "hub-1", Role: inventory.RoleHub, Classes: []edge.Class{bulk, voice}}
	for i, n := range []string{"a1--hub-1", "b1--hub-1", "a2--hub-1", "b2--hub-1"} {
		remote := netip.MustParseAddr(fmt.Sprintf("172.16.0.%d", 2*i+1))
		c.Tunnels = append(c.Tunnels, edge.Tunnel{
			Name: n, Kind: edge.WireGuard, Peer: inventory.DeviceID("e-" + n[1:2]), Preference: 200 - 10*i, ListenPort: uint16(51820 + i%2), Remote: remote,
			AllowedIPs: append(pfx(fmt.Sprintf("10.64.%d.0/20", 16*(i/2))), netip.PrefixFrom(remote, 32), netip.PrefixFrom(render.Inner(remote), 128)),
		})
	}
	got := texts(Deviations(c, allUp(c), []Choice{
		{Class: "voice", Group: "e-1", Tunnel: "b1--hub-1"},
		{Class: "voice", Group: "e-2", Tunnel: "a2--hub-1"},
		{Class: "bulk", Group: "e-2", Tunnel: "b2--hub-1"},
	}))
	want := []string{"0 10.64.16.0/20 via 172.16.0.7 dev wn51821", "1 10.64.0.0/20 via 172.16.0.3 dev wn51821"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// stage is a host whose tunnels one can take down or make lossy.
type stage struct {
	agent.Host

	mu     sync.Mutex
	config edge.Config
	down   map[string]bool
	bad    map[string]bool
	fail   bool
	silent bool // no hub has announced anything
	routes []string
	ridden []string
	looks  int
	watch  chan struct{}
}

func (s *stage) ride(tunnels []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ridden = tunnels
}

func (s *stage) Apply(_ context.Context, c edge.Config, _ edge.Credentials) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail {
		return errors.New("busy")
	}
	s.config = c
	return nil
}

func (s *stage) State(context.Context) (agent.HostState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	var st agent.HostState
	for _, t := range s.config.Tunnels {
		up := !s.down[t.Name]
		st.Tunnels = append(st.Tunnels, agent.TunnelState{TunnelState: edge.TunnelState{Name: t.Name, Up: up, BFD: up, BGP: up}})
	}
	return st, nil
}

func (s *stage) Watch(context.Context) <-chan struct{} { return s.watch }

func (s *stage) quality(tunnel string) Quality {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad[tunnel] {
		return lossy(10)
	}
	return fine()
}

func (s *stage) detour(routes []render.Route) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.routes = texts(routes)
	return nil
}

// routed is a main table in which hub 1 has announced all, or nothing.
func (s *stage) routed() ([]render.Route, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent {
		return nil, nil
	}
	dev := render.Interface(ward().Tunnels[0])
	return []render.Route{{Dst: netip.MustParsePrefix("10.0.0.0/8"), Dev: dev}, {Dst: netip.MustParsePrefix("fd13::/48"), Dev: dev}}, nil
}

// set changes the stage and returns how many routes there are after d.
func (s *stage) set(down, bad string, d time.Duration) int {
	s.mu.Lock()
	s.down, s.bad = map[string]bool{down: true}, map[string]bool{bad: true}
	s.mu.Unlock()
	if down != "" {
		s.watch <- struct{}{}
	}
	time.Sleep(d)
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.routes)
}

func TestRunSteers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{watch: make(chan struct{}, 1)}
		plane := NewPlane(s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Run(ctx, Deps{Plane: plane, Quality: s.quality, Detour: s.detour, Routed: s.routed, Ridden: s.ride, Log: slog.New(slog.DiscardHandler)})
		}()
		if n := s.set("", "", 5*time.Second); n != 0 {
			t.Errorf("%d routes without a configuration", n)
		}
		if err := plane.Apply(ctx, ward(), edge.Credentials{}); err != nil {
			t.Fatal(err)
		}
		if n := s.set("", "", 15*time.Second); n != 0 {
			t.Errorf("%d routes while all is well", n)
		}
		s.mu.Lock()
		if want := []string{"a--hub-1"}; !slices.Equal(s.ridden, want) {
			t.Errorf("ridden are %v, want %v", s.ridden, want)
		}
		if s.looks > 3 {
			t.Errorf("looked at the box %d times in 15 s in which nothing happened", s.looks)
		}
		s.mu.Unlock()
		if n := s.set("", "a--hub-1", 6*time.Second); n != 5 {
			t.Errorf("%d routes after loss on the preferred tunnel, want voice to leave it by 5", n)
		}
		s.mu.Lock()
		if want := []string{"a--hub-1", "b--hub-1"}; !slices.Equal(s.ridden, want) {
			t.Errorf("with voice on its detour ridden are %v, want %v", s.ridden, want)
		}
		s.silent = true
		s.mu.Unlock()
		s.watch <- struct{}{} // as the host does when a route comes or goes
		if n := s.set("", "a--hub-1", 2*time.Second); n != 0 {
			t.Errorf("%d routes to a hub that has announced nothing", n)
		}
		s.mu.Lock()
		s.silent = false
		s.mu.Unlock()
		s.watch <- struct{}{}
		if n := s.set("", "a--hub-1", 2*time.Second); n != 5 {
			t.Errorf("%d routes once the hub has announced, want 5", n)
		}
		if n := s.set("b--hub-1", "a--hub-1", time.Millisecond); n != 0 {
			t.Errorf("%d routes right after the detour went down", n)
		}
		s.fail = true
		if err := plane.Apply(ctx, edge.Config{}, edge.Credentials{}); err == nil || plane.inForce().Device != "e-1" {
			t.Errorf("a failed Apply changed what is steered: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
