package controller

import (
	"reflect"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// unconcerned gives the devices of now whose config is what it was in before. A
// device away from the hubs depends on its own site, on what belongs to no site,
// on the hubs, and on the sites that applications live at: as long as all of
// these are the same, so is its config. Of a field that is new in the inventory
// nothing need be said here: everything is compared.
func unconcerned(before *Compiled, now *inventory.Inventory) map[inventory.DeviceID]Want {
	if before == nil {
		return nil
	}
	old := before.Content
	var parts [2]map[inventory.SiteID]*sitePart
	var g errgroup.Group
	for i, inv := range []*inventory.Inventory{old, now} {
		g.Go(func() error { parts[i] = sitePartsOf(inv); return nil })
	}
	rest := func(inv inventory.Inventory) inventory.Inventory {
		inv.Sites, inv.Devices, inv.Circuits, inv.Allocations = nil, nil, nil, nil
		return inv
	}
	common := reflect.DeepEqual(rest(*old), rest(*now))
	_ = g.Wait()
	if !common {
		return nil
	}
	same := make(map[inventory.SiteID]bool, len(parts[1]))
	for id, p := range parts[1] {
		o := parts[0][id]
		same[id] = o != nil && p.equal(o)
	}
	for _, all := range parts {
		for id, p := range all {
			if p.shared && !same[id] {
				return nil
			}
		}
	}
	out := make(map[inventory.DeviceID]Want, len(now.Devices))
	for id, p := range parts[1] {
		if p.shared || !same[id] {
			continue
		}
		for _, d := range p.devices {
			if w, ok := before.Devices[d.ID]; ok {
				out[d.ID] = w
			}
		}
	}
	return out
}

// sitePart is all that an inventory says of one site; that of no site has the
// empty id.
type sitePart struct {
	site        *inventory.Site
	devices     []*inventory.Device
	circuits    []*inventory.Circuit
	allocations []inventory.Allocation
	shared      bool // others' configs depend on it
}

func sitePartsOf(inv *inventory.Inventory) map[inventory.SiteID]*sitePart {
	out := make(map[inventory.SiteID]*sitePart, len(inv.Sites)+1)
	at := func(id inventory.SiteID) *sitePart {
		p := out[id]
		if p == nil { // none, or a site that is not there
			p = &sitePart{shared: true}
			out[id] = p
		}
		return p
	}
	for i := range inv.Sites {
		s := &inv.Sites[i]
		out[s.ID] = &sitePart{site: s, shared: s.Kind == inventory.Hub}
	}
	siteOf := make(map[string]inventory.SiteID, len(inv.Devices)+len(inv.Circuits))
	for i := range inv.Devices {
		d := &inv.Devices[i]
		p := at(d.Site)
		p.devices = append(p.devices, d)
		p.shared = p.shared || d.Role == inventory.RoleHub
		siteOf[inventory.DeviceOwner(d.ID)] = d.Site
	}
	for i := range inv.Circuits {
		c := &inv.Circuits[i]
		p := at(c.Site)
		p.circuits = append(p.circuits, c)
		siteOf[string(c.ID)] = c.Site
	}
	for i := range inv.Applications {
		at(inv.Applications[i].Site).shared = true
	}
	for _, a := range inv.Allocations {
		var id inventory.SiteID
		switch noun, name, _ := strings.Cut(a.Owner, "/"); noun {
		case "site":
			id = inventory.SiteID(name)
		case "tunnel":
			circuit, _, _ := strings.Cut(name, "/")
			id = siteOf[circuit]
		default:
			id = siteOf[a.Owner]
		}
		p := at(id)
		p.allocations = append(p.allocations, a)
	}
	return out
}

func (p *sitePart) equal(o *sitePart) bool {
	return slices.Equal(p.allocations, o.allocations) && reflect.DeepEqual(p.circuits, o.circuits) &&
		reflect.DeepEqual(p.devices, o.devices) && reflect.DeepEqual(p.site, o.site)
}

// stages says how a hub is brought from have to want, beside the wards: late,
// where the change only takes away, or staged, where it also adds.
func stages(have, want Want) (late, staged bool) {
	both := keepOld(want.Config, have.Config)
	is := func(w Want) bool { return both.Equal(w.Config) || both.Hash() == w.Hash }
	switch {
	case both.Equal(want.Config): // it only adds
		return want.Hash == have.Hash, false
	case is(have):
		return true, false
	}
	return false, !is(want)
}

// nearest is the compiled revision at hand that is next to n; nil: there is none.
func (c *Controller) nearest(n intent.Number) *Compiled {
	c.mu.Lock()
	defer c.mu.Unlock()
	var best *Compiled
	apart := func(x intent.Number) intent.Number { return max(x, n) - min(x, n) }
	for _, x := range c.compiled {
		if best == nil || apart(x.Revision) < apart(best.Revision) {
			best = x
		}
	}
	return best
}

// mostSpare is how many revisions stay compiled that were only looked at: a plan
// asks for its revision several times.
const mostSpare = 4

// trim drops the oldest of those that were only looked at and that nothing has
// come to refer to; c.mu is held.
func (c *Controller) trim() {
	if len(c.spare) <= mostSpare {
		return
	}
	used := c.referred()
	for len(c.spare) > mostSpare {
		if n := c.spare[0]; !used[n] {
			delete(c.compiled, n)
		}
		c.spare = c.spare[1:]
	}
}
