package probe

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/wardnet/wardnet/inventory"
)

// Ports whose real services answer only their own protocol.
const (
	portDNS = 53
	portNTP = 123
)

// question is a datagram numbered seq that the service on a UDP port answers,
// or a plain text for an echo service.
func question(port uint16, seq uint32) []byte {
	switch port {
	case portDNS: // RFC 1035 §4.1: recursion desired, one question, "." NS
		b := make([]byte, 12, 17)
		binary.BigEndian.PutUint16(b, uint16(seq))
		b[2], b[5] = 1, 1
		return append(b, 0, 0, 2, 0, 1)
	case portNTP: // RFC 5905 §7.3: version 4, client; the server returns the transmit timestamp as origin
		b := make([]byte, 48)
		b[0] = 4<<3 | 3
		binary.BigEndian.PutUint32(b[40:], 0xdec0de)
		binary.BigEndian.PutUint32(b[44:], seq)
		return b
	}
	return fmt.Appendf(nil, "wardnet probe %08x", seq)
}

// answered reads the number out of an answer to a [question].
func answered(port uint16, b []byte) (uint32, bool) {
	switch {
	case port == portDNS && len(b) >= 12 && b[2]&0x80 != 0:
		return uint32(binary.BigEndian.Uint16(b)), true
	case port == portNTP && len(b) >= 48 && b[0]&7 == 4 && binary.BigEndian.Uint32(b[24:]) == 0xdec0de:
		return binary.BigEndian.Uint32(b[28:]), true
	case port == portDNS, port == portNTP:
		return 0, false
	}
	text, ok := bytes.CutPrefix(b, []byte("wardnet probe "))
	if !ok || len(text) < 8 {
		return 0, false
	}
	var seq uint32
	_, err := fmt.Sscanf(string(text[:8]), "%08x", &seq)
	return seq, err == nil
}

// echo is an ICMP or ICMPv6 echo request (RFC 792, RFC 4443) with the number in
// its data, for its own sequence field is short.
func echo(six bool, id uint16, seq uint32) ([]byte, error) {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(id), Seq: int(seq & 0xffff), Data: question(0, seq)}}
	if six {
		m.Type = ipv6.ICMPTypeEchoRequest // the kernel fills in its checksum
	}
	return m.Marshal(nil)
}

// echoed reads the number out of an echo reply with our id. IPv4 packets of a
// raw socket begin with their IP header.
func echoed(six bool, id uint16, b []byte) (uint32, bool) {
	proto, want := 1, icmp.Type(ipv4.ICMPTypeEchoReply)
	if six {
		proto, want = 58, ipv6.ICMPTypeEchoReply
	} else if len(b) > 20 && b[0]>>4 == 4 {
		b = b[min(len(b), int(b[0]&15)*4):]
	}
	m, err := icmp.ParseMessage(proto, b)
	if err != nil || m.Type != want {
		return 0, false
	}
	e, ok := m.Body.(*icmp.Echo)
	if !ok || e.ID != int(id) {
		return 0, false
	}
	return answered(0, e.Data)
}

// needs says whether an answer to a protocol is a datagram that must be read.
func needs(p inventory.Proto) bool { return p != inventory.TCP }
