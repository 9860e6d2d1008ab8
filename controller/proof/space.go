package proof

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// span is an inclusive range of addresses of one family.
type span struct{ from, to netip.Addr }

func spanOf(p netip.Prefix) span {
	last := p.Masked().Addr().AsSlice()
	for i := range last {
		covered := min(max(p.Bits()-8*i, 0), 8) // bits of this byte that name the prefix
		last[i] |= 0xff >> covered
	}
	to, _ := netip.AddrFromSlice(last)
	return span{p.Masked().Addr(), to}
}

// space is a family's addresses, cut by sets.
type space struct {
	v6   bool
	sets []string // keys of the sets, in order
	cuts []netip.Addr
	held [][]uint64 // for each elementary span from cuts[i] on, the sets that hold it
}

// zero is the first address of a family.
func zero(v6 bool) netip.Addr {
	if v6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// newSpace cuts the addresses of a family by sets of prefixes. Sets of equal
// content are one.
func newSpace(v6 bool, sets [][]netip.Prefix) *space {
	s := &space{v6: v6}
	type edge struct {
		at  netip.Addr
		set int
		n   int // +1 where a prefix begins, -1 behind its end
	}
	var edges []edge
	known := map[string]int{}
	for _, all := range sets {
		key := keyOf(v6, all)
		if _, twice := known[key]; twice || key == "" {
			continue
		}
		n := len(s.sets)
		known[key] = n
		s.sets = append(s.sets, key)
		for _, p := range all {
			if p.Addr().Is6() != v6 {
				continue
			}
			x := spanOf(p)
			edges = append(edges, edge{x.from, n, 1})
			if next := x.to.Next(); next.IsValid() {
				edges = append(edges, edge{next, n, -1})
			}
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.set, b.set)) })
	count := make([]int, len(s.sets))
	now := make([]uint64, (len(s.sets)+63)/64)
	s.cuts, s.held = append(s.cuts, zero(v6)), append(s.held, slices.Clone(now))
	for i := 0; i < len(edges); {
		at := edges[i].at
		for ; i < len(edges) && edges[i].at == at; i++ {
			n := edges[i].set
			count[n] += edges[i].n
			now[n/64] &^= 1 << (n % 64)
			if count[n] > 0 {
				now[n/64] |= 1 << (n % 64)
			}
		}
		last := len(s.cuts) - 1
		switch {
		case slices.Equal(s.held[last], now):
		case s.cuts[last] == at:
			s.held[last] = slices.Clone(now)
		default:
			s.cuts, s.held = append(s.cuts, at), append(s.held, slices.Clone(now))
		}
	}
	return s
}

// keyOf is a set's content in a family; empty: it has none.
func keyOf(v6 bool, all []netip.Prefix) string {
	var parts []string
	for _, p := range all {
		if p.Addr().Is6() == v6 {
			parts = append(parts, p.Masked().String())
		}
	}
	slices.Sort(parts)
	return strings.Join(slices.Compact(parts), " ")
}

// at is the elementary span that holds a.
func (s *space) at(a netip.Addr) int {
	i, exact := slices.BinarySearchFunc(s.cuts, a, netip.Addr.Compare)
	if !exact {
		i--
	}
	return i
}

// end is the last address of an elementary span; invalid: that of the family.
func (s *space) end(i int) netip.Addr {
	if i+1 < len(s.cuts) {
		return s.cuts[i+1].Prev()
	}
	return netip.Addr{}
}
