package proof

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/controller/proof/nft"
)

// hop is a box on a path, with the interfaces of the way in and out.
type hop struct {
	*box
	in, out string
}

// tell plays a counterexample through the literal filters and notes it.
func (p *prover) tell(s source, to target, bad set, dst netip.Addr, path ...hop) {
	if len(p.result.Counterexamples) >= most || p.err != nil {
		return
	}
	for _, h := range path {
		if p.err = p.load(h.box); p.err != nil {
			return
		}
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
	p.result.Counterexamples = append(p.result.Counterexamples, Counterexample{Intent: what + " (not shown by a packet: it is not proven that none can)", Packet: x.packet(otherPort)})
}

// otherPort is the port of the side that a service leaves open, as a host chooses
// it (RFC 6056).
const otherPort = 49999

// otherPorts are ports of the side that a service leaves open: one of each kind.
func (p *prover) otherPorts() []uint16 {
	out := []uint16{otherPort}
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
				steps = append(steps, Step{h.Device, "nft", s.Line, s.Text})
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
