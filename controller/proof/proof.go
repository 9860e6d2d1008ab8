// Package proof decides what the configured boxes of a city let pass, for all
// packets, and whether the intent wants it. It reads the texts that the boxes
// run, not what they were rendered from.
//
// Addresses are cut by every set that a rule or an intent has, and ports and
// types likewise, so that a rule is constant on what is left; then a path is the
// intersection of what each box on it lets pass. Sites that others cannot tell
// apart, by the computed values and not by assumption, share a verdict. What is
// found is played through the literal filters before it is said.
package proof

import (
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/controller/proof/nft"
	"github.com/wardnet/wardnet/inventory"
)

// Step is what decided about a packet at one box.
type Step struct {
	Device inventory.DeviceID
	Part   string // of what the box runs: nft, frr, wireguard
	Line   int    // of that text; 0: none
	Text   string
}

// String says where it is: "d-26740 nft:512".
func (s Step) String() string {
	if s.Line == 0 {
		return fmt.Sprintf("%s %s", s.Device, s.Part)
	}
	return fmt.Sprintf("%s %s:%d", s.Device, s.Part, s.Line)
}

// Counterexample is a packet that passes and should not, or one that should and
// does not; without a packet, something that no path may be without.
type Counterexample struct {
	Intent string // what it breaks
	Packet nft.Packet
	Path   []Step
}

func (c Counterexample) String() string {
	if !c.Packet.Src.IsValid() {
		if len(c.Path) > 0 {
			return fmt.Sprintf("%s: %s: %s", c.Intent, c.Path[0], c.Path[0].Text)
		}
		return c.Intent
	}
	return fmt.Sprintf("%s: %s → %s, protocol %d, port %d → %d", c.Intent, c.Packet.Src, c.Packet.Dst, c.Packet.Proto, c.Packet.SPort, c.Packet.DPort)
}

// Result is what was proven.
type Result struct {
	// Holds: nothing passes that the intent does not name, in any state: no path
	// by any hub, whatever else is down.
	Holds           bool
	Intents         int // that may pass something
	Pairs           int // of sites, both families
	Shared          int // pairs that had to be looked at: the others are like one of them
	Counterexamples []Counterexample
	// Unreached: what is permitted and does not pass, in a state that its permit
	// must survive.
	Unreached []Counterexample
	Reached   int // ways that were looked at, each for many packets and sites
	States    int // normal and single failures
	Risks     []Risk
	Took      time.Duration
}

// most is how many counterexamples are told.
const most = 20

// prover goes through all paths of one family.
type prover struct {
	*world
	in     *intents
	result *Result
	may    []*matrix // by box; boxes of one kind share it
	err    error     // the first: then nothing is proven
}

func (p *prover) all() error {
	var err error
	if p.may, err = p.matrices(question{bound: atMost, some: p.s.news}); err != nil {
		return err
	}
	outs, ins := newGroups(), newGroups()
	outKey, inKey := map[*matrix]string{}, map[*matrix]string{}
	for i, x := range p.boxes {
		m := p.may[i]
		if m.first == i {
			outKey[m], inKey[m] = fmt.Sprint(x.Hub, x.rowKey(m.out)), fmt.Sprint(x.Hub, x.columnKey(m.in))
			p.inside(i)
			p.outside(i)
		}
		outs.add(outKey[m], i)
		ins.add(inKey[m], i)
	}
	p.result.Pairs += len(p.boxes) * (len(p.boxes) - 1)
	for _, g := range slices.Concat(outs.all, ins.all) {
		p.beyond(g[0])
	}
	for _, a := range outs.all {
		for _, b := range ins.all {
			if i, j, ok := apart(a, b); ok {
				p.result.Shared++
				p.between(i, j)
			}
		}
	}
	return p.err
}

// matrices makes one for each kind of box, and gives every box its own.
func (w *world) matrices(q question) ([]*matrix, error) {
	out := make([]*matrix, len(w.boxes))
	known := map[int]*matrix{}
	for i, x := range w.boxes {
		m := known[x.kind]
		if m == nil {
			a, err := w.ask(x, q)
			if err != nil {
				return nil, err
			}
			m = w.spread(x, a)
			m.first = i
			known[x.kind] = m
		}
		out[i] = m
	}
	return out, nil
}

// groups are boxes with equal keys, two of each.
type groups struct {
	at  map[string]int
	all [][]int
}

func newGroups() *groups { return &groups{at: map[string]int{}} }

func (g *groups) add(key string, i int) {
	n, ok := g.at[key]
	if !ok {
		n = len(g.all)
		g.at[key], g.all = n, append(g.all, nil)
	}
	if len(g.all[n]) < 2 {
		g.all[n] = append(g.all[n], i)
	}
}

// apart chooses two boxes of two groups that are not the same.
func apart(a, b []int) (int, int, bool) {
	for _, i := range a {
		for _, j := range b {
			if i != j {
				return i, j, true
			}
		}
	}
	return 0, 0, false
}

// wrong is what of some a source may not send to a target.
func (p *prover) wrong(s source, to target, some set) set {
	if some.empty() || !s.genuine() {
		return some
	}
	may, _ := p.in.permitted(p.s, s.segment, to)
	return some.without(may)
}

// inside looks at what passes between the segments of one site.
func (p *prover) inside(i int) {
	x, m := p.boxes[i], p.may[i]
	for _, l := range m.local {
		s, to := x.source(l.origin), x.own[l.piece]
		if bad := p.wrong(s, to.target, l.set); !bad.empty() {
			p.tell(s, to.target, bad, to.rep, hop{x, x.Segments[s.segment], to.port})
		}
	}
}

// outside looks at what leaves a box for the internet and the data centre, and
// what comes from there.
func (p *prover) outside(i int) {
	x, m := p.boxes[i], p.may[i]
	for _, k := range []struct {
		rows   []row
		ports  []string
		uplink bool
	}{{m.net, x.circuit, false}, {m.up, x.uplink, true}} {
		for _, r := range k.rows {
			for g, got := range r.to {
				to := p.classes[g]
				switch {
				case k.uplink:
					to.ours = true // no permit names what else is in the data centre
				case to.ours:
					to = target{ours: true} // in clear, whatever the permits say
				}
				if bad := p.wrong(x.source(r.origin), to, got); !bad.empty() {
					p.tell(x.source(r.origin), to, bad, x.far(g), hop{x, x.Segments[r.segment], k.ports[0]})
				}
			}
		}
	}
	for _, c := range m.down {
		for g, got := range c.from {
			if got = got.without(p.s.errs); !got.empty() {
				to := x.own[c.piece]
				p.tell(source{addr: x.far(g)}, to.target, got, to.rep, hop{x, x.Uplinks[0], to.port})
			}
		}
	}
}

// beyond looks at what box i sends by hubs to the data centre, and gets from
// there.
func (p *prover) beyond(i int) {
	x := p.boxes[i]
	for h, hub := range p.boxes {
		if !hub.Hub || h == i || x.Hub || len(hub.Uplinks) == 0 {
			continue
		}
		for _, r := range p.may[i].out {
			for g, got := range r.to {
				if r.seen < 0 || got.empty() {
					continue
				}
				to, from := p.classes[g], x.source(r.origin)
				to.ours = true // no permit names what else is in the data centre
				if bad := p.wrong(from, to, got.and(p.may[h].rise[r.seen][g])); !bad.empty() {
					p.tell(from, to, bad, hub.far(g), hop{x, x.Segments[r.segment], x.Tunnels[0]}, hop{hub, hub.Tunnels[0], hub.Uplinks[0]})
				}
			}
		}
		for _, c := range p.may[i].in {
			for g, got := range c.from {
				if bad := got.and(p.may[h].fall[g][c.class]).without(p.s.errs); !bad.empty() {
					to := x.own[c.piece]
					p.tell(source{addr: hub.far(g)}, to.target, bad, to.rep, hop{hub, hub.Uplinks[0], hub.Tunnels[0]}, hop{x, x.Tunnels[0], to.port})
				}
			}
		}
	}
}

// between looks at what passes from box i to box j, straight where one is a hub
// and by every hub else.
func (p *prover) between(i, j int) {
	from, to := p.boxes[i], p.boxes[j]
	if from.Hub && to.Hub || len(from.Tunnels) == 0 || len(to.Tunnels) == 0 {
		return // hubs have no tunnel between them
	}
	for _, r := range p.may[i].out {
		if r.seen < 0 {
			continue
		}
		source := from.source(r.origin)
		for _, c := range p.may[j].in {
			ends := r.to[c.class].and(c.from[r.seen])
			if ends.empty() {
				continue
			}
			dst := to.own[c.piece]
			if from.Hub || to.Hub {
				if bad := p.wrong(source, dst.target, ends); !bad.empty() {
					p.tell(source, dst.target, bad, dst.rep, hop{from, from.Segments[r.segment], from.Tunnels[0]}, hop{to, to.Tunnels[0], dst.port})
				}
				continue
			}
			for h, hub := range p.boxes {
				if !hub.Hub {
					continue
				}
				if bad := p.wrong(source, dst.target, ends.and(p.may[h].middle[r.seen][c.class])); !bad.empty() {
					p.tell(source, dst.target, bad, dst.rep, hop{from, from.Segments[r.segment], from.Tunnels[0]}, hop{hub, hub.Tunnels[0], hub.Tunnels[0]}, hop{to, to.Tunnels[0], dst.port})
				}
			}
		}
	}
}
