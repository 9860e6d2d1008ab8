package proof

import (
	"encoding/binary"
	"net/netip"
	"slices"
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

// bounds are the first and the last address of a prefix, as [netip.Addr.As16] has
// them.
func bounds(p netip.Prefix) (hi, lo, lastHi, lastLo uint64) {
	a := p.Addr().As16()
	hi, lo = binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])
	host := p.Addr().BitLen() - p.Bits() // bits
	var maskHi, maskLo uint64
	switch {
	case host >= 64:
		maskHi, maskLo = 1<<(host-64)-1, 1<<64-1
	default:
		maskLo = 1<<host - 1
	}
	return hi &^ maskHi, lo &^ maskLo, hi | maskHi, lo | maskLo
}

// addrOf is the address of those bits.
func addrOf(v6 bool, hi, lo uint64) netip.Addr {
	var a [16]byte
	binary.BigEndian.PutUint64(a[:8], hi)
	binary.BigEndian.PutUint64(a[8:], lo)
	if v6 {
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte(a[12:]))
}

// space is a family's addresses, cut by sets.
type space struct {
	v6   bool
	bits map[string]int // of each set, by name
	cuts []netip.Addr
	// held is, for each elementary span from cuts[i] on, which of states it has: the
	// sets that hold it. Of a million spans few differ.
	held   []int
	states [][]uint64
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
	list
}

// newSpace cuts the addresses of a family by sets of prefixes. Sets of equal
// content are one.
func newSpace(v6 bool, sets [][]netip.Prefix) *space {
	all := make([]named, len(sets))
	for i, s := range sets {
		all[i] = named{keyOf(v6, s), list{all: s}}
	}
	return newNamedSpace(v6, all)
}

// newNamedSpace is newSpace of sets that have names: sets of one name are one,
// and one without a name is none.
func newNamedSpace(v6 bool, sets []named) *space {
	s := &space{v6: v6, bits: map[string]int{}}
	type edge struct {
		hi, lo uint64 // of the address: without pointers, for there are a million
		set    int32
		n      int32 // +1 where a prefix begins, -1 behind its end
	}
	size := 0
	for _, one := range sets {
		for _, p := range one.all {
			if p.Addr().Is6() == v6 {
				size += 2
			}
		}
	}
	edges := make([]edge, 0, size)
	for _, one := range sets {
		if _, twice := s.bits[one.name]; twice || one.name == "" {
			continue
		}
		n := len(s.bits)
		s.bits[one.name] = n
		for _, p := range one.all {
			if p.Addr().Is6() != v6 || len(one.but) > 0 && slices.Contains(one.but, p) {
				continue
			}
			hi, lo, endHi, endLo := bounds(p)
			edges = append(edges, edge{hi, lo, int32(n), 1})
			if endLo++; endLo == 0 {
				endHi++
			}
			if endHi|endLo != 0 && (v6 || endLo>>48 == 0) { // it is not the last address
				edges = append(edges, edge{endHi, endLo, int32(n), -1})
			}
		}
	}
	edges = merged(edges, func(a, b edge) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo })
	count := make([]int, len(s.bits))
	now := make([]uint64, (len(s.bits)+63)/64)
	known, key := map[string]int{}, make([]byte, 8*len(now))
	state := func() int {
		for i, bits := range now {
			binary.LittleEndian.PutUint64(key[8*i:], bits)
		}
		n, ok := known[string(key)]
		if !ok {
			n = len(s.states)
			known[string(key)], s.states = n, append(s.states, slices.Clone(now))
		}
		return n
	}
	s.cuts, s.held = append(s.cuts, zero(v6)), append(s.held, state())
	for i := 0; i < len(edges); {
		hi, lo := edges[i].hi, edges[i].lo
		at := addrOf(v6, hi, lo)
		for ; i < len(edges) && edges[i].hi == hi && edges[i].lo == lo; i++ {
			n := edges[i].set
			count[n] += int(edges[i].n)
			now[n/64] &^= 1 << (n % 64)
			if count[n] > 0 {
				now[n/64] |= 1 << (n % 64)
			}
		}
		last := len(s.cuts) - 1
		switch n := state(); {
		case s.held[last] == n:
		case s.cuts[last] == at:
			s.held[last] = n
		default:
			s.cuts, s.held = append(s.cuts, at), append(s.held, n)
		}
	}
	return s
}

// merged sorts a list by joining the runs of it that are sorted: of most sets of
// prefixes there is one. What is equal stays in order.
func merged[T any](list []T, less func(a, b T) bool) []T {
	var ends []int // of the runs
	for i := 1; i < len(list); i++ {
		if less(list[i], list[i-1]) {
			ends = append(ends, i)
		}
	}
	ends = append(ends, len(list))
	other := make([]T, len(list))
	for len(ends) > 1 { // runs are joined two by two
		out, begin, left := other[:0], 0, ends[:0]
		for i := 0; i < len(ends); i += 2 {
			a, b := list[begin:ends[i]], []T(nil)
			if i+1 < len(ends) {
				b = list[ends[i]:ends[i+1]]
			}
			begin += len(a) + len(b)
			for len(a) > 0 && len(b) > 0 {
				if less(b[0], a[0]) {
					out, b = append(out, b[0]), b[1:]
				} else {
					out, a = append(out, a[0]), a[1:]
				}
			}
			out = append(append(out, a...), b...)
			left = append(left, begin)
		}
		list, other, ends = out, list, left
	}
	return list
}

// keyOf is a set's content in a family; empty: it has none.
func keyOf(v6 bool, all []netip.Prefix) string {
	mine := make([]netip.Prefix, 0, len(all))
	for _, p := range all {
		if p.Addr().Is6() == v6 {
			mine = append(mine, p.Masked())
		}
	}
	slices.SortFunc(mine, netip.Prefix.Compare)
	out := make([]byte, 0, 17*len(mine))
	for _, p := range slices.Compact(mine) {
		out = appendPrefix(out, p)
	}
	return string(out)
}

// appendPrefix appends 17 bytes that no other prefix of its family has.
func appendPrefix(out []byte, p netip.Prefix) []byte {
	a := p.Addr().As16()
	return append(append(out, a[:]...), byte(p.Bits()))
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
