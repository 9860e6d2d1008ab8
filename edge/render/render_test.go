package render

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/internal/golden"
	"github.com/wardnet/wardnet/inventory"
)

func TestGolden(t *testing.T) {
	for name, in := range map[string]Input{"ward": ward(), "hub": hub()} {
		box := mustNew(t, in)
		golden.Check(t, name+".nft", box.NFT)
		golden.Check(t, name+".frr", box.FRR)
		box.NFT, box.FRR = "", ""
		b, err := json.MarshalIndent(box, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		golden.Check(t, name+".box", string(b)+"\n")
	}
}

// A box before its first configuration: circuits, and a filter that denies.
func TestFirstBoot(t *testing.T) {
	box := mustNew(t, Input{Config: edge.Config{Circuits: ward().Config.Circuits}, WAN: ward().WAN})
	if box.FRR != "" || len(box.WireGuard) != 0 || len(box.Links) != 2 {
		t.Errorf("got %+v", box)
	}
	if strings.Count(box.NFT, "policy drop;") != 2 {
		t.Errorf("want two default denials:\n%s", box.NFT)
	}
	mustNew(t, Input{})
}

// Equal inputs give equal boxes, whatever the order of what has no order.
func TestDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, make := range []func() Input{ward, hub} {
			want, err := New(make())
			if err != nil {
				t.Fatal(err)
			}
			in := make()
			r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
			shuffle(r, in.Config.Circuits)
			shuffle(r, in.Config.Uplinks)
			shuffle(r, in.Config.BGP.Networks)
			shuffle(r, in.Config.BGP.Neighbours)
			for i := range in.Config.Tunnels {
				shuffle(r, in.Config.Tunnels[i].AllowedIPs)
			}
			for i := range in.Config.Rules {
				shuffle(r, in.Config.Rules[i].Src)
				shuffle(r, in.Config.Rules[i].Dst)
			}
			got, err := New(in)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("got\n%+v\nwant\n%+v", got, want)
			}
		}
	})
}

func shuffle[T any](r *rand.Rand, list []T) {
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}

// All faults come at once and wrap ErrInvalid.
func TestFaults(t *testing.T) {
	in := ward()
	c := &in.Config
	c.Loopback = addr("172.16.0.7")
	c.Circuits[0].Port, c.Circuits[1].Port = "", "lan.staff"
	c.Tunnels[1].Circuit = "c-9"
	c.Tunnels[0].Local = pfx("172.17.0.0/30")
	c.BGP.Neighbours[1].Addr = addr("172.17.0.9")
	c.Rules[0].Class = "nobody's"
	c.Rules[len(c.Rules)-1].Dst = pfxs("10.64.0.0/10")
	c.Legacy[0].Outside = pfx("10.64.18.0/24")
	_, err := New(in)
	if !errors.Is(err, inventory.ErrInvalid) {
		t.Fatalf("New() = %v, want ErrInvalid", err)
	}
	for _, want := range []string{
		"circuit c-1-a has no port", "circuit c-1-b and segment staff share port lan.staff", `tunnel c-1-b--d-hub: no circuit "c-9"`,
		"172.17.0.0/30 and 172.17.0.1 are not the two ends of a /31", "BGP neighbour 172.17.0.9: no tunnel", `rule p-dns: no class "nobody's"`,
		"rule p-wifi: a rule has destinations, or goes from a segment to the internet", "10.64.18.0/24 is not in segment staff",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	if n := strings.Count(err.Error(), "\n"); n != 7 {
		t.Errorf("%d faults, want 8:\n%v", n+1, err)
	}
}

// Two circuits with one mark would share a routing table.
func TestMarks(t *testing.T) {
	if a, b := CircuitMark("c-1-a"), CircuitMark("c-1-b"); a == b || a>>20 != 1 || b>>20 != 1 {
		t.Errorf("marks 0x%x and 0x%x, want two from 0x100000 to 0x1fffff", a, b)
	}
	if ClassMark(0) != 1<<24 || ClassMark(0)&CircuitMask != 0 {
		t.Errorf("class mark 0x%x", ClassMark(0))
	}
	in := ward()
	in.Config.Circuits = append(in.Config.Circuits, in.Config.Circuits[0])
	in.Config.Circuits[2].Port = "wan2"
	if _, err := New(in); err == nil || !strings.Contains(err.Error(), "get the same mark") {
		t.Errorf("New() = %v", err)
	}
}

// A peer without a key is not admitted, the tunnel's interface stays.
func TestRevoked(t *testing.T) {
	box := mustNew(t, hub())
	if len(box.WireGuard) != 2 || len(box.WireGuard[0].Peers) != 1 || box.WireGuard[0].Peers[0].Tunnel != "c-1-a--d-hub" {
		t.Fatalf("got %+v, want ward 1 alone on port 51820", box.WireGuard)
	}
	in := ward()
	in.Credentials.Keys = nil
	for _, d := range mustNew(t, in).WireGuard {
		if len(d.Peers) != 0 || d.Mark == 0 {
			t.Errorf("got %+v, want no peer on a bound interface", d)
		}
	}
}

// Nothing of the overlay can follow a default route, and no session's own
// subnet is hidden by a blackhole.
func TestOverlayNeverLeaks(t *testing.T) {
	for name, in := range map[string]Input{"ward": ward(), "hub": hub()} {
		box := mustNew(t, in)
		for _, tn := range in.Config.Tunnels {
			for _, a := range tn.AllowedIPs {
				covered := inside(a, tn.Local.Masked()) || slices.ContainsFunc(box.Routes, func(r Route) bool {
					return r.Blackhole && r.Table == mainTable && r.Metric == metricLast && inside(a, r.Dst)
				})
				if !covered {
					t.Errorf("%s: %s would follow the default route", name, a)
				}
			}
			for _, r := range box.Routes {
				if r.Blackhole && inside(r.Dst, tn.Local.Masked()) {
					t.Errorf("%s: %s hides the tunnel %s", name, r.Dst, tn.Name)
				}
			}
		}
		for _, c := range in.Config.Circuits {
			for _, dst := range []string{"0.0.0.0/0", "::/0"} {
				if !slices.ContainsFunc(box.Routes, func(r Route) bool {
					return r.Blackhole && r.Table == int(CircuitMark(c.Name)) && r.Dst == pfx(dst)
				}) {
					t.Errorf("%s: circuit %s without an address lets its packets take another", name, c.Name)
				}
			}
		}
	}
}
