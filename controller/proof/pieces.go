package proof

import (
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/controller/proof/nft"
)

// makePieces cuts a box's own parts by the space's sets.
func (w *world) makePieces(x *box, parts []part) {
	x.own = make([]piece, 0, len(parts))
	for n, p := range parts {
		for a := p.from; ; {
			g := w.space.at(a)
			y := piece{rep: a, part: n, class: w.classOf[g], span: g, target: p.target, port: x.Segments[p.target.segment]}
			if p.legacy {
				y.class = -1
			}
			if !slices.ContainsFunc(x.own, func(o piece) bool { return o.part == n && o.class == y.class }) {
				x.own = append(x.own, y)
			}
			end := w.space.end(g)
			if !end.IsValid() || !end.Less(p.to) {
				break
			}
			a = end.Next()
		}
	}
}

// kindsOf returns one of each kind of interfaces that the rules tell apart.
func kindsOf(t *nft.Table, names []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, name := range names {
		var key []byte
		for _, c := range t.Chains {
			for i := range c.Rules {
				for _, m := range c.Rules[i].Matches {
					if m, ok := m.(nft.Interface); ok {
						key = append(key, map[bool]byte{false: '0', true: '1'}[m.Names[name]])
					}
				}
			}
		}
		if !seen[string(key)] {
			seen[string(key)] = true
			out = append(out, name)
		}
	}
	return out
}

// legacyTarget is where the intent sees an address that only the site knows.
func (b *Box) legacyTarget(a netip.Addr) target {
	for kind, p := range b.Legacy {
		if p.Contains(a) {
			return target{segment: kind, ours: true}
		}
	}
	return target{ours: true}
}
