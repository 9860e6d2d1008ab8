package tool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/inventory"
)

// defaultHopLimit is that of hosts (IANA).
const defaultHopLimit = 64

// socket sends the echo requests of one tool and hears what answers them.
type socket struct {
	asking
	way  Way
	out  int // index of the interface the packets leave by; 0: as routed
	conn net.PacketConn
	v4   *ipv4.PacketConn // one of the two is nil
	v6   *ipv6.PacketConn
	in   chan arrival
	end  chan struct{}
}

// arrival is an answer with its time.
type arrival struct {
	heard
	at time.Time
}

// open makes a socket whose packets to dst take way. dontFragment forbids every
// box on the path, this one included, to cut them.
func open(ctx context.Context, way Way, dst netip.Addr, dontFragment bool) (*socket, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return way.prepare(raw, dst.Is6(), dontFragment)
	}}
	network, source := "ip4:icmp", ""
	if dst.Is6() {
		network = "ip6:ipv6-icmp"
	}
	if way.Source.IsValid() {
		source = way.Source.String()
	}
	out := 0
	if way.Interface != "" {
		link, err := net.InterfaceByName(way.Interface)
		if err != nil {
			return nil, fmt.Errorf("%w: port %s: %w", inventory.ErrConflict, way.Interface, err)
		}
		out = link.Index
	}
	conn, err := lc.ListenPacket(ctx, network, source)
	if err != nil {
		return nil, fmt.Errorf("open ICMP socket: %w", err)
	}
	s := &socket{
		asking: asking{to: dst, id: uint16(rand.Uint32()), nonce: rand.Uint64()},
		way:    way, out: out, conn: conn, in: make(chan arrival, 64), end: make(chan struct{}),
	}
	if err := s.listen(); err != nil {
		return nil, errors.Join(fmt.Errorf("set ICMP socket up: %w", err), conn.Close())
	}
	go s.receive()
	return s, nil
}

// listen says what is to be heard.
func (s *socket) listen() error {
	if s.to.Is6() {
		s.v6 = ipv6.NewPacketConn(s.conn)
		var f ipv6.ICMPFilter
		f.SetAll(true)
		for _, t := range []ipv6.ICMPType{ipv6.ICMPTypeEchoReply, ipv6.ICMPTypeDestinationUnreachable, ipv6.ICMPTypePacketTooBig, ipv6.ICMPTypeTimeExceeded, ipv6.ICMPTypeParameterProblem} {
			f.Accept(t)
		}
		return errors.Join(s.v6.SetICMPFilter(&f), s.v6.SetControlMessage(ipv6.FlagHopLimit, true))
	}
	s.v4 = ipv4.NewPacketConn(s.conn)
	var f ipv4.ICMPFilter
	f.SetAll(true)
	for _, t := range []ipv4.ICMPType{ipv4.ICMPTypeEchoReply, ipv4.ICMPTypeDestinationUnreachable, ipv4.ICMPTypeTimeExceeded, ipv4.ICMPTypeParameterProblem} {
		f.Accept(t)
	}
	return errors.Join(s.v4.SetICMPFilter(&f), s.v4.SetControlMessage(ipv4.FlagTTL, true))
}

// prepare binds a socket to the way.
func (w Way) prepare(raw syscall.RawConn, v6, dontFragment bool) error {
	var errs []error
	set := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	err := raw.Control(func(handle uintptr) {
		fd := int(handle)
		if w.OnLink {
			set("route on link", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DONTROUTE, 1))
		}
		if w.Mark != 0 {
			set("mark socket", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(w.Mark)))
		}
		// PROBE sets DF and asks the path each time; DO would answer from what
		// was learned of it before.
		discover := map[bool]int{true: unix.IP_PMTUDISC_PROBE, false: unix.IP_PMTUDISC_DONT}[dontFragment]
		if !v6 {
			set("fragmentation", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, discover))
			return
		}
		if dontFragment {
			set("fragmentation", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE))
			set("fragmentation", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1))
		}
	})
	return errors.Join(append(errs, err)...)
}

// send sends the echo request seq. What the box itself says of it comes back as
// a state like a router's; empty means that it left.
func (s *socket) send(seq, size, hopLimit int) (state string, err error) {
	b, err := s.request(seq, size)
	if err != nil {
		return "", err
	}
	// The interface travels with the packet, for the socket is not bound to it:
	// answers may come in by another.
	to, from := &net.IPAddr{IP: s.to.AsSlice()}, net.IP(s.way.Source.AsSlice())
	if s.v6 != nil {
		if err = s.v6.SetHopLimit(hopLimit); err == nil {
			_, err = s.v6.WriteTo(b, &ipv6.ControlMessage{IfIndex: s.out, Src: from}, to)
		}
	} else if err = s.v4.SetTTL(hopLimit); err == nil {
		_, err = s.v4.WriteTo(b, &ipv4.ControlMessage{IfIndex: s.out, Src: from}, to)
	}
	switch {
	case err == nil:
		return "", nil
	case errors.Is(err, net.ErrClosed):
		return "", err
	case errors.Is(err, unix.EMSGSIZE):
		return tooBig(s.firstMTU()), nil
	case errors.Is(err, unix.EPERM):
		return "dropped by the filter of this device", nil
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EINVAL): // EINVAL: a blackhole route
		return "no route on this device", nil
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES):
		return "host unreachable from this device", nil
	case errors.Is(err, unix.ENOKEY), errors.Is(err, unix.EDESTADDRREQ):
		return "the tunnel's peer is not up", nil
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENODEV):
		return "the port is down", nil
	}
	return "", fmt.Errorf("send to %s: %w", s.to, err)
}

// firstMTU is the MTU of the link the packets leave by, which says nothing of
// what is beyond it; 0: unknown.
func (s *socket) firstMTU() int {
	name := s.way.Interface
	if name == "" {
		opt := &netlink.RouteGetOptions{Mark: s.way.Mark}
		if s.way.Source.IsValid() {
			opt.SrcAddr = s.way.Source.AsSlice()
		}
		routes, err := netlink.RouteGetWithOptions(s.to.AsSlice(), opt)
		if err != nil || len(routes) == 0 {
			return 0
		}
		link, err := net.InterfaceByIndex(routes[0].LinkIndex)
		if err != nil {
			return 0
		}
		return link.MTU
	}
	link, err := net.InterfaceByName(name)
	if err != nil {
		return 0
	}
	return link.MTU
}

// receive hears until the socket is closed.
func (s *socket) receive() {
	defer close(s.end)
	b := make([]byte, 16<<10)
	for {
		n, hops, src, err := s.read(b)
		at := time.Now()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		ip, ok := src.(*net.IPAddr)
		if err != nil || !ok {
			continue
		}
		from, _ := netip.AddrFromSlice(ip.IP)
		if h, ok := s.hear(from.Unmap(), b[:n]); ok {
			h.hops = hops
			select {
			case s.in <- arrival{h, at}:
			default: // more than we asked for
			}
		}
	}
}

func (s *socket) read(b []byte) (n, hops int, src net.Addr, err error) {
	if s.v6 != nil {
		n, cm, src, err := s.v6.ReadFrom(b)
		if cm != nil {
			hops = cm.HopLimit
		}
		return n, hops, src, err
	}
	n, cm, src, err := s.v4.ReadFrom(b)
	if cm != nil {
		hops = cm.TTL
	}
	return n, hops, src, err
}

func (s *socket) close() {
	_ = s.conn.Close() // nothing is written to it any more
	<-s.end
}
