package proof

import (
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/controller/proof/nft"
	"github.com/wardnet/wardnet/inventory"
)

// What a box must say and hear to be managed and to be part of the overlay,
// whatever else is down: it is asked of each box alone, so that it holds at every
// step of a rollout, between whichever boxes are of the new revision already.
//
// The management channel is dialled out by any circuit (TCP, design §4): first
// packet out, answer in. A tunnel's first packet comes to the hub by UDP, and BGP
// (TCP 179, RFC 4271) and BFD (UDP 3784, RFC 5881) run in it.
const (
	portManagement = 9443
	portBGP        = 179
	portBFD        = 3784
)

// Addresses of nobody's, for the far end of a circuit and the near one (RFC 5737).
var (
	farAway = netip.MustParseAddr("198.51.100.1")
	nearBy  = netip.MustParseAddr("192.0.2.1")
)

// Control intents, as a counterexample names them.
const (
	intentManage  = "management: the box reaches its controller by every circuit"
	intentTunnel  = "overlay: a tunnel's first packet reaches the hub"
	intentRouting = "overlay: BGP and BFD run in every tunnel"
)

// control lists what of it the filter t of b stops.
func control(b *Box, t *nft.Table) []Counterexample {
	var out []Counterexample
	told := map[string]bool{}
	ask := func(intent string, hook nft.Hook, p nft.Packet) {
		if told[intent] {
			return // one packet shows it
		}
		if got := t.At(hook, p); !got.Pass {
			told[intent] = true
			c := Counterexample{Intent: intent, Packet: p}
			if n := len(got.Steps); n > 0 {
				last := got.Steps[n-1]
				c.Path = []Step{{Device: b.Device, Part: "nft", Line: last.Line, Text: last.Text}}
			}
			out = append(out, c)
		}
	}
	both := func(intent, port string, p nft.Packet) { // out, and the answer in
		p.Out, p.State = port, nft.New
		ask(intent, nft.Output, p)
		back := p
		back.In, back.Out, back.State = port, "", nft.Established
		back.Src, back.Dst, back.SPort, back.DPort = p.Dst, p.Src, p.DPort, p.SPort
		ask(intent, nft.Prerouting, back)
		ask(intent, nft.Input, back)
	}
	for _, port := range b.Circuits {
		both(intentManage, port, nft.Packet{Src: nearBy, Dst: farAway, Proto: nft.TCP, SPort: 40000, DPort: portManagement})
	}
	asked := map[struct {
		circuit string
		port    uint16
	}]bool{}
	for _, l := range b.Links {
		if port := b.port(l.Circuit); port != "" && l.Listen != 0 {
			key := struct {
				circuit string
				port    uint16
			}{port, l.Listen}
			if b.Hub && !asked[key] {
				asked[key] = true
				in := nft.Packet{In: port, Src: farAway, Dst: known(l.Near, nearBy), Proto: nft.UDP, SPort: 40000, DPort: l.Listen, State: nft.New}
				ask(intentTunnel, nft.Prerouting, in)
				ask(intentTunnel, nft.Input, in)
			}
			if !b.Hub {
				both(intentTunnel, port, nft.Packet{Src: known(l.Near, nearBy), Dst: known(l.Far, farAway), Proto: nft.UDP, SPort: 40000, DPort: l.Listen})
			}
		}
		for _, s := range []struct {
			proto uint8
			port  uint16
		}{{nft.TCP, portBGP}, {nft.UDP, portBFD}} {
			in := nft.Packet{In: l.Interface, Src: l.Remote, Dst: l.Local, Proto: s.proto, SPort: 49152, DPort: s.port, State: nft.New, TTL: 255}
			ask(intentRouting, nft.Prerouting, in)
			ask(intentRouting, nft.Input, in)
			ask(intentRouting, nft.Output, nft.Packet{Out: l.Interface, Src: l.Local, Dst: l.Remote, Proto: s.proto, SPort: 49152, DPort: s.port, State: nft.New, TTL: 255})
		}
	}
	return out
}

// known is a, or b where a is not known.
func known(a, b netip.Addr) netip.Addr {
	if a.IsValid() {
		return a
	}
	return b
}

// port is the interface of a circuit; "": it is not one of the box's.
func (b *Box) port(id inventory.CircuitID) string {
	if i := slices.Index(b.CircuitIDs, id); i >= 0 {
		return b.Circuits[i]
	}
	return ""
}

// Control reads what a box would run and lists what its filter stops of what it
// must say and hear.
func Control(b Box) ([]Counterexample, error) {
	a, err := b.Render()
	if err != nil {
		return nil, err
	}
	t, err := readFilter(a.Filter)
	if err != nil {
		return nil, err
	}
	return control(&b, t), nil
}
