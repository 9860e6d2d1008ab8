// Package frr reads the configuration of FRR's bgpd, as package render writes
// it, into a model that says what a router announces and takes. A line that it
// does not know is an error and never "it does not matter", so that a proof over
// the model says something about the daemon.
package frr

import (
	"fmt"
	"net/netip"
	"slices"
)

// Router is one box's routing.
type Router struct {
	ASN        uint32
	ID         netip.Addr
	Networks   []Network    // originated
	Neighbours []*Neighbour // by address
	lists      map[listKey][]ListEntry
	maps       map[string][]MapEntry
}

// Network is an originated prefix.
type Network struct {
	Prefix netip.Prefix
	Line   int
}

// Neighbour is one session.
type Neighbour struct {
	Addr        netip.Addr
	ASN         uint32
	Line        int
	Description string
	BFD         bool
	Families    [2]Family // IPv4, IPv6
}

// Family is what a session does with one address family.
type Family struct {
	Active bool
	List   string // prefix list, in
	In     string // route map
	Out    string // route map
	Line   int    // of the prefix list
}

// listKey names a prefix list: those of the families are apart.
type listKey struct {
	v6   bool
	name string
}

// ListEntry is one entry of a prefix list. It matches a prefix inside of Prefix
// whose length is at most Longest: just Prefix itself where they are equal.
type ListEntry struct {
	Line    int
	Text    string
	Permit  bool
	Any     bool
	Prefix  netip.Prefix
	Longest int
}

// Matches says whether the entry is about p.
func (e ListEntry) Matches(p netip.Prefix) bool {
	if e.Any {
		return true
	}
	return e.Prefix.Bits() <= p.Bits() && p.Bits() <= e.Longest && e.Prefix.Contains(p.Addr())
}

// MapEntry is one entry of a route map, with what this package knows of it.
type MapEntry struct {
	Seq        int
	Line       int
	Text       string // what it is, for a person
	Permit     bool
	List       string // match: prefix list; empty: any prefix
	V6         bool   // of List
	Preference int    // match: local preference; 0: any
	SetPref    int    // 0: as it is
	Prepends   bool
}

// List returns the entries of a prefix list, in order; nil: there is none.
func (r *Router) List(v6 bool, name string) []ListEntry { return r.lists[listKey{v6, name}] }

// Neighbour returns the session with addr; nil: there is none.
func (r *Router) Neighbour(addr netip.Addr) *Neighbour {
	if i, ok := slices.BinarySearchFunc(r.Neighbours, addr, func(n *Neighbour, a netip.Addr) int { return n.Addr.Compare(a) }); ok {
		return r.Neighbours[i]
	}
	return nil
}

// Reason says what decided about a route.
type Reason struct {
	Line int
	Text string
}

// listed says whether a prefix list without the entries to skip permits p. A list that is missing permits
// everything, as in FRR; [Read] refuses it.
func (r *Router) listed(v6 bool, name string, p netip.Prefix, skip func(ListEntry) bool) (bool, Reason) {
	for _, e := range r.lists[listKey{v6, name}] {
		if e.Matches(p) && (skip == nil || !skip(e)) {
			return e.Permit, Reason{e.Line, e.Text}
		}
	}
	return false, Reason{0, fmt.Sprintf("prefix list %s has no entry for %s", name, p)}
}

// mapped sends a route through a route map: whether it passes, and with what
// local preference.
func (r *Router) mapped(name string, p netip.Prefix, pref int) (bool, int, Reason) {
	for _, e := range r.maps[name] {
		if e.List != "" {
			if ok, _ := r.listed(e.V6, e.List, p, nil); !ok || e.V6 != p.Addr().Is6() {
				continue
			}
		}
		if e.Preference != 0 && e.Preference != pref {
			continue
		}
		if e.SetPref != 0 {
			pref = e.SetPref
		}
		return e.Permit, pref, Reason{e.Line, e.Text}
	}
	return false, pref, Reason{0, fmt.Sprintf("route map %s has no entry for %s", name, p)}
}

func family(p netip.Prefix) int {
	if p.Addr().Is6() {
		return 1
	}
	return 0
}

// Takes says whether the router takes p from a neighbour, with what local
// preference (RFC 4271 §5.1.5), and what decided.
func (r *Router) Takes(n *Neighbour, p netip.Prefix) (bool, int, Reason) {
	return r.TakesWithout(n, p, nil)
}

// TakesWithout is Takes as if the entries to skip were not in the prefix list.
func (r *Router) TakesWithout(n *Neighbour, p netip.Prefix, skip func(ListEntry) bool) (bool, int, Reason) {
	f := n.Families[family(p)]
	if !f.Active {
		return false, 0, Reason{n.Line, fmt.Sprintf("neighbor %s is not active for the family of %s", n.Addr, p)}
	}
	if ok, why := r.listed(p.Addr().Is6(), f.List, p, skip); !ok {
		return false, 0, why
	}
	return r.mapped(f.In, p, 100)
}

// Announces says whether the router tells a neighbour of p, which it has with
// local preference pref, and what decided. Where p comes from is the caller's to
// know: see [Router.Originates].
func (r *Router) Announces(n *Neighbour, p netip.Prefix, pref int) (bool, Reason) {
	f := n.Families[family(p)]
	if !f.Active {
		return false, Reason{n.Line, fmt.Sprintf("neighbor %s is not active for the family of %s", n.Addr, p)}
	}
	ok, _, why := r.mapped(f.Out, p, pref)
	return ok, why
}

// Map returns the entries of a route map, by sequence; nil: there is none.
func (r *Router) Map(name string) []MapEntry { return r.maps[name] }

// Originates says whether the router has p of its own.
func (r *Router) Originates(p netip.Prefix) bool {
	for _, n := range r.Networks {
		if n.Prefix == p {
			return true
		}
	}
	return false
}

// Error is a text that this package does not understand.
type Error struct {
	Line int
	Text string
	Why  string
}

func (e *Error) Error() string { return fmt.Sprintf("routing, line %d: %s: %q", e.Line, e.Why, e.Text) }
