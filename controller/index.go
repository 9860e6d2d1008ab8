package controller

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// index is an inventory made ready for compiling: every look-up a device's
// config needs is one map access, so that all devices cost what one pass over
// the inventory costs. It is read-only once made.
type index struct {
	inv      *inventory.Inventory
	sites    map[inventory.SiteID]*inventory.Site
	devices  map[inventory.DeviceID]*inventory.Device
	edgeAt   map[inventory.SiteID]*inventory.Device // the device in service at a site
	circuits map[inventory.SiteID][]*inventory.Circuit
	blocks   map[inventory.SiteID][2]netip.Prefix // IPv4, IPv6
	loopback map[inventory.DeviceID]netip.Addr
	tunnels  map[string]netip.Prefix // by allocation owner
	apps     map[inventory.ApplicationID]*inventory.Application
	siteApps map[inventory.SiteID][]netip.Prefix // application prefixes outside the site's own blocks; "" is every hub
	members  map[inventory.DeviceID][]link       // by hub: the edge circuits that end there
	overlay  []netip.Prefix                      // everything that may be reached through a tunnel
	sitePool []netip.Prefix                      // the site pools alone
	zones    map[inventory.SegmentKind][]netip.Prefix
	sources  map[inventory.PermitID][]netip.Prefix // of all sites, for the hubs, which share them: of thousands of sites each list is long
	beyond   []netip.Prefix                        // applications without a site and outside the pools: behind the uplinks
	classes  []edge.Class
	dns, ntp map[inventory.SegmentKind][]netip.Addr // servers that a segment may ask
	critical []netip.AddrPort                       // services that tell whether a site can work
}

// link is one tunnel before it has ends: an edge circuit and a hub.
type link struct {
	site    *inventory.Site
	edge    *inventory.Device
	hub     *inventory.Device
	circuit *inventory.Circuit
	order   int // of the circuit at its site; also selects the UDP port
	rank    int // of the hub at the site
}

// owner is the owner string of the link's address allocation.
func (l link) owner() string { return inventory.TunnelOwner(l.circuit.ID, l.hub.ID) }

// name is the tunnel's name, the same at both ends.
func (l link) name() string { return string(l.circuit.ID) + "--" + string(l.hub.ID) }

// preference is higher for the better path: hub order first, then the
// circuit's. Both ends use the same figure, so that traffic is symmetric.
func (l link) preference() int { return 1000 - 100*min(l.rank, 8) - min(l.order, 99) }

func newIndex(inv *inventory.Inventory) (*index, error) {
	ix := &index{
		inv:      inv,
		sites:    make(map[inventory.SiteID]*inventory.Site, len(inv.Sites)),
		devices:  make(map[inventory.DeviceID]*inventory.Device, len(inv.Devices)),
		edgeAt:   make(map[inventory.SiteID]*inventory.Device, len(inv.Sites)),
		circuits: make(map[inventory.SiteID][]*inventory.Circuit, len(inv.Sites)),
		blocks:   make(map[inventory.SiteID][2]netip.Prefix, len(inv.Sites)),
		loopback: make(map[inventory.DeviceID]netip.Addr, len(inv.Devices)),
		tunnels:  make(map[string]netip.Prefix, len(inv.Allocations)),
		apps:     make(map[inventory.ApplicationID]*inventory.Application, len(inv.Applications)),
		siteApps: map[inventory.SiteID][]netip.Prefix{},
		members:  map[inventory.DeviceID][]link{},
		zones:    map[inventory.SegmentKind][]netip.Prefix{},
		dns:      map[inventory.SegmentKind][]netip.Addr{},
		ntp:      map[inventory.SegmentKind][]netip.Addr{},
	}
	var errs []error
	for i := range inv.Sites {
		ix.sites[inv.Sites[i].ID] = &inv.Sites[i]
	}
	errs = append(errs, ix.placeDevices()...)
	for i := range inv.Circuits {
		c := &inv.Circuits[i]
		ix.circuits[c.Site] = append(ix.circuits[c.Site], c)
	}
	for _, cs := range ix.circuits {
		slices.SortFunc(cs, compareCircuits)
	}
	errs = append(errs, ix.placeAddresses()...)
	ix.placeApplications()
	ix.placeServers()
	errs = append(errs, ix.placeClasses()...)
	errs = append(errs, ix.placeLinks()...)
	errs = append(errs, ix.placeZones()...)
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return ix, nil
}

// compareCircuits puts the primary first, then the cheaper.
func compareCircuits(a, b *inventory.Circuit) int {
	role := func(c *inventory.Circuit) int {
		if c.Role == inventory.Primary {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(role(a), role(b)), cmp.Compare(a.Cost, b.Cost), cmp.Compare(a.ID, b.ID))
}

func (ix *index) placeDevices() []error {
	var errs []error
	for i := range ix.inv.Devices {
		d := &ix.inv.Devices[i]
		ix.devices[d.ID] = d
		if d.Intended != inventory.InService {
			continue
		}
		if ix.sites[d.Site] == nil {
			errs = append(errs, fmt.Errorf("%w: device %s: site %q is not in the inventory", inventory.ErrInvalid, d.ID, d.Site))
			continue
		}
		if other := ix.edgeAt[d.Site]; other != nil {
			errs = append(errs, fmt.Errorf("%w: site %s has two devices in service, %s and %s; set one to planned or retired", inventory.ErrInvalid, d.Site, other.ID, d.ID))
			continue
		}
		ix.edgeAt[d.Site] = d
	}
	return errs
}

func (ix *index) placeAddresses() []error {
	kinds := make(map[inventory.PoolID]inventory.PoolKind, len(ix.inv.Pools))
	for _, p := range ix.inv.Pools {
		kinds[p.ID] = p.Kind
		ix.overlay = append(ix.overlay, p.Prefix.Masked())
		if p.Kind == inventory.PoolSite4 || p.Kind == inventory.PoolSite6 {
			ix.sitePool = append(ix.sitePool, p.Prefix.Masked())
		}
	}
	var errs []error
	for _, a := range ix.inv.Allocations {
		noun, id, _ := cutOwner(a.Owner)
		switch kind := kinds[a.Pool]; {
		case noun == "site" && kind == inventory.PoolSite4:
			b := ix.blocks[inventory.SiteID(id)]
			ix.blocks[inventory.SiteID(id)] = [2]netip.Prefix{a.Prefix.Masked(), b[1]}
		case noun == "site" && kind == inventory.PoolSite6:
			b := ix.blocks[inventory.SiteID(id)]
			ix.blocks[inventory.SiteID(id)] = [2]netip.Prefix{b[0], a.Prefix.Masked()}
		case noun == "device" && kind == inventory.PoolLoopback4:
			ix.loopback[inventory.DeviceID(id)] = a.Prefix.Addr()
		case noun == "tunnel" && kind == inventory.PoolTunnel4:
			ix.tunnels[a.Owner] = a.Prefix.Masked()
		default:
			errs = append(errs, fmt.Errorf("%w: allocation of %q: pool %q is of kind %q", inventory.ErrInvalid, a.Owner, a.Pool, kind))
		}
	}
	slices.SortFunc(ix.sitePool, comparePrefix)
	return errs
}

// placeApplications notes where application prefixes live that are not part of
// a site's block: those routes must be originated and admitted explicitly.
func (ix *index) placeApplications() {
	for i := range ix.inv.Applications {
		a := &ix.inv.Applications[i]
		ix.apps[a.ID] = a
		for _, p := range a.Prefixes {
			b := ix.blocks[a.Site]
			if within(p, b[0]) || within(p, b[1]) {
				continue
			}
			ix.siteApps[a.Site] = append(ix.siteApps[a.Site], p.Masked())
			if !slices.ContainsFunc(ix.overlay, func(o netip.Prefix) bool { return within(p, o) }) {
				ix.overlay = append(ix.overlay, p.Masked())
			}
		}
	}
	for id, ps := range ix.siteApps {
		ix.siteApps[id] = sortPrefixes(ps)
	}
	for _, p := range ix.siteApps[""] {
		if !slices.ContainsFunc(ix.sitePool, p.Overlaps) {
			ix.beyond = append(ix.beyond, p)
		}
	}
	ix.overlay = sortPrefixes(ix.overlay)
}

// placeLinks finds every tunnel: each circuit of a site with a device in
// service, to each of the site's hubs.
func (ix *index) placeLinks() []error {
	var errs []error
	for i := range ix.inv.Devices {
		d := &ix.inv.Devices[i]
		if ix.edgeAt[d.Site] != d || d.Role == inventory.RoleHub {
			continue
		}
		links, err := ix.linksOf(d)
		if err != nil {
			errs = append(errs, err)
		}
		for _, l := range links {
			ix.members[l.hub.ID] = append(ix.members[l.hub.ID], l)
		}
	}
	return errs
}

// linksOf lists the tunnels of an edge device.
func (ix *index) linksOf(d *inventory.Device) ([]link, error) {
	site := ix.sites[d.Site]
	var links []link
	for rank, hubSite := range site.Hubs {
		hub := ix.edgeAt[hubSite]
		if hub == nil || hub.Role != inventory.RoleHub {
			return nil, fmt.Errorf("%w: site %s: hub site %q has no hub device in service", inventory.ErrInvalid, site.ID, hubSite)
		}
		for order, c := range ix.circuits[site.ID] {
			links = append(links, link{site, d, hub, c, order, rank})
		}
	}
	return links, nil
}

// placeZones lists, per segment kind, that segment's prefixes at every site
// with a device in service.
func (ix *index) placeZones() []error {
	var errs []error
	for _, d := range ix.edgeAt {
		segs, err := ix.segments(ix.sites[d.Site])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, s := range segs {
			ix.zones[s.Kind] = append(ix.zones[s.Kind], valid(s.V4, s.V6)...)
		}
	}
	for kind, ps := range ix.zones {
		ix.zones[kind] = sortPrefixes(ps)
	}
	ix.sources = make(map[inventory.PermitID][]netip.Prefix, len(ix.inv.Permits))
	for i := range ix.inv.Permits {
		p := &ix.inv.Permits[i]
		var all []netip.Prefix
		for _, k := range p.From {
			all = append(all, ix.zones[k]...)
		}
		ix.sources[p.ID] = sortPrefixes(all)
	}
	return errs
}
