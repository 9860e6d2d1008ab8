package linux

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tablesLife bounds how long what was read of the routing tables serves, should
// the kernel ever forget to tell of a change.
const tablesLife = 10 * time.Second

// tables remembers what the kernel routes, which takes long to list on a box
// that knows a whole city, for as long as the kernel tells of no change. Nothing
// is remembered while nobody listens to it.
type tables struct {
	mu      sync.Mutex
	heard   bool
	changes uint64 // told of so far
	routed  reading[map[netip.Prefix]bool]
	via     reading[[]gateway]
}

// reading is what was read, and when.
type reading[T any] struct {
	value   T
	at      time.Time
	changes uint64
}

// gateway is the next hop of a route of ours.
type gateway struct {
	link, family int
	addr         netip.Addr
}

// listen says whether the kernel is being listened to from now on.
func (t *tables) listen(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heard = on
	t.changes++
}

// changed says that the kernel told of a change.
func (t *tables) changed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes++
}

// main is what the box routes somewhere. Callers do not change it.
func (t *tables) main() (map[netip.Prefix]bool, error) { return get(t, &t.routed, mainTable) }

// gateways are the next hops of our own routes.
func (t *tables) gateways() ([]gateway, error) { return get(t, &t.via, gateways) }

// get reads anew where what r holds is too old.
func get[T any](t *tables, r *reading[T], read func() (T, error)) (T, error) {
	t.mu.Lock()
	now, changes := time.Now(), t.changes
	if t.heard && r.changes == changes && now.Sub(r.at) < tablesLife {
		defer t.mu.Unlock()
		return r.value, nil
	}
	t.mu.Unlock()
	v, err := read()
	if err != nil {
		return v, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	*r = reading[T]{value: v, at: now, changes: changes}
	return v, nil
}

func mainTable() (map[netip.Prefix]bool, error) {
	out := map[netip.Prefix]bool{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("read routing table: %w", err)
		}
		for _, r := range list {
			if r.Type == unix.RTN_BLACKHOLE || r.Type == unix.RTN_UNREACHABLE {
				continue
			}
			if p, ok := fromNet(r.Dst); ok {
				out[p] = true
			}
		}
	}
	return out, nil
}

func gateways() (out []gateway, err error) {
	list, err := routes()
	if err != nil {
		return nil, err
	}
	seen := map[gateway]bool{}
	for _, r := range list {
		addr, ok := netip.AddrFromSlice(r.Gw)
		if g := (gateway{r.LinkIndex, r.Family, addr.Unmap()}); ok && r.LinkIndex != 0 && !seen[g] {
			seen[g] = true
			out = append(out, g)
		}
	}
	return out, nil
}
