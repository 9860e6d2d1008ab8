package proof

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/controller/proof/nft"
)

// makePieces cuts what lives behind a box by its own sets, by the space's and by
// the intent's segments.
func (w *world) makePieces(x *box, local [][]netip.Prefix, reps []netip.Addr, in *intents) {
	mine := newSpace(w.v6, append(slices.Clone(local), in.blocks(x.Site)...))
	known := map[string]bool{}
	for k, all := range [][]netip.Prefix{x.Own, x.inside()} {
		for _, p := range all {
			if p.Addr().Is6() != w.v6 {
				continue
			}
			s := spanOf(p)
			for a := s.from; ; {
				i, g := mine.at(a), w.space.at(a)
				end := s.to
				for _, e := range []netip.Addr{mine.end(i), w.space.end(g)} {
					if e.IsValid() && e.Less(end) {
						end = e
					}
				}
				y := piece{rep: a, part: partOf(reps, p, a), class: w.classOf[g], target: in.at(x.Site, a)}
				if k == 1 {
					y.class, y.target = -1, x.legacyTarget(a)
				}
				y.port = x.Segments[y.target.segment]
				key := fmt.Sprint(mine.held[i], y.part, y.class, y.target, y.port)
				if !known[key] {
					known[key] = true
					x.own = append(x.own, y)
				}
				if end == s.to {
					break
				}
				a = end.Next()
			}
		}
	}
}

// partOf is the last of reps in p that is not above a.
func partOf(reps []netip.Addr, p netip.Prefix, a netip.Addr) int {
	best := -1
	for n, r := range reps {
		if p.Contains(r) && !a.Less(r) && (best < 0 || reps[best].Less(r)) {
			best = n
		}
	}
	return best
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
