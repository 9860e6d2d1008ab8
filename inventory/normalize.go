package inventory

import (
	"cmp"
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
	inv.Sites = sorted(inv.Sites, func(s Site) string { return string(s.ID) })
	for i := range inv.Sites {
		s := &inv.Sites[i]
		s.Hubs = optional(s.Hubs) // in order of preference
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
