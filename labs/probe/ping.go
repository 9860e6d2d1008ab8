package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// Flow is what a [Pinger] sends: echo requests, or datagrams to a service that
// answers each. Port 0 means ICMP.
type Flow struct {
	Namespace string
	To        netip.Addr
	Port      uint16
	Interval  time.Duration // default 10 ms
	// Patience is how long an answer counts; default 1 s.
	Patience time.Duration
	// DSCP marks the packets (RFC 2474); 0: none.
	DSCP uint8
}

// Pinger sends at a steady pace and records what is answered.
type Pinger struct {
	flow  Flow
	sock  *os.File
	id    uint16
	begin time.Time
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu    sync.Mutex
	beats []Beat
	first uint32
}

// Start opens the flow's socket and begins to send.
func Start(ctx context.Context, flow Flow) (*Pinger, error) {
	flow.Interval = cmp.Or(flow.Interval, 10*time.Millisecond)
	flow.Patience = cmp.Or(flow.Patience, time.Second)
	p := &Pinger{flow: flow, id: uint16(rand.Uint32()), first: rand.Uint32() >> 8, begin: time.Now()}
	err := netns.Do(flow.Namespace, func() (err error) {
		p.sock, err = socket(flow)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ping %s from namespace %s: %w", flow.To, flow.Namespace, err)
	}
	ctx, p.stop = context.WithCancel(ctx)
	p.wg.Go(func() { p.send(ctx) })
	p.wg.Go(p.receive)
	return p, nil
}

// socket opens a connected datagram or raw socket whose reads can be ended.
func socket(flow Flow) (*os.File, error) {
	family, kind, proto := unix.AF_INET, unix.SOCK_DGRAM, 0
	if flow.To.Is6() {
		family = unix.AF_INET6
	}
	if flow.Port == 0 {
		kind, proto = unix.SOCK_RAW, unix.IPPROTO_ICMP
		if family == unix.AF_INET6 {
			proto = unix.IPPROTO_ICMPV6
		}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "ping")
	tos := int(flow.DSCP) << 2
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, tos)
	} else {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, tos)
	}
	if err = errors.Join(err, unix.Connect(fd, sockaddr(netip.AddrPortFrom(flow.To, flow.Port)))); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// send keeps the pace by the clock: a late packet does not delay the next.
func (p *Pinger) send(ctx context.Context) {
	tick := time.NewTicker(p.flow.Interval)
	defer tick.Stop()
	for n := uint32(0); ; n++ {
		seq := p.number(p.first + n)
		b := question(p.flow.Port, seq)
		if p.flow.Port == 0 {
			b, _ = echo(p.flow.To.Is6(), p.id, seq) // constant shape: it marshals
		}
		p.mu.Lock()
		p.beats = append(p.beats, Beat{Sent: time.Since(p.begin), RTT: -1})
		p.mu.Unlock()
		_, _ = p.sock.Write(b) // what is not sent is not answered, hence lost
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// number cuts a sequence number to what the flow's answers can carry.
func (p *Pinger) number(n uint32) uint32 {
	if p.flow.Port == portDNS {
		return n & 0xffff
	}
	return n
}

func (p *Pinger) receive() {
	b := make([]byte, 4096)
	for {
		n, err := p.sock.Read(b)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, os.ErrClosed), errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			continue // an ICMP error about an earlier packet
		}
		seq, ok := answered(p.flow.Port, b[:n])
		if p.flow.Port == 0 {
			seq, ok = echoed(p.flow.To.Is6(), p.id, b[:n])
		}
		if ok {
			p.record(seq, time.Since(p.begin))
		}
	}
}

// record finds the newest packet with this number; it may be a short one.
func (p *Pinger) record(seq uint32, at time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.beats) == 0 {
		return
	}
	newest := p.first + uint32(len(p.beats)-1)
	back := p.number(newest) - p.number(seq)
	if p.flow.Port == portDNS {
		back &= 0xffff
	}
	i := len(p.beats) - 1 - int(back)
	if i < 0 || p.beats[i].RTT >= 0 {
		return
	}
	if rtt := at - p.beats[i].Sent; rtt <= p.flow.Patience {
		p.beats[i].RTT = rtt
	}
}

// Mark is a moment in the pinger's own time.
func (p *Pinger) Mark() time.Duration { return time.Since(p.begin) }

// Since sums up what was sent from one mark to another; packets younger than
// the patience may still be answered.
func (p *Pinger) Since(from, to time.Duration) Course {
	p.mu.Lock()
	defer p.mu.Unlock()
	var some []Beat
	for _, b := range p.beats {
		if from <= b.Sent && b.Sent < to {
			some = append(some, b)
		}
	}
	return course(some, p.flow.Interval)
}

// Stop ends sending, waits for late answers and sums up everything.
func (p *Pinger) Stop() Course {
	p.stop()
	_ = p.sock.SetReadDeadline(time.Now().Add(min(p.flow.Patience, 500*time.Millisecond))) // a socket takes deadlines
	p.wg.Wait()
	_ = p.sock.Close()
	return p.Since(0, time.Since(p.begin)+1)
}

// Choose finds a flow that the intent lets pass from a segment to an
// application and that is answered packet by packet: ICMP first, else UDP.
func Choose(inv inventory.Inventory, from inventory.SegmentKind) (to netip.Addr, port uint16, app inventory.ApplicationID, err error) {
	want, err := newIntent(inv)
	if err != nil {
		return to, 0, "", err
	}
	for _, proto := range []inventory.Proto{inventory.ICMP, inventory.UDP} {
		for _, a := range inv.Applications {
			for _, r := range a.Ports {
				if r.Proto != proto {
					continue
				}
				for _, prefix := range a.Prefixes {
					if addr := prefix.Addr(); addr.Is4() && want.verdict(from, addr, proto, r.From) == Allow {
						return addr, r.From, a.ID, nil
					}
				}
			}
		}
	}
	return to, 0, "", fmt.Errorf("%w: the intent lets no ICMP and no UDP flow from segment %s to an application, so nothing can be pinged; permit one", inventory.ErrNotFound, from)
}
