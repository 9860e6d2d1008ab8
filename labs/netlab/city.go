package netlab

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Shape says how large a lab is and of what kind. The zero value of a field is
// its default.
type Shape struct {
	Hubs  int `json:"hubs"`  // 1 or 2; default 2
	Wards int `json:"wards"` // real wards of the sample, spread over kinds; default 4
	// Sites are further sites of the sample.
	Sites []inventory.SiteID `json:"sites,omitempty"`
	// Replaced are boxes put in the place of others since, oldest first.
	Replaced []Replaced `json:"replaced,omitempty"`
	// Overlay is the technology of all tunnels; empty: WireGuard.
	Overlay inventory.Overlay `json:"overlay,omitempty"`
	// BFD is how often the ends of a tunnel say that they are there; zero: the
	// inventory's default. Whole milliseconds.
	BFD time.Duration `json:"bfd,omitempty"`
	// Circuits is how many circuits each ward keeps of those it has in the
	// sample, its preferred ones; zero: all.
	Circuits int `json:"circuits,omitempty"`
	// Prefix begins the name of every namespace; default "wn".
	Prefix string `json:"prefix"`
}

func (s Shape) withDefaults() Shape {
	s.Hubs, s.Wards, s.Prefix = cmp.Or(s.Hubs, 2), cmp.Or(s.Wards, 4), cmp.Or(s.Prefix, "wn")
	return s
}

// Data centre and transit of the lab. The transit range and the servers lie
// outside the sample's pools.
var (
	dcServers4 = netip.MustParsePrefix("10.63.0.0/24")
	dcServers6 = netip.MustParsePrefix("fd5a:7e3c:91b3::/64")
	dcTransit  = netip.MustParsePrefix("172.23.0.0/24") // a /30 per hub
	// legacyNet is what the staff of the first two wards were numbered from
	// long ago, both alike.
	legacyNet = netip.MustParsePrefix("192.168.1.0/24")
)

const (
	dcASN        = 64900 // RFC 6996
	dcPort       = "dc"
	firstServer  = 10                                   // host number of the first application
	ethernetMTU  = 1500                                 // bytes
	internetID   = inventory.PermitID("p-internet")     // the lab's own permit
	dhcpSegment  = inventory.Public                     // whose hosts ask for their address
	internetFrom = inventory.Public                     // who gets out locally
	reservedName = "may-tram"                           // host name of the reservation
	internetWhy  = "Công dân ra Internet tại chỗ"       // the permit's reason
	maxServers   = 240                                  // applications in dcServers4
	legacyWards  = 2                                    // share legacyNet
	maxHubs      = 2                                    // of the sample
	portsPerSite = 4                                    // circuits of one site that have an address in the lab
	maxWards     = 168                                  // of the sample
	errNoSite    = "%w: the sample has no edge site %q" // a site asked for by name
)

// City makes the inventory of a lab out of the sample, and its topology. It
// keeps the wards' names, segments, circuits and addresses, and sets what a
// Linux box on a lab's cable needs:
//
//   - platform linux-edge, a port for every circuit and segment, gateways;
//   - circuits that the sample dials by PPPoE ask by DHCP and have 1500 bytes,
//     for the lab's carriers have no access concentrator;
//   - the applications move to the data centre behind all hubs, so that they
//     survive a hub; the hubs get an uplink each to its router;
//   - two wards keep the same old prefix for their staff behind 1:1
//     translation;
//   - hosts of the public segment ask for their address, which is reserved,
//     and may leave for the internet by the site's own circuits.
//
// Wards come in a fixed order, so that a lab with more wards holds the smaller
// one. The result is valid and fully allocated.
func City(sample inventory.Inventory, shape Shape) (inventory.Inventory, Topology, error) {
	shape = shape.withDefaults()
	if err := shape.Validate(); err != nil {
		return inventory.Inventory{}, Topology{}, err
	}
	inv := sample.Normalize()
	keep, err := chosen(inv, shape)
	if err != nil {
		return inventory.Inventory{}, Topology{}, err
	}
	inv = trim(thin(inv, shape.Circuits), keep)
	if inv, err = inventory.Allocate(inv); err != nil {
		return inventory.Inventory{}, Topology{}, fmt.Errorf("allocate the lab's addresses: %w", err)
	}
	if err := equip(&inv, shape); err != nil {
		return inventory.Inventory{}, Topology{}, err
	}
	for i := range inv.Sites {
		if inv.Sites[i].Kind != inventory.Hub {
			inv.Sites[i].BFDIntervalMS = int(shape.BFD.Milliseconds())
		}
		if slices.Contains(spread(sample)[:legacyWards], inv.Sites[i].ID) {
			inv.Sites[i].Legacy = legacyNet
		}
	}
	if err := inventory.Validate(inv); err != nil {
		return inventory.Inventory{}, Topology{}, fmt.Errorf("the lab's inventory: %w", err)
	}
	if inv, err = swap(inv, shape.Replaced); err != nil {
		return inventory.Inventory{}, Topology{}, err
	}
	top, err := Build(inv, shape.Prefix)
	return inv, top, err
}

// Validate reports every fault at once; they wrap [inventory.ErrInvalid].
func (s Shape) Validate() error {
	s = s.withDefaults()
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{inventory.ErrInvalid}, args...)...))
	}
	if s.Hubs < 1 || s.Hubs > maxHubs {
		bad("%d hubs; the sample has %d", s.Hubs, maxHubs)
	}
	if s.Wards < 1 || s.Wards > maxWards {
		bad("%d wards; the sample has %d", s.Wards, maxWards)
	}
	if s.Overlay != "" && s.Overlay != inventory.OverlayWireGuard && s.Overlay != inventory.OverlayIPsec {
		bad("overlay %q is not %s or %s", s.Overlay, inventory.OverlayWireGuard, inventory.OverlayIPsec)
	}
	if s.BFD != 0 && (s.BFD < 100*time.Millisecond || s.BFD > 10*time.Second || s.BFD%time.Millisecond != 0) {
		bad("BFD interval %s is not in 100ms to 10s", s.BFD)
	}
	if s.Circuits < 0 {
		bad("%d circuits", s.Circuits)
	}
	if len(s.Prefix) > 8 || strings.ContainsFunc(s.Prefix, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) {
		bad("prefix %q: want up to 8 of a-z and 0-9", s.Prefix)
	}
	return errors.Join(errs...)
}

// chosen lists the sites of the lab.
func chosen(inv inventory.Inventory, shape Shape) (map[inventory.SiteID]bool, error) {
	keep := map[inventory.SiteID]bool{}
	hubs := inv.Index().HubSites()
	if len(hubs) < shape.Hubs {
		return nil, fmt.Errorf("%w: %d hubs wanted, the inventory has %d", inventory.ErrInvalid, shape.Hubs, len(hubs))
	}
	for _, h := range hubs[:shape.Hubs] {
		keep[h.ID] = true
	}
	wards := spread(inv)
	if len(wards) < max(shape.Wards, legacyWards) {
		return nil, fmt.Errorf("%w: %d wards wanted, the inventory has %d", inventory.ErrInvalid, shape.Wards, len(wards))
	}
	for _, id := range wards[:shape.Wards] {
		keep[id] = true
	}
	for _, id := range shape.Sites {
		i := slices.IndexFunc(inv.Sites, func(s inventory.Site) bool { return s.ID == id && s.Kind != inventory.Hub })
		if i < 0 {
			return nil, fmt.Errorf(errNoSite, inventory.ErrInvalid, id)
		}
		keep[id] = true
	}
	return keep, nil
}

// kinds are the ways a ward is attached, in the order a lab takes them: first
// what differs most. The kinds of its circuits in order, and "one" where they
// are all one carrier's.
var kinds = []string{
	"ftth metronet ftth", "ftth lte one", "ftth metronet lte", "ftth one", "ftth ftth one", "ftth metronet", "ftth ftth lte",
}

// spread orders all ward offices so that every first few differ in kind.
func spread(inv inventory.Inventory) []inventory.SiteID {
	x := inv.Index()
	groups := map[string][]inventory.SiteID{}
	order := slices.Clone(kinds)
	for _, s := range inv.Sites {
		if s.Kind != inventory.WardOffice {
			continue
		}
		k := attachment(x.SiteCircuits(s.ID))
		if !slices.Contains(order, k) {
			order = append(order, k)
		}
		groups[k] = append(groups[k], s.ID)
	}
	var out []inventory.SiteID
	for more := true; more; {
		more = false
		for _, k := range order {
			if g := groups[k]; len(g) > 0 {
				out, groups[k], more = append(out, g[0]), g[1:], true
			}
		}
	}
	return out
}

func attachment(circuits []inventory.Circuit) string {
	var words []string
	one := true
	for _, c := range circuits {
		words = append(words, string(c.Kind))
		one = one && c.Carrier == circuits[0].Carrier
	}
	if one {
		words = append(words, "one")
	}
	return strings.Join(words, " ")
}

// thin keeps the first circuits of every site but the hubs; 0: all.
func thin(inv inventory.Inventory, circuits int) inventory.Inventory {
	if circuits == 0 {
		return inv
	}
	keep := map[inventory.CircuitID]bool{}
	x := inv.Index()
	for _, s := range inv.Sites {
		all := x.SiteCircuits(s.ID)
		if s.Kind != inventory.Hub {
			all = all[:min(circuits, len(all))]
		}
		for _, c := range all {
			keep[c.ID] = true
		}
	}
	inv.Circuits = kept(inv.Circuits, func(c inventory.Circuit) bool { return keep[c.ID] })
	return inv
}

// trim keeps the sites, their units, devices, circuits and addresses, and all
// carriers.
func trim(inv inventory.Inventory, keep map[inventory.SiteID]bool) inventory.Inventory {
	units, owners := map[inventory.UnitID]bool{}, map[string]bool{}
	inv.Sites = kept(inv.Sites, func(s inventory.Site) bool { return keep[s.ID] })
	inv.Devices = kept(inv.Devices, func(d inventory.Device) bool { return keep[d.Site] })
	inv.Circuits = kept(inv.Circuits, func(c inventory.Circuit) bool { return keep[c.Site] })
	for i := range inv.Sites {
		s := &inv.Sites[i]
		units[s.Unit], owners[inventory.SiteOwner(s.ID)] = true, true
		s.Hubs = kept(s.Hubs, func(h inventory.SiteID) bool { return keep[h] })
	}
	for _, d := range inv.Devices {
		owners[inventory.DeviceOwner(d.ID)] = true
		for _, c := range inv.Circuits {
			owners[inventory.TunnelOwner(c.ID, d.ID)] = true
		}
	}
	inv.Units = kept(inv.Units, func(u inventory.Unit) bool { return units[u.ID] })
	inv.Allocations = kept(inv.Allocations, func(a inventory.Allocation) bool { return owners[a.Owner] })
	return inv
}

// equip sets what boxes in a lab need; inv is allocated.
func equip(inv *inventory.Inventory, shape Shape) error {
	for i := range inv.Devices {
		inv.Devices[i].Platform = inventory.LinuxEdge
	}
	x := inv.Index()
	hub := 0
	for i := range inv.Sites {
		s := &inv.Sites[i]
		blocks, err := x.SegmentBlocks(s.ID)
		if err != nil {
			return fmt.Errorf("segments of %s: %w", s.ID, err)
		}
		s.Segments = slices.Clone(s.Segments)
		for j := range s.Segments {
			g := &s.Segments[j]
			if b, ok := find(blocks, func(b inventory.SegmentBlock) bool { return b.Kind == g.Kind }); ok && g.Unused == "" {
				attach(g, s.ID, b)
			}
		}
		if s.Kind == inventory.Hub {
			p := nth(netip.PrefixFrom(nth(dcTransit, 4*hub).Addr(), 30), 1)
			s.Uplinks = []inventory.Uplink{{Name: dcPort, Port: dcPort, Address: p, Peer: p.Addr().Next(), PeerASN: dcASN}}
			hub++
		}
	}
	cables(inv, shape)
	return relocate(inv)
}

// attach gives a segment its port and, in one segment, DHCP.
func attach(g *inventory.Segment, site inventory.SiteID, b inventory.SegmentBlock) {
	g.Port = string(g.Kind)
	if g.Kind != dhcpSegment {
		return
	}
	v4, _ := HostAddresses(b.V4, b.V6)
	g.DHCP = inventory.DHCPServer
	g.Reservations = []inventory.Reservation{{MAC: HostMAC(site, g.Kind), Address: v4.Addr(), Name: reservedName}}
}

// cables names the ports of the circuits and says how each gets its address.
func cables(inv *inventory.Inventory, shape Shape) {
	n := map[inventory.SiteID]int{}
	hub := map[inventory.SiteID]bool{}
	for _, s := range inv.Sites {
		hub[s.ID] = s.Kind == inventory.Hub
	}
	for i := range inv.Circuits {
		c := &inv.Circuits[i]
		c.Port = fmt.Sprintf("wan%d", n[c.Site])
		n[c.Site]++
		switch c.Addressing {
		case inventory.PPPoE:
			c.Addressing, c.MTU = inventory.DHCP, ethernetMTU
		case inventory.Static:
			c.Gateway = nth(c.Address, 1).Addr()
		}
		if !hub[c.Site] {
			c.Overlay = shape.Overlay
		}
	}
}

// relocate puts every application into the data centre and lets one segment
// out to the internet.
func relocate(inv *inventory.Inventory) error {
	if len(inv.Applications) > maxServers {
		return fmt.Errorf("%w: %d applications; the lab's data centre holds %d", inventory.ErrInvalid, len(inv.Applications), maxServers)
	}
	for i := range inv.Applications {
		a := &inv.Applications[i]
		v4, v6 := nth(dcServers4, firstServer+i).Addr(), nth(dcServers6, firstServer+i).Addr()
		a.Site, a.Prefixes = "", []netip.Prefix{netip.PrefixFrom(v4, 32), netip.PrefixFrom(v6, 128)}
	}
	if !slices.ContainsFunc(inv.Permits, func(p inventory.Permit) bool { return p.ToInternet }) {
		inv.Permits = append(inv.Permits, inventory.Permit{
			ID: internetID, From: []inventory.SegmentKind{internetFrom}, ToInternet: true, Reason: internetWhy,
		})
	}
	*inv = inv.Normalize()
	return nil
}
