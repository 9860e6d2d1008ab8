package main

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
)

// edgesPerPair is how many sites share a pair of hubs in a [nation].
const edgesPerPair = 1000

// nation is an inventory with n devices in service, each at a site of its own:
// pairs of hubs and sites of the kinds, circuits and segments that the city
// has. Four of the city's applications are behind every hub; the others are
// left out, for what is measured with it are devices and not rules. Addresses
// are allocated when it is imported: 10.0.0.0/8 in /22 holds 16,384 sites.
func nation(n int) (inventory.Inventory, error) {
	inv := sample.City()
	x := inv.Index()
	out := inventory.Inventory{Org: inv.Org, Units: inv.Units, Carriers: inv.Carriers}
	edges := n * edgesPerPair / (edgesPerPair + 2)
	pairs := (edges + edgesPerPair - 1) / edgesPerPair
	edges = n - 2*pairs
	if edges < 1 {
		return out, fmt.Errorf("%w: a nation of %d devices has no room for an edge", inventory.ErrInvalid, n)
	}
	var models []inventory.Site // of the edges
	var hubs [2]inventory.Site
	for _, s := range inv.Sites {
		switch {
		case s.Kind != inventory.Hub:
			models = append(models, s)
		case s.ID == "hub-1":
			hubs[0] = s
		case s.ID == "hub-2":
			hubs[1] = s
		}
	}
	pairOf := make([][]inventory.SiteID, pairs)
	for p := range pairs {
		for h, model := range hubs {
			s := model
			s.ID = inventory.SiteID(fmt.Sprintf("hub-%02d-%c", p+1, 'a'+h))
			s.Name = fmt.Sprintf("%s (mô hình %d)", model.Name, p+1)
			core := netip.AddrFrom4([4]byte{192, 168, 201, byte(8*p + 4*h)}) // the data centre is behind each hub
			s.Uplinks = []inventory.Uplink{{Name: "dc", Port: "dc0", Address: netip.PrefixFrom(core.Next(), 30), Peer: core.Next().Next(), PeerASN: 64600}}
			out.Sites = append(out.Sites, s)
			pairOf[p] = append(pairOf[p], s.ID)
			for j, c := range x.SiteCircuits(model.ID) {
				c.ID, c.Site = inventory.CircuitID(fmt.Sprintf("c-%s-%d", s.ID, j+1)), s.ID
				first := netip.AddrFrom4([4]byte{198, 19, byte(1 + 2*p + h), byte(8 * j)}) // RFC 2544
				c.Gateway = first.Next()
				c.Address = netip.PrefixFrom(c.Gateway.Next(), 29)
				out.Circuits = append(out.Circuits, c)
			}
			out.Devices = append(out.Devices, deviceAt(s.ID, inventory.RoleHub))
		}
	}
	for i := range edges {
		s := models[i%len(models)]
		model := s.ID
		s.ID, s.Hubs, s.Legacy = inventory.SiteID(fmt.Sprintf("x-%05d", i)), slices.Clone(pairOf[min(i/edgesPerPair, pairs-1)]), netip.Prefix{}
		if i%2 == 1 {
			slices.Reverse(s.Hubs)
		}
		out.Sites = append(out.Sites, s)
		for j, c := range x.SiteCircuits(model) {
			c.ID, c.Site = inventory.CircuitID(fmt.Sprintf("c-%s-%d", s.ID, j+1)), s.ID
			if c.Address.IsValid() {
				c.Addressing, c.Address, c.Gateway = inventory.DHCP, netip.Prefix{}, netip.Addr{}
			}
			out.Circuits = append(out.Circuits, c)
		}
		out.Devices = append(out.Devices, deviceAt(s.ID, inventory.RoleEdge))
	}
	serve(&out, inv)
	prefix := netip.MustParsePrefix
	out.Pools = []inventory.Pool{
		{ID: "loopback4", Kind: inventory.PoolLoopback4, Prefix: prefix("172.16.0.0/16"), Bits: 32},
		{ID: "site4", Kind: inventory.PoolSite4, Prefix: prefix("10.0.0.0/8"), Bits: 22},
		{ID: "tunnel4", Kind: inventory.PoolTunnel4, Prefix: prefix("172.18.0.0/15"), Bits: 31},
	}
	for i, p := range []string{"fd5a:7e3c:91b4::/48", "fd5a:7e3c:91b5::/48", "fd5a:7e3c:91b6::/48"} {
		out.Pools = append(out.Pools, inventory.Pool{ID: inventory.PoolID(fmt.Sprintf("site6-%d", i+1)), Kind: inventory.PoolSite6, Prefix: prefix(p), Bits: 60})
	}
	return out.Normalize(), nil
}

func deviceAt(s inventory.SiteID, role inventory.DeviceRole) inventory.Device {
	return inventory.Device{
		ID: inventory.DeviceID("d-" + string(s)), Serial: "WN-" + string(s), Site: s,
		Platform: inventory.SimulatedEdge, Role: role, Intended: inventory.InService,
	}
}

// serve gives out four of the city's applications, behind every hub, and who
// may reach them.
func serve(out *inventory.Inventory, city inventory.Inventory) {
	asked := map[inventory.ApplicationID][]inventory.SegmentKind{
		"dich-vu-cong": {inventory.Staff, inventory.Kiosk},
		"dns-1":        {inventory.Staff, inventory.Mgmt},
		"quan-tri":     {inventory.Mgmt},
		"van-ban":      {inventory.Staff},
	}
	for _, a := range city.Applications {
		from, ok := asked[a.ID]
		if !ok {
			continue
		}
		k := byte(10 + len(out.Applications))
		a.Site = ""
		a.Prefixes = []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 200, k}), 32),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x57, 15: k}), 128),
		}
		out.Applications = append(out.Applications, a)
		out.Permits = append(out.Permits, inventory.Permit{ID: inventory.PermitID("p-" + string(a.ID)), From: from, ToApp: a.ID, Reason: "như ở thành phố"})
	}
}
