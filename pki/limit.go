package pki

import (
	"net"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

// maxLimited bounds the memory of a limiter, in keys.
const maxLimited = 4096

// limiter is a token bucket per key.
type limiter struct {
	every rate.Limit
	burst int
	mu    sync.Mutex
	keys  map[string]*rate.Limiter
}

func newLimiter(every rate.Limit, burst int) *limiter {
	return &limiter{every: every, burst: burst, keys: map[string]*rate.Limiter{}}
}

// ready says whether key has something left, and takes nothing.
func (l *limiter) ready(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.keys[key]
	return !ok || b.Tokens() >= 1
}

// take uses one up and says whether there was one.
func (l *limiter) take(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.keys[key]
	if !ok {
		l.shrink()
		b = rate.NewLimiter(l.every, l.burst)
		l.keys[key] = b
	}
	return b.Allow()
}

// shrink makes room for one more: it forgets keys that have recovered, and all
// of them when none has.
func (l *limiter) shrink() {
	if len(l.keys) < maxLimited {
		return
	}
	for k, b := range l.keys {
		if b.Tokens() >= float64(l.burst) {
			delete(l.keys, k)
		}
	}
	if len(l.keys) >= maxLimited {
		clear(l.keys)
	}
}

// addressKey is the part of a remote address one customer holds: an IPv4
// address or an IPv6 /64.
func addressKey(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a.String()
	}
	return netip.PrefixFrom(a, 64).Masked().String()
}
