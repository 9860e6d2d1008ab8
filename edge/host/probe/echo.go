package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// An echo carries nonce (8 bytes), the remote end (4) and the sequence number
// (4), so that an answer needs no table of identifiers: 16 bits are too few.
const payload = 16

// echo sends one echo request out of the interface with the given index.
func (p *Prober) echo(t Target, index int, seq uint32) error {
	var data [payload]byte
	binary.BigEndian.PutUint64(data[:], p.nonce)
	remote := t.Remote.As4()
	copy(data[8:], remote[:])
	binary.BigEndian.PutUint32(data[12:], seq)
	m := icmp.Message{
		Type: ipv4.ICMPTypeEcho,
		Body: &icmp.Echo{ID: int(p.nonce & 0xffff), Seq: int(seq & 0xffff), Data: data[:]},
	}
	b, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	// The source and the interface travel with the packet (IP_PKTINFO): one
	// socket serves all tunnels, whatever the routing table says.
	cm := &ipv4.ControlMessage{Src: t.Local.AsSlice(), IfIndex: index}
	_ = p.conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := p.conn.IPv4PacketConn().WriteTo(b, cm, &net.IPAddr{IP: t.Remote.AsSlice()}); err != nil {
		return fmt.Errorf("probe %s from %s: %w", t.Remote, t.Local, err)
	}
	return nil
}

// receive takes the answers until the socket is closed.
func (p *Prober) receive(ctx context.Context) error {
	buf := make([]byte, 1500)
	for {
		n, from, err := p.conn.ReadFrom(buf)
		now := time.Now()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("receive probes: %w", err)
		}
		addr, ok := from.(*net.IPAddr)
		if !ok {
			continue
		}
		if src, ok := netip.AddrFromSlice(addr.IP); ok {
			p.answer(src.Unmap(), buf[:n], now)
		}
	}
}

// answer notes an echo reply; what is not an answer to us is dropped.
func (p *Prober) answer(src netip.Addr, b []byte, now time.Time) {
	m, err := icmp.ParseMessage(ipv4.ICMPTypeEchoReply.Protocol(), b)
	if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
		return
	}
	e, ok := m.Body.(*icmp.Echo)
	if !ok || len(e.Data) != payload || binary.BigEndian.Uint64(e.Data) != p.nonce {
		return
	}
	remote, _ := netip.AddrFromSlice(e.Data[8:12])
	if remote != src {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.order {
		if t.Remote == remote {
			t.series.answer(binary.BigEndian.Uint32(e.Data[12:]), now)
			return
		}
	}
}
