package linux

import (
	"net/netip"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/render"
)

// A peer whose BFD session went down is kicked at once and then ever less often;
// one that never was up, or whose endpoint only it can tell, is left alone.
func TestKickerPaces(t *testing.T) {
	remote := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{172, 17, 0, n}) }
	w := inForce{
		config: edge.Config{Tunnels: []edge.Tunnel{{Name: "a", Remote: remote(1)}, {Name: "b", Remote: remote(2)}, {Name: "c", Remote: remote(3)}}},
		box: render.Box{WireGuard: []render.WireGuard{
			{Name: "wn1", Peers: []render.Peer{{Tunnel: "a", PublicKey: "ka", Endpoint: netip.MustParseAddrPort("192.0.2.1:1")}}},
			{Name: "wn2", Peers: []render.Peer{{Tunnel: "b", PublicKey: "kb"}}},
			{Name: "wn3", Peers: []render.Peer{{Tunnel: "c", PublicKey: "kc", Endpoint: netip.MustParseAddrPort("192.0.2.1:3")}}},
		}},
	}
	up := map[netip.Addr]bool{remote(1): true, remote(2): true}
	down := map[netip.Addr]bool{}
	k, start := kicker{}, time.Unix(0, 0)
	if got := k.due(w, down, start); len(got) != 0 {
		t.Errorf("before anything was up: %v", got)
	}
	for round := range 2 {
		start = start.Add(time.Hour)
		if got := k.due(w, up, start); len(got) != 0 {
			t.Errorf("round %d, all up: %v", round, got)
		}
		var at []time.Duration
		for s := time.Second; s <= 200*time.Second; s += time.Second {
			for _, p := range k.due(w, down, start.Add(s)) {
				if p != (target{"a", "wn1", "ka"}) {
					t.Errorf("round %d: kicked %v", round, p)
				}
				at = append(at, s/time.Second)
			}
		}
		want := []time.Duration{1, 6, 16, 36, 76, 136, 196}
		if len(at) != len(want) {
			t.Fatalf("round %d: kicked at %v, want %v (seconds)", round, at, want)
		}
		for i := range want {
			if at[i] != want[i] {
				t.Errorf("round %d: kicked at %v, want %v (seconds)", round, at, want)
				break
			}
		}
	}
	w.config.Tunnels = nil
	if k.due(w, down, start); len(k) != 0 {
		t.Errorf("tunnels that are gone are remembered: %v", k)
	}
}
