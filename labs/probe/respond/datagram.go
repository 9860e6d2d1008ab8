package respond

import (
	"fmt"
	"net"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// returner gives the loop that sends every datagram of c back to its sender,
// from the address it was sent to: a host may have several.
func returner(six bool, c net.PacketConn) (func(), error) {
	if six {
		p := ipv6.NewPacketConn(c)
		if err := p.SetControlMessage(ipv6.FlagDst, true); err != nil {
			return nil, fmt.Errorf("ask for destination addresses: %w", err)
		}
		return func() {
			b := make([]byte, 65536)
			for {
				n, cm, from, err := p.ReadFrom(b)
				if err != nil {
					return // closed
				}
				reply := &ipv6.ControlMessage{}
				if cm != nil {
					reply.Src = cm.Dst
				}
				_, _ = p.WriteTo(answer(c, b[:n]), reply, from) // a lost answer is a lost datagram
			}
		}, nil
	}
	p := ipv4.NewPacketConn(c)
	if err := p.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return nil, fmt.Errorf("ask for destination addresses: %w", err)
	}
	return func() {
		b := make([]byte, 65536)
		for {
			n, cm, from, err := p.ReadFrom(b)
			if err != nil {
				return // closed
			}
			reply := &ipv4.ControlMessage{}
			if cm != nil {
				reply.Src = cm.Dst
			}
			_, _ = p.WriteTo(answer(c, b[:n]), reply, from) // a lost answer is a lost datagram
		}
	}, nil
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
