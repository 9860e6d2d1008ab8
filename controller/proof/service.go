package proof

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"github.com/wardnet/wardnet/controller/proof/nft"
	"github.com/wardnet/wardnet/inventory"
)

// maxAtoms is how many kinds of packets a [set] holds.
const maxAtoms = 256

// set is a set of service atoms.
type set [maxAtoms / 64]uint64

func (s set) and(o set) set {
	for i := range s {
		s[i] &= o[i]
	}
	return s
}

func (s set) or(o set) set {
	for i := range s {
		s[i] |= o[i]
	}
	return s
}

func (s set) without(o set) set {
	for i := range s {
		s[i] &^= o[i]
	}
	return s
}

func (s set) empty() bool { return s == set{} }

func (s *set) add(i int) { s[i/64] |= 1 << (i % 64) }

// first is the lowest member; -1: none.
func (s set) first() int {
	for i, w := range s {
		if w != 0 {
			return 64*i + bits.TrailingZeros64(w)
		}
	}
	return -1
}

// service is a kind of packets that no rule and no intent tells apart.
type service struct {
	proto uint8
	// back: an answer, told by its source port; else the first packet of a flow,
	// told by the port it goes to. The other port may be any.
	back     bool
	ports    nft.Range // TCP and UDP
	icmp     uint8
	fragment bool // a later fragment of TCP or UDP
	other    bool // any other protocol, or any other type of ICMP
}

// packet is one packet of the service, with its free port at other.
func (s service) packet(other uint16) nft.Packet {
	p := nft.Packet{Proto: s.proto, Type: s.icmp, State: nft.New, Fragment: s.fragment, TTL: 64}
	if s.other && s.proto == 0 {
		p.Proto = 132 // SCTP: none that a rule names
	}
	p.SPort, p.DPort = other, s.ports.From
	if s.back {
		p.SPort, p.DPort, p.State = s.ports.From, other, nft.Established
	}
	return p
}

func (s service) String() string {
	name := map[uint8]string{nft.TCP: "TCP", nft.UDP: "UDP", nft.ICMP: "ICMP", nft.ICMPv6: "ICMPv6"}[s.proto]
	switch {
	case s.fragment:
		return name + " fragment"
	case s.other && s.proto == 0:
		return "another protocol"
	case s.other:
		return name + " of another type"
	case s.proto == nft.ICMP || s.proto == nft.ICMPv6:
		return fmt.Sprintf("%s type %d", name, s.icmp)
	case s.back:
		return fmt.Sprintf("%s answer from port %d", name, s.ports.From)
	}
	return fmt.Sprintf("%s port %d", name, s.ports.From)
}

// services are all atoms of one family.
type services struct {
	v6   bool
	key  string // the cuts
	all  []service
	full set // all of them
	news set // first packets of flows
	// errs are ICMP's errors about other packets (RFC 792, RFC 4443): they open
	// nothing. Of hosts they are news, for nobody needs to forge them.
	errs set
}

// cut makes the atoms from everything that tells packets apart: the ports and
// types that rules name, and those of the intents.
func cut(v6 bool, named []nft.Match, ports []inventory.PortRange) (*services, error) {
	starts := map[uint8]map[int]bool{nft.TCP: {0: true}, nft.UDP: {0: true}}
	icmp := uint8(nft.ICMP)
	echo, reply := uint8(8), uint8(0)
	if v6 {
		icmp, echo, reply = nft.ICMPv6, 128, 129
	}
	types := map[uint8]bool{echo: true, reply: true}
	at := func(proto uint8, r nft.Range) { starts[proto][int(r.From)], starts[proto][int(r.To)+1] = true, true }
	for _, m := range named {
		switch m := m.(type) {
		case nft.Port:
			for _, r := range m.Ranges {
				at(m.Proto, r)
			}
		case nft.ICMPType:
			for _, n := range m.Types {
				if m.V6 == v6 {
					types[n] = true
				}
			}
		}
	}
	for _, p := range ports {
		switch p.Proto {
		case inventory.TCP:
			at(nft.TCP, nft.Range{From: p.From, To: p.To})
		case inventory.UDP:
			at(nft.UDP, nft.Range{From: p.From, To: p.To})
		}
	}
	s := &services{v6: v6}
	add := func(x service) {
		if len(s.all) < maxAtoms {
			s.full.add(len(s.all))
			if !x.back {
				s.news.add(len(s.all))
			}
		}
		s.all = append(s.all, x)
	}
	for _, proto := range []uint8{nft.TCP, nft.UDP} {
		var all []int
		for n := range starts[proto] {
			all = append(all, n)
		}
		slices.Sort(all)
		for i, n := range all {
			end := 65535
			if i+1 < len(all) {
				end = all[i+1] - 1
			}
			if n > end {
				continue
			}
			for _, back := range []bool{false, true} {
				add(service{proto: proto, back: back, ports: nft.Range{From: uint16(n), To: uint16(end)}})
			}
		}
		add(service{proto: proto, fragment: true})
	}
	sorted := make([]uint8, 0, len(types))
	for n := range types {
		sorted = append(sorted, n)
	}
	slices.SortFunc(sorted, cmp.Compare)
	for _, n := range sorted {
		add(service{proto: icmp, icmp: n})
	}
	add(service{proto: icmp, icmp: 253, other: true}) // RFC 4727: for experiments
	add(service{other: true})
	s.key = fmt.Sprint(s.all)
	s.errs = s.of(func(x service) bool {
		return !x.other && (x.proto == nft.ICMP && slices.Contains([]uint8{3, 11, 12}, x.icmp) || x.proto == nft.ICMPv6 && x.icmp >= 1 && x.icmp <= 4)
	})
	if len(s.all) > maxAtoms {
		return nil, fmt.Errorf("%w: rules and intents tell %d kinds of packets apart; the proof holds %d", inventory.ErrInvalid, len(s.all), maxAtoms)
	}
	return s, nil
}

// of returns the atoms for which ok says yes.
func (s *services) of(ok func(service) bool) set {
	var out set
	for i, x := range s.all {
		if ok(x) {
			out.add(i)
		}
	}
	return out
}

// asked are the first packets of flows to the ports of an intent.
func (s *services) asked(ports []inventory.PortRange) set {
	return s.of(func(x service) bool {
		if x.back || x.fragment || x.other {
			return false
		}
		return slices.ContainsFunc(ports, func(p inventory.PortRange) bool {
			switch p.Proto {
			case inventory.TCP:
				return x.proto == nft.TCP && p.From <= x.ports.From && x.ports.To <= p.To
			case inventory.UDP:
				return x.proto == nft.UDP && p.From <= x.ports.From && x.ports.To <= p.To
			}
			return x.proto == nft.ICMP && x.icmp == 8 || x.proto == nft.ICMPv6 && x.icmp == 128
		})
	})
}
