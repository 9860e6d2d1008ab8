package respond

import (
	"fmt"
	"net"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// returner gives the loop that sends every datagram of c back to its sender,
// from the address it was sent to: a host may have several.
func returner(six bool, c *net.UDPConn) (func(), error) {
	var err error
	if six {
		err = ipv6.NewPacketConn(c).SetControlMessage(ipv6.FlagDst, true)
	} else {
		err = ipv4.NewPacketConn(c).SetControlMessage(ipv4.FlagDst, true)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for destination addresses: %w", err)
	}
	return func() {
		b, control := make([]byte, 65536), make([]byte, 512)
		for {
			n, nc, _, from, err := c.ReadMsgUDPAddrPort(b, control)
			if err != nil {
				return // closed
			}
			_, _, _ = c.WriteMsgUDPAddrPort(answer(c, b[:n]), fromThere(six, control[:nc]), from) // a lost answer is a lost datagram
		}
	}, nil
}

// fromThere is the control message of an answer that leaves from the address
// which the control message of the question says it was sent to; nil, where it
// does not say.
func fromThere(six bool, question []byte) []byte {
	if six {
		var cm ipv6.ControlMessage
		if cm.Parse(question) != nil {
			return nil
		}
		return (&ipv6.ControlMessage{Src: cm.Dst}).Marshal()
	}
	var cm ipv4.ControlMessage
	if cm.Parse(question) != nil {
		return nil
	}
	return (&ipv4.ControlMessage{Src: cm.Dst}).Marshal()
}

// answer is what is sent back: the same, but marked as a response where the
// port's protocol knows such a mark, so that a client may tell them apart.
func answer(c net.PacketConn, b []byte) []byte {
	addr, ok := c.LocalAddr().(*net.UDPAddr)
	switch {
	case ok && addr.Port == 53 && len(b) >= 12:
		b[2] |= 0x80         // RFC 1035 §4.1.1: response
		b[3] = b[3]&0xf0 | 5 // refused
	case ok && addr.Port == 123 && len(b) >= 48:
		b[0] = b[0]&0xf8 | 4 // RFC 5905 §7.3: server
		copy(b[24:32], b[40:48])
		b[1] = 0 // stratum unspecified: no clock follows it
	}
	return b
}
