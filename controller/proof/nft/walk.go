package nft

import (
	"cmp"
	"net/netip"
	"slices"
)

// connTrack is the priority at which connection tracking looks at a packet
// (NF_IP_PRI_CONNTRACK); before it the kernel calls every state invalid.
const connTrack = -200

// Step is a rule or a policy that decided something about a packet.
type Step struct {
	Chain string
	Line  int // of the rule; of the chain's head where its policy decided
	Text  string
}

// Outcome is what the filter does to a packet at a hook.
type Outcome struct {
	Pass     bool
	Src, Dst netip.Addr // as they are afterwards
	Steps    []Step     // in order, the deciding one last
}

// At sends p through the base chains of a hook in the order of their priority,
// rule by rule as the kernel does: it is the yardstick of everything cleverer.
// Chains of type nat look at the first packet of a flow only (nft(8)).
func (t *Table) At(hook Hook, p Packet) Outcome {
	out := Outcome{Pass: true, Src: p.Src, Dst: p.Dst}
	for _, c := range t.Base(hook) {
		if c.Type == "nat" {
			if p.State == New {
				t.translate(c, &p, &out)
			}
			continue
		}
		seen := p
		if (hook == Prerouting || hook == Output) && c.Priority < connTrack {
			seen.State = Invalid // nothing is known of the packet's flow yet
		}
		verdict, step := t.run(c, &seen)
		switch verdict {
		case Accept:
			out.Steps = append(out.Steps, step)
		case Drop:
			out.Pass = false
			out.Steps = append(out.Steps, step)
			return out
		default:
			if c.Drop {
				out.Pass = false
				out.Steps = append(out.Steps, Step{c.Name, c.Line, "policy drop"})
				return out
			}
		}
	}
	return out
}

// Base returns the base chains of a hook in the order in which they are asked.
func (t *Table) Base(hook Hook) []*Chain {
	var out []*Chain
	for _, c := range t.Chains {
		if c.Hook == hook {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b *Chain) int { return cmp.Compare(a.Priority, b.Priority) })
	return out
}

// run goes through a chain. Continue and Return: nothing was decided in it.
func (t *Table) run(c *Chain, p *Packet) (Verdict, Step) {
	for i := range c.Rules {
		r := &c.Rules[i]
		if !r.Holds(p) {
			continue
		}
		switch r.Verdict {
		case Accept, Drop:
			return r.Verdict, Step{c.Name, r.Line, r.Text}
		case Return:
			return Continue, Step{}
		case Jump, Goto:
			verdict, step := t.run(t.chains[r.To], p)
			if verdict == Accept || verdict == Drop || r.Verdict == Goto {
				return verdict, step
			}
		}
	}
	return Continue, Step{}
}

// Holds says whether all conditions of the rule do.
func (r *Rule) Holds(p *Packet) bool {
	for _, m := range r.Matches {
		if !m.Holds(p) {
			return false
		}
	}
	return true
}

// translate applies the first rule that does something to p. A masquerade
// changes the source to the box's own, which the model leaves as it is: it is
// the last that happens to a packet.
func (t *Table) translate(c *Chain, p *Packet, out *Outcome) {
	for i := range c.Rules {
		r := &c.Rules[i]
		if !r.Holds(p) {
			continue
		}
		if r.Verdict == Masquerade {
			out.Steps = append(out.Steps, Step{c.Name, r.Line, r.Text})
			return
		}
		addr := &p.Dst
		if r.Verdict == SNAT {
			addr = &p.Src
		}
		for _, m := range r.Map {
			if to, ok := m.Apply(*addr); ok {
				*addr = to
				out.Src, out.Dst = p.Src, p.Dst
				out.Steps = append(out.Steps, Step{c.Name, r.Line, r.Text})
				return
			}
		}
	}
}
