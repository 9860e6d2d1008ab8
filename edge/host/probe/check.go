package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/edge"
)

const (
	// brisk is the pause between two rounds of checks while a change is
	// watched, calm the one otherwise: a city's edges share these servers.
	brisk, calm = time.Second, 5 * time.Second
	// watched is how long after an update the rounds are brisk; longer than
	// the commit's deadline.
	watched = 2 * time.Minute
	// fresh is how old the last answer of an item that holds may be, beside
	// the pause; one lost packet proves nothing.
	fresh = 2 * time.Second

	answerWithin = time.Second
	atOnce       = 8 // checks in flight
)

// checker asks the servers of the contract in force.
type checker struct {
	mu      sync.Mutex // guards below
	items   []item
	from    netip.Addr // source; invalid: any
	updated time.Time
	ok      map[string]time.Time // last answer, by item name
}

// item is one line of the contract with the way to check it.
type item struct {
	name string
	ask  func(ctx context.Context, from netip.Addr) error
}

func (c *checker) update(contract edge.Contract, from netip.Addr, now time.Time) {
	var items []item
	for _, a := range contract.DNS {
		items = append(items, item{"dns/" + a.String(), func(ctx context.Context, from netip.Addr) error { return askDNS(ctx, from, a) }})
	}
	for _, a := range contract.Services {
		items = append(items, item{"service/" + a.String(), func(ctx context.Context, from netip.Addr) error { return askTCP(ctx, from, a) }})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.items, c.from, c.updated = items, from, now
	for name := range c.ok {
		if !slices.ContainsFunc(items, func(i item) bool { return i.name == name }) {
			delete(c.ok, name)
		}
	}
}

// pause is the time to the next round; c.mu is held.
func (c *checker) pause(now time.Time) time.Duration {
	if now.Sub(c.updated) < watched {
		return brisk
	}
	return calm
}

func (c *checker) holds(now time.Time) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	limit := c.pause(now) + fresh
	var names []string
	for _, i := range c.items {
		if at, ok := c.ok[i.name]; ok && now.Sub(at) < limit {
			names = append(names, i.name)
		}
	}
	return names
}

// run checks until ctx ends.
func (c *checker) run(ctx context.Context) error {
	tick := time.NewTicker(brisk)
	defer tick.Stop()
	last := time.Time{}
	for {
		c.mu.Lock()
		items, from, due := c.items, c.from, time.Since(last) >= c.pause(time.Now())-brisk/2
		c.mu.Unlock()
		if due {
			last = time.Now()
			c.round(ctx, items, from)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round asks all items once.
func (c *checker) round(ctx context.Context, items []item, from netip.Addr) {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, i := range items {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, answerWithin)
			defer cancel()
			if i.ask(ctx, from) != nil {
				return nil // what does not answer does not hold; there is nothing else to say
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.ok[i.name] = time.Now()
			return nil
		})
	}
	_ = g.Wait()
}

// askDNS asks for the root's name servers; any answer at all shows that the
// server is there, a refusal too.
func askDNS(ctx context.Context, from, server netip.Addr) error {
	q := new(dns.Msg)
	q.SetQuestion(".", dns.TypeNS)
	client := dns.Client{Timeout: answerWithin, Dialer: &net.Dialer{Timeout: answerWithin}}
	if from.IsValid() && from.Is4() == server.Is4() {
		client.Dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	if _, _, err := client.ExchangeContext(ctx, q, netip.AddrPortFrom(server, 53).String()); err != nil {
		return fmt.Errorf("ask DNS server %s: %w", server, err)
	}
	return nil
}

// askTCP connects and hangs up.
func askTCP(ctx context.Context, from netip.Addr, service netip.AddrPort) error {
	d := net.Dialer{Timeout: answerWithin}
	if from.IsValid() && from.Is4() == service.Addr().Is4() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	c, err := d.DialContext(ctx, "tcp", service.String())
	if err != nil {
		return fmt.Errorf("connect to service %s: %w", service, err)
	}
	return c.Close()
}
