package proof

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/controller/proof/nft"
	"github.com/wardnet/wardnet/inventory"
)

// Flow is what passes on one side and not on the other, by segment and target.
type Flow struct {
	From     inventory.SegmentKind // empty: from outside of the sites
	To       string
	Services string // "TCP 443, UDP 5060-5061"
	// FromSites and ToSites count the sites with it; ToSites is 0 for what is not
	// at a site.
	FromSites, ToSites int
	Src, Dst           netip.Addr // an example
}

// Difference is what a change lets pass and stops.
type Difference struct {
	Allows []Flow
	Denies []Flow
}

// share cuts the own addresses of a box that is on both sides alike.
func share(sides []Side, ins [2]*intents, scans *[2][]scanned) {
	at := map[inventory.DeviceID]int{}
	for i, b := range sides[0].Boxes {
		at[b.Device] = i
	}
	for i, b := range sides[1].Boxes {
		k, ok := at[b.Device]
		if !ok {
			continue
		}
		one, two := &scans[0][k], &scans[1][i]
		for f, v6 := range []bool{false, true} {
			if slices.EqualFunc(one.parts[f], two.parts[f], func(a, b part) bool { return a.span == b.span && a.legacy == b.legacy }) {
				continue
			}
			both := slices.Concat(one.local[f], two.local[f], ins[0].blocks(b.Site), ins[1].blocks(b.Site))
			one.parts[f], two.parts[f] = partsOf(&sides[0].Boxes[k], ins[0], both, v6), partsOf(&sides[1].Boxes[i], ins[1], both, v6)
			one.alone, two.alone = true, true
		}
	}
}

// comparison is one family's.
type comparison struct {
	sides [2]*prover
	all   [2]map[string]*tally // what is allowed, what is denied
}

// tally adds up one kind of flow.
type tally struct {
	Flow
	some     set
	from, to map[int]int // cohorts and how many sites they are
}

// pair is one device on both sides; -1: it is not there.
type pair [2]int

// twins are devices of the same matrices on both sides.
type twins struct {
	of []pair // two of them
	n  int
}

func (c *comparison) run() {
	at := map[inventory.DeviceID]pair{}
	var order []inventory.DeviceID
	for k, s := range c.sides {
		for i, b := range s.boxes {
			p, ok := at[b.Device]
			if !ok {
				p = pair{-1, -1}
				order = append(order, b.Device)
			}
			p[k] = i
			at[b.Device] = p
		}
	}
	var groups []*twins
	known := map[[2]*matrix]*twins{}
	for _, id := range order {
		p := at[id]
		var key [2]*matrix
		for k, i := range p {
			if i >= 0 {
				key[k] = c.sides[k].may[i]
			}
		}
		g := known[key]
		if g == nil {
			g = &twins{}
			known[key] = g
			groups = append(groups, g)
		}
		g.n++
		if len(g.of) < 2 {
			g.of = append(g.of, p)
		}
	}
	for a, from := range groups {
		c.compare(from.of[0], pair{-1, -1}, a, from.n, -1, 0)
		for b, to := range groups {
			switch {
			case a != b:
				c.compare(from.of[0], to.of[0], a, from.n, b, to.n)
			case len(from.of) > 1:
				c.compare(from.of[0], from.of[1], a, from.n, b, to.n)
			}
		}
	}
}

// ends are a flow's ends as both sides know them.
type ends struct {
	segment  inventory.SegmentKind
	src, dst netip.Addr
	to       string
}

func (e ends) compare(o ends) int {
	return cmp.Or(cmp.Compare(e.segment, o.segment), cmp.Compare(e.to, o.to), e.src.Compare(o.src), e.dst.Compare(o.dst))
}

// compare looks at what passes from one device, inside of its site and out of
// the overlay, or to another device.
func (c *comparison) compare(from, to pair, a, as, b, bs int) {
	var got [2]map[ends]set
	for k, p := range c.sides {
		got[k] = map[ends]set{}
		add := func(s source, t target, dst netip.Addr, some set) {
			if some.empty() || s.segment != "" && !s.genuine() {
				return
			}
			e := ends{s.segment, s.addr, dst, t.String()}
			got[k][e] = got[k][e].or(some)
		}
		switch {
		case from[k] < 0 || b >= 0 && to[k] < 0:
		case b < 0:
			p.around(from[k], add)
		default:
			p.across(from[k], to[k], add)
		}
	}
	for k := range got {
		for _, e := range slices.SortedFunc(maps.Keys(got[1-k]), ends.compare) {
			some := got[1-k][e]
			more := some.without(got[k][e])
			if more.empty() {
				continue
			}
			key := fmt.Sprint(e.segment, " ", e.to, " ", more)
			t := c.all[k][key]
			if t == nil {
				t = &tally{Flow: Flow{From: e.segment, To: e.to, Src: e.src, Dst: e.dst, Services: c.sides[0].s.names(more)}, some: more, from: map[int]int{}, to: map[int]int{}}
				c.all[k][key] = t
			}
			t.from[a] = as
			if b >= 0 {
				t.to[b] = bs
			}
		}
	}
}

// around gives what passes inside of a site, to the internet, and to and from
// the data centre.
func (p *prover) around(i int, add func(source, target, netip.Addr, set)) {
	x, m := p.boxes[i], p.may[i]
	for _, l := range m.local {
		if x.own[l.piece].target.segment == l.segment {
			continue // hosts of one segment need no box
		}
		add(x.source(l.origin), x.own[l.piece].target, x.own[l.piece].rep, l.set)
	}
	for _, rows := range [][]row{m.net, m.up} {
		for _, r := range rows {
			for g, some := range r.to {
				add(x.source(r.origin), p.classes[g], x.far(g), some)
			}
		}
	}
	for _, c := range m.down {
		for g, some := range c.from {
			add(source{addr: x.far(g)}, x.own[c.piece].target, x.own[c.piece].rep, some)
		}
	}
	for h, hub := range p.boxes {
		if !hub.Hub || h == i || x.Hub || len(hub.Uplinks) == 0 {
			continue
		}
		for _, r := range m.out {
			for g, some := range r.to {
				if r.seen >= 0 {
					add(x.source(r.origin), p.classes[g], hub.far(g), some.and(p.may[h].rise[r.seen][g]))
				}
			}
		}
		for _, c := range m.in {
			for g, some := range c.from {
				add(source{addr: hub.far(g)}, x.own[c.piece].target, x.own[c.piece].rep, some.and(p.may[h].fall[g][c.class]))
			}
		}
	}
}

// across gives what passes from one site to another, by any hub.
func (p *prover) across(i, j int, add func(source, target, netip.Addr, set)) {
	from, to := p.boxes[i], p.boxes[j]
	if from.Hub && to.Hub || len(from.Tunnels) == 0 || len(to.Tunnels) == 0 {
		return
	}
	for _, r := range p.may[i].out {
		if r.seen < 0 {
			continue
		}
		for _, c := range p.may[j].in {
			some := r.to[c.class].and(c.from[r.seen])
			if !from.Hub && !to.Hub {
				var middle set
				for h, hub := range p.boxes {
					if hub.Hub {
						middle = middle.or(p.may[h].middle[r.seen][c.class])
					}
				}
				some = some.and(middle)
			}
			add(from.source(r.origin), to.own[c.piece].target, to.own[c.piece].rep, some)
		}
	}
}

// list gives the tallies of one kind, sorted.
func (c *comparison) list(kind int) []Flow {
	var out []Flow
	for _, t := range c.all[kind] {
		for _, n := range t.from {
			t.FromSites += n
		}
		for _, n := range t.to {
			t.ToSites += n
		}
		out = append(out, t.Flow)
	}
	slices.SortFunc(out, func(a, b Flow) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Services, b.Services))
	})
	return out
}

// names writes a set of services for a person: ports that follow each other are
// one range.
func (s *services) names(some set) string {
	type span struct {
		proto    uint8
		from, to uint16
	}
	var spans []span
	var others []string
	for i, x := range s.all {
		switch {
		case !some.has(i):
		case (x.proto == nft.TCP || x.proto == nft.UDP) && !x.fragment:
			if n := len(spans) - 1; n >= 0 && spans[n].proto == x.proto && int(spans[n].to)+1 == int(x.ports.From) {
				spans[n].to = x.ports.To
				continue
			}
			spans = append(spans, span{x.proto, x.ports.From, x.ports.To})
		default:
			others = append(others, x.String())
		}
	}
	var out []string
	for _, x := range spans {
		name := map[uint8]string{nft.TCP: "TCP", nft.UDP: "UDP"}[x.proto]
		switch {
		case x.from == 0 && x.to == 65535:
			out = append(out, "all "+name)
		case x.from == x.to:
			out = append(out, fmt.Sprintf("%s %d", name, x.from))
		default:
			out = append(out, fmt.Sprintf("%s %d-%d", name, x.from, x.to))
		}
	}
	return strings.Join(append(out, others...), ", ")
}
