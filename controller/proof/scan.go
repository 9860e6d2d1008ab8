package proof

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/wardnet/wardnet/controller/proof/frr"
	"github.com/wardnet/wardnet/controller/proof/nft"
	"github.com/wardnet/wardnet/inventory"
)

// shape is a filter with a box's own addresses and interfaces written as the
// place they have at the box, and lists of other addresses as numbers. Boxes of
// one shape differ in nothing else: a city has a handful of shapes, and a
// thousand sites of one kind cost no more to judge than one.
type shape struct {
	n        int
	lists    [2][]int    // of other addresses that its rules name, by family
	services []nft.Match // ports and types that its rules name
}

// scanned is what the proof keeps of one box's filter.
type scanned struct {
	shape *shape
	local [2][][]netip.Prefix // lists of own addresses that the rules name, by family
	parts [2][]part           // the box's own addresses, by family
	alone bool                // parts are not the shape's: see share
	table *nft.Table          // nil: read it again where it is needed

	routing *frr.Router
	allowed map[string][]netip.Prefix
	control []Counterexample // what it must say and hear and does not
}

// part is a range of a box's own addresses that neither its filter nor the
// intent tells apart.
type part struct {
	span
	target target
	legacy bool // only the site itself knows it
}

// partsOf cuts a box's own addresses of a family.
func partsOf(b *Box, in *intents, local [][]netip.Prefix, v6 bool) []part {
	mine := newSpace(v6, append(slices.Clone(local), in.blocks(b.Site)...))
	var out []part
	for k, all := range [][]netip.Prefix{b.Own, b.inside()} {
		for _, p := range all {
			if p.Addr().Is6() != v6 {
				continue
			}
			for a, last := spanOf(p).from, spanOf(p).to; ; {
				x := part{span: span{a, last}, target: in.at(b.Site, a), legacy: k == 1}
				if x.legacy {
					x.target = b.legacyTarget(a)
				}
				if end := mine.end(mine.at(a)); end.IsValid() && end.Less(last) {
					x.to = end
				}
				out = append(out, x)
				if x.to == last {
					break
				}
				a = x.to.Next()
			}
		}
	}
	return out
}

// lists numbers lists of prefixes by their content, of which a hash is kept: a
// hub's have the sites of a nation in them.
type lists struct {
	at  map[[sha256.Size]byte]int
	all []list
}

// list is all without but, which nobody may change: hubs name the same sites, each
// without its own.
type list struct{ all, but []netip.Prefix }

// number keeps a list.
func (l *lists) number(one list, v6 bool) int {
	rest := one.all
	if len(one.but) > 0 {
		rest = slices.DeleteFunc(slices.Clone(one.all), func(p netip.Prefix) bool { return slices.Contains(one.but, p) })
	}
	key := sha256.Sum256([]byte(keyOf(v6, rest)))
	n, ok := l.at[key]
	if !ok {
		n = len(l.all)
		l.at[key], l.all = n, append(l.all, one)
	}
	return n
}

// scanner reads filters and keeps what is new in them.
type scanner struct {
	mu     sync.Mutex // guards all below
	shapes map[string]*shape
	lists  lists
	seen   map[[sha256.Size]byte][]netip.Prefix // long lists that tables name
}

// longList is from when on lists of equal content are one.
const longList = 64

// canon gives a list of the same prefixes, in the same order, that others share.
func (s *scanner) canon(all []netip.Prefix) []netip.Prefix {
	if len(all) < longList {
		return all
	}
	text := make([]byte, 0, 17*len(all))
	for _, p := range all {
		text = appendPrefix(text, p)
	}
	key := sha256.Sum256(text)
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.seen[key]; ok {
		return known
	}
	all = slices.Clip(slices.Clone(all)) // it grew by doubling
	s.seen[key] = all
	return all
}

func newScanner() *scanner {
	return &scanner{shapes: map[string]*shape{}, seen: map[[sha256.Size]byte][]netip.Prefix{}, lists: lists{at: map[[sha256.Size]byte]int{}}}
}

// filter renders and reads the box's filter.
func (b *Box) filter() (*nft.Table, error) {
	a, err := b.Render()
	if err != nil {
		return nil, err
	}
	return readFilter(a.Filter)
}

func readFilter(text string) (*nft.Table, error) {
	t, err := nft.Read(text)
	if err != nil {
		return nil, err
	}
	if line, text := plainNAT(t); line > 0 {
		return nil, &nft.Error{Line: line, Text: text, Why: "a translation that looks at more than interfaces and addresses"}
	}
	return t, nil
}

// one reads one box.
func (s *scanner) one(b *Box, in *intents) (scanned, error) {
	a, err := b.Render()
	if err != nil {
		return scanned{}, err
	}
	t, err := readFilter(a.Filter)
	routing, bad := frr.Read(a.Routing)
	if err := errors.Join(err, bad); err != nil {
		return scanned{}, err
	}
	t.Share(s.canon)
	mute := control(b, t)
	w := newWriter(b, t, in)
	w.write()
	s.mu.Lock()
	defer s.mu.Unlock()
	var numbers [2][]int
	for f, all := range w.others {
		for _, one := range all {
			n := s.lists.number(one, f == 1)
			numbers[f] = append(numbers[f], n)
			w.out = binary.AppendUvarint(w.out, uint64(n))
		}
	}
	key := string(w.out)
	x := s.shapes[key]
	if x == nil {
		x = &shape{n: len(s.shapes), lists: numbers, services: w.services}
		s.shapes[key] = x
	} else {
		t = nil
	}
	return scanned{shape: x, local: w.local, parts: w.parts, table: t, routing: routing, allowed: a.Allowed, control: mute}, nil
}

// writer writes the shape of one filter.
type writer struct {
	*Box
	table  *nft.Table
	out    []byte
	ports  []string
	parts  [2][]part
	local  [2][][]netip.Prefix
	others [2][]list
	known  map[*netip.Prefix][]byte // what was written of a list
	chains map[string]int
	maps   bool
	own    []netip.Prefix

	services []nft.Match
}

func newWriter(b *Box, t *nft.Table, in *intents) *writer {
	own := slices.Concat(b.Own, b.inside())
	w := &writer{Box: b, table: t, own: own, known: map[*netip.Prefix][]byte{}, chains: map[string]int{}}
	type listID struct {
		first *netip.Prefix
		n     int
	}
	seen := map[listID]bool{} // rules that name a set share its list
	prefixes(t, func(all []netip.Prefix) {
		if len(all) == 0 || seen[listID{&all[0], len(all)}] {
			return
		}
		seen[listID{&all[0], len(all)}] = true
		for f, v6 := range []bool{false, true} {
			var mine []netip.Prefix
			for _, p := range all {
				if p.Addr().Is6() == v6 && within(p, own) {
					mine = append(mine, p)
				}
			}
			if len(mine) > 0 {
				w.local[f] = append(w.local[f], mine)
			}
		}
	})
	for f, v6 := range []bool{false, true} {
		w.parts[f] = partsOf(b, in, w.local[f], v6)
		for _, x := range w.parts[f] {
			w.text(f, x.legacy, x.target.segment, x.target.apps, x.target.ours)
		}
	}
	return w
}

func (w *writer) text(all ...any) { w.out = fmt.Appendln(w.out, all...) }

// write writes all that judges what passes through the box.
func (w *writer) write() {
	for _, kind := range w.kinds() {
		w.ports = append(w.ports, w.Segments[kind])
		w.text("segment", kind)
	}
	for _, names := range [][]string{w.Tunnels, w.Uplinks, w.Circuits} {
		kinds := kindsOf(w.table, names)
		w.ports = append(w.ports, kinds...)
		w.text("ports", len(kinds))
	}
	w.text("hub", w.Hub)
	for _, hook := range []nft.Hook{nft.Prerouting, nft.Forward, nft.Postrouting} {
		for _, c := range w.table.Base(hook) {
			if !marksOnly(c) {
				w.text("base", hook, c.Type, c.Priority, c.Drop)
				w.chain(c)
			}
		}
	}
	if w.maps { // the addresses that it makes are the box's own
		w.text("device", w.Device, w.own)
	}
}

// chain writes the rules of a chain, and those of a chain that it leads to where
// that comes first.
func (w *writer) chain(c *nft.Chain) {
	if n, ok := w.chains[c.Name]; ok {
		w.out = binary.AppendUvarint(append(w.out, '@'), uint64(n))
		return
	}
	w.chains[c.Name] = len(w.chains)
	w.out = append(w.out, '{')
	for i := range c.Rules {
		r := &c.Rules[i]
		w.maps = w.maps || len(r.Map) > 0
		if r.Verdict == nft.Continue {
			continue
		}
		w.out = append(w.out, r.Verdict[0], r.Verdict[1])
		for _, m := range r.Matches {
			w.match(m)
		}
		for _, x := range r.Map {
			w.list([]netip.Prefix{x.From}, x.From.Addr().Is6())
			w.list([]netip.Prefix{x.To}, x.To.Addr().Is6())
		}
		if to := w.table.Chain(r.To); to != nil {
			w.chain(to)
		}
		w.out = append(w.out, ';')
	}
	w.out = append(w.out, '}')
}

// match writes what a condition says about each own address and each interface;
// of other addresses the number of their list comes later, in the same order.
func (w *writer) match(m nft.Match) {
	switch m := m.(type) {
	case nft.Interface:
		w.out = append(w.out, 'i', flag(m.Out))
		w.out = bitmap(w.out, len(w.ports), func(i int) bool { return m.Names[w.ports[i]] != m.Not })
	case nft.Address:
		w.out = append(w.out, 'a', flag(m.Dst), flag(m.Not), flag(m.V6))
		w.list(m.Prefixes, m.V6)
	case nft.Pair: // see matcher.matches: the interface stands for all tunnels
		var ends []netip.Prefix
		for e := range m.Ends {
			ends = append(ends, netip.PrefixFrom(e.Addr, e.Addr.BitLen()))
			w.maps = w.maps || !slices.Contains(w.Tunnels, e.Interface) // then it stands for itself
		}
		w.out = append(w.out, 'p')
		w.list(ends, false)
	case nft.Port:
		w.services = append(w.services, m)
		w.out = append(w.out, 'o', m.Proto, flag(m.Dst))
		for _, r := range m.Ranges {
			w.out = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(w.out, r.From), r.To)
		}
	case nft.ICMPType:
		w.services = append(w.services, m)
		w.out = append(append(w.out, 't', flag(m.V6)), m.Types...)
	default:
		w.out = fmt.Appendf(w.out, "%T%v", m, m)
	}
}

// list writes which own addresses are in a list of prefixes, and the place of
// its others. Rules that name a set share its list.
func (w *writer) list(all []netip.Prefix, v6 bool) {
	if len(all) > 0 {
		if known, ok := w.known[&all[0]]; ok {
			w.out = append(w.out, known...)
			return
		}
	}
	f := 0
	if v6 {
		f = 1
	}
	var mine []netip.Prefix
	for _, p := range all {
		if within(p, w.own) {
			mine = append(mine, p)
		}
	}
	out := bitmap(nil, len(w.parts[f]), func(i int) bool {
		return slices.ContainsFunc(mine, func(p netip.Prefix) bool { return p.Contains(w.parts[f][i].from) })
	})
	if len(all) > len(mine) {
		w.others[f] = append(w.others[f], list{all, mine})
		out = binary.AppendUvarint(out, uint64(len(w.others[f])))
	} else {
		out = append(out, 0)
	}
	if len(all) > 0 {
		w.known[&all[0]] = out
	}
	w.out = append(w.out, out...)
}

// kinds are the box's segments, sorted.
func (b *Box) kinds() []inventory.SegmentKind {
	out := make([]inventory.SegmentKind, 0, len(b.Segments))
	for kind := range b.Segments {
		out = append(out, kind)
	}
	slices.Sort(out)
	return out
}

func flag(b bool) byte {
	if b {
		return '1'
	}
	return '0'
}

// bitmap appends n bits to out, in whole bytes.
func bitmap(out []byte, n int, is func(i int) bool) []byte {
	var b byte
	for i := range n {
		if is(i) {
			b |= 1 << (i % 8)
		}
		if i%8 == 7 || i == n-1 {
			out, b = append(out, b), 0
		}
	}
	return out
}
