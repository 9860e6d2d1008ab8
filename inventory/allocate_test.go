package inventory

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Allocations are valid (disjoint, in their pools, off circuits and legacy),
// complete, repeatable, and nobody's moves when others come and go.
func TestAllocateIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inv := drawInventory(t)
		one, err := Allocate(inv)
		if err != nil {
			t.Fatal(err)
		}
		if err := Validate(one); err != nil {
			t.Fatal(err)
		}
		two, err := Allocate(one)
		if err != nil || !Diff(one, two).Empty() {
			t.Fatalf("a second allocation changes %v, error %v", Diff(one, two), err)
		}
		x := one.Index()
		for _, s := range one.Sites {
			for _, k := range []PoolKind{PoolSite4, PoolSite6} {
				if _, ok := x.Allocation(SiteOwner(s.ID), k); !ok {
					t.Fatalf("site %s has no %s", s.ID, k)
				}
			}
		}
		for _, c := range one.Circuits {
			for _, d := range x.HubDevices(c.Site) {
				if _, ok := x.Allocation(TunnelOwner(c.ID, d.ID), PoolTunnel4); !ok {
					t.Fatalf("no link for the tunnel %s to %s", c.ID, d.ID)
				}
			}
		}

		// Some edge sites go, new ones come: the first and the last by id.
		changed := one
		changed.Sites = slices.DeleteFunc(slices.Clone(one.Sites), func(s Site) bool {
			return s.Kind != Hub && rapid.Bool().Draw(t, "gone")
		})
		for _, id := range []SiteID{"a-new", "z-new"} {
			changed.Sites = append(changed.Sites, Site{ID: id, Unit: one.Units[0].ID, Kind: Branch, Name: "mới", Hubs: []SiteID{one.Sites[0].ID}, Lat: 1, Lon: 1})
		}
		after, err := Allocate(changed)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range one.Allocations {
			if !slices.Contains(after.Allocations, a) {
				t.Fatalf("%v moved or went", a)
			}
		}
		noOverlap(t, after)
	})
}

// noOverlap compares all pairs: the dumb twin of the sweep in Validate.
func noOverlap(t *rapid.T, inv Inventory) {
	for i, a := range inv.Allocations {
		for _, b := range inv.Allocations[i+1:] {
			if a.Prefix.Overlaps(b.Prefix) {
				t.Fatalf("%v overlaps %v", a, b)
			}
		}
		for _, c := range inv.Circuits {
			if c.Address.IsValid() && c.Address.Masked().Overlaps(a.Prefix) {
				t.Fatalf("%v overlaps circuit %v", a, c)
			}
		}
	}
}

// The sweep finds an overlap exactly when comparing all pairs does.
func TestOverlapsLikeAllPairs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var inv Inventory
		drawPrefix := func() netip.Prefix {
			p, _ := netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 3).Draw(t, "b")), byte(rapid.IntRange(0, 3).Draw(t, "c") * 64), 1}).Prefix(rapid.IntRange(13, 24).Draw(t, "bits"))
			return p
		}
		for range rapid.IntRange(0, 4).Draw(t, "pools") {
			inv.Pools = append(inv.Pools, Pool{Prefix: drawPrefix()})
		}
		for range rapid.IntRange(0, 4).Draw(t, "circuits") {
			inv.Circuits = append(inv.Circuits, Circuit{Address: drawPrefix()})
		}
		for range rapid.IntRange(0, 4).Draw(t, "sites") {
			inv.Sites = append(inv.Sites, Site{Legacy: drawPrefix()})
		}
		for range rapid.IntRange(0, 4).Draw(t, "allocations") {
			inv.Allocations = append(inv.Allocations, Allocation{Prefix: drawPrefix()})
		}
		c := newChecker(inv)
		uses := c.uses()
		want := false
		for i, a := range uses {
			for _, b := range uses[i+1:] {
				want = want || clashes(a.class, b.class) && a.prefix.Overlaps(b.prefix)
			}
		}
		c.overlaps()
		if got := len(c.faults.list) > 0; got != want {
			t.Fatalf("sweep says %v, all pairs say %v: %+v", got, want, uses)
		}
	})
}

// A full pool hands over to the next one, and the last one says so.
func TestAllocateExhaustion(t *testing.T) {
	inv := Inventory{Pools: []Pool{
		{ID: "a", Kind: PoolSite4, Prefix: netip.MustParsePrefix("10.64.0.0/23"), Bits: 24},
		{ID: "b", Kind: PoolSite4, Prefix: netip.MustParsePrefix("10.80.0.0/23"), Bits: 24},
	}, Circuits: []Circuit{{Address: netip.MustParsePrefix("10.64.0.9/30")}}}
	for _, id := range []SiteID{"s-1", "s-2", "s-3"} {
		inv.Sites = append(inv.Sites, Site{ID: id})
	}
	got, err := Allocate(inv)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, a := range got.Allocations {
		blocks = append(blocks, a.Prefix.String())
	}
	if want := "10.64.1.0/24 10.80.0.0/24 10.80.1.0/24"; strings.Join(blocks, " ") != want {
		t.Errorf("blocks %v, want %s", blocks, want)
	}
	inv.Sites = append(inv.Sites, Site{ID: "s-4"})
	if _, err := Allocate(inv); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "site/s-4") || !strings.Contains(err.Error(), "add another pool") {
		t.Errorf("got %v, want the exhausted pools named", err)
	}
}

// A wide obstacle is jumped over, not walked through.
func TestAllocateJumpsOverWideObstacles(t *testing.T) {
	inv := Inventory{
		Pools: []Pool{{ID: "p", Kind: PoolSite6, Prefix: netip.MustParsePrefix("fd00::/24"), Bits: 60}},
		Sites: []Site{{ID: "s-1", Legacy: netip.MustParsePrefix("fd00::/25")}},
	}
	got, err := Allocate(inv)
	if err != nil || got.Allocations[0].Prefix.String() != "fd00:80::/60" {
		t.Errorf("got %v, %v; want fd00:80::/60", got.Allocations, err)
	}
}

func TestSegmentPrefixes(t *testing.T) {
	site4, site6 := netip.MustParsePrefix("10.64.16.0/20"), netip.MustParsePrefix("fd12:3456:789a:10::/60")
	for i, k := range SegmentKinds {
		v4, v6, err := SegmentPrefixes(site4, site6, k)
		if err != nil || !contains(site4, v4) || !contains(site6, v6) || v4.Bits() != 23 || v6.Bits() != 64 {
			t.Errorf("%s: %s, %s, %v", k, v4, v6, err)
		}
		if indexOf(site4, 23, v4.Addr()) != uint64(i) || indexOf(site6, 64, v6.Addr()) != uint64(i) {
			t.Errorf("%s is not block %d", k, i)
		}
	}
	v4, v6, _ := SegmentPrefixes(site4, site6, Servers)
	if v4.String() != "10.64.26.0/23" || v6.String() != "fd12:3456:789a:15::/64" {
		t.Errorf("servers are %s and %s", v4, v6)
	}
	if _, _, err := SegmentPrefixes(site4, site6, "vault"); !errors.Is(err, ErrInvalid) {
		t.Errorf("unknown kind: %v", err)
	}
	if _, _, err := SegmentPrefixes(netip.MustParsePrefix("10.0.0.0/30"), site6, Staff); !errors.Is(err, ErrInvalid) {
		t.Errorf("block too small: %v", err)
	}
	edge, hub := TunnelEnds(netip.MustParsePrefix("172.17.0.6/31"))
	if edge.String() != "172.17.0.6" || hub.String() != "172.17.0.7" {
		t.Errorf("tunnel ends %s and %s", edge, hub)
	}
}

// block and indexOf are inverse, across the 64-bit halves of IPv6 too.
func TestBlockArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom([]netip.Prefix{
			netip.MustParsePrefix("10.0.0.0/9"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2001:db8:0:0:ff00::/72"),
		}).Draw(t, "prefix")
		length := rapid.IntRange(p.Bits()+1, min(p.Bits()+60, p.Addr().BitLen())).Draw(t, "length")
		n := rapid.Uint64Range(0, 1<<(length-p.Bits())-1).Draw(t, "n")
		b := block(p, length, n)
		if !contains(p, b) || b != b.Masked() || indexOf(p, length, b.Addr()) != n {
			t.Fatalf("block %d of length %d in %s is %s", n, length, p, b)
		}
	})
}
