package inventory_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
)

// linuxCity is the sample with a branch and a hub as Linux boxes need them.
func linuxCity(t *testing.T) inventory.Inventory {
	t.Helper()
	city := sample.City()
	hub := siteAt(&city, "hub-1")
	hub.Uplinks = []inventory.Uplink{{Name: "dc", Port: "up0", Address: pfx("198.18.0.2/30"), Peer: netip.MustParseAddr("198.18.0.1"), PeerASN: 65010}}
	c := circuitAt(&city, "c-hub-1-1")
	c.Port, c.Gateway = "wan0", c.Address.Masked().Addr().Next()
	b := siteAt(&city, "b-01")
	for i := range b.Segments {
		switch g := &b.Segments[i]; g.Kind {
		case inventory.Staff:
			g.Port, g.DHCP = "eth2", inventory.DHCPServer
			g.Reservations = []inventory.Reservation{{MAC: "02:00:00:00:00:01", Address: staffOf(t, city, "b-01").Addr().Next().Next(), Name: "printer"}}
		case inventory.Mgmt:
			g.Port, g.DHCP, g.Relay = "eth3", inventory.DHCPRelay, netip.MustParseAddr("10.64.10.67")
		}
	}
	city.Permits = append(city.Permits, inventory.Permit{ID: "p-out", From: []inventory.SegmentKind{inventory.Staff}, ToInternet: true, Reason: "web"})
	if err := inventory.Validate(city); err != nil {
		t.Fatal(err)
	}
	return city
}

func staffOf(t *testing.T, inv inventory.Inventory, id inventory.SiteID) netip.Prefix {
	t.Helper()
	blocks, err := inv.Index().SegmentBlocks(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if b.Kind == inventory.Staff {
			return b.V4
		}
	}
	t.Fatalf("site %s has no staff segment", id)
	return netip.Prefix{}
}

func segmentAt(inv *inventory.Inventory, id inventory.SiteID, kind inventory.SegmentKind) *inventory.Segment {
	s := siteAt(inv, id)
	for i := range s.Segments {
		if s.Segments[i].Kind == kind {
			return &s.Segments[i]
		}
	}
	return nil
}

// One slip in how a box is attached gives one fault, at its field.
func TestValidateAttachments(t *testing.T) {
	type inv = inventory.Inventory
	staff := func(i *inv) *inventory.Segment { return segmentAt(i, "b-01", inventory.Staff) }
	mgmt := func(i *inv) *inventory.Segment { return segmentAt(i, "b-01", inventory.Mgmt) }
	up := func(i *inv) *inventory.Uplink { return &siteAt(i, "hub-1").Uplinks[0] }
	addr := netip.MustParseAddr
	for name, tt := range map[string]struct {
		slip        func(*inv)
		field, want string
	}{
		"port too long":         {func(i *inv) { staff(i).Port = "enp0s31f6.longvlan" }, ".port", "not the name of a network interface"},
		"port with slash":       {func(i *inv) { staff(i).Port = "../eth0" }, ".port", "not the name of a network interface"},
		"port is loopback":      {func(i *inv) { staff(i).Port = "lo" }, ".port", "of the edge's own"},
		"port is a tunnel":      {func(i *inv) { staff(i).Port = "wn51820" }, ".port", "of the edge's own"},
		"port twice":            {func(i *inv) { mgmt(i).Port = "eth2" }, ".port", `is segment "staff" already`},
		"port of circuit twice": {func(i *inv) { up(i).Port = "wan0" }, "circuits[", `port wan0 of site "hub-1" is uplink "dc" already`},
		"gateway of DHCP":       {func(i *inv) { circuitAt(i, "c-26740-1").Gateway = addr("192.0.2.1") }, ".gateway", "learns its gateway"},
		"gateway missing":       {func(i *inv) { circuitAt(i, "c-hub-1-1").Gateway = netip.Addr{} }, ".gateway", "needs its gateway"},
		"gateway elsewhere":     {func(i *inv) { circuitAt(i, "c-hub-1-1").Gateway = addr("192.0.2.99") }, ".gateway", "is not on the subnet"},
		"gateway is self":       {func(i *inv) { c := circuitAt(i, "c-hub-1-1"); c.Gateway = c.Address.Addr() }, ".gateway", "address of this end"},
		"gateway with zone":     {func(i *inv) { circuitAt(i, "c-hub-1-1").Gateway = addr("fe80::1%eth0") }, ".gateway", "has a zone"},
		"overlay unknown":       {func(i *inv) { circuitAt(i, "c-26740-1").Overlay = "gre" }, ".overlay", "want wireguard, ipsec"},
		"unused with port": {func(i *inv) {
			s := staff(i)
			*s = inventory.Segment{Kind: s.Kind, Unused: "vacant", Port: "eth9"}
		}, "]", "is unused; it has no port"},
		"dhcp unknown":         {func(i *inv) { staff(i).DHCP, staff(i).Reservations = "bootp", nil }, ".dhcp", "want server, relay"},
		"relay to nobody":      {func(i *inv) { mgmt(i).Relay = netip.Addr{} }, ".dhcp_relay", "names the DHCP server"},
		"relay without relay":  {func(i *inv) { mgmt(i).DHCP = "" }, ".dhcp_relay", "only dhcp: relay"},
		"relay to IPv6":        {func(i *inv) { mgmt(i).Relay = addr("2001:db8::1") }, ".dhcp_relay", "not an IPv4 address"},
		"reserved, no server":  {func(i *inv) { staff(i).DHCP = "" }, ".reservations", "only dhcp: server"},
		"MAC in capitals":      {func(i *inv) { staff(i).Reservations[0].MAC = "02:00:00:00:00:AB" }, "[0].mac", "lower-case hex"},
		"MAC of a group":       {func(i *inv) { staff(i).Reservations[0].MAC = "0b:00:00:00:00:01" }, "[0].mac", "not the address of one interface"},
		"MAC twice":            {func(i *inv) { again(staff(i), "03") }, "[1].mac", "entry 1 has 02:00:00:00:00:01 too"},
		"reserved outside":     {func(i *inv) { staff(i).Reservations[0].Address = addr("192.0.2.9") }, "[0].address", "is not in the segment's block"},
		"gateway reserved":     {func(i *inv) { r := &staff(i).Reservations[0]; r.Address = r.Address.Prev() }, "[0].address", "gateway address"},
		"reserved IPv6":        {func(i *inv) { staff(i).Reservations[0].Address = addr("2001:db8::1") }, "[0].address", "not an IPv4 address"},
		"host name":            {func(i *inv) { staff(i).Reservations[0].Name = "a b" }, "[0].name", "not a host name"},
		"uplink of a branch":   {func(i *inv) { siteAt(i, "b-01").Uplinks = siteAt(i, "hub-1").Uplinks }, ".uplinks", "only a hub has uplinks"},
		"uplink without port":  {func(i *inv) { up(i).Port = "" }, "[0].port", "not the name of a network interface"},
		"uplink of public ASN": {func(i *inv) { up(i).PeerASN = 7552 }, "[0].peer_asn", "not a private AS number"},
		"uplink to elsewhere":  {func(i *inv) { up(i).Peer = addr("198.18.0.9") }, "[0].peer", "is not on the subnet"},
		"uplink to nobody":     {func(i *inv) { up(i).Peer = netip.Addr{} }, "[0].peer", "is missing"},
		"uplink, no length":    {func(i *inv) { up(i).Address = netip.Prefix{} }, "[0].address", "is missing"},
		"uplink in a pool":     {func(i *inv) { up(i).Address, up(i).Peer = pfx("10.70.0.1/30"), addr("10.70.0.2") }, "[0].address", "overlapping prefix: uplink"},
		"permit to all":        {func(i *inv) { i.Permits[0].ToInternet = true }, "permits[0].to_app", "one of to_app, to_segment and to_internet"},
	} {
		t.Run(name, func(t *testing.T) {
			city := linuxCity(t)
			tt.slip(&city)
			faults, ok := errors.AsType[inventory.Faults](inventory.Validate(city))
			if !ok || len(faults) != 1 {
				t.Fatalf("got %v, want one fault", faults)
			}
			if f := faults[0]; !strings.Contains(f.Field, tt.field) || !strings.Contains(f.Text, tt.want) {
				t.Errorf("got %s, want %s: %s", f, tt.field, tt.want)
			}
		})
	}
}

// again adds a reservation that repeats the MAC of the first.
func again(g *inventory.Segment, name string) {
	r := g.Reservations[0]
	r.Address, r.Name = r.Address.Next(), name
	g.Reservations = append(g.Reservations, r)
}

// The faults of an attachment come with file and line, all at once.
func TestAttachmentFaultsHaveLines(t *testing.T) {
	var doc strings.Builder
	if err := inventory.Encode(&doc, linuxCity(t)); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("port: wan0", "port: wan/0", "02:00:00:00:00:01", "2", "peer_asn: 65010", "peer_asn: x").Replace(doc.String())
	_, err := inventory.Decode("city.yaml", strings.NewReader(text))
	faults, ok := errors.AsType[inventory.Faults](err)
	if !ok || len(faults) != 3 {
		t.Fatalf("got %v, want three faults", err)
	}
	for _, f := range faults {
		if f.File != "city.yaml" || f.Line < 10 || f.Field == "" {
			t.Errorf("fault without its place: %+v", f)
		}
	}
}
