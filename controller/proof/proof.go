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
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/controller/proof/nft"
	"github.com/wardnet/wardnet/inventory"
)

// Step is what decided about a packet at one box.
type Step struct {
	Device inventory.DeviceID
	Line   int // of the box's filter
	Text   string
}

// Counterexample is a packet that passes and should not.
type Counterexample struct {
	Intent string // what it breaks
	Packet nft.Packet
	Path   []Step
}

func (c Counterexample) String() string {
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
	Took            time.Duration
}

// most is how many counterexamples are told.
const most = 20

// Segmentation proves that no packet opens a flow that the inventory's permits
// do not name. The error lists what the proof does not understand: then nothing
// is proven.
func Segmentation(inv inventory.Inventory, boxes []Box) (Result, error) {
	begin := time.Now()
	in, err := newIntents(inv)
	if err != nil {
		return Result{}, err
	}
	r := Result{Intents: len(inv.Permits)}
	var errs []error
	tables := make([]*nft.Table, len(boxes))
	for i, b := range boxes {
		t, err := nft.Read(b.Filter)
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: device %s: %w", inventory.ErrInvalid, b.Device, err))
			continue
		}
		if line, text := plainNAT(t); line > 0 {
			errs = append(errs, fmt.Errorf("%w: device %s: packet filter, line %d: a translation that looks at more than interfaces and addresses: %q", inventory.ErrInvalid, b.Device, line, text))
		}
		tables[i] = t
	}
	if err := errors.Join(errs...); err != nil {
		return Result{}, err
	}
	var g errgroup.Group // the families have nothing in common
	results := make([]Result, 2)
	for i, v6 := range []bool{false, true} {
		g.Go(func() error {
			w, err := newWorld(v6, boxes, tables, in)
			if err == nil {
				p := prover{world: w, in: in, result: &results[i]}
				p.all()
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Result{}, err
	}
	for _, x := range results {
		r.Pairs, r.Shared = r.Pairs+x.Pairs, r.Shared+x.Shared
		r.Counterexamples = append(r.Counterexamples, x.Counterexamples...)
	}
	r.Holds = len(r.Counterexamples) == 0
	r.Took = time.Since(begin)
	return r, nil
}

// prover goes through all paths of one family.
type prover struct {
	*world
	in     *intents
	result *Result
	may    []*matrix // by box
}

func (p *prover) all() {
	p.may = make([]*matrix, len(p.boxes))
	outs, ins := newGroups(), newGroups()
	for i, x := range p.boxes {
		m := p.make(x, atMost, p.s.news)
		p.may[i] = m
		outs.add(fmt.Sprint(x.Hub, rowKey(m.out)), i)
		ins.add(fmt.Sprint(x.Hub, columnKey(m.in)), i)
		p.inside(i)
		p.outside(i)
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
}

// groups are boxes with equal keys.
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
	for at, got := range m.local {
		s, to := m.rows[at[0]], x.own[at[1]]
		if bad := p.wrong(s, to.target, got.set); !bad.empty() {
			p.tell(s, to.target, bad, to.rep, hop{x, x.Segments[s.segment], to.port})
		}
	}
}

// outside looks at what leaves a box for the internet and the data centre, and
// what comes from there.
func (p *prover) outside(i int) {
	x, m := p.boxes[i], p.may[i]
	for _, k := range []struct {
		rows  []row
		ports []string
	}{{m.net, x.circuit}, {m.up, x.uplink}} {
		for _, r := range k.rows {
			for g, got := range r.to {
				if bad := p.wrong(r.source, p.classes[g], got); !bad.empty() {
					p.tell(r.source, p.classes[g], bad, x.remote[g], hop{x, x.Segments[r.segment], k.ports[0]})
				}
			}
		}
	}
	for _, c := range m.down {
		for g, got := range c.from {
			if !got.empty() {
				p.tell(source{addr: x.remote[g]}, c.target, got, c.rep, hop{x, x.Uplinks[0], c.port})
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
				if r.class < 0 || got.empty() {
					continue
				}
				if bad := p.wrong(r.source, p.classes[g], got.and(p.may[h].rise[r.class][g])); !bad.empty() {
					p.tell(r.source, p.classes[g], bad, hub.remote[g], hop{x, x.Segments[r.segment], x.tunnel[0]}, hop{hub, hub.tunnel[0], hub.Uplinks[0]})
				}
			}
		}
		for _, c := range p.may[i].in {
			for g, got := range c.from {
				if bad := got.and(p.may[h].fall[g][c.class]); !bad.empty() {
					p.tell(source{addr: hub.remote[g]}, c.target, bad, c.rep, hop{hub, hub.Uplinks[0], hub.tunnel[0]}, hop{x, x.tunnel[0], c.port})
				}
			}
		}
	}
}

// between looks at what passes from box i to box j, straight where one is a hub
// and by every hub else.
func (p *prover) between(i, j int) {
	from, to := p.boxes[i], p.boxes[j]
	if from.Hub && to.Hub || len(from.tunnel) == 0 || len(to.tunnel) == 0 {
		return // hubs have no tunnel between them
	}
	for _, r := range p.may[i].out {
		if r.class < 0 {
			continue
		}
		for _, c := range p.may[j].in {
			ends := r.to[c.class].and(c.from[r.class])
			if ends.empty() {
				continue
			}
			if from.Hub || to.Hub {
				if bad := p.wrong(r.source, c.target, ends); !bad.empty() {
					p.tell(r.source, c.target, bad, c.rep, hop{from, from.Segments[r.segment], from.tunnel[0]}, hop{to, to.tunnel[0], c.port})
				}
				continue
			}
			for h, hub := range p.boxes {
				if !hub.Hub {
					continue
				}
				if bad := p.wrong(r.source, c.target, ends.and(p.may[h].middle[r.class][c.class])); !bad.empty() {
					p.tell(r.source, c.target, bad, c.rep, hop{from, from.Segments[r.segment], from.tunnel[0]}, hop{hub, hub.tunnel[0], hub.tunnel[0]}, hop{to, to.tunnel[0], c.port})
				}
			}
		}
	}
}

// hop is a box on a path, with the interfaces of the way in and out.
type hop struct {
	*box
	in, out string
}

// tell plays a counterexample through the literal filters and notes it.
func (p *prover) tell(s source, to target, bad set, dst netip.Addr, path ...hop) {
	if len(p.result.Counterexamples) >= most {
		return
	}
	x := p.s.all[bad.first()]
	what := fmt.Sprintf("segment %s must not open %s to %s", s.segment, x, to)
	switch {
	case s.segment == "":
		what = fmt.Sprintf("nothing outside of the sites may open %s to %s", x, to)
	case !s.genuine():
		what = fmt.Sprintf("a forged source in segment %s must not pass", s.segment)
	}
	for _, other := range p.otherPorts() {
		packet := x.packet(other)
		packet.Src, packet.Dst = s.addr, dst
		if steps, ok := play(packet, path); ok {
			p.result.Counterexamples = append(p.result.Counterexamples, Counterexample{what, packet, steps})
			return
		}
	}
	p.result.Counterexamples = append(p.result.Counterexamples, Counterexample{Intent: what + " (not shown by a packet: it is not proven that none can)", Packet: x.packet(40000)})
}

// otherPorts are ports of the side that a service leaves open: one of each kind.
func (p *prover) otherPorts() []uint16 {
	out := []uint16{40000}
	for _, x := range p.s.all {
		if !slices.Contains(out, x.ports.From) {
			out = append(out, x.ports.From)
		}
	}
	return out
}

// play walks a packet along a path and says what decided at each box.
func play(packet nft.Packet, path []hop) ([]Step, bool) {
	var steps []Step
	for _, h := range path {
		packet.In, packet.Out = h.in, ""
		for _, hook := range []nft.Hook{nft.Prerouting, nft.Forward, nft.Postrouting} {
			if hook == nft.Forward {
				packet.Out = h.out
			}
			got := h.table.At(hook, packet)
			for _, s := range got.Steps {
				steps = append(steps, Step{h.Device, s.Line, s.Text})
			}
			if !got.Pass {
				return steps, false
			}
			packet.Src, packet.Dst = got.Src, got.Dst
		}
	}
	return steps, true
}

func (t target) String() string {
	switch {
	case t.segment != "" && t.apps != "":
		return fmt.Sprintf("segment %s, application %s", t.segment, t.apps)
	case t.segment != "":
		return "segment " + string(t.segment)
	case t.apps != "":
		return "application " + t.apps
	case t.ours:
		return "the city's own addresses"
	}
	return "the internet"
}
