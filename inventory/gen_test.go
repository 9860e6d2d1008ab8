package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

// drawText draws words for people, full of what YAML and CSV treat specially.
var drawText = rapid.Custom(func(t *rapid.T) string {
	runes := []rune(`abcXYZ 019Đđăâêôơưằệọỹ;|\,"':#-&*!%@[]{}<>=?~.` + "`_😀")
	s := string(rapid.SliceOfN(rapid.SampledFrom(runes), 1, 12).Draw(t, "runes"))
	for strings.Contains(s, "{{") { // refused: left of a template
		s = strings.ReplaceAll(s, "{{", "{")
	}
	s = strings.TrimSpace(norm.NFC.String(s))
	if s == "" {
		return rapid.SampledFrom([]string{"no", "null", "~", "1.0", "2025-07-01", "true", "0x1f", "-", "=1+1", "Hòa"}).Draw(t, "word")
	}
	return s
})

var drawID = rapid.StringMatching(`[a-z][a-z0-9]{0,4}`)

// drawInventory draws a valid inventory of up to 3 hubs and 5 edge sites.
func drawInventory(t *rapid.T) Inventory {
	tag := drawID.Draw(t, "tag")
	inv := Inventory{
		Org: OrgID(drawID.Draw(t, "org")),
		Pools: []Pool{
			{ID: "s4", Kind: PoolSite4, Prefix: netip.MustParsePrefix("10.64.0.0/10"), Bits: rapid.IntRange(18, 22).Draw(t, "bits")},
			{ID: "s6", Kind: PoolSite6, Prefix: netip.MustParsePrefix("fd12:3456:789a::/48"), Bits: 60},
			{ID: "l4", Kind: PoolLoopback4, Prefix: netip.MustParsePrefix("172.16.0.0/16"), Bits: 32},
			{ID: "t4", Kind: PoolTunnel4, Prefix: netip.MustParsePrefix("172.17.0.0/16"), Bits: 31},
		},
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "carriers") {
		inv.Carriers = append(inv.Carriers, Carrier{ID: CarrierID(fmt.Sprintf("k%d", i)), Name: drawText.Draw(t, "carrier")})
	}
	for i := range rapid.IntRange(1, 6).Draw(t, "units") {
		inv.Units = append(inv.Units, drawUnit(t, tag, i))
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "hubs") {
		s := drawSite(t, inv, fmt.Sprintf("hub-%s-%d", tag, i), Hub)
		inv.Sites = append(inv.Sites, s)
		inv.Devices = append(inv.Devices, Device{
			ID: DeviceID("d-" + s.ID), Serial: fmt.Sprintf("H.%d", i), Site: s.ID, Platform: LinuxEdge, Role: RoleHub,
			Intended: rapid.SampledFrom([]IntendedState{Planned, InService, Retired}).Draw(t, "intended"),
		})
		inv.Circuits = append(inv.Circuits, drawCircuit(t, inv, s, true, len(inv.Circuits)))
	}
	hubs := slices.Clone(inv.Sites)
	for i := range rapid.IntRange(0, 5).Draw(t, "sites") {
		s := drawSite(t, inv, fmt.Sprintf("s-%s-%d", tag, i), rapid.SampledFrom([]SiteKind{WardOffice, ServiceCentre, Branch}).Draw(t, "kind"))
		for _, h := range rapid.Permutation(hubs).Draw(t, "order")[:rapid.IntRange(1, len(hubs)).Draw(t, "n")] {
			s.Hubs = append(s.Hubs, h.ID)
		}
		inv.Sites = append(inv.Sites, s)
		for range rapid.IntRange(0, 3).Draw(t, "circuits") {
			inv.Circuits = append(inv.Circuits, drawCircuit(t, inv, s, false, len(inv.Circuits)))
		}
		inv.Devices = append(inv.Devices, Device{
			ID: DeviceID("d-" + s.ID), Serial: fmt.Sprintf("WN_%d", i), Site: s.ID, Platform: SimulatedEdge, Role: RoleEdge, Intended: InService,
		})
	}
	if rapid.Bool().Draw(t, "router") {
		r := Router{
			ID: DeviceID("r-" + tag), Serial: "R.1", Site: inv.Sites[0].ID, Platform: rapid.SampledFrom(RouterPlatforms).Draw(t, "platform"),
			Intended: InService, Management: rapid.SampledFrom([]string{"192.0.2.6:22", "[2001:db8::1]:830", "router.example:9339"}).Draw(t, "management"),
		}
		inv.Routers = append(inv.Routers, r)
		if up := inv.Sites[0].Uplinks; len(up) > 0 {
			up[0].Router = r.ID
		}
	}
	drawIntent(t, &inv)
	return inv
}

func drawUnit(t *rapid.T, tag string, i int) Unit {
	u := Unit{
		ID: UnitID(fmt.Sprintf("u-%s-%d", tag, i)), Kind: rapid.SampledFrom([]UnitKind{Ward, Commune, SpecialZone, Department}).Draw(t, "unit kind"),
		Lat: rapid.Float64Range(-90, 90).Draw(t, "lat"), Lon: rapid.Float64Range(1, 180).Draw(t, "lon"),
		Predecessors: rapid.SliceOfN(drawText, 0, 3).Draw(t, "predecessors"),
	}
	if rapid.Bool().Draw(t, "former") {
		u.District, u.FormerProvince = drawText.Draw(t, "district"), drawText.Draw(t, "province")
	}
	u.Codes = []UnitCode{{Code: fmt.Sprintf("%05d", i), Name: drawText.Draw(t, "name"), ValidFrom: "2025-07-01"}}
	if rapid.Bool().Draw(t, "renamed") {
		u.Codes[0].ValidTo = "2026-01-01"
		u.Codes = append(u.Codes, UnitCode{Code: fmt.Sprintf("%05d", 100+i), Name: drawText.Draw(t, "name"), ValidFrom: "2026-01-01"})
	}
	return u
}

func drawSite(t *rapid.T, inv Inventory, id string, kind SiteKind) Site {
	s := Site{
		ID: SiteID(id), Unit: rapid.SampledFrom(inv.Units).Draw(t, "unit").ID, Kind: kind, Name: drawText.Draw(t, "site name"),
		Lat: rapid.Float64Range(1, 90).Draw(t, "lat"), Lon: rapid.Float64Range(-180, 180).Draw(t, "lon"),
		People: rapid.IntRange(0, 500).Draw(t, "people"), Modelled: rapid.Bool().Draw(t, "modelled"),
	}
	if rapid.Bool().Draw(t, "legacy") {
		s.Legacy = netip.MustParsePrefix("192.168.1.0/24")
	}
	if kind != Hub && rapid.Bool().Draw(t, "bfd") {
		s.BFDIntervalMS = rapid.IntRange(100, 10_000).Draw(t, "bfd interval")
	}
	if kind == Hub && rapid.Bool().Draw(t, "uplinks") {
		s.Uplinks = []Uplink{
			{Name: "dc-b", Port: "up1", Address: netip.MustParsePrefix("192.0.2.5/30"), Peer: netip.MustParseAddr("192.0.2.6"), PeerASN: rapid.SampledFrom([]uint32{64512, 4294967294}).Draw(t, "asn")},
			{Name: "dc-a", Port: "up0.7", Address: netip.MustParsePrefix("2001:db8:1::2/64"), Peer: netip.MustParseAddr("2001:db8:1::"), PeerASN: 65001},
		}[:rapid.IntRange(1, 2).Draw(t, "n")]
	}
	kinds := rapid.Permutation(SegmentKinds).Draw(t, "segments")
	if kind != WardOffice {
		kinds = kinds[:rapid.IntRange(0, len(kinds)).Draw(t, "some")]
	}
	for _, k := range kinds {
		g := Segment{Kind: k}
		if rapid.Bool().Draw(t, "unused") {
			g.Unused = drawText.Draw(t, "reason")
		} else if rapid.Bool().Draw(t, "attached") {
			drawAttachment(t, &g)
		}
		s.Segments = append(s.Segments, g)
	}
	return s
}

// drawAttachment gives a segment a port and a way of assigning addresses.
func drawAttachment(t *rapid.T, g *Segment) {
	g.Port = "eth1." + string(g.Kind)
	switch rapid.IntRange(0, 2).Draw(t, "dhcp") {
	case 1:
		g.DHCP, g.Relay = DHCPRelay, netip.MustParseAddr("203.0.113.67")
	case 2:
		g.DHCP = DHCPServer
	}
}

// reserve draws reservations for the segments with a DHCP server, inside their
// blocks where addresses are allocated.
func reserve(t *rapid.T, inv *Inventory) {
	x := inv.Index()
	for i := range inv.Sites {
		s := &inv.Sites[i]
		site4, _ := x.Allocation(SiteOwner(s.ID), PoolSite4)
		for j := range s.Segments {
			g := &s.Segments[j]
			if g.DHCP != DHCPServer {
				continue
			}
			v4, _, err := SegmentPrefixes(site4, netip.Prefix{}, g.Kind)
			if err != nil {
				t.Fatal(err)
			}
			if !v4.IsValid() {
				v4 = netip.MustParsePrefix("203.0.113.0/24")
			}
			for k := range rapid.IntRange(0, 3).Draw(t, "reservations") {
				g.Reservations = append(g.Reservations, Reservation{
					MAC: fmt.Sprintf("02:00:00:00:00:%02x", 9-k), Address: advance(v4.Addr(), 32, uint64(100+k)),
					Name: rapid.SampledFrom([]string{"", fmt.Sprintf("printer-%d", k)}).Draw(t, "host"),
				})
			}
		}
	}
}

func drawCircuit(t *rapid.T, inv Inventory, s Site, hub bool, n int) Circuit {
	k := Circuit{
		ID: CircuitID(fmt.Sprintf("c-%d", n)), Site: s.ID, Kind: rapid.SampledFrom([]CircuitKind{FTTH, Metronet, LTE, FiveG}).Draw(t, "circuit kind"),
		Carrier: rapid.SampledFrom(inv.Carriers).Draw(t, "carrier").ID, Role: rapid.SampledFrom([]CircuitRole{Primary, Backup}).Draw(t, "role"),
		DownBPS: BitRate(rapid.Uint64Range(0, uint64(maxRate)).Draw(t, "down")), UpBPS: 50 * Mbps,
		Addressing: rapid.SampledFrom([]Addressing{Static, DHCP, PPPoE, CGNAT}).Draw(t, "addressing"),
		MTU:        rapid.IntRange(minMTU, maxMTU).Draw(t, "mtu"), Cost: rapid.IntRange(0, 9).Draw(t, "cost"),
	}
	if hub {
		k.Addressing = Static
	}
	if k.Addressing == Static {
		k.Address = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(4*n + 2)}), 30)
	}
	if rapid.Bool().Draw(t, "port") {
		k.Port = fmt.Sprintf("wan_%d", n)
	}
	if k.Addressing == Static && (k.Port != "" || rapid.Bool().Draw(t, "gateway")) {
		k.Gateway = k.Address.Addr().Prev()
	}
	k.Overlay = rapid.SampledFrom([]Overlay{"", OverlayWireGuard, OverlayIPsec}).Draw(t, "overlay")
	return k
}

func drawIntent(t *rapid.T, inv *Inventory) {
	for i := range rapid.IntRange(0, 3).Draw(t, "applications") {
		inv.Applications = append(inv.Applications, Application{
			ID: ApplicationID(fmt.Sprintf("app-%d", i)), Name: drawText.Draw(t, "app name"), Site: inv.Sites[0].ID,
			Prefixes:    []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32"), netip.MustParsePrefix("2001:db8::/64")},
			Ports:       []PortRange{{TCP, 443, 443}, {UDP, 1, 65535}, {ICMP, 0, 0}}[:rapid.IntRange(1, 3).Draw(t, "ports")],
			Sensitivity: High, FailMode: FailClosed,
			Class: ServiceClass{drawText.Draw(t, "class"), rapid.Float64Range(0, 1).Draw(t, "loss"), 100, 20},
		})
		inv.Permits = append(inv.Permits, Permit{
			ID: PermitID(fmt.Sprintf("p-%d", i)), From: rapid.Permutation(SegmentKinds).Draw(t, "from")[:2],
			ToApp: inv.Applications[i].ID, Reason: drawText.Draw(t, "why"),
		})
	}
	out := Permit{ID: "out", From: []SegmentKind{Public, Staff}, ToInternet: true, Reason: drawText.Draw(t, "why")}
	if rapid.Bool().Draw(t, "web only") {
		out.Ports = []PortRange{{TCP, 443, 443}, {UDP, 443, 443}}
	}
	inv.Permits = append(inv.Permits, out)
	inv.Permits = append(inv.Permits, Permit{ID: "to-seg", From: []SegmentKind{Voice}, ToSeg: Voice, Ports: []PortRange{{UDP, 16384, 32767}}, Reason: drawText.Draw(t, "why")})
}
