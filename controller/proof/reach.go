package proof

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/controller/proof/nft"
	"github.com/wardnet/wardnet/inventory"
)

// reacher proves of one family that what is permitted does pass: the first
// packet and the answer, by every hub that a site has in a state, in every state
// that the permit must survive.
type reacher struct {
	*prover
	routes    *routes
	failures  []failure
	standings [][]standing // by box and failure
	least     []*matrix    // first packets
	reply     []*matrix    // answers
	groups    []*cohort
	cohorts   map[int]*cohort // by box
	apart     map[parting]map[inventory.SiteID]bool
}

// cohort is sites that let the same pass and stand alike in every state.
type cohort struct {
	sites []int // boxes
}

// answers are the packets that answer those of some.
func (s *services) answers(some set) set {
	var out set
	for i, x := range s.all {
		if !some.has(i) {
			continue
		}
		for k, y := range s.all {
			switch {
			case x.proto != y.proto || y.fragment || y.other:
			case x.proto == nft.TCP || x.proto == nft.UDP:
				if y.back && y.ports == x.ports {
					out.add(k)
				}
			case x.icmp == 8 && y.icmp == 0, x.icmp == 128 && y.icmp == 129:
				out.add(k)
			}
		}
	}
	return out
}

func (s set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

func (p *reacher) all(inv inventory.Inventory) error {
	var wanted set
	for _, x := range p.in.permits {
		wanted = wanted.or(p.in.reaching(p.s, x))
	}
	var err error
	if p.least, err = p.matrices(question{bound: atLeast, some: wanted}); err != nil {
		return err
	}
	if p.reply, err = p.matrices(question{bound: atLeast, some: p.s.answers(wanted), answer: true}); err != nil {
		return err
	}
	f := 0
	if p.v6 {
		f = 1
	}
	p.standings = p.routes.standings(inv, p.failures, f)
	at := map[string]*cohort{}
	p.cohorts, p.apart = map[int]*cohort{}, map[parting]map[inventory.SiteID]bool{}
	var key []byte
	for i, x := range p.boxes {
		key = binary.AppendUvarint(key[:0], uint64(x.kind))
		for _, s := range p.standings[i] {
			key = binary.AppendUvarint(binary.AppendUvarint(append(key, flag(s.alive)), uint64(s.has)), uint64(s.could))
		}
		g := at[string(key)]
		if g == nil {
			g = &cohort{}
			at[string(key)] = g
			p.groups = append(p.groups, g)
		}
		g.sites = append(g.sites, i)
		p.cohorts[i] = g
	}
	for _, x := range p.in.permits {
		p.permit(x)
	}
	p.risks()
	return p.err
}

// must says whether a permit must hold for a site in a state: because its class
// says so, or because the site's circuits allow it.
func (p *reacher) must(x inventory.Permit, n int, all ...standing) bool {
	class := p.failures[n].class
	switch {
	case class == "":
		return true
	case len(x.Resilience) > 0:
		return slices.Contains(x.Resilience, class)
	}
	could := ^hubsOf(0)
	for _, s := range all {
		could &= s.could
	}
	return could != 0
}

// permit proves one permit from every kind of site to every kind of target.
func (p *reacher) permit(x inventory.Permit) {
	ask := p.in.reaching(p.s, x)
	if ask.empty() {
		return
	}
	for _, kind := range x.From {
		for _, from := range p.groups {
			i := from.sites[0]
			rows := p.sourcesOf(i, kind)
			if len(rows) == 0 {
				continue
			}
			switch {
			case x.ToInternet:
				p.toInternet(x, i, rows, ask)
				continue
			case x.ToApp != "":
				p.toCentre(x, i, rows, ask)
			}
			p.toLocal(x, i, rows, ask)
			for _, to := range p.groups {
				j := to.sites[0]
				if from == to {
					if len(to.sites) < 2 {
						continue
					}
					j = to.sites[1]
				}
				p.toSites(x, i, j, rows, ask)
			}
		}
	}
}

// sourcesOf are the box's own pieces where hosts of a segment are: the old
// prefix, where the site keeps one for the segment in this family.
func (p *reacher) sourcesOf(i int, kind inventory.SegmentKind) []origin {
	x := p.boxes[i]
	if x.Segments[kind] == "" {
		return nil
	}
	legacy, kept := x.Legacy[kind]
	kept = kept && legacy.Addr().Is6() == p.v6
	var out []origin
	for n, y := range x.own {
		if y.target.segment == kind && (!kept || legacy.Contains(y.rep)) {
			out = append(out, origin{kind, n, -1})
		}
	}
	return out
}

// wants says whether a permit is about a target.
func wants(x inventory.Permit, to target) bool {
	if x.ToApp != "" {
		return to.holds(x.ToApp)
	}
	return x.ToSeg != "" && to.segment == x.ToSeg
}

// toLocal proves what stays inside of a site.
func (p *reacher) toLocal(x inventory.Permit, i int, rows []origin, ask set) {
	b := p.boxes[i]
	for _, o := range rows {
		for n, to := range b.own {
			if !wants(x, to.target) || to.port == "" || to.target.segment == o.segment || p.hidden(i, n) {
				continue
			}
			s := b.source(o)
			p.lacks(x, s, to.target, to.rep, ask.without(p.least[i].localOf(o, n)), false, hop{b, b.Segments[o.segment], to.port})
			back := origin{to.target.segment, n, -1}
			p.lacks(x, b.source(back), s.target, s.addr, p.s.answers(ask).without(p.reply[i].localOf(back, o.piece)), true, hop{b, to.port, b.Segments[o.segment]})
		}
	}
}

// hidden says whether hosts of a piece have an old prefix instead of it.
func (p *reacher) hidden(i, piece int) bool {
	x := p.boxes[i]
	y := x.own[piece]
	legacy, kept := x.Legacy[y.target.segment]
	return kept && legacy.Addr().Is6() == p.v6 && !legacy.Contains(y.rep)
}

// toInternet proves the direct way out, of the first packets.
func (p *reacher) toInternet(x inventory.Permit, i int, rows []origin, ask set) {
	b := p.boxes[i]
	if len(b.Circuits) == 0 {
		return
	}
	for _, o := range rows {
		for g, to := range p.classes {
			if to.ours || !b.far(g).IsValid() || !public(b.far(g)) {
				continue
			}
			p.lacks(x, b.source(o), to, b.far(g), ask.without(find(p.least[i].net, o, g)), false, hop{b, b.Segments[o.segment], b.Circuits[0]})
		}
	}
}

// toCentre proves the way to an application behind the hubs' routers.
func (p *reacher) toCentre(x inventory.Permit, i int, rows []origin, ask set) {
	b := p.boxes[i]
	answers := p.s.answers(ask)
	for g, to := range p.classes {
		if !to.holds(x.ToApp) || !p.central(g) {
			continue
		}
		if b.Hub {
			for _, o := range rows {
				if len(b.Uplinks) > 0 {
					p.lacks(x, b.source(o), to, b.far(g), ask.without(find(p.least[i].up, o, g)), false, hop{b, b.Segments[o.segment], b.Uplinks[0]})
				}
			}
			continue
		}
		for _, h := range p.ways(x, to, i, -1) {
			hub := p.boxes[h]
			if len(hub.Uplinks) == 0 {
				continue
			}
			for _, o := range rows {
				s := b.source(o)
				seen := p.least[i].seen(o)
				if seen < 0 {
					p.lacks(x, s, to, hub.far(g), ask, false, hop{b, b.Segments[o.segment], b.Tunnels[0]})
					continue
				}
				got := find(p.least[i].out, o, g).and(p.least[h].rise[seen][g])
				p.lacks(x, s, to, hub.far(g), ask.without(got), false, hop{b, b.Segments[o.segment], b.Tunnels[0]}, hop{hub, hub.Tunnels[0], hub.Uplinks[0]})
				piece, addr := p.seenAs(i, o)
				back := p.reply[h].fall[g][seen].and(p.reply[i].inOf(piece, g))
				p.lacks(x, source{addr: hub.far(g)}, s.target, addr, answers.without(back), true, hop{hub, hub.Uplinks[0], hub.Tunnels[0]}, hop{b, b.Tunnels[0], b.Segments[o.segment]})
			}
		}
	}
}

// central says whether a class of addresses is behind the hubs' routers.
func (p *reacher) central(g int) bool {
	for _, h := range p.routes.hubs {
		for _, u := range p.boxes[h].Routers {
			a := p.boxes[h].far(g)
			if a.IsValid() && slices.ContainsFunc(u.Accept, func(x netip.Prefix) bool { return x.Contains(a) }) {
				return true
			}
		}
	}
	return false
}

// toSites proves the way from one site to another.
func (p *reacher) toSites(x inventory.Permit, i, j int, rows []origin, ask set) {
	from, to := p.boxes[i], p.boxes[j]
	if from.Hub && to.Hub {
		return // hubs have no tunnel between them
	}
	answers := p.s.answers(ask)
	var ways []int
	asked := false
	for n, y := range to.own {
		if !wants(x, y.target) || y.port == "" || y.class < 0 {
			continue
		}
		if !asked {
			ways, asked = p.ways(x, y.target, i, j), true
		}
		dst := origin{y.target.segment, n, -1}
		if p.hidden(j, n) { // hosts answer from the old prefix
			dst.piece = p.twin(j, n)
		}
		for _, o := range rows {
			s, seen := from.source(o), p.least[i].seen(o)
			for _, h := range ways {
				path := []hop{{from, from.Segments[o.segment], from.Tunnels[0]}}
				way := []hop{{to, y.port, to.Tunnels[0]}}
				var got, back set
				if seen >= 0 {
					got = find(p.least[i].out, o, y.class).and(p.least[j].inOf(n, seen))
					piece, _ := p.seenAs(i, o)
					back = find(p.reply[j].out, dst, seen).and(p.reply[i].inOf(piece, y.class))
				}
				if h != i && h != j {
					hub := p.boxes[h]
					if seen >= 0 {
						got, back = got.and(p.least[h].middle[seen][y.class]), back.and(p.reply[h].middle[y.class][seen])
					}
					path, way = append(path, hop{hub, hub.Tunnels[0], hub.Tunnels[0]}), append(way, hop{hub, hub.Tunnels[0], hub.Tunnels[0]})
				}
				p.lacks(x, s, y.target, y.rep, ask.without(got), false, append(path, hop{to, to.Tunnels[0], y.port})...)
				_, addr := p.seenAs(i, o)
				p.lacks(x, to.source(dst), s.target, addr, answers.without(back), true, append(way, hop{from, from.Tunnels[0], from.Segments[o.segment]})...)
			}
		}
	}
}

// seenAs is the piece, and an address of it, that others know a source by: the
// outside of an old prefix.
func (p *reacher) seenAs(i int, o origin) (int, netip.Addr) {
	x := p.boxes[i]
	y := x.own[o.piece]
	for n, z := range x.own {
		if y.class < 0 && z.class >= 0 && z.target.segment == y.target.segment && z.class == p.least[i].seen(o) {
			return n, z.rep
		}
	}
	return o.piece, y.rep
}

// twin is the piece of the old prefix that an outside piece stands for.
func (p *reacher) twin(i, outside int) int {
	x := p.boxes[i]
	for n, z := range x.own {
		if z.class < 0 && z.target.segment == x.own[outside].target.segment {
			return n
		}
	}
	return outside
}

// ways are the hubs that a flow may take in some state that the permit must
// survive; a state that leaves none is told. j is -1 for the data centre.
func (p *reacher) ways(x inventory.Permit, to target, i, j int) []int {
	var union hubsOf
	for n := range p.failures {
		a := p.standings[i][n]
		b := standing{alive: true, has: ^hubsOf(0), could: ^hubsOf(0)}
		if j >= 0 {
			b = p.standings[j][n]
		} else {
			b.has, b.could = p.centre(n), p.centre(n)
		}
		if !a.alive || !b.alive {
			continue
		}
		if !p.must(x, n, a, b) {
			if len(x.Resilience) == 0 {
				p.accept(n, i, j)
			}
			continue
		}
		has := a.has & b.has
		if has == 0 {
			p.cut(x, to, i, j, n)
			continue
		}
		union |= has
	}
	var out []int
	for u := union; u != 0; u &= u - 1 {
		out = append(out, p.routes.hubs[bits.TrailingZeros64(uint64(u))])
	}
	return out
}

// centre are the hubs that are alive and joined to the data centre.
func (p *reacher) centre(n int) hubsOf {
	var out hubsOf
	for k, h := range p.routes.hubs {
		if len(p.boxes[h].Routers) > 0 && p.standings[h][n].alive {
			out |= 1 << k
		}
	}
	return out
}
