package proof

import (
	"net/netip"

	"github.com/wardnet/wardnet/controller/proof/nft"
)

// step sends some through a box from one interface to another: what comes out,
// and with what addresses.
func (x *box) step(in, out string, src, dst netip.Addr, q question) (set, netip.Addr, netip.Addr) {
	p := place{in: in, src: src, dst: dst, stateful: !x.Hub || q.answer && (x.ends(in) || x.ends(out)), bound: q.bound, answer: q.answer}
	some := x.match.pass(nft.Prerouting, p, q.some)
	if some.empty() {
		return some, src, dst
	}
	p.dst = x.match.translated(nft.Prerouting, p)
	p.out = out
	if some = x.match.pass(nft.Forward, p, some); some.empty() {
		return some, src, p.dst
	}
	some = x.match.pass(nft.Postrouting, p, some)
	return some, x.match.translated(nft.Postrouting, p), p.dst
}

// ends says whether a port is of one of the box's own segments: all packets of a
// flow of theirs pass the box, so that it knows the flow's state.
func (x *box) ends(port string) bool {
	for _, own := range x.Segments {
		if own == port {
			return true
		}
	}
	return false
}

// translated is the destination, or at postrouting the source, of the first
// packet of a flow after the chains of type nat. Their rules look at interfaces
// and addresses only; newMatcher's caller has seen to that.
func (m *matcher) translated(hook nft.Hook, p place) netip.Addr {
	packet := nft.Packet{In: p.in, Out: p.out, Src: p.src, Dst: p.dst, State: nft.New}
	addr := p.dst
	if hook == nft.Postrouting {
		addr = p.src
	}
	for _, c := range m.nat[hook] {
		for i := range c.Rules {
			r := &c.Rules[i]
			if !r.Holds(&packet) {
				continue
			}
			if r.Verdict == nft.Masquerade {
				return addr
			}
			for _, t := range r.Map {
				if to, ok := t.Apply(addr); ok {
					return to
				}
			}
		}
	}
	return addr
}

// plainNAT says whether the rules of chains of type nat look at interfaces and
// addresses only; the line of one that does not, else 0.
func plainNAT(t *nft.Table) (line int, text string) {
	for _, c := range t.Chains {
		if c.Type != "nat" {
			continue
		}
		for _, r := range c.Rules {
			for _, m := range r.Matches {
				switch m.(type) {
				case nft.Interface, nft.Address:
				default:
					return r.Line, r.Text
				}
			}
		}
	}
	return 0, ""
}
