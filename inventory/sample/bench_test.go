package sample

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/wardnet/wardnet/inventory"
)

// many repeats the city's ward sites with their devices and circuits.
func many(sites int) inventory.Inventory {
	inv := City()
	x := inv.Index()
	inv.Circuits = nil
	inv.Allocations = nil
	hubs := x.HubSites()
	for _, h := range hubs {
		inv.Circuits = append(inv.Circuits, x.SiteCircuits(h.ID)...)
	}
	for i := range inv.Pools {
		if inv.Pools[i].Kind == inventory.PoolSite4 {
			inv.Pools[i].Bits = 24
		}
	}
	inv.Pools = append(inv.Pools,
		inventory.Pool{ID: "site6-b", Kind: inventory.PoolSite6, Prefix: netip.MustParsePrefix("fd5a:7e3c:91b5::/48"), Bits: 60},
		inventory.Pool{ID: "site6-c", Kind: inventory.PoolSite6, Prefix: netip.MustParsePrefix("fd5a:7e3c:91b6::/48"), Bits: 60},
		inventory.Pool{ID: "tunnel4-b", Kind: inventory.PoolTunnel4, Prefix: netip.MustParsePrefix("172.18.0.0/16"), Bits: 31})
	inv.Applications, inv.Permits = nil, nil
	all := inv.Sites
	for n := 0; len(inv.Sites) < sites+len(all); n++ {
		s := all[n%len(all)]
		if s.Kind == inventory.Hub {
			continue
		}
		old := s.ID
		s.ID = inventory.SiteID(fmt.Sprintf("x-%06d", n))
		inv.Sites = append(inv.Sites, s)
		inv.Devices = append(inv.Devices, inventory.Device{ID: inventory.DeviceID("d-" + string(s.ID)), Serial: fmt.Sprintf("X%06d", n), Site: s.ID, Platform: inventory.LinuxEdge, Role: inventory.RoleEdge, Intended: inventory.InService})
		for j, k := range x.SiteCircuits(old) {
			k.ID, k.Site = inventory.CircuitID(fmt.Sprintf("cx-%06d-%d", n, j)), s.ID
			if k.Address.IsValid() {
				k.Addressing = inventory.DHCP
				k.Address = netip.Prefix{}
			}
			inv.Circuits = append(inv.Circuits, k)
		}
	}
	return inv.Normalize()
}

// BenchmarkDecode reads inventories of the planned sizes: 208 sites today,
// 3,321 nationally, 10,000 in simulations.
func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{0, 3321, 10_000} {
		inv := City()
		if n > 0 {
			inv = many(n)
		}
		var buf bytes.Buffer
		if err := inventory.Encode(&buf, inv); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("sites=%d", len(inv.Sites)), func(b *testing.B) {
			b.SetBytes(int64(buf.Len()))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := inventory.Decode("x", bytes.NewReader(buf.Bytes())); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkExpand writes the profiles out at the planned sizes, each site with
// a value of its own.
func BenchmarkExpand(b *testing.B) {
	for _, n := range []int{208, 3321, 10_000} {
		inv := profiled(n)
		b.Run(fmt.Sprintf("sites=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := inventory.Expand(inv); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// profiled is an inventory of n edge sites of two profiles, with a variable.
func profiled(n int) inventory.Inventory {
	inv := many(n)
	written := Written()
	inv.Profiles = written.Profiles
	ward := &inv.Profiles[len(inv.Profiles)-1]
	ward.Variables = []inventory.Variable{{Name: "staff_port", Type: inventory.TextVariable}, {Name: "relay", Type: inventory.AddressVariable, Default: "10.64.10.67"}}
	ward.Segments = append(ward.Segments,
		inventory.ProfileSegment{Kind: inventory.Staff, Port: inventory.FromVariable[string]("staff_port")},
		inventory.ProfileSegment{Kind: inventory.Voice, DHCP: inventory.Given(inventory.DHCPRelay), Relay: inventory.FromVariable[netip.Addr]("relay")})
	for i := range inv.Sites {
		if s := &inv.Sites[i]; s.Kind != inventory.Hub {
			s.Profile, s.Segments, s.Variables = ward.ID, nil, map[string]inventory.VariableValue{"staff_port": inventory.VariableValue(fmt.Sprintf("eth1.%d", i%4000))}
		}
	}
	for i := range inv.Circuits {
		inv.Circuits[i].MTU = 0
	}
	return inv
}

// BenchmarkAllocate gives every address of an empty inventory.
func BenchmarkAllocate(b *testing.B) {
	for _, n := range []int{208, 3321, 10_000} {
		inv := many(n)
		b.Run(fmt.Sprintf("sites=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := inventory.Allocate(inv); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
