package netlab

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
)

func city(t *testing.T, s Shape) (inventory.Inventory, Topology) {
	t.Helper()
	inv, top, err := City(sample.City(), s)
	if err != nil {
		t.Fatal(err)
	}
	return inv, top
}

func TestCityIsWhatALabNeeds(t *testing.T) {
	inv, top := city(t, Shape{Wards: 4})
	if again, err := inventory.Allocate(inv); err != nil || len(again.Allocations) != len(inv.Allocations) {
		t.Errorf("not everything is allocated: %v", err)
	}
	kinds := map[string]bool{}
	x := inv.Index()
	for _, s := range inv.Sites {
		if s.Kind == inventory.Hub {
			if len(s.Uplinks) != 1 || s.Uplinks[0].PeerASN != dcASN {
				t.Errorf("%s has the uplinks %v", s.ID, s.Uplinks)
			}
			continue
		}
		kinds[attachment(x.SiteCircuits(s.ID))] = true
		for _, g := range s.Segments {
			if (g.Unused == "") != (g.Port != "") {
				t.Errorf("%s/%s: unused %q, port %q", s.ID, g.Kind, g.Unused, g.Port)
			}
		}
	}
	if len(kinds) != 4 {
		t.Errorf("four wards are attached in the ways %v; want four", kinds)
	}
	for _, c := range inv.Circuits {
		if c.Port == "" || c.Addressing == inventory.PPPoE || (c.Addressing == inventory.Static) != c.Gateway.IsValid() {
			t.Errorf("circuit %s: port %q, addressing %s, gateway %s", c.ID, c.Port, c.Addressing, c.Gateway)
		}
	}
	for _, a := range inv.Applications {
		if a.Site != "" || !dcServers4.Contains(a.Prefixes[0].Addr()) || !dcServers6.Contains(a.Prefixes[1].Addr()) {
			t.Errorf("application %s: site %q, prefixes %v", a.ID, a.Site, a.Prefixes)
		}
	}
	if len(top.Sites) != 6 || len(top.Hosts) != 4*8+2*6 {
		t.Errorf("%d sites and %d hosts; want 6 and 44", len(top.Sites), len(top.Hosts))
	}
}

// Two wards share a legacy prefix; others know their hosts by another address.
func TestLegacyHostsAreSeenElsewhere(t *testing.T) {
	_, top := city(t, Shape{Wards: 3})
	seen := map[netip.Addr]int{}
	own := 0
	for _, h := range top.Hosts {
		seen[h.Seen4]++
		if legacyNet.Contains(h.V4.Addr()) {
			own++
			if h.Segment != inventory.Staff || h.GW4 != netip.MustParseAddr("192.168.1.1") {
				t.Errorf("%s has %s by %s", h.NS, h.V4, h.GW4)
			}
		}
	}
	if own != 2 || len(seen) != len(top.Hosts) {
		t.Errorf("%d hosts in the legacy prefix, %d of %d seen under an address of their own", own, len(seen), len(top.Hosts))
	}
	if h, _ := top.Host("s-25747", inventory.Staff); h.Seen4 != netip.MustParseAddr("10.66.129.10") {
		t.Errorf("the staff host of s-25747 is seen as %s", h.Seen4)
	}
}

// Names and addresses are each somebody's alone, and every port has its name.
func TestTopologyIsConsistent(t *testing.T) {
	_, top := city(t, Shape{Wards: 40})
	ports, addrs := map[string]bool{}, map[netip.Addr]string{}
	for _, l := range top.Links {
		for _, e := range []End{l.A, l.B} {
			if _, ok := top.Namespace(e.NS); !ok {
				t.Errorf("link %s ends in %s, which is not there", l.Name, e.NS)
			}
			if key := e.NS + " " + e.Port; ports[key] {
				t.Errorf("two links end at %s", key)
			} else {
				ports[key] = true
			}
			if len(e.Port) > 15 || e.MAC == "" {
				t.Errorf("%s: port %q, MAC %q", e.NS, e.Port, e.MAC)
			}
			for _, a := range e.Addresses {
				if legacyNet.Contains(a.Addr()) {
					continue // shared on purpose
				}
				if other, taken := addrs[a.Addr()]; taken {
					t.Errorf("%s and %s have the address %s", other, e.NS, a.Addr())
				}
				addrs[a.Addr()] = e.NS
			}
		}
	}
	seen := map[string]bool{}
	for _, n := range top.Namespaces {
		if !strings.HasPrefix(n.Name, "wn-") || seen[n.Name] {
			t.Errorf("namespace %q", n.Name)
		}
		seen[n.Name] = true
		for _, r := range n.Routes {
			if _, known := addrs[r.Via]; !known && n.Role != RoleHost {
				t.Errorf("%s routes %s via %s, which nobody has", n.Name, r.Dst, r.Via)
			}
		}
	}
}

// A larger lab holds the smaller one, so that a ward can be added to a running
// lab; what it adds is whole.
func TestALargerLabHoldsTheSmaller(t *testing.T) {
	invA, small := city(t, Shape{Wards: 3})
	invB, large := city(t, Shape{Wards: 4})
	for _, a := range invA.Allocations {
		if !slices.Contains(invB.Allocations, a) {
			t.Errorf("allocation %v changed", a)
		}
	}
	for _, l := range small.Links {
		if !slices.ContainsFunc(large.Links, func(m Link) bool { return reflect.DeepEqual(l, m) }) {
			t.Errorf("link %s changed", l.Name)
		}
	}
	more := large.beyond(small)
	if len(more.Sites) != 1 || len(more.Hosts) != 8 {
		t.Fatalf("one ward more brings %d sites, %d hosts", len(more.Sites), len(more.Hosts))
	}
	if len(small.Links)+len(more.Links) != len(large.Links) {
		t.Errorf("%d links and %d more are not %d", len(small.Links), len(more.Links), len(large.Links))
	}
	routes := func(ts ...Topology) (n int) {
		for _, top := range ts {
			for _, s := range top.Namespaces {
				n += len(s.Routes)
			}
		}
		return n
	}
	if routes(small, more) != routes(large) {
		t.Errorf("%d routes and %d more are not %d", routes(small), routes(more), routes(large))
	}
}

// With fewer circuits each ward keeps its first ones, and the hubs keep all.
func TestFewerCircuits(t *testing.T) {
	_, all, err := City(sample.City(), Shape{Wards: 20})
	if err != nil {
		t.Fatal(err)
	}
	_, few, err := City(sample.City(), Shape{Wards: 20, Circuits: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range few.Sites {
		want := all.Sites[i].Circuits
		if s.Role == inventory.RoleEdge {
			want = want[:1]
		}
		if s.ID != all.Sites[i].ID || len(s.Circuits) != len(want) || s.Circuits[0] != want[0] {
			t.Errorf("%s has %d circuits, want %d", s.ID, len(s.Circuits), len(want))
		}
	}
}

func TestShapeRefuses(t *testing.T) {
	for name, s := range map[string]Shape{
		"hubs": {Hubs: 3}, "wards": {Wards: 999}, "overlay": {Overlay: "gre"}, "prefix": {Prefix: "a/b"}, "bfd": {BFD: 50 * time.Millisecond}, "circuits": {Circuits: -1}, "no such site": {Sites: []inventory.SiteID{"s-0"}},
	} {
		if _, _, err := City(sample.City(), s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A replaced box keeps its place in the lab under the id that the controller
// gives it.
func TestReplacedBoxKeepsItsPlace(t *testing.T) {
	_, before, err := City(sample.City(), Shape{Wards: 2})
	if err != nil {
		t.Fatal(err)
	}
	inv, _, err := City(sample.City(), Shape{Wards: 2})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(before.Sites, func(s Site) bool { return s.Role == inventory.RoleEdge })
	old, _ := inv.Index().Device(before.Sites[i].Device)
	_, after, err := City(sample.City(), Shape{Wards: 2, Replaced: []Replaced{{old.Serial, "NEW-1"}, {"NEW-1", "NEW-2"}}})
	if err != nil {
		t.Fatal(err)
	}
	now := after.Sites[i]
	if want := before.Sites[i].Device + "-3"; now.Device != want || now.NS != before.Sites[i].NS {
		t.Errorf("the box is %s in %s, want %s in %s", now.Device, now.NS, want, before.Sites[i].NS)
	}
	if !reflect.DeepEqual(before.Links, after.Links) || !reflect.DeepEqual(before.Carriers, after.Carriers) {
		t.Error("its cables or leases changed")
	}
	if _, _, err := City(sample.City(), Shape{Wards: 2, Replaced: []Replaced{{"NOBODY", "NEW-1"}}}); err == nil {
		t.Error("a box that is not there was replaced")
	}
}
