package inventory

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Index finds things in one inventory, which it shares and never changes; it
// is safe for concurrent use. A lookup of an unknown id gives the zero value
// and false, or an empty list.
type Index struct {
	inv          Inventory
	units        map[UnitID]int
	carriers     map[CarrierID]int
	sites        map[SiteID]int
	devices      map[DeviceID]int
	circuits     map[CircuitID]int
	applications map[ApplicationID]int
	unitSites    map[UnitID][]Site
	siteDevices  map[SiteID][]Device
	siteCircuits map[SiteID][]Circuit
	served       map[SiteID][]Site // by hub
	allocations  map[string]map[PoolKind]netip.Prefix
	folded       []string // of units, then of sites
}

// Index builds the index of inv, as it is: what its profiles give its sites is
// in the index of its expansion, see [Expand].
func (inv Inventory) Index() *Index {
	x := &Index{
		inv:          inv,
		units:        byID(inv.Units, func(u Unit) UnitID { return u.ID }),
		carriers:     byID(inv.Carriers, func(c Carrier) CarrierID { return c.ID }),
		sites:        byID(inv.Sites, func(s Site) SiteID { return s.ID }),
		devices:      byID(inv.Devices, func(d Device) DeviceID { return d.ID }),
		circuits:     byID(inv.Circuits, func(c Circuit) CircuitID { return c.ID }),
		applications: byID(inv.Applications, func(a Application) ApplicationID { return a.ID }),
		unitSites:    grouped(inv.Sites, func(s Site) []UnitID { return []UnitID{s.Unit} }),
		siteDevices:  grouped(inv.Devices, func(d Device) []SiteID { return []SiteID{d.Site} }),
		siteCircuits: grouped(inv.Circuits, func(c Circuit) []SiteID { return []SiteID{c.Site} }),
		served:       grouped(inv.Sites, func(s Site) []SiteID { return s.Hubs }),
		allocations:  make(map[string]map[PoolKind]netip.Prefix, len(inv.Allocations)),
	}
	kinds := make(map[PoolID]PoolKind, len(inv.Pools))
	for _, p := range inv.Pools {
		kinds[p.ID] = p.Kind
	}
	for _, a := range inv.Allocations {
		if x.allocations[a.Owner] == nil {
			x.allocations[a.Owner] = make(map[PoolKind]netip.Prefix, 2)
		}
		x.allocations[a.Owner][kinds[a.Pool]] = a.Prefix
	}
	for _, u := range inv.Units {
		words := []string{string(u.ID), u.District, u.FormerProvince}
		for _, c := range u.Codes {
			words = append(words, c.Code, c.Name)
		}
		x.folded = append(x.folded, folded(append(words, u.Predecessors...)...))
	}
	for _, s := range inv.Sites {
		x.folded = append(x.folded, folded(string(s.ID), s.Name))
	}
	return x
}

// Inventory returns what is indexed.
func (x *Index) Inventory() Inventory { return x.inv }

// Unit finds a unit.
func (x *Index) Unit(id UnitID) (Unit, bool) { return find1(x.inv.Units, x.units, id) }

// Carrier finds a carrier.
func (x *Index) Carrier(id CarrierID) (Carrier, bool) { return find1(x.inv.Carriers, x.carriers, id) }

// Site finds a site.
func (x *Index) Site(id SiteID) (Site, bool) { return find1(x.inv.Sites, x.sites, id) }

// Device finds a device.
func (x *Index) Device(id DeviceID) (Device, bool) { return find1(x.inv.Devices, x.devices, id) }

// Circuit finds a circuit.
func (x *Index) Circuit(id CircuitID) (Circuit, bool) { return find1(x.inv.Circuits, x.circuits, id) }

// Application finds an application.
func (x *Index) Application(id ApplicationID) (Application, bool) {
	return find1(x.inv.Applications, x.applications, id)
}

// UnitSites lists the sites of a unit.
func (x *Index) UnitSites(id UnitID) []Site { return x.unitSites[id] }

// SiteDevices lists the devices of a site.
func (x *Index) SiteDevices(id SiteID) []Device { return x.siteDevices[id] }

// SiteCircuits lists the circuits of a site.
func (x *Index) SiteCircuits(id SiteID) []Circuit { return x.siteCircuits[id] }

// Served lists the sites that name a hub, at any preference.
func (x *Index) Served(hub SiteID) []Site { return x.served[hub] }

// HubSites lists the sites of kind hub.
func (x *Index) HubSites() []Site {
	var out []Site
	for _, s := range x.inv.Sites {
		if s.Kind == Hub {
			out = append(out, s)
		}
	}
	return out
}

// HubDevices lists the devices, without the retired ones, at the hubs of an
// edge site, the preferred hub's first; none for a hub.
func (x *Index) HubDevices(id SiteID) []Device {
	s, _ := x.Site(id)
	var out []Device
	for _, h := range s.Hubs {
		for _, d := range x.siteDevices[h] {
			if d.Role == RoleHub && d.Intended != Retired {
				out = append(out, d)
			}
		}
	}
	return out
}

// Allocation finds the block of a kind that an owner has.
func (x *Index) Allocation(owner string, kind PoolKind) (netip.Prefix, bool) {
	p, ok := x.allocations[owner][kind]
	return p, ok
}

// SegmentBlock is one segment in use with its prefixes; a family without
// allocation has the zero Prefix.
type SegmentBlock struct {
	Kind SegmentKind
	V4   netip.Prefix
	V6   netip.Prefix
}

// SegmentBlocks lists the segments in use at a site in the order of the cut.
// The error wraps [ErrNotFound] for an unknown site, [ErrInvalid] for a block
// that cannot be cut.
func (x *Index) SegmentBlocks(id SiteID) ([]SegmentBlock, error) {
	s, ok := x.Site(id)
	if !ok {
		return nil, notFound("site", id)
	}
	site4, site6 := x.allocations[SiteOwner(id)][PoolSite4], x.allocations[SiteOwner(id)][PoolSite6]
	var out []SegmentBlock
	for _, g := range s.Segments {
		if g.Unused != "" {
			continue
		}
		v4, v6, err := SegmentPrefixes(site4, site6, g.Kind)
		if err != nil {
			return nil, err
		}
		out = append(out, SegmentBlock{g.Kind, v4, v6})
	}
	slices.SortFunc(out, func(a, b SegmentBlock) int { return cmp.Compare(segmentIndex(a.Kind), segmentIndex(b.Kind)) })
	return out, nil
}

// Search lists the units and sites, at most limit of each, in whose id, codes,
// names, areas or predecessors query stands at the start of a word, tone marks
// and đ/d folded.
func (x *Index) Search(query string, limit int) (units []Unit, sites []Site) {
	query = " " + Fold(query)
	for i, text := range x.folded {
		if !strings.Contains(text, query) {
			continue
		}
		if n := len(x.inv.Units); i < n && len(units) < limit {
			units = append(units, x.inv.Units[i])
		} else if i >= n && len(sites) < limit {
			sites = append(sites, x.inv.Sites[i-n])
		}
	}
	return units, sites
}

// folded joins folded texts so that a search cannot run from one into the next.
func folded(texts ...string) string {
	var b strings.Builder
	for _, t := range texts {
		b.WriteString(" " + Fold(t) + " \n")
	}
	return b.String()
}

// CodeAt is the official code and name of u valid on the day of at, else the
// newest one; zero when u has none.
func (u Unit) CodeAt(at time.Time) UnitCode {
	day := at.UTC().Format(time.DateOnly)
	for _, c := range u.Codes {
		if c.ValidFrom <= day && (c.ValidTo == "" || day < c.ValidTo) {
			return c
		}
	}
	if len(u.Codes) == 0 {
		return UnitCode{}
	}
	return u.Codes[len(u.Codes)-1]
}
