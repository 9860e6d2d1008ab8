package netlab

import (
	"context"
	"fmt"
	"sync"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// Count is how many there should be and how many are up.
type Count struct {
	Want int `json:"want"`
	Up   int `json:"up"`
}

// Status is how a lab is. Tunnels and in-sync devices, hence health contracts,
// are what the controller says, each tunnel counted once, at the ward; BGP
// sessions are read from the routing daemons of the boxes themselves: those of
// the wards with the hubs and of the data centre with the hubs.
type Status struct {
	Hubs    int   `json:"hubs"`
	Wards   int   `json:"wards"`
	Tunnels Count `json:"tunnels"`
	BGP     Count `json:"bgp"`
	Devices Count `json:"devices"` // connected, and running what is intended
	Healthy bool  `json:"healthy"`
	// SecondsUp is how long the lab took from nothing until all was well; 0:
	// it never was.
	SecondsUp float64 `json:"seconds_up"`
}

func (s Status) String() string {
	return fmt.Sprintf("%d hubs, %d wards: %d of %d devices in sync, %d of %d tunnels up, %d of %d BGP sessions established",
		s.Hubs, s.Wards, s.Devices.Up, s.Devices.Want, s.Tunnels.Up, s.Tunnels.Want, s.BGP.Up, s.BGP.Want)
}

// Status asks the controller and looks at the boxes.
func (l *Lab) Status(ctx context.Context) (Status, error) {
	s := Status{SecondsUp: l.state.Seconds}
	for _, x := range l.Topology.Sites {
		if x.Role == inventory.RoleHub {
			s.Hubs++
		} else {
			s.Wards++
			s.Tunnels.Want += len(x.Circuits) * l.hubsOf(x.ID)
		}
	}
	s.Devices.Want = len(l.Topology.Sites)
	s.BGP.Want = s.Tunnels.Want + len(l.Topology.hubEnds())
	engineer, err := l.Client(Engineer)
	if err != nil {
		return s, err
	}
	defer engineer.Close()
	all, err := engineer.Devices(ctx)
	if err != nil {
		return s, fmt.Errorf("ask the controller: %w", err)
	}
	for _, d := range all {
		s.Devices.Up += one(d.Connected && d.InSync)
		if d.Role == inventory.RoleEdge {
			s.Tunnels.Up += d.TunnelsUp
		}
	}
	s.BGP.Up = l.established(ctx)
	s.Healthy = s.Devices.Up == s.Devices.Want && s.Tunnels.Up == s.Tunnels.Want && s.BGP.Up == s.BGP.Want
	return s, nil
}

func (l *Lab) hubsOf(id inventory.SiteID) int {
	s, _ := l.City.Index().Site(id)
	return len(s.Hubs)
}

// Lost counts how often a BGP session of a ward or the data centre has ended
// since its daemon started. A box that does not answer is an error: what it lost
// is not known.
func (l *Lab) Lost(ctx context.Context) (int, error) {
	total := 0
	err := l.count(ctx, func(s sessionCount) { total += s.lost })
	return total, err
}

// established counts the sessions of the wards and of the data centre; a box
// whose daemons do not answer has none.
func (l *Lab) established(ctx context.Context) int {
	total := 0
	_ = l.count(ctx, func(s sessionCount) { total += s.up })
	return total
}

// count visits the sessions of the wards and of the data centre, one instance
// at a time, and all of them whatever fails.
func (l *Lab) count(ctx context.Context, visit func(sessionCount)) error {
	spaces := []string{l.Topology.DC}
	for _, x := range l.Topology.Sites {
		if x.Role != inventory.RoleHub {
			spaces = append(spaces, x.NS)
		}
	}
	var mu sync.Mutex
	return inParallel(spaces, func(ns string) error {
		if !netns.Exists(ns) {
			return fmt.Errorf("%w: namespace %s", inventory.ErrNotFound, ns)
		}
		s, err := l.sessions(ctx, ns)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		visit(s)
		return nil
	})
}
