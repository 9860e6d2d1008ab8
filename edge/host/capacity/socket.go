package capacity

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge/render"
)

const (
	// buffer has room for the longest train, both ways, as the kernel counts it.
	buffer = 1 << 20
	// dscpControl is CS6: an answer must not wait behind bulk traffic at the hub.
	dscpControl = 48 << 2
)

// listen opens the one socket that trains and answers travel by. Its packets
// carry a mark by which they pass beside the circuit's queue: that one runs at
// the old rate and would be what is measured.
func listen() (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		e := raw.Control(func(fd uintptr) {
			set := func(level, option, value int) {
				if err == nil {
					err = os.NewSyscallError(fmt.Sprintf("setsockopt %d/%d", level, option), unix.SetsockoptInt(int(fd), level, option, value))
				}
			}
			set(unix.SOL_SOCKET, unix.SO_MARK, render.MeasureMark)
			set(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
			set(unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer)
			set(unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, buffer)
			set(unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			set(unix.IPPROTO_IP, unix.IP_TOS, dscpControl)
		})
		return errors.Join(e, err)
	}}
	pc, err := lc.ListenPacket(context.Background(), "udp4", fmt.Sprintf("0.0.0.0:%d", render.MeasurePort))
	if err != nil {
		return nil, fmt.Errorf("listen for trains: %w; it needs CAP_NET_ADMIN", err)
	}
	return pc.(*net.UDPConn), nil
}

// send sends a train back to back by the tunnel t.
func (m *Meter) send(t tunnel, h head) error {
	dev, err := net.InterfaceByName(t.dev)
	if err != nil {
		return fmt.Errorf("send train by %s: %w", t.name, err)
	}
	control := (&ipv4.ControlMessage{Src: t.local.AsSlice(), IfIndex: dev.Index}).Marshal()
	to := netip.AddrPortFrom(t.remote, render.MeasurePort)
	b := make([]byte, payload)
	_ = m.conn.SetWriteDeadline(time.Now().Add(time.Second))
	for seq := range h.count {
		putTrain(b, h, seq)
		if _, _, err := m.conn.WriteMsgUDPAddrPort(b, control, to); err != nil {
			return fmt.Errorf("send train by %s: %w", t.name, err)
		}
	}
	return nil
}

// receive takes trains and answers until the socket is closed.
func (m *Meter) receive(ctx context.Context) error {
	b, control := make([]byte, 2048), make([]byte, 256)
	for {
		n, cn, _, from, err := m.conn.ReadMsgUDPAddrPort(b, control)
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		case err == nil:
			m.take(from, b[:n], arrival(control[:cn]))
		case !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, unix.ECONNREFUSED):
			return fmt.Errorf("receive trains: %w", err)
		}
		m.mu.Lock()
		over, next := m.collect.due(time.Now())
		m.mu.Unlock()
		_ = m.conn.SetReadDeadline(next)
		for _, r := range over {
			m.reply(r)
		}
	}
}

// take notes one datagram; what is not for us is dropped.
func (m *Meter) take(from netip.AddrPort, b []byte, at time.Time) {
	kind, h, seq, err := parse(b)
	if err != nil || from.Port() != render.MeasurePort {
		return
	}
	peer := from.Addr().Unmap()
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.ends[peer]; !known {
		return
	}
	switch {
	case kind == kindTrain && m.hub:
		m.collect.take(peer, h, seq, at)
	case kind == kindAnswer && m.answers != nil && h.session == m.session && h.train == m.train:
		select {
		case m.answers <- append([]byte(nil), b...):
		default: // it was answered already
		}
	}
}

// reply sends an answer from our end of the tunnel. One that cannot be sent is
// as good as lost.
func (m *Meter) reply(r reply) {
	m.mu.Lock()
	local, known := m.ends[r.to]
	m.mu.Unlock()
	if !known {
		return
	}
	control := (&ipv4.ControlMessage{Src: local.AsSlice()}).Marshal()
	_ = m.conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if _, _, err := m.conn.WriteMsgUDPAddrPort(r.body, control, netip.AddrPortFrom(r.to, render.MeasurePort)); err != nil {
		m.cfg.Log.Debug("train cannot be answered", "peer", r.to, "err", err)
	}
}

// arrival is when the kernel got a packet, which waits for us to run.
func arrival(control []byte) time.Time {
	for len(control) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS && len(data) == 16 { // a timespec of 64 bits
			return time.Unix(int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:])))
		}
		control = rest
	}
	return time.Now()
}
