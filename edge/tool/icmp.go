package tool

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// IP protocol numbers (IANA).
const (
	protoICMP   = 1
	protoICMPv6 = 58
	ip6Fragment = 44
)

// transit is the state of a packet whose hop limit ended on its way.
const transit = "hop limit exceeded"

// asking is what our echo requests have in common.
type asking struct {
	to    netip.Addr
	id    uint16
	nonce uint64 // begins every payload that is long enough
}

// request is the echo request seq with a payload of size bytes.
func (a asking) request(seq, size int) ([]byte, error) {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte('a' + i%26)
	}
	if size >= 8 {
		binary.BigEndian.PutUint64(data, a.nonce)
	}
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(a.id), Seq: seq, Data: data}}
	if a.to.Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest // the kernel fills its checksum in
	}
	return m.Marshal(nil)
}

// heard is an answer to one of our requests.
type heard struct {
	seq   int
	from  netip.Addr
	bytes int    // of an echo reply, ICMP header included
	state string // [reached], [transit], or why it was not delivered
	hops  int    // hop limit of the answer; 0: unknown
}

// hear reads an ICMP message from the address from. What does not answer one
// of our requests is not ok.
func (a asking) hear(from netip.Addr, b []byte) (h heard, ok bool) {
	proto := protoICMP
	if a.to.Is6() {
		proto = protoICMPv6
	}
	m, err := icmp.ParseMessage(proto, b)
	if err != nil {
		return heard{}, false
	}
	h = heard{from: from, bytes: len(b)}
	switch body := m.Body.(type) {
	case *icmp.Echo:
		if m.Type != ipv4.ICMPTypeEchoReply && m.Type != ipv6.ICMPTypeEchoReply {
			return heard{}, false
		}
		ours := from == a.to && body.ID == int(a.id) && (len(body.Data) < 8 || binary.BigEndian.Uint64(body.Data) == a.nonce)
		h.seq, h.state = body.Seq, reached
		return h, ours
	case *icmp.DstUnreach:
		h.state = unreachable(a.to.Is6(), m.Code, b)
		h.seq, ok = a.quoted(body.Data)
	case *icmp.TimeExceeded:
		h.state = transit
		if m.Code != 0 {
			h.state = "fragments not reassembled in time"
		}
		h.seq, ok = a.quoted(body.Data)
	case *icmp.PacketTooBig:
		h.state = tooBig(body.MTU)
		h.seq, ok = a.quoted(body.Data)
	case *icmp.ParamProb:
		h.state = "parameter problem"
		h.seq, ok = a.quoted(body.Data)
	}
	return h, ok
}

// quoted finds the sequence number of our request in the packet that an error
// quotes.
func (a asking) quoted(p []byte) (seq int, ok bool) {
	var rest []byte
	if a.to.Is4() {
		if len(p) < 20 || p[0]>>4 != 4 || p[9] != protoICMP || netip.AddrFrom4([4]byte(p[16:20])) != a.to {
			return 0, false
		}
		if binary.BigEndian.Uint16(p[6:])&0x1fff != 0 { // a later fragment has no ICMP header
			return 0, false
		}
		n := int(p[0]&0x0f) * 4
		if n < 20 || len(p) < n+8 || p[n] != byte(ipv4.ICMPTypeEcho) {
			return 0, false
		}
		rest = p[n:]
	} else {
		if len(p) < 48 || p[0]>>4 != 6 || netip.AddrFrom16([16]byte(p[24:40])) != a.to {
			return 0, false
		}
		next, n := p[6], 40
		if next == ip6Fragment {
			if binary.BigEndian.Uint16(p[42:])&0xfff8 != 0 {
				return 0, false
			}
			next, n = p[40], 48
		}
		if next != protoICMPv6 || len(p) < n+8 || p[n] != byte(ipv6.ICMPTypeEchoRequest) {
			return 0, false
		}
		rest = p[n:]
	}
	return int(binary.BigEndian.Uint16(rest[6:])), binary.BigEndian.Uint16(rest[4:]) == a.id
}

// Codes of destination unreachable: RFC 792, 1122 and 1812; RFC 4443.
var (
	why4 = map[int]string{
		0: "net unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable", 5: "source route failed",
		6: "net unknown", 7: "host unknown", 9: "prohibited", 10: "prohibited", 11: "net unreachable", 12: "host unreachable", 13: "prohibited",
	}
	why6 = map[int]string{
		0: "net unreachable", 1: "prohibited", 2: "beyond scope of the source", 3: "host unreachable", 4: "port unreachable",
		5: "prohibited", 6: "net unreachable",
	}
)

func unreachable(v6 bool, code int, b []byte) string {
	why := why4
	switch {
	case v6:
		why = why6
	case code == 4 && len(b) >= 8: // RFC 1191: the next hop's MTU
		return tooBig(int(binary.BigEndian.Uint16(b[6:])))
	}
	if text, ok := why[code]; ok {
		return text
	}
	return fmt.Sprintf("unreachable, code %d", code)
}

func tooBig(mtu int) string {
	if mtu <= 0 {
		return "packet too big"
	}
	return fmt.Sprintf("packet too big, mtu %d", mtu)
}
