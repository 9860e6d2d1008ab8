package controller

import (
	"context"
	"fmt"
	"math"
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
	gave chan struct{}                   // closed and replaced when a turn ends
}

func newTurns(parallel int) *turns {
	return &turns{free: parallel, used: map[string]int{}, held: map[inventory.DeviceID][]string{}, gave: make(chan struct{})}
}

// limit sets what devices share from now on; turns that were taken stand.
func (t *turns) limit(of map[inventory.DeviceID][]string, most map[string]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of, t.most = of, most
	t.wake()
}

// try takes a turn for id if there is one; else it returns a channel that is
// closed when it is worth to try again.
func (t *turns) try(id inventory.DeviceID) (again <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fates := t.of[id]
	if t.free <= 0 {
		return t.gave
	}
	for _, f := range fates {
		if most, bound := t.most[f]; bound && t.used[f] >= most {
			return t.gave
		}
	}
	t.free--
	for _, f := range fates {
		t.used[f]++
	}
	t.held[id] = fates
	return nil
}

// take waits for a turn.
func (t *turns) take(ctx context.Context, id inventory.DeviceID) error {
	for {
		again := t.try(id)
		if again == nil {
			return nil
		}
		select {
		case <-again:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// give ends the turn of id.
func (t *turns) give(id inventory.DeviceID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free++
	for _, f := range t.held[id] {
		if t.used[f]--; t.used[f] == 0 {
			delete(t.used, f)
		}
	}
	delete(t.held, id)
	t.wake()
}

// wake lets all who wait try again; t.mu is held.
func (t *turns) wake() {
	close(t.gave)
	t.gave = make(chan struct{})
}
