package proof

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/inventory"
)

// Risk is a failure that cuts sites off because their circuits allow no better.
type Risk struct {
	Failure string
	From    string // what they are cut off from
	Sites   []inventory.SiteID
}

// all of the overlay
const everything = "everything"

func (m *matrix) localOf(o origin, piece int) set {
	for _, l := range m.local {
		if l.origin == o && l.piece == piece {
			return l.set
		}
	}
	return set{}
}

// inOf is what comes in to a piece from a class.
func (m *matrix) inOf(piece, g int) set {
	for _, c := range m.in {
		if c.piece == piece {
			return c.from[g]
		}
	}
	return set{}
}

// seen is the class that others see a source as; -1: nothing of it gets out.
func (m *matrix) seen(o origin) int {
	for _, r := range m.out {
		if r.origin == o {
			return r.seen
		}
	}
	return -1
}

// find is what gets out from a source to a class.
func find(all []row, o origin, g int) set {
	for _, r := range all {
		if r.origin == o {
			return r.to[g]
		}
	}
	return set{}
}

// lacks notes what of a permit does not pass, with the rule that stops it.
func (p *reacher) lacks(x inventory.Permit, from source, to target, dst netip.Addr, missing set, answer bool, path ...hop) {
	p.result.Reached++
	if missing.empty() || p.err != nil || !p.room() {
		return
	}
	for _, h := range path {
		if p.err = p.load(h.box); p.err != nil {
			return
		}
	}
	kind := p.s.all[missing.first()]
	what := fmt.Sprintf("permit %s: segment %s must be able to open %s to %s", x.ID, from.segment, kind, to)
	if answer {
		what = fmt.Sprintf("permit %s: %s must come back to %s", x.ID, kind, to)
	}
	packet := kind.packet(otherPort)
	packet.Src, packet.Dst = from.addr, dst
	steps, passes := play(packet, path)
	if passes { // by this port of the other side it does, by another it may not
		what += " (from any port)"
	}
	p.add(Counterexample{what, packet, steps})
}

// cut notes that a state leaves no way between two sites.
func (p *reacher) cut(x inventory.Permit, to target, i, j, n int) {
	if !p.room() {
		return
	}
	from := &p.boxes[i].Box
	what := fmt.Sprintf("permit %s: site %s must reach %s when %s", x.ID, from.Site, to, p.failures[n])
	if j >= 0 {
		what = fmt.Sprintf("permit %s: site %s must reach %s of site %s when %s", x.ID, from.Site, to, p.boxes[j].Site, p.failures[n])
	}
	f := 0
	if p.v6 {
		f = 1
	}
	var path []Step
	for _, b := range []int{i, j} {
		if b < 0 || p.boxes[b].Hub {
			continue
		}
		for _, w := range p.routes.wires[b] {
			if len(path) < mostSteps {
				path = append(path, w.why[f]...)
			}
		}
		if len(p.routes.wires[b]) == 0 {
			path = append(path, step(&p.boxes[b].Box, "wireguard", 0, "no tunnel at all"))
		}
	}
	if len(path) == 0 {
		path = append(path, step(from, "wireguard", 0, "no tunnel that is left leads to a hub that the other end has"))
	}
	p.add(Counterexample{Intent: what, Path: path})
}

// mostSteps is how many broken tunnels one counterexample names.
const mostSteps = 8

// room says whether another counterexample is told.
func (p *reacher) room() bool { return len(p.result.Unreached) < most }

// add notes a counterexample, once for each thing that it breaks.
func (p *reacher) add(c Counterexample) {
	if !slices.ContainsFunc(p.result.Unreached, func(o Counterexample) bool { return o.Intent == c.Intent }) {
		p.result.Unreached = append(p.result.Unreached, c)
	}
}

// risks lists the failures that cut sites off whatever is configured. Both
// families have the same.
func (p *reacher) risks() {
	if p.v6 {
		return
	}
	for n, x := range p.failures {
		if x.class == "" {
			continue
		}
		r := Risk{Failure: x.name, From: everything}
		for i, b := range p.boxes {
			if s := p.standings[i][n]; s.alive && !b.Hub && s.could == 0 {
				r.Sites = append(r.Sites, b.Site)
			}
		}
		if len(r.Sites) > 0 {
			p.result.Risks = append(p.result.Risks, r)
		}
	}
	for key, sites := range p.apart {
		p.result.Risks = append(p.result.Risks, Risk{p.failures[key.failure].name, key.from, slices.Sorted(maps.Keys(sites))})
	}
	slices.SortFunc(p.result.Risks, func(a, b Risk) int { return cmp.Or(cmp.Compare(a.Failure, b.Failure), cmp.Compare(a.From, b.From)) })
}

// parting is a failure that leaves no hub in common.
type parting struct {
	failure int
	from    string
}

// accept notes that a failure parts the sites of a cohort from another box, both
// of which still have some hub.
func (p *reacher) accept(n, i, j int) {
	if j < 0 || p.standings[i][n].could == 0 || p.standings[j][n].could == 0 {
		return // told of the one that has none
	}
	if p.boxes[i].Hub {
		i, j = j, i // told of the site, not of the hub
	}
	key := parting{n, "some of the other sites"}
	if b := p.boxes[j]; b.Hub {
		key.from = "site " + string(b.Site)
	}
	if p.apart[key] == nil {
		p.apart[key] = map[inventory.SiteID]bool{}
	}
	for _, k := range p.cohorts[i].sites {
		p.apart[key][p.boxes[k].Site] = true
	}
}
