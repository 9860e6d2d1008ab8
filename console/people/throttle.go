package people

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Limits of guessing. Attempts of one user from one address are slowed soon;
// an address that tries many users is slowed later, for a whole ward office may
// stand behind it. Nobody is locked out from elsewhere.
const (
	freePerPair    = 5
	freePerAddress = 50
	maxWait        = 15 * time.Minute
	forget         = time.Hour
	maxTracked     = 20_000
)

// throttle counts attempts before they are looked at, so that guesses made at
// the same time are counted too; a success gives its attempt back.
type throttle struct {
	mu    sync.Mutex
	tries map[string]*tries
}

type tries struct {
	n    int
	last time.Time
}

func newThrottle() *throttle { return &throttle{tries: map[string]*tries{}} }

// attempt is one try under way.
type attempt struct {
	t    *throttle
	keys [2]string
}

// begin counts an attempt of user from addr, or says how long to wait.
func (t *throttle) begin(user, addr string, now time.Time) (attempt, time.Duration) {
	addr = prefixOf(addr)
	a := attempt{t: t, keys: [2]string{user + "\x00" + addr, "\x00" + addr}}
	free := [2]int{freePerPair, freePerAddress}
	t.mu.Lock()
	defer t.mu.Unlock()
	var wait time.Duration
	for i, k := range a.keys {
		if e, ok := t.tries[k]; ok {
			if now.Sub(e.last) > forget {
				delete(t.tries, k)
				continue
			}
			wait = max(wait, e.last.Add(pause(e.n, free[i])).Sub(now))
		}
	}
	if wait > 0 {
		return attempt{}, wait
	}
	for _, k := range a.keys {
		e, ok := t.tries[k]
		if !ok {
			t.makeRoom(now)
			e = &tries{}
			t.tries[k] = e
		}
		e.n++
		e.last = now
	}
	return a, 0
}

// pause is the wait after the n-th attempt when the first free ones cost nothing.
func pause(n, free int) time.Duration {
	if n < free {
		return 0
	}
	return min(time.Second<<min(n-free, 20), maxWait)
}

// succeeded forgets the pair and gives the address its attempt back.
func (a attempt) succeeded() {
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	delete(a.t.tries, a.keys[0])
	if e, ok := a.t.tries[a.keys[1]]; ok {
		if e.n--; e.n <= 0 {
			delete(a.t.tries, a.keys[1])
		}
	}
}

// makeRoom keeps the table bounded: what is stale goes first, then the oldest
// tenth, so that the search is rare.
func (t *throttle) makeRoom(now time.Time) {
	if len(t.tries) < maxTracked {
		return
	}
	maps.DeleteFunc(t.tries, func(_ string, e *tries) bool { return now.Sub(e.last) > forget })
	if len(t.tries) < maxTracked {
		return
	}
	keys := slices.SortedFunc(maps.Keys(t.tries), func(a, b string) int { return t.tries[a].last.Compare(t.tries[b].last) })
	for _, k := range keys[:maxTracked/10] {
		delete(t.tries, k)
	}
}

// prefixOf counts an IPv6 host by its /64, which one subscriber owns.
func prefixOf(addr string) string {
	ap, err := netip.ParseAddrPort(addr)
	ip := ap.Addr()
	if err != nil {
		if ip, err = netip.ParseAddr(addr); err != nil {
			return addr // "unix"
		}
	}
	ip = ip.Unmap()
	if ip.Is4() {
		return ip.String()
	}
	p, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return ip.String()
	}
	return p.String()
}
