package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

const (
	answerLimit  = 2 * time.Second // for one message
	tries        = 2               // messages per exchange
	firstPause   = time.Second
	longestPause = 16 * time.Second
	renewPause   = 20 * time.Second // at least, between two renewals that fail
)

// errRefused is a server's NAK: the address is not ours here.
var errRefused = errors.New("the server refuses the address")

// Client keeps one interface's lease. Fields are set before Run and not changed.
type Client struct {
	Port string // network interface
	File string // where the lease is kept
	Log  *slog.Logger
	// Changed is told the lease in force, from Run's goroutine: at first, when
	// the address, gateway or servers change, and with the zero Lease when it
	// is lost.
	Changed func(Lease)
	// Kick makes the client ask again at once, as after the link came up;
	// optional.
	Kick <-chan struct{}
}

// Run keeps the lease until ctx ends; the lease stays valid then.
func (c *Client) Run(ctx context.Context) {
	lease, err := load(c.File)
	if err != nil {
		c.Log.WarnContext(ctx, "stored lease is unreadable", "port", c.Port, "err", err)
	}
	if !lease.Valid(time.Now()) {
		lease = Lease{}
	}
	var told Lease
	tell := func() {
		if !lease.Same(told) {
			told = lease
			c.Changed(lease)
		}
	}
	tell() // an unexpired lease serves at once; whether it still holds is asked next
	confirm, fails, said := lease.Address.IsValid(), 0, ""
	for {
		next, err := c.step(ctx, lease, confirm)
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		switch {
		case err == nil:
			if said != "" {
				c.Log.InfoContext(ctx, "address is leased", "port", c.Port, "address", next.Address)
			}
			lease, confirm, fails, said = next, false, 0, ""
			if err := save(c.File, lease); err != nil {
				c.Log.WarnContext(ctx, "lease is not kept for the next start", "port", c.Port, "err", err)
			}
		case errors.Is(err, errRefused) || !lease.Valid(now):
			lease, confirm = Lease{}, false
			fails++
		default:
			fails++
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			c.Log.WarnContext(ctx, "no answer to a request for an address", "port", c.Port, "err", err)
		}
		tell()
		if !c.sleep(ctx, pause(lease, confirm, fails, time.Now())) {
			confirm = lease.Address.IsValid() // kicked: we may be elsewhere now
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// pause is how long to wait before the next exchange.
func pause(l Lease, confirm bool, fails int, now time.Time) time.Duration {
	if !l.Address.IsValid() || confirm {
		if fails == 0 {
			return 0
		}
		d := min(firstPause<<min(fails-1, 8), longestPause)
		return d/2 + rand.N(d/2+1)
	}
	if fails == 0 {
		return max(0, l.Renew.Sub(now))
	}
	// RFC 2131 §4.4.5: half of what remains, but not too often.
	end := l.Rebind
	if !now.Before(end) {
		end = l.Expires
	}
	return max(0, min(max(end.Sub(now)/2, renewPause), l.Expires.Sub(now)))
}

// sleep waits for d and returns true, or less when it is kicked or ctx ends.
func (c *Client) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-c.Kick:
		return false
	case <-t.C:
	}
	return true
}

// step is one exchange: for a first lease, to confirm a stored one, or to renew.
func (c *Client) step(ctx context.Context, have Lease, confirm bool) (Lease, error) {
	client, err := nclient4.New(c.Port, nclient4.WithTimeout(answerLimit), nclient4.WithRetry(tries))
	if err != nil {
		return Lease{}, fmt.Errorf("open port %s for DHCP: %w", c.Port, err)
	}
	defer func() { _ = client.Close() }() // a socket only
	var ack *dhcpv4.DHCPv4
	switch {
	case !have.Address.IsValid():
		l, err := client.Request(ctx)
		if err != nil {
			return Lease{}, fmt.Errorf("ask for an address on port %s: %w", c.Port, err)
		}
		ack = l.ACK
	case confirm:
		ack, err = c.request(ctx, client, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(have.Address.Addr().AsSlice())))
	default:
		// To all servers even before T2: one relay more or less, and no need of
		// the interface's own address being in place.
		ack, err = c.request(ctx, client, dhcpv4.WithClientIP(have.Address.Addr().AsSlice()))
	}
	if err != nil {
		return Lease{}, err
	}
	return granted(ack, time.Now())
}

// request sends one DHCPREQUEST outside of a discovery (RFC 2131 §4.3.2).
func (c *Client) request(ctx context.Context, client *nclient4.Client, mod dhcpv4.Modifier) (*dhcpv4.DHCPv4, error) {
	msg, err := dhcpv4.New(
		dhcpv4.WithHwAddr(client.InterfaceAddr()),
		dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer),
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(nclient4.MaxMessageSize)),
		mod,
	)
	if err != nil {
		return nil, fmt.Errorf("make DHCP request: %w", err)
	}
	ack, err := client.SendAndRead(ctx, client.RemoteAddr(), msg,
		nclient4.IsMessageType(dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak))
	if err != nil {
		return nil, fmt.Errorf("renew the address of port %s: %w", c.Port, err)
	}
	if ack.MessageType() == dhcpv4.MessageTypeNak {
		return nil, fmt.Errorf("renew the address of port %s: %w", c.Port, errRefused)
	}
	return ack, nil
}
