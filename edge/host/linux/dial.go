package linux

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

const (
	// dialShare bounds one circuit's try, so that the next gets its chance.
	dialShare = 8 * time.Second
	// leastShare is what every try gets, if there is that much.
	leastShare = time.Second
	// userTimeout ends a connection whose packets nobody acknowledges.
	userTimeout = 15 * time.Second
)

// way is one way out of the box.
type way struct {
	name    string
	mark    int // SO_MARK; 0: as the box routes, over the overlay
	source  netip.Addr
	servers []netip.Addr // of names, on the carrier's side
}

// Dial implements [agent.Host]: by each circuit that has an address, the one of
// the best tunnels first, and over the overlay as last resort.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ways := h.ways()
	if len(ways) == 0 { // the first seconds of a boot
		wait, cancel := context.WithTimeout(ctx, dialShare)
		for len(ways) == 0 && wait.Err() == nil {
			told := h.wan.told()
			if ways = h.ways(); len(ways) > 0 {
				break
			}
			select {
			case <-told:
			case <-wait.Done():
			}
		}
		cancel()
	}
	ways = append(ways, way{name: "the overlay"})
	var errs []error
	for i, w := range ways {
		c, err := w.dial(ctx, share(ctx, len(ways)-i), network, addr)
		if err == nil {
			return c, nil
		}
		errs = append(errs, fmt.Errorf("by %s: %w", w.name, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("%w: dial %s: %w", edge.ErrUnreachable, addr, errors.Join(errs...))
}

// share is how long the next of n tries may take.
func share(ctx context.Context, n int) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return dialShare
	}
	return min(max(time.Until(deadline)/time.Duration(n), leastShare), dialShare)
}

// ways are the circuits that have an address now.
func (h *Host) ways() []way {
	conf := h.current().config
	best := map[string]int{}
	for _, t := range conf.Tunnels {
		best[t.Circuit] = max(best[t.Circuit], t.Preference)
	}
	circuits := slices.Clone(h.circuits(conf))
	slices.SortStableFunc(circuits, func(a, b edge.Circuit) int { return cmp.Compare(best[b.Name], best[a.Name]) })
	learned := h.wan.learned(circuits)
	var ways []way
	for _, c := range circuits {
		source := learned[c.Name].Address
		if c.Addressing == inventory.Static {
			source = c.Address
		}
		if source.IsValid() {
			ways = append(ways, way{
				name: "circuit " + c.Name, mark: int(render.CircuitMark(c.Name)),
				source: source.Addr(), servers: h.wan.servers(c.Port),
			})
		}
	}
	return ways
}

func (w way) dial(ctx context.Context, limit time.Duration, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit.Round(time.Millisecond)))
	defer cancel()
	d := w.dialer()
	d.Resolver = w.resolver()
	c, err := d.DialContext(ctx, network, addr)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return c, err
}

// dialer makes connections that leave by w and end when it fails.
func (w way) dialer() *net.Dialer {
	d := &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control: func(network, _ string, raw syscall.RawConn) error {
			return w.prepare(network, raw)
		},
	}
	if w.source.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: w.source.AsSlice()}
	}
	return d
}

func (w way) prepare(network string, raw syscall.RawConn) error {
	var err error
	set := func(fd uintptr) {
		if w.mark != 0 {
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, w.mark); err != nil {
				err = fmt.Errorf("mark socket: %w; it needs CAP_NET_ADMIN", err)
				return
			}
		}
		if len(network) >= 3 && network[:3] == "tcp" {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout/time.Millisecond))
		}
	}
	return errors.Join(raw.Control(set), err)
}

// resolver asks by w too: the carrier's servers where it gave some, else those
// of the box.
func (w way) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := w.dialer()
		if w.source.IsValid() && len(network) >= 3 && network[:3] == "udp" {
			d.LocalAddr = &net.UDPAddr{IP: w.source.AsSlice()}
		}
		if len(w.servers) > 0 {
			addr = net.JoinHostPort(w.servers[0].String(), "53")
		}
		return d.DialContext(ctx, network, addr)
	}}
}
