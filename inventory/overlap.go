package inventory

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// class is what a prefix of the inventory is used for.
type class int

const (
	classPool class = iota
	classAllocation
	classCircuit
	classLegacy
	classApplication
)

// clashes says which two uses of overlapping prefixes exclude each other.
// Allocations lie in pools; circuits of one carrier may share a subnet, and so
// may uplinks; two sites may share a legacy prefix, which is translated away;
// applications may share a server and are checked against pools by
// [checker.appPlace].
func clashes(a, b class) bool {
	switch [2]class{min(a, b), max(a, b)} {
	case [2]class{classPool, classPool},
		[2]class{classPool, classCircuit},
		[2]class{classPool, classLegacy},
		[2]class{classAllocation, classAllocation},
		[2]class{classCircuit, classLegacy},
		[2]class{classCircuit, classApplication},
		[2]class{classLegacy, classApplication}:
		return true
	}
	return false
}

// use is one prefix in use.
type use struct {
	prefix netip.Prefix // masked
	class  class
	what   string // "pool \"p4\""
	field  string
}

// overlaps reports every pair of nested prefixes that exclude each other, at
// the inner (or later) one. Prefixes either nest or are disjoint, so one pass
// over the sorted list with a stack of the enclosing ones finds all.
func (c *checker) overlaps() {
	uses := c.uses()
	slices.SortStableFunc(uses, func(a, b use) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()), cmp.Compare(a.class, b.class))
	})
	var stack []use
	for _, u := range uses {
		for len(stack) > 0 && !contains(stack[len(stack)-1].prefix, u.prefix) {
			stack = stack[:len(stack)-1]
		}
		twin := false
		for _, o := range slices.Backward(stack) {
			if clashes(o.class, u.class) {
				c.faults.add(Fault{Field: u.field, Text: fmt.Sprintf("overlapping prefix: %s (%s) overlaps %s (%s)", u.what, u.prefix, o.what, o.prefix)})
				twin = true // one fault per prefix is enough
				break
			}
			twin = twin || (o.class == u.class && o.prefix == u.prefix)
		}
		if !twin {
			stack = append(stack, u)
		}
	}
}

func (c *checker) uses() []use {
	var out []use
	add := func(p netip.Prefix, k class, field, what string, id any) {
		if p.IsValid() {
			out = append(out, use{p.Masked(), k, fmt.Sprintf(what, id), field})
		}
	}
	for i, p := range c.inv.Pools {
		add(p.Prefix, classPool, fmt.Sprintf("pools[%d].prefix", i), "pool %q", p.ID)
	}
	for i, a := range c.inv.Allocations {
		add(a.Prefix, classAllocation, fmt.Sprintf("allocations[%d].prefix", i), "allocation of %q", a.Owner)
	}
	for i, k := range c.inv.Circuits {
		add(k.Address, classCircuit, fmt.Sprintf("circuits[%d].address", i), "circuit %q", k.ID)
	}
	for i, s := range c.inv.Sites {
		for j, u := range s.Uplinks {
			add(u.Address, classCircuit, fmt.Sprintf("sites[%d].uplinks[%d].address", i, j), "uplink %q", u.Name)
		}
		add(s.Legacy, classLegacy, fmt.Sprintf("sites[%d].legacy", i), "legacy prefix of site %q", s.ID)
	}
	for i, a := range c.inv.Applications {
		for j, p := range a.Prefixes {
			add(p, classApplication, fmt.Sprintf("applications[%d].prefixes[%d]", i, j), "application %q", a.ID)
		}
	}
	return out
}
