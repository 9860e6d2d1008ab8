package channel

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// shares bound what one address may hold of the server before it is admitted:
// strangers can open connections and say nothing, and must not keep the rest
// out with it.
type shares struct {
	waiting    int // connections accepted and not yet registered
	handshakes int // under way at once
	rate       int // begun per second; 0: no bound

	mu sync.Mutex
	by map[string]*share // only addresses that hold something, or did a moment ago
}

// linger is how long the share of an address is remembered that holds nothing:
// strangers who come one by one are paced like those who come together.
const linger = time.Second

// share is one address's.
type share struct {
	holds int           // guarded by shares.mu
	turns chan struct{} // one element for each handshake under way
	pace  *rate.Limiter // of handshakes begun
}

var errCrowded = errors.New("too many connections of this address are waiting to be admitted")

func newShares(waiting, handshakes, perSecond int) *shares {
	s := &shares{waiting: max(1, waiting/4), handshakes: max(1, handshakes/4), by: map[string]*share{}}
	if perSecond > 0 {
		s.rate = max(1, perSecond/4)
	}
	return s
}

// enter counts one more connection of addr until leave, which may be called
// again; errCrowded when it has its share.
func (s *shares) enter(addr net.Addr) (sh *share, leave func(), err error) {
	key := subscriber(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	sh = s.by[key]
	if sh == nil {
		sh = &share{turns: make(chan struct{}, s.handshakes), pace: paceOf(s.rate)}
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
			s.forget(key, sh)
		}
	}), nil
}

// forget drops the share of an address that holds nothing, after a moment when
// it is paced; s.mu is held.
func (s *shares) forget(key string, sh *share) {
	if s.rate == 0 {
		delete(s.by, key)
		return
	}
	time.AfterFunc(linger, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if sh.holds == 0 && s.by[key] == sh {
			delete(s.by, key)
		}
	})
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
