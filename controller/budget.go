package controller

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/wardnet/wardnet/inventory"
)

// Budget bounds, beside Parallel, how much of what shares a fate may be between
// push and confirm at once, so that a faulty push takes part of a district, of
// a carrier's customers or of the service centres with it and never most of them.
type Budget struct {
	District float64 `yaml:"district" json:"district"` // share of a district's devices; default 0.34
	Carrier  float64 `yaml:"carrier" json:"carrier"`   // share of a carrier's; default 0.34
	Critical float64 `yaml:"critical" json:"critical"` // share of those at critical sites; default 0.1
}

// withDefaults fills in what is zero; a share is in (0,1].
func (b Budget) withDefaults() (Budget, error) {
	for _, s := range []struct {
		name string
		v    *float64
		def  float64
	}{{"district", &b.District, 0.34}, {"carrier", &b.Carrier, 0.34}, {"critical", &b.Critical, 0.1}} {
		if *s.v == 0 {
			*s.v = s.def
		}
		if !(*s.v > 0 && *s.v <= 1) { // also NaN
			return b, fmt.Errorf("%w: budget: %s %v is not a share in (0,1]", inventory.ErrInvalid, s.name, *s.v)
		}
	}
	return b, nil
}

// fates are what each device shares with others, and the most of each that may
// be in flight. It is pure. A site is critical when it is a service centre, or
// holds an application of critical sensitivity; hubs are in waves of their own.
func (b Budget) fates(inv *inventory.Inventory) (of map[inventory.DeviceID][]string, most map[string]int) {
	district := make(map[inventory.UnitID]string, len(inv.Units))
	for _, u := range inv.Units {
		district[u.ID] = u.District
	}
	shared := make(map[inventory.SiteID]map[string]bool, len(inv.Sites))
	for _, s := range inv.Sites {
		shared[s.ID] = map[string]bool{}
		if d := district[s.Unit]; d != "" {
			shared[s.ID]["district "+d] = true
		}
		if s.Kind == inventory.ServiceCentre {
			shared[s.ID]["critical"] = true
		}
	}
	for _, a := range inv.Applications {
		if set := shared[a.Site]; set != nil && a.Sensitivity == inventory.Critical {
			set["critical"] = true
		}
	}
	for _, k := range inv.Circuits {
		if set := shared[k.Site]; set != nil && k.Role == inventory.Primary {
			set["carrier "+string(k.Carrier)] = true
		}
	}
	of = make(map[inventory.DeviceID][]string, len(inv.Devices))
	count := map[string]int{}
	for _, d := range inv.Devices {
		if d.Role == inventory.RoleHub || d.Intended == inventory.Retired {
			continue
		}
		for fate := range shared[d.Site] {
			of[d.ID] = append(of[d.ID], fate)
			count[fate]++
		}
	}
	most = make(map[string]int, len(count))
	for fate, n := range count {
		share := b.Critical
		switch fate[:2] {
		case "di":
			share = b.District
		case "ca":
			share = b.Carrier
		}
		most[fate] = max(1, int(math.Floor(share*float64(n))))
	}
	return of, most
}

// turns says who may be between push and confirm. Make one with newTurns.
type turns struct {
	mu   sync.Mutex
	free int                             // of all
	of   map[inventory.DeviceID][]string // what each shares
	most map[string]int
	used map[string]int
	held map[inventory.DeviceID][]string // what each turn took
	line []*waiter                       // who wants a turn, the first first
}

// waiter stands in line for a turn.
type waiter struct {
	id  inventory.DeviceID
	has chan struct{} // closed with the turn taken
}

func newTurns(parallel int) *turns {
	return &turns{free: parallel, used: map[string]int{}, held: map[inventory.DeviceID][]string{}}
}

// limit sets what devices share from now on; turns that were taken stand.
func (t *turns) limit(of map[inventory.DeviceID][]string, most map[string]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of, t.most = of, most
	t.next()
}

// try takes a turn for id if there is one.
func (t *turns) try(id inventory.DeviceID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fits(id)
}

// fits is try with t.mu held.
func (t *turns) fits(id inventory.DeviceID) bool {
	if t.free <= 0 {
		return false
	}
	fates := t.of[id]
	for _, f := range fates {
		if most, bound := t.most[f]; bound && t.used[f] >= most {
			return false
		}
	}
	t.free--
	for _, f := range fates {
		t.used[f]++
	}
	t.held[id] = fates
	return true
}

// take waits for a turn.
func (t *turns) take(ctx context.Context, id inventory.DeviceID) error {
	t.mu.Lock()
	if t.fits(id) {
		t.mu.Unlock()
		return nil
	}
	w := &waiter{id, make(chan struct{})}
	t.line = append(t.line, w)
	t.mu.Unlock()
	select {
	case <-w.has:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.line, w); i >= 0 {
		t.line = slices.Delete(t.line, i, i+1)
	} else {
		t.back(id) // it came at the last moment
	}
	return context.Cause(ctx)
}

// give ends the turn of id.
func (t *turns) give(id inventory.DeviceID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.back(id)
}

// back is give with t.mu held.
func (t *turns) back(id inventory.DeviceID) {
	t.free++
	for _, f := range t.held[id] {
		if t.used[f]--; t.used[f] == 0 {
			delete(t.used, f)
		}
	}
	delete(t.held, id)
	t.next()
}

// next gives what is free to those in line who may have it, and wakes nobody
// else: thousands wait in a large wave. t.mu is held.
func (t *turns) next() {
	t.line = slices.DeleteFunc(t.line, func(w *waiter) bool {
		if !t.fits(w.id) {
			return false
		}
		close(w.has)
		return true
	})
}
