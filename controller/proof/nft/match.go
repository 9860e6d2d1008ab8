package nft

import (
	"net/netip"
	"slices"
)

// Protocol numbers (IANA).
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
)

// State is what connection tracking says of a packet.
type State string

// States. Related packets, as errors about a flow are, count as Established.
const (
	New         State = "new"
	Established State = "established"
	Invalid     State = "invalid"
)

// Packet is one packet at one hook.
type Packet struct {
	In, Out      string // interfaces; empty: none, or not known yet
	Src, Dst     netip.Addr
	Proto        uint8
	SPort, DPort uint16 // TCP and UDP
	Type         uint8  // ICMP and ICMPv6
	State        State
	Fragment     bool  // a later fragment: it has no transport header
	TTL          uint8 // or hop limit
	IPsec        bool  // came out of an IPsec tunnel of the kernel
}

// Match is one condition of a rule; all of a rule's must hold. The types are
// [Interface], [Address], [Pair], [Port], [ICMPType], [StateIn], [TTLIs], [Rate],
// [FromIPsec], [MarkIs] and [SYN].
type Match interface {
	Holds(p *Packet) bool
}

// Interface compares the interface a packet came in by, or goes out by.
type Interface struct {
	Out   bool
	Not   bool
	Names map[string]bool
}

// Holds implements [Match].
func (m Interface) Holds(p *Packet) bool {
	name := p.In
	if m.Out {
		name = p.Out
	}
	return m.Names[name] != m.Not
}

// Address compares the source or the destination. A packet of the other family
// never matches, negated or not.
type Address struct {
	V6, Dst, Not bool
	Prefixes     []netip.Prefix
}

// Holds implements [Match].
func (m Address) Holds(p *Packet) bool {
	a := p.Src
	if m.Dst {
		a = p.Dst
	}
	if a.Is6() != m.V6 {
		return false
	}
	return slices.ContainsFunc(m.Prefixes, func(x netip.Prefix) bool { return x.Contains(a) }) != m.Not
}

// Pair compares the interface a packet came in by together with its IPv4 source.
type Pair struct{ Ends map[End]bool }

// Holds implements [Match].
func (m Pair) Holds(p *Packet) bool { return p.Src.Is4() && m.Ends[End{p.In, p.Src}] }

// Range is an inclusive range of ports.
type Range struct{ From, To uint16 }

// Port compares a port of TCP or UDP.
type Port struct {
	Proto  uint8
	Dst    bool
	Ranges []Range
}

// Holds implements [Match].
func (m Port) Holds(p *Packet) bool {
	n := p.SPort
	if m.Dst {
		n = p.DPort
	}
	return p.Proto == m.Proto && !p.Fragment && slices.ContainsFunc(m.Ranges, func(r Range) bool { return r.From <= n && n <= r.To })
}

// ICMPType compares the type of an ICMP or ICMPv6 message.
type ICMPType struct {
	V6    bool
	Types []uint8
}

// Holds implements [Match].
func (m ICMPType) Holds(p *Packet) bool {
	proto := uint8(ICMP)
	if m.V6 {
		proto = ICMPv6
	}
	return p.Src.Is6() == m.V6 && p.Proto == proto && !p.Fragment && slices.Contains(m.Types, p.Type)
}

// StateIn compares what connection tracking says.
type StateIn struct{ States []State }

// Holds implements [Match].
func (m StateIn) Holds(p *Packet) bool { return slices.Contains(m.States, p.State) }

// TTLIs compares the time to live of IPv4, or the hop limit of IPv6.
type TTLIs struct {
	V6    bool
	Value uint8
}

// Holds implements [Match].
func (m TTLIs) Holds(p *Packet) bool { return p.Src.Is6() == m.V6 && p.TTL == m.Value }

// Rate is a limit: packets beyond it do not match. In the model it always
// holds, for what it lets pass at all is what counts.
type Rate struct{}

// Holds implements [Match].
func (Rate) Holds(*Packet) bool { return true }

// FromIPsec holds for what the kernel decrypted.
type FromIPsec struct{}

// Holds implements [Match].
func (FromIPsec) Holds(p *Packet) bool { return p.IPsec }

// MarkIs compares a mark. Marks choose queues and tables, never what passes:
// the reader takes this in chains at priority mangle only.
type MarkIs struct{}

// Holds implements [Match].
func (MarkIs) Holds(*Packet) bool { return true }

// SYN holds for the first packet of a TCP connection; at priority mangle only.
type SYN struct{}

// Holds implements [Match].
func (SYN) Holds(p *Packet) bool { return p.Proto == TCP && p.State == New }
