package controller

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
)

// linux gives every site of inv ports, as Linux boxes need them.
func linux(inv inventory.Inventory) inventory.Inventory {
	inv = inv.Normalize()
	n := map[inventory.SiteID]int{}
	for i := range inv.Circuits {
		c := &inv.Circuits[i]
		c.Port = fmt.Sprintf("wan%d", n[c.Site])
		n[c.Site]++
		if c.Addressing == inventory.Static {
			if c.Gateway = c.Address.Masked().Addr().Next(); c.Gateway == c.Address.Addr() {
				c.Gateway = c.Gateway.Next()
			}
		}
	}
	for i := range inv.Sites {
		for j := range inv.Sites[i].Segments {
			if s := &inv.Sites[i].Segments[j]; s.Unused == "" {
				s.Port = "lan." + string(s.Kind)
			}
		}
	}
	return inv
}

func siteOf(t testing.TB, inv *inventory.Inventory, id inventory.SiteID) *inventory.Site {
	t.Helper()
	for i := range inv.Sites {
		if inv.Sites[i].ID == id {
			return &inv.Sites[i]
		}
	}
	t.Fatalf("no site %s", id)
	return nil
}

func segmentOf(t testing.TB, s *inventory.Site, kind inventory.SegmentKind) *inventory.Segment {
	t.Helper()
	for i := range s.Segments {
		if s.Segments[i].Kind == kind {
			return &s.Segments[i]
		}
	}
	t.Fatalf("site %s has no %s", s.ID, kind)
	return nil
}

// What the inventory says of a box's ports is in its config.
func TestCompilePorts(t *testing.T) {
	inv := linux(town(3))
	ward := wardOf(t, inv)
	var site *inventory.Site
	for _, d := range inv.Devices {
		if d.ID == ward {
			site = siteOf(t, &inv, d.Site)
		}
	}
	staff := segmentOf(t, site, inventory.Staff)
	staff.DHCP = inventory.DHCPServer
	voice := segmentOf(t, site, inventory.Voice)
	voice.DHCP, voice.Relay = inventory.DHCPRelay, netip.MustParseAddr("10.64.10.67")
	site.Legacy = netip.MustParsePrefix("192.168.1.0/24")
	for i := range inv.Circuits {
		if c := &inv.Circuits[i]; c.Site == site.ID && c.Role == inventory.Primary {
			c.Overlay = inventory.OverlayIPsec
		}
	}
	inv.Permits = append(inv.Permits,
		inventory.Permit{ID: "p-out", From: []inventory.SegmentKind{inventory.Staff}, ToInternet: true, Reason: "web"},
		inventory.Permit{ID: "p-call", From: []inventory.SegmentKind{inventory.Voice}, ToSeg: inventory.Voice, Ports: []inventory.PortRange{{Proto: inventory.UDP, From: 5060, To: 5061}}, Reason: "calls"})
	inv = inv.Normalize()
	if err := inventory.Validate(inv); err != nil {
		t.Fatal(err)
	}
	cfg := mustCompile(t, 1, inv).Devices[ward].Config
	if cfg.Circuits[0].Port == "" || cfg.Circuits[0].Addressing == "" {
		t.Errorf("circuit %+v lost its port", cfg.Circuits[0])
	}
	s := cfg.Segments[slices.IndexFunc(cfg.Segments, func(s edge.Segment) bool { return s.Kind == inventory.Staff })]
	base := s.V4.Addr().As4()
	at := func(third, fourth byte) netip.Addr {
		return netip.AddrFrom4([4]byte{base[0], base[1], base[2] + third, fourth})
	}
	if s.DHCP.From != at(0, 128) || s.DHCP.To != at(0, 254) || s.DHCP.LeaseSeconds != 3600 {
		t.Errorf("leases %+v; want the upper half of the lower half of %s", s.DHCP, s.V4)
	}
	if want := []edge.Translation{{Segment: inventory.Staff, Inside: site.Legacy, Outside: netip.PrefixFrom(at(1, 0), 24)}}; !slices.Equal(cfg.Legacy, want) {
		t.Errorf("legacy %+v, want %+v", cfg.Legacy, want)
	}
	if len(s.DNS) != 4 || !slices.Equal(s.DNS, s.NTP) { // two servers of two families
		t.Errorf("staff asks %v and %v", s.DNS, s.NTP)
	}
	kinds := map[edge.TunnelKind]int{}
	for _, tn := range cfg.Tunnels {
		kinds[tn.Kind]++
		if tn.Kind == edge.IPsec && (tn.MTU > 1350 || tn.Endpoint.Port() != 4500) {
			t.Errorf("tunnel %+v", tn)
		}
	}
	if kinds[edge.IPsec] != 2 || kinds[edge.WireGuard] == 0 {
		t.Errorf("tunnels %v; want the primary circuit's in IPsec", kinds)
	}
	out := cfg.Rules[slices.IndexFunc(cfg.Rules, func(r edge.Rule) bool { return r.Permit == "p-out" })]
	if !out.Internet || len(out.Dst) != 0 || out.From != inventory.Staff {
		t.Errorf("rule %+v", out)
	}
	for _, r := range cfg.Rules {
		if r.Permit == "p-call" && r.Class != "thoại và hội nghị" {
			t.Errorf("calls are in class %q", r.Class)
		}
	}
	if len(cfg.Contract.DNS) != 4 || len(cfg.Contract.Services) > 2 {
		t.Errorf("contract %+v", cfg.Contract)
	}
}

// A hub with uplinks learns what is behind them, one without originates it.
func TestCompileUplinks(t *testing.T) {
	inv := linux(town(2))
	beyond := netip.MustParsePrefix("203.0.113.64/28")
	app := inv.Applications[0]
	app.ID, app.Site, app.Prefixes = "portal", "", []netip.Prefix{beyond}
	inv.Applications = append(inv.Applications, app)
	inv.Permits = append(inv.Permits, inventory.Permit{ID: "p-portal", From: []inventory.SegmentKind{inventory.Staff}, ToApp: "portal", Reason: "portal"})
	siteOf(t, &inv, "hub-1").Uplinks = []inventory.Uplink{{Name: "dc", Port: "up0", Address: netip.MustParsePrefix("198.18.0.2/30"), Peer: netip.MustParseAddr("198.18.0.1"), PeerASN: 65010}}
	inv = inv.Normalize()
	if err := inventory.Validate(inv); err != nil {
		t.Fatal(err)
	}
	for _, w := range mustCompile(t, 1, inv).Devices {
		cfg := w.Config
		if cfg.Role != inventory.RoleHub {
			continue
		}
		originates, learns := slices.Contains(cfg.BGP.Networks, beyond), len(cfg.Uplinks) == 1
		if learns != (cfg.Site == "hub-1") || originates == learns {
			t.Errorf("%s originates %t, learns %t", cfg.Device, originates, learns)
		}
		if learns && !slices.Equal(cfg.Uplinks[0].Accept, []netip.Prefix{beyond}) {
			t.Errorf("accepts %v", cfg.Uplinks[0].Accept)
		}
	}
	up := &siteOf(t, &inv, "hub-1").Uplinks[0]
	for _, a := range inv.Allocations {
		if a.Owner == inventory.DeviceOwner(hubOf(t, inv)) {
			up.PeerASN = asn(a.Prefix.Addr())
		}
	}
	if _, err := CompileAll(revisionOf(1, inv)); !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), "give the router another one") {
		t.Errorf("CompileAll() = %v, want the AS number refused", err)
	}
}

func TestCompileSiteFaults(t *testing.T) {
	base := linux(town(2))
	var id inventory.SiteID
	for _, d := range base.Devices {
		if d.ID == wardOf(t, base) {
			id = d.Site
		}
	}
	for name, tt := range map[string]struct {
		spoil func(*inventory.Site)
		want  string
	}{
		"legacy too wide": {func(s *inventory.Site) { s.Legacy = netip.MustParsePrefix("192.168.0.0/16") }, "does not fit into its staff segment"},
		"legacy IPv6":     {func(s *inventory.Site) { s.Legacy = netip.MustParsePrefix("2001:db8::/64") }, "only IPv4 prefixes are translated"},
		"legacy, no staff": {func(s *inventory.Site) {
			s.Legacy = netip.MustParsePrefix("192.168.1.0/24")
			*segmentOf(t, s, inventory.Staff) = inventory.Segment{Kind: inventory.Staff, Unused: "none"}
		}, "needs a staff segment"},
		"nothing to lease": {func(s *inventory.Site) {
			s.Legacy = netip.MustParsePrefix("192.168.0.0/23")
			segmentOf(t, s, inventory.Staff).DHCP = inventory.DHCPServer
		}, "leaves no address to lease"},
		"reserved elsewhere": {func(s *inventory.Site) {
			g := segmentOf(t, s, inventory.Staff)
			g.DHCP, g.Reservations = inventory.DHCPServer, []inventory.Reservation{{MAC: "02:00:00:00:00:01", Address: netip.MustParseAddr("192.0.2.1")}}
		}, "is reserved for 02:00:00:00:00:01"},
	} {
		t.Run(name, func(t *testing.T) {
			inv := base.Normalize()
			tt.spoil(siteOf(t, &inv, id))
			if _, err := CompileAll(revisionOf(1, inv)); !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("CompileAll() = %v, want %q", err, tt.want)
			}
		})
	}
}

// Guaranteed shares leave room, and the strictest class is first.
func TestClasses(t *testing.T) {
	ix, err := newIndex(new(sample.City()))
	if err != nil {
		t.Fatal(err)
	}
	sum, last := 0.0, 0
	for _, c := range ix.classes {
		if sum += c.Share; c.LatencyMS < last || c.Share <= 0 {
			t.Errorf("class %+v", c)
		}
		last = c.LatencyMS
	}
	if sum > 0.9+1e-9 || len(ix.classes) != 4 {
		t.Errorf("%d classes with %v of the rate", len(ix.classes), sum)
	}
}

// Every box of the whole city can be rendered.
func TestCityRenders(t *testing.T) {
	c := mustCompile(t, 1, linux(sample.City()))
	var slowest time.Duration
	start := time.Now()
	for id, w := range c.Devices {
		one := time.Now()
		box, err := render.New(render.Input{Config: w.Config})
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		slowest = max(slowest, time.Since(one))
		if !strings.Contains(box.NFT, "policy drop") || box.FRR == "" || len(box.WireGuard) == 0 {
			t.Errorf("%s: %+v", id, box)
		}
	}
	t.Logf("%d boxes in %s, the slowest in %s", len(c.Devices), time.Since(start).Round(time.Millisecond), slowest.Round(time.Millisecond))
}

// Both ends of a site's tunnels keep the site's own BFD interval.
func TestCompileBFD(t *testing.T) {
	inv := linux(town(2))
	ward := wardOf(t, inv)
	slow := map[string]bool{}
	for _, d := range inv.Devices {
		if d.ID == ward {
			siteOf(t, &inv, d.Site).BFDIntervalMS = 2000
		}
	}
	devices := mustCompile(t, 1, inv).Devices
	for _, n := range devices[ward].Config.BGP.Neighbours {
		slow[n.Tunnel] = true
	}
	if len(slow) == 0 {
		t.Fatal("the ward has no tunnels")
	}
	for id, d := range devices {
		for _, n := range d.Config.BGP.Neighbours {
			want := 300
			if slow[n.Tunnel] {
				want = 2000
			}
			if n.BFDMinMS != want || n.BFDMult != 3 {
				t.Errorf("%s, tunnel %s: BFD %d ms × %d, want %d × 3", id, n.Tunnel, n.BFDMinMS, n.BFDMult, want)
			}
		}
	}
}
