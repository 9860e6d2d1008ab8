package proof

import (
	"cmp"
	"encoding/binary"
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
	bits map[string]int // of each set, by name
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

// named is a set of prefixes whose name says that its content is another's.
type named struct {
	name string
	all  []netip.Prefix
}

// newSpace cuts the addresses of a family by sets of prefixes. Sets of equal
// content are one.
func newSpace(v6 bool, sets [][]netip.Prefix) *space {
	all := make([]named, len(sets))
	for i, s := range sets {
		all[i] = named{keyOf(v6, s), s}
	}
	return newNamedSpace(v6, all)
}

// newNamedSpace is newSpace of sets that have names: sets of one name are one,
// and one without a name is none.
func newNamedSpace(v6 bool, sets []named) *space {
	s := &space{v6: v6, bits: map[string]int{}}
	type edge struct {
		at     netip.Addr
		hi, lo uint64 // of at, to be compared quickly
		set    int32
		n      int32 // +1 where a prefix begins, -1 behind its end
	}
	var edges []edge
	add := func(at netip.Addr, set, n int) {
		b := at.As16()
		edges = append(edges, edge{at, binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]), int32(set), int32(n)})
	}
	for _, one := range sets {
		if _, twice := s.bits[one.name]; twice || one.name == "" {
			continue
		}
		n := len(s.bits)
		s.bits[one.name] = n
		for _, p := range one.all {
			if p.Addr().Is6() != v6 {
				continue
			}
			x := spanOf(p)
			add(x.from, n, 1)
			if next := x.to.Next(); next.IsValid() {
				add(next, n, -1)
			}
		}
	}
	slices.SortFunc(edges, func(a, b edge) int {
		if a.hi != b.hi {
			return cmp.Compare(a.hi, b.hi)
		}
		return cmp.Compare(a.lo, b.lo)
	})
	count := make([]int, len(s.bits))
	now := make([]uint64, (len(s.bits)+63)/64)
	s.cuts, s.held = append(s.cuts, zero(v6)), append(s.held, slices.Clone(now))
	for i := 0; i < len(edges); {
		at := edges[i].at
		for ; i < len(edges) && edges[i].at == at; i++ {
			n := edges[i].set
			count[n] += int(edges[i].n)
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
