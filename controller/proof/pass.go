package proof

import (
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/controller/proof/nft"
)

// bound says how to take a condition that the atoms do not decide: the port of
// the other side, what connection tracking knows at a box that may not have seen
// the flow. What may pass at most holds it true, what passes for certain false.
type bound bool

const (
	atMost  bound = true
	atLeast bound = false
)

// place is where packets are: between which interfaces, and of which class of
// addresses. A class has an address that stands for all of it: no rule tells its
// addresses apart.
type place struct {
	in, out  string
	src, dst netip.Addr
	// stateful: the box has seen all of every flow, so that an answer is known
	// to be one.
	stateful bool
	bound    bound
	// answer: the packets belong to a flow that a packet the other way began.
	answer bool
	// anyDst: dst may be any address, and is not looked at.
	anyDst bool
}

// matcher evaluates the rules of one table for sets of service atoms.
type matcher struct {
	table *nft.Table
	s     *services
	facts map[*nft.Rule]*facts
	// tunnels are interfaces of which one stands for all.
	tunnels map[string]bool
	known   map[*netip.Prefix]map[netip.Addr]bool // by the list: rules that name a set share it
	base    map[nft.Hook][]*nft.Chain             // those that filter
	nat     map[nft.Hook][]*nft.Chain
	lanes   map[lane][]laneRule
}

// lane is where packets of a source come into a chain. Of its rules, those that
// are about another interface or source match nothing there, whatever the
// destination: they are left out once for all.
type lane struct {
	chain *nft.Chain
	in    string
	src   netip.Addr
}

type laneRule struct {
	*nft.Rule
	facts *facts
	to    *nft.Chain
}

// lane gives the rules of a chain that packets at p may match.
func (m *matcher) lane(c *nft.Chain, p *place) []laneRule {
	key := lane{c, p.in, p.src}
	known, ok := m.lanes[key]
	if ok {
		return known
	}
	packet := nft.Packet{In: p.in, Src: p.src}
	for i := range c.Rules {
		r := &c.Rules[i]
		if r.Verdict == nft.Continue || slices.ContainsFunc(r.Matches, func(x nft.Match) bool {
			switch x := x.(type) {
			case nft.Interface:
				return !x.Out && !x.Holds(&packet)
			case nft.Address:
				return !x.Dst && !m.holds(x, &packet)
			}
			return false
		}) {
			continue
		}
		known = append(known, laneRule{r, m.facts[r], m.table.Chain(r.To)})
	}
	m.lanes[key] = known
	return known
}

// facts are what is known of a rule before any place is.
type facts struct {
	services [2]set // that its conditions let through, at least and at most
	ends     map[netip.Addr]bool
	// sure: interfaces, addresses and services decide whether it matches.
	sure bool
}

func newMatcher(t *nft.Table, s *services, tunnels []string) *matcher {
	m := &matcher{
		table: t, s: s, tunnels: map[string]bool{}, facts: map[*nft.Rule]*facts{}, known: map[*netip.Prefix]map[netip.Addr]bool{},
		base: map[nft.Hook][]*nft.Chain{}, nat: map[nft.Hook][]*nft.Chain{}, lanes: map[lane][]laneRule{},
	}
	for _, name := range tunnels {
		m.tunnels[name] = true
	}
	for _, c := range t.Chains {
		for i := range c.Rules {
			r := &c.Rules[i]
			f := &facts{services: [2]set{m.services(r, atLeast), m.services(r, atMost)}, sure: true}
			f.sure = f.services[0] == f.services[1]
			for _, x := range r.Matches {
				switch x := x.(type) {
				case nft.Interface, nft.Address, nft.Port, nft.ICMPType:
				case nft.Pair:
					f.sure, f.ends = false, map[netip.Addr]bool{}
					for e := range x.Ends {
						f.ends[e.Addr] = true
					}
				default:
					f.sure = false
				}
			}
			m.facts[r] = f
		}
	}
	for _, hook := range []nft.Hook{nft.Prerouting, nft.Forward, nft.Postrouting} {
		for _, c := range t.Base(hook) {
			switch {
			case c.Type == "nat":
				m.nat[hook] = append(m.nat[hook], c)
			case !marksOnly(c):
				m.base[hook] = append(m.base[hook], c)
			}
		}
	}
	return m
}

// services are the atoms that the rule's conditions about protocols and ports
// let through.
func (m *matcher) services(r *nft.Rule, b bound) set {
	out := m.s.full
	for _, c := range r.Matches {
		switch c := c.(type) {
		case nft.Port:
			out = out.and(m.s.of(func(x service) bool {
				switch {
				case x.proto != c.Proto || x.fragment || x.other:
					return false
				case x.back == c.Dst: // the other side's port
					return bool(b) || all(c.Ranges)
				}
				for _, p := range c.Ranges {
					if p.From <= x.ports.From && x.ports.To <= p.To {
						return true
					}
				}
				return false
			}))
		case nft.ICMPType:
			out = out.and(m.s.of(func(x service) bool {
				if m.s.v6 != c.V6 || x.other || x.proto != nft.ICMP && x.proto != nft.ICMPv6 {
					return false
				}
				for _, n := range c.Types {
					if n == x.icmp {
						return true
					}
				}
				return false
			}))
		}
	}
	return out
}

func all(ranges []nft.Range) bool {
	return len(ranges) == 1 && ranges[0] == nft.Range{From: 0, To: 65535}
}

// matches returns the atoms of which a packet at p matches the rule.
func (m *matcher) matches(r *nft.Rule, f *facts, p *place, beforeConnTrack bool) set {
	packet := nft.Packet{In: p.in, Out: p.out, Src: p.src, Dst: p.dst}
	out := f.services[0]
	if p.bound == atMost {
		out = f.services[1]
	}
	if out.empty() {
		return out
	}
	for _, c := range r.Matches {
		switch c := c.(type) {
		case nft.Interface:
			if !c.Holds(&packet) {
				return set{}
			}
		case nft.Address:
			if c.Dst && p.anyDst {
				if p.bound == atLeast {
					return set{}
				}
				continue
			}
			if !m.holds(c, &packet) {
				return set{}
			}
		case nft.Pair: // the address stands for all ends, a tunnel for all tunnels
			if p.bound == atLeast || !f.ends[p.src] || !m.tunnels[p.in] && !c.Holds(&packet) {
				return set{}
			}
		case nft.Port, nft.ICMPType: // above
		case nft.StateIn:
			out = out.and(m.states(c, p, beforeConnTrack))
		case nft.TTLIs, nft.FromIPsec, nft.SYN:
			if p.bound == atLeast {
				return set{}
			}
		}
		if out.empty() {
			return out
		}
	}
	return out
}

// few prefixes are compared as quickly as they are looked up.
const few = 6

// holds says whether an address is in a set, and remembers it of large ones:
// the same addresses come again and again.
func (m *matcher) holds(c nft.Address, p *nft.Packet) bool {
	if len(c.Prefixes) <= few {
		return c.Holds(p)
	}
	a := p.Src
	if c.Dst {
		a = p.Dst
	}
	if a.Is6() != c.V6 {
		return false
	}
	known := m.known[&c.Prefixes[0]]
	if known == nil {
		known = map[netip.Addr]bool{}
		m.known[&c.Prefixes[0]] = known
	}
	in, ok := known[a]
	if !ok {
		in = c.Holds(p) != c.Not
		known[a] = in
	}
	return in != c.Not
}

// states are the atoms whose state is one of c's.
func (m *matcher) states(c nft.StateIn, p *place, beforeConnTrack bool) set {
	has := func(s nft.State) bool { return c.Holds(&nft.Packet{State: s}) }
	if beforeConnTrack {
		if has(nft.Invalid) {
			return m.s.full
		}
		return set{}
	}
	var out set
	answers := m.s.full
	if !p.answer {
		answers = m.s.full.without(m.s.news)
		if has(nft.New) {
			out = out.or(m.s.news)
		}
	}
	switch {
	case p.stateful && has(nft.Established),
		!p.stateful && p.bound == atMost && (has(nft.New) || has(nft.Established) || has(nft.Invalid)),
		!p.stateful && has(nft.New) && has(nft.Established) && has(nft.Invalid):
		out = out.or(answers)
	}
	return out
}

// pass returns what of some comes through the base chains of a hook that filter.
func (m *matcher) pass(hook nft.Hook, p place, some set) set {
	for _, c := range m.base[hook] {
		early := (hook == nft.Prerouting || hook == nft.Output) && c.Priority < -200
		accepted, rest := m.run(c, &p, some, early)
		some = accepted
		if !c.Drop {
			some = some.or(rest)
		}
		if some.empty() {
			break
		}
	}
	return some
}

// run sends some through a chain: what it accepts, and what comes out undecided.
// A jump gives back what its chain leaves undecided, a goto does not.
//
// Where the atoms do not decide whether a rule matches, both ways are gone: what
// may match takes the rule's way and what may not match goes on, for the most
// that passes; for the least, only what matches for certain takes its way, and
// only what does not match for certain goes on.
func (m *matcher) run(c *nft.Chain, p *place, some set, early bool) (accepted, out set) {
	other := *p
	other.bound = !p.bound
	for _, x := range m.lane(c, p) {
		if some.empty() {
			break
		}
		r, f := x.Rule, x.facts
		if f.services[1].and(some).empty() {
			continue // at most that matches
		}
		var hit, gone set // what takes the rule's way, and what does not go on
		if r.Verdict != nft.Drop || f.sure && !p.anyDst {
			hit = m.matches(r, f, p, early).and(some)
			gone = hit
		}
		if r.Verdict != nft.Accept && (!f.sure || p.anyDst) {
			gone = m.matches(r, f, &other, early).and(some)
		}
		switch r.Verdict {
		case nft.Accept:
			accepted, some = accepted.or(hit), some.without(hit)
		case nft.Drop:
			some = some.without(gone)
		case nft.Return:
			out, some = out.or(hit), some.without(gone)
		case nft.Jump, nft.Goto:
			if hit.empty() && gone.empty() {
				continue
			}
			a, rest := m.run(x.to, p, hit, early)
			accepted, some = accepted.or(a), some.without(gone)
			if r.Verdict == nft.Goto {
				out = out.or(rest)
			} else {
				some = some.or(rest)
			}
		}
	}
	return accepted, out.or(some)
}
