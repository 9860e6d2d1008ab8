package channel

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
)

// shares bound what one address may hold of the server before it is admitted:
// strangers can open connections and say nothing, and must not keep the rest
// out with it.
type shares struct {
	waiting    int // connections accepted and not yet registered
	handshakes int // under way at once

	mu sync.Mutex
	by map[string]*share // only addresses that hold something
}

// share is one address's.
type share struct {
	holds int           // guarded by shares.mu
	turns chan struct{} // one element for each handshake under way
}

var errCrowded = errors.New("too many connections of this address are waiting to be admitted")

func newShares(waiting, handshakes int) *shares {
	return &shares{waiting: max(1, waiting/4), handshakes: max(1, handshakes/4), by: map[string]*share{}}
}

// enter counts one more connection of addr until leave, which may be called
// again; errCrowded when it has its share.
func (s *shares) enter(addr net.Addr) (sh *share, leave func(), err error) {
	key := subscriber(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	sh = s.by[key]
	if sh == nil {
		sh = &share{turns: make(chan struct{}, s.handshakes)}
		s.by[key] = sh
	}
	if sh.holds >= s.waiting {
		return nil, nil, errCrowded
	}
	sh.holds++
	return sh, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if sh.holds--; sh.holds == 0 {
			delete(s.by, key)
		}
	}), nil
}

// turn waits for one of the address's handshakes.
func (s *share) turn(ctx context.Context) (done func(), err error) {
	select {
	case s.turns <- struct{}{}:
		return func() { <-s.turns }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// subscriber is the part of an address that one customer of a carrier holds: an
// IPv4 address or an IPv6 /64.
func subscriber(addr net.Addr) string {
	p, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return addr.String()
	}
	a := p.Addr().Unmap().WithZone("")
	if a.Is6() {
		return netip.PrefixFrom(a, 64).Masked().String()
	}
	return a.String()
}
