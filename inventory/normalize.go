package inventory

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Normalize returns inv in its one canonical form: every list of nouns sorted
// by id (allocations by owner and pool), the lists inside a noun sorted where
// their order has no meaning, lists that are optional nil when empty and the
// others never nil. Equal inventories are then deeply equal and have equal
// encodings. inv itself is not changed.
func (inv Inventory) Normalize() Inventory {
	inv.Units = sorted(inv.Units, func(u Unit) string { return string(u.ID) })
	for i := range inv.Units {
		u := &inv.Units[i]
		u.Codes = required(u.Codes)
		slices.SortStableFunc(u.Codes, func(a, b UnitCode) int { return cmp.Compare(a.ValidFrom, b.ValidFrom) })
		u.Predecessors = optional(u.Predecessors)
	}
	inv.Carriers = sorted(inv.Carriers, func(c Carrier) string { return string(c.ID) })
	inv.Profiles = optional(inv.Profiles)
	slices.SortStableFunc(inv.Profiles, func(a, b Profile) int { return cmp.Compare(a.ID, b.ID) })
	for i := range inv.Profiles {
		inv.Profiles[i].normalize()
	}
	inv.Sites = sorted(inv.Sites, func(s Site) string { return string(s.ID) })
	for i := range inv.Sites {
		s := &inv.Sites[i]
		s.Hubs = optional(s.Hubs) // in order of preference
		if s.Variables = maps.Clone(s.Variables); len(s.Variables) == 0 {
			s.Variables = nil
		}
		s.Opens = sortedOpenings(s.Opens)
		s.Segments = optional(s.Segments)
		slices.SortStableFunc(s.Segments, func(a, b Segment) int { return cmp.Compare(segmentIndex(a.Kind), segmentIndex(b.Kind)) })
		for j := range s.Segments {
			g := &s.Segments[j]
			g.Reservations = optional(g.Reservations)
			slices.SortStableFunc(g.Reservations, func(a, b Reservation) int {
				return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.MAC, b.MAC))
			})
		}
		s.Uplinks = optional(s.Uplinks)
		slices.SortStableFunc(s.Uplinks, func(a, b Uplink) int { return cmp.Compare(a.Name, b.Name) })
	}
	inv.Devices = sorted(inv.Devices, func(d Device) string { return string(d.ID) })
	inv.Routers = optional(sorted(inv.Routers, func(r Router) string { return string(r.ID) }))
	inv.Circuits = sorted(inv.Circuits, func(c Circuit) string { return string(c.ID) })
	inv.Applications = sorted(inv.Applications, func(a Application) string { return string(a.ID) })
	for i := range inv.Applications {
		a := &inv.Applications[i]
		a.Prefixes = required(a.Prefixes)
		slices.SortStableFunc(a.Prefixes, netip.Prefix.Compare)
		a.Ports = sortedPorts(required(a.Ports))
	}
	inv.Pools = sorted(inv.Pools, func(p Pool) string { return string(p.ID) })
	inv.Allocations = optional(inv.Allocations)
	slices.SortStableFunc(inv.Allocations, func(a, b Allocation) int {
		return cmp.Or(cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Pool, b.Pool))
	})
	inv.Permits = sorted(inv.Permits, func(p Permit) string { return string(p.ID) })
	for i := range inv.Permits {
		p := &inv.Permits[i]
		p.From = required(p.From)
		slices.SortStableFunc(p.From, func(a, b SegmentKind) int { return cmp.Compare(segmentIndex(a), segmentIndex(b)) })
		p.Ports = sortedPorts(optional(p.Ports))
		p.Resilience = optional(p.Resilience)
		slices.Sort(p.Resilience)
	}
	return inv
}

// normalize brings the lists of a profile, which inv owns, into their order.
func (p *Profile) normalize() {
	p.Variables = optional(p.Variables) // as declared
	for i := range p.Variables {
		p.Variables[i].Choices = optional(p.Variables[i].Choices)
	}
	p.Segments = optional(p.Segments)
	slices.SortStableFunc(p.Segments, func(a, b ProfileSegment) int { return cmp.Compare(segmentIndex(a.Kind), segmentIndex(b.Kind)) })
	p.Circuits = optional(p.Circuits)
	slices.SortStableFunc(p.Circuits, func(a, b ProfileCircuit) int { return cmp.Compare(a.Kind, b.Kind) })
	p.Uplinks = optional(p.Uplinks)
	slices.SortStableFunc(p.Uplinks, func(a, b ProfileUplink) int { return cmp.Compare(a.Name, b.Name) })
	p.Opens = sortedOpenings(p.Opens)
}

func sortedOpenings(in []Opening) []Opening {
	out := optional(in)
	for i := range out {
		out[i].From = optional(out[i].From)
		slices.SortStableFunc(out[i].From, func(a, b SegmentKind) int { return cmp.Compare(segmentIndex(a), segmentIndex(b)) })
	}
	slices.SortStableFunc(out, func(a, b Opening) int { return cmp.Compare(a.Permit, b.Permit) })
	return out
}

// segmentIndex is the place of a kind in the address cut; unknown kinds are last.
func segmentIndex(k SegmentKind) int {
	if i := slices.Index(SegmentKinds, k); i >= 0 {
		return i
	}
	return len(SegmentKinds)
}

func sorted[T any](in []T, id func(T) string) []T {
	out := required(in)
	slices.SortStableFunc(out, func(a, b T) int { return cmp.Compare(id(a), id(b)) })
	return out
}

func sortedPorts(in []PortRange) []PortRange {
	slices.SortStableFunc(in, func(a, b PortRange) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	return in
}

// required copies a list that is written even when empty.
func required[T any](in []T) []T { return append(make([]T, 0, len(in)), in...) }

// optional copies a list that is left out when empty.
func optional[T any](in []T) []T {
	if len(in) == 0 {
		return nil
	}
	return slices.Clone(in)
}
