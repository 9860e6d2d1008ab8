package scenario

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/netlab/netns"
	"github.com/wardnet/wardnet/labs/probe"
)

const (
	captureTime = 3 * time.Second
	secretPace  = 10 * time.Millisecond
	ipsecNATT   = 4500  // RFC 3948
	wgFirst     = 51820 // the first hub circuit's ports
	wgLast      = 51820 + 8*8
)

// secret is the payload that no packet outside of a tunnel may hold.
var secret = []byte("wardnet: nothing of this may be read on a circuit")

// seen is what a capture found.
type seen struct {
	packets   int // IPv4 with UDP or TCP or ICMP, and IPv6
	tunnelled int // of those: UDP to or from a tunnel's port
	clear     int // of those: with the secret in it
	other     []string
}

// encrypts sends a known payload through the overlay and captures it: it must be
// seen in the segment's port, and on the circuits only packets of tunnels, none
// of them holding it.
func encrypts(ctx context.Context, p *play) error {
	for _, ward := range p.wards() {
		if err := p.encryptsAt(ctx, ward); err != nil {
			return err
		}
	}
	return nil
}

func (p *play) encryptsAt(ctx context.Context, ward netlab.Site) error {
	flow, err := p.flow(ward)
	if err != nil {
		return err
	}
	var circuits, segments []string
	for _, l := range p.Lab.Topology.Links {
		switch {
		case l.A.NS != ward.NS:
		case l.Kind == netlab.LinkCircuit:
			circuits = append(circuits, l.A.Port)
		case l.Kind == netlab.LinkSegment:
			segments = append(segments, l.A.Port)
		}
	}
	sending, stop := context.WithCancel(ctx)
	defer stop()
	sent := make(chan error, 1)
	go func() { sent <- tell(sending, flow) }()
	outside, err := capture(ctx, ward.NS, circuits)
	if err != nil {
		return err
	}
	inside, err := capture(ctx, ward.NS, segments)
	stop()
	if err = errors.Join(err, <-sent); err != nil {
		return err
	}
	p.event(Event{
		Name: "in the segments of " + string(ward.ID), OK: inside.clear > 0,
		Detail: fmt.Sprintf("%d of %d packets hold the payload", inside.clear, inside.packets),
	})
	p.event(Event{
		Name: "on the circuits of " + string(ward.ID), Lost: outside.clear, OK: outside.clear == 0 && outside.tunnelled >= inside.clear/2 && len(outside.other) == 0,
		Detail: fmt.Sprintf("%d of %d packets hold the payload; %d are a tunnel's; others: %v", outside.clear, outside.packets, outside.tunnelled, outside.other),
	})
	return nil
}

// tell sends the secret to a flow's destination until ctx ends.
func tell(ctx context.Context, f probe.Flow) error {
	var conn net.Conn
	payload := secret
	err := netns.Do(f.Namespace, func() (err error) {
		if f.Port != 0 {
			conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.To, f.Port)))
			return err
		}
		if payload, err = (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: 7, Seq: 1, Data: secret}}).Marshal(nil); err != nil {
			return err
		}
		conn, err = net.DialIP("ip4:icmp", nil, &net.IPAddr{IP: f.To.AsSlice()})
		return err
	})
	if err != nil {
		return fmt.Errorf("send from %s: %w", f.Namespace, err)
	}
	defer conn.Close()
	tick := time.NewTicker(secretPace)
	defer tick.Stop()
	for {
		_, _ = conn.Write(payload) // nobody needs to understand it
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// capture looks at every packet of some ports of a namespace for a while.
func capture(ctx context.Context, ns string, ports []string) (seen, error) {
	var mu sync.Mutex
	var all seen
	var wg sync.WaitGroup
	errs := make([]error, len(ports))
	for i, port := range ports {
		wg.Go(func() {
			errs[i] = captureAt(ctx, ns, port, func(frame []byte) {
				mu.Lock()
				defer mu.Unlock()
				all.look(frame)
			})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return all, fmt.Errorf("capture in %s: %w", ns, err)
	}
	return all, nil
}

func captureAt(ctx context.Context, ns, port string, visit func([]byte)) error {
	var fd int
	err := netns.Do(ns, func() error {
		dev, err := net.InterfaceByName(port)
		if err != nil {
			return err
		}
		// Protocol 0 hears nothing: with ETH_P_ALL it would hear every port of the
		// namespace until it is bound to one.
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		proto := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff}) // network order
		return errors.Join(
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: dev.Index}),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
		)
	})
	if err != nil {
		return fmt.Errorf("port %s: %w", port, err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 1<<16)
	for end := time.Now().Add(captureTime); time.Now().Before(end) && ctx.Err() == nil; {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case err == nil:
			visit(buf[:n])
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("port %s: %w", port, err)
		}
	}
	return context.Cause(ctx)
}

// look counts an Ethernet frame. ARP, DHCP and ICMP of the circuit itself are
// no traffic of the overlay and may pass beside the tunnels; so may what the
// agent says to the controller, which is TLS.
func (s *seen) look(frame []byte) {
	if len(frame) < 14 || binary.BigEndian.Uint16(frame[12:]) == unix.ETH_P_ARP {
		return
	}
	s.packets++
	if bytes.Contains(frame, secret) {
		s.clear++
	}
	what := "IPv6"
	if binary.BigEndian.Uint16(frame[12:]) == unix.ETH_P_IP && len(frame) >= 14+20 {
		ip := frame[14:]
		what = fmt.Sprintf("protocol %d", ip[9])
		head := int(ip[0]&0x0f) * 4
		later := binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 // a fragment without the ports
		if (ip[9] == unix.IPPROTO_UDP || ip[9] == unix.IPPROTO_TCP) && len(ip) >= head+4 && !later {
			from, to := int(binary.BigEndian.Uint16(ip[head:])), int(binary.BigEndian.Uint16(ip[head+2:]))
			switch {
			case ip[9] == unix.IPPROTO_UDP && (tunnelPort(from) || tunnelPort(to)):
				s.tunnelled++
				return
			case ip[9] == unix.IPPROTO_UDP && (from == 67 || from == 68 || to == 67):
				return
			case ip[9] == unix.IPPROTO_TCP && (from == 9443 || to == 9443 || from == 9445 || to == 9445 || from == 9444 || to == 9444):
				return
			}
			what = fmt.Sprintf("protocol %d from port %d to %d", ip[9], from, to)
		} else if ip[9] == unix.IPPROTO_ICMP {
			return
		}
	} else if len(frame) >= 14+40 && frame[14+6] == unix.IPPROTO_ICMPV6 {
		return
	}
	if !slices.Contains(s.other, what) && len(s.other) < 8 {
		s.other = append(s.other, what)
	}
}

func tunnelPort(p int) bool { return p == ipsecNATT || p == 500 || (p >= wgFirst && p < wgLast) }
