package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// flight is one flow under way.
type flight struct {
	pair     *Pair
	fd       int
	seq      uint32
	attempt  int // from 1
	deadline time.Time
}

// gun probes from one namespace, on one thread.
type gun struct {
	cfg     Config
	queue   []*flight
	flying  []*flight
	id      uint16 // of ICMP echoes
	nextSeq uint32
}

// shoot probes pairs from a namespace and fills in their Got.
func shoot(ctx context.Context, namespace string, pairs []*Pair, cfg Config) error {
	g := gun{cfg: cfg, id: uint16(os.Getpid())}
	for _, p := range pairs {
		g.queue = append(g.queue, &flight{pair: p})
	}
	err := netns.Do(namespace, func() error { return g.run(ctx) })
	for _, f := range g.flying {
		_ = unix.Close(f.fd)
	}
	return err
}

func (g *gun) run(ctx context.Context) error {
	for len(g.queue)+len(g.flying) > 0 {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		for len(g.queue) > 0 && len(g.flying) < g.cfg.Window {
			f := g.queue[0]
			g.queue = g.queue[1:]
			if err := g.launch(f); err != nil {
				return err
			}
		}
		if err := g.wait(); err != nil {
			return err
		}
	}
	return nil
}

// launch opens the flow's socket and sends its first packet. What the kernel
// says at once, for want of a route for instance, is the verdict of this
// attempt.
func (g *gun) launch(f *flight) error {
	g.nextSeq++
	f.seq, f.attempt = g.nextSeq, f.attempt+1
	f.deadline = time.Now().Add(g.cfg.Timeout)
	family, kind, proto := unix.AF_INET, unix.SOCK_STREAM, 0
	if f.pair.To.Is6() {
		family = unix.AF_INET6
	}
	switch f.pair.Proto {
	case inventory.UDP:
		kind = unix.SOCK_DGRAM
	case inventory.ICMP:
		kind, proto = unix.SOCK_RAW, unix.IPPROTO_ICMP
		if family == unix.AF_INET6 {
			proto = unix.IPPROTO_ICMPV6
		}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return fmt.Errorf("open a socket for %s: %w", f.pair, err)
	}
	f.fd = fd
	g.flying = append(g.flying, f)
	if err := g.send(f); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		g.settle(f, verdictOf(err))
	}
	return nil
}

func (g *gun) send(f *flight) error {
	port := f.pair.Port
	if f.pair.Proto == inventory.ICMP {
		port = 0
	}
	if f.pair.Proto == inventory.TCP { // close by reset: thousands of flows must not linger
		if err := unix.SetsockoptLinger(f.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
			return err
		}
	}
	if err := unix.Connect(f.fd, sockaddr(netip.AddrPortFrom(f.pair.To, port))); err != nil || !needs(f.pair.Proto) {
		return err
	}
	b := question(port, f.seq)
	if f.pair.Proto == inventory.ICMP {
		var err error
		if b, err = echo(f.pair.To.Is6(), g.id, f.seq); err != nil {
			return err
		}
	}
	_, err := unix.Write(f.fd, b)
	return err
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// wait sleeps until a flow has an answer or the first deadline passes.
func (g *gun) wait() error {
	if len(g.flying) == 0 {
		return nil
	}
	fds := make([]unix.PollFd, len(g.flying))
	first := g.flying[0].deadline
	for i, f := range g.flying {
		fds[i] = unix.PollFd{Fd: int32(f.fd), Events: unix.POLLIN}
		if f.pair.Proto == inventory.TCP {
			fds[i].Events = unix.POLLOUT
		}
		if f.deadline.Before(first) {
			first = f.deadline
		}
	}
	ms := max(0, int(time.Until(first)/time.Millisecond)+1)
	if _, err := unix.Poll(fds, min(ms, 100)); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for answers: %w", err)
	}
	now := time.Now()
	for i, f := range append([]*flight(nil), g.flying...) {
		switch v, done := g.look(f, fds[i].Revents); {
		case done:
			g.settle(f, v)
		case now.After(f.deadline):
			g.settle(f, Deny)
		}
	}
	return nil
}

// look reads a flow's answer, if there is one.
func (g *gun) look(f *flight, events int16) (Verdict, bool) {
	if events == 0 {
		return "", false
	}
	code, err := unix.GetsockoptInt(f.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return verdictOf(err), true
	}
	if code != 0 {
		return verdictOf(unix.Errno(code)), true
	}
	if !needs(f.pair.Proto) {
		return Allow, events&unix.POLLOUT != 0
	}
	b := make([]byte, 2048)
	for {
		n, err := unix.Read(f.fd, b)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			return "", false
		}
		if err != nil {
			return verdictOf(err), true
		}
		seq, ok := answered(f.pair.Port, b[:n])
		want := f.seq
		if f.pair.Proto == inventory.ICMP {
			seq, ok = echoed(f.pair.To.Is6(), g.id, b[:n])
		} else if f.pair.Port == portDNS {
			want &= 0xffff
		}
		if ok && seq == want {
			return Allow, true
		}
	}
}

// verdictOf reads what the kernel says of a flow. That somebody refused it
// means that it passed; every other error means that it did not.
func verdictOf(err error) Verdict {
	switch {
	case err == nil:
		return Allow
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ECONNRESET):
		return Refused
	}
	return Deny
}

// settle ends an attempt: a flow that must pass and did not is tried again.
func (g *gun) settle(f *flight, got Verdict) {
	_ = unix.Close(f.fd)
	for i, x := range g.flying {
		if x == f {
			g.flying = append(g.flying[:i], g.flying[i+1:]...)
			break
		}
	}
	f.pair.Got = got
	if f.pair.Want == Allow && got != Allow && f.attempt < g.cfg.Attempts {
		g.queue = append(g.queue, f)
	}
}
