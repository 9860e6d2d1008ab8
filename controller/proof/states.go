package proof

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/wardnet/wardnet/inventory"
)

// failure is one thing that may break, and what breaks with it.
type failure struct {
	class   inventory.Resilience // that asks for it to be survived; empty: the normal state
	name    string
	circuit func(*inventory.Circuit) bool // is dead
	box     func(*Box) bool               // is dead
}

func (f failure) String() string { return f.name }

func never[T any](*T) bool { return false }

// failures are the normal state, and every single failure that a class of
// resilience names: a hub, a district with the hubs in it, a carrier, a kind of
// circuit.
func failures(inv inventory.Inventory, boxes []Box) []failure {
	out := []failure{{name: "all is well", circuit: never[inventory.Circuit], box: never[Box]}}
	district := map[inventory.SiteID]string{}
	units := map[inventory.UnitID]string{}
	for _, u := range inv.Units {
		units[u.ID] = u.District
	}
	for _, s := range inv.Sites {
		district[s.ID] = units[s.Unit]
	}
	districts := map[string]bool{}
	for i := range boxes {
		if boxes[i].Hub {
			id := boxes[i].Device
			out = append(out, failure{inventory.SurvivesHub, "hub " + string(boxes[i].Site) + " is down", never[inventory.Circuit], func(b *Box) bool { return b.Device == id }})
			districts[district[boxes[i].Site]] = true
		}
	}
	delete(districts, "")
	for d := range districts { // a district without a hub takes nobody else with it
		out = append(out, failure{inventory.SurvivesHub, "district " + d + " is without power", never[inventory.Circuit], func(b *Box) bool { return district[b.Site] == d }})
	}
	carriers, kinds := map[inventory.CarrierID]bool{}, map[inventory.CircuitKind]bool{}
	for _, c := range inv.Circuits {
		carriers[c.Carrier], kinds[c.Kind] = true, true
	}
	for id := range carriers {
		out = append(out, failure{inventory.SurvivesCarrier, fmt.Sprintf("carrier %s is down", id), func(c *inventory.Circuit) bool { return c.Carrier == id }, never[Box]})
	}
	for kind := range kinds {
		out = append(out, failure{inventory.SurvivesCircuit, fmt.Sprintf("every %s circuit is down", kind), func(c *inventory.Circuit) bool { return c.Kind == kind }, never[Box]})
	}
	slices.SortStableFunc(out[1:], func(a, b failure) int { return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.name, b.name)) })
	return out
}

// hubsOf are sets of hubs by their place in routes.hubs.
type hubsOf uint64

// standing is what one site has in each state: the hubs that it reaches, and
// those that its circuits would let it reach.
type standing struct {
	alive bool
	has   hubsOf
	could hubsOf
}

// landing is the circuit of a hub that a tunnel over c ends at: that of the same
// carrier, else the primary one. A tunnel needs an address to dial.
func landing(c *inventory.Circuit, hub []*inventory.Circuit) *inventory.Circuit {
	var best *inventory.Circuit
	rank := func(d *inventory.Circuit) [2]int {
		out := [2]int{1, 1}
		if d.Carrier == c.Carrier {
			out[0] = 0
		}
		if d.Role == inventory.Primary {
			out[1] = 0
		}
		return out
	}
	for _, d := range hub {
		if !d.Address.IsValid() {
			continue
		}
		if best == nil {
			best = d
			continue
		}
		a, b := rank(d), rank(best)
		if cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]), cmp.Compare(d.Cost, best.Cost), cmp.Compare(d.ID, best.ID)) < 0 {
			best = d
		}
	}
	return best
}

// dial is a tunnel that a site's circuit allows.
type dial struct {
	place    int // of the hub
	hub      *Box
	from, to *inventory.Circuit
}

// standings are those of all sites in all states, for one family.
func (r *routes) standings(inv inventory.Inventory, all []failure, f int) [][]standing {
	at := map[inventory.SiteID][]*inventory.Circuit{}
	for i := range inv.Circuits {
		c := &inv.Circuits[i]
		at[c.Site] = append(at[c.Site], c)
	}
	dials := make(map[inventory.SiteID][]inventory.SiteID, len(inv.Sites))
	for _, s := range inv.Sites {
		dials[s.ID] = s.Hubs
	}
	place := map[int]int{}
	for n, h := range r.hubs {
		place[h] = n
	}
	out := make([][]standing, len(r.boxes))
	for i := range r.boxes {
		out[i] = make([]standing, len(all))
		var dialled []dial // the tunnels that the site's circuits allow
		for k, h := range r.hubs {
			b := &r.boxes[h]
			if r.boxes[i].Hub || !slices.Contains(dials[r.boxes[i].Site], b.Site) {
				continue
			}
			for _, c := range at[r.boxes[i].Site] {
				if d := landing(c, at[b.Site]); d != nil {
					dialled = append(dialled, dial{k, b, c, d})
				}
			}
		}
		for n, x := range all {
			s := &out[i][n]
			s.alive = !x.box(&r.boxes[i])
			if r.boxes[i].Hub {
				if s.alive {
					s.has = 1 << place[i]
					s.could = s.has
				}
				continue
			}
			for _, w := range r.wires[i] {
				if len(w.why[f]) > 0 || x.box(&r.boxes[w.hub]) || w.circuits[0] == nil || w.circuits[1] == nil || x.circuit(w.circuits[0]) || x.circuit(w.circuits[1]) {
					continue
				}
				s.has |= 1 << place[w.hub]
			}
			for _, d := range dialled {
				if !x.box(d.hub) && !x.circuit(d.from) && !x.circuit(d.to) {
					s.could |= 1 << d.place
				}
			}
		}
	}
	return out
}
