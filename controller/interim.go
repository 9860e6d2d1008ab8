package controller

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/controller/proof"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// Interim is a state between two waves in which sites have no tunnel that both
// ends agree about: they are cut off until a later wave, and managed by the
// underlay alone.
type Interim struct {
	After string             // wave; empty: before the first
	Sites []inventory.SiteID // sorted
}

// interims walks the waves of p from what is in force and lists the states in
// which a site that has a tunnel before and after has none. It is pure.
func interims(p Plan, from map[inventory.DeviceID]Want, to *Compiled, keep func(hub inventory.DeviceID) edge.Config) []Interim {
	now := make(map[inventory.DeviceID]*edge.Config, len(from))
	for id, w := range from {
		now[id] = &w.Config
	}
	watched := map[inventory.DeviceID]bool{}
	for _, d := range p.Devices {
		if w, ok := to.Devices[d.Device]; ok && w.Config.Role == inventory.RoleEdge {
			watched[d.Device] = true
		} else if ok {
			for _, t := range slices.Concat(w.Config.Tunnels, from[d.Device].Config.Tunnels) {
				watched[t.Peer] = true
			}
		}
	}
	after := make(map[inventory.DeviceID]*edge.Config, len(to.Devices))
	for id, w := range to.Devices {
		after[id] = &w.Config
	}
	var out []Interim
	for _, w := range p.Waves {
		for _, id := range w.Devices {
			c := to.Devices[id].Config
			if w.Additions {
				c = keep(id)
			}
			now[id] = &c
		}
		var cut []inventory.SiteID
		for id := range watched {
			if old := from[id]; old.Hash == "" || after[id] == nil || !joined(&old.Config, from) || !agreed(after[id], after) {
				continue // it comes, goes, or had none
			}
			if !agreed(now[id], now) {
				cut = append(cut, now[id].Site)
			}
		}
		if len(cut) > 0 {
			slices.Sort(cut)
			out = append(out, Interim{After: w.Name, Sites: slices.Compact(cut)})
		}
	}
	return out
}

// joined is agreed over what is in force.
func joined(c *edge.Config, from map[inventory.DeviceID]Want) bool {
	for _, t := range c.Tunnels {
		if peer, ok := from[t.Peer]; ok && agree(c, t, &peer.Config) {
			return true
		}
	}
	return false
}

// agreed says whether an edge has a tunnel that its hub has as well.
func agreed(c *edge.Config, all map[inventory.DeviceID]*edge.Config) bool {
	if c == nil {
		return false
	}
	for _, t := range c.Tunnels {
		if peer := all[t.Peer]; peer != nil && agree(c, t, peer) {
			return true
		}
	}
	return false
}

// agree says whether both ends of t are configured alike: addresses, port, kind
// and AS numbers.
func agree(c *edge.Config, t edge.Tunnel, peer *edge.Config) bool {
	i, ok := slices.BinarySearchFunc(peer.Tunnels, t.Name, func(e edge.Tunnel, name string) int { return strings.Compare(e.Name, name) })
	if !ok {
		return false
	}
	o := peer.Tunnels[i]
	if o.Remote != t.Local.Addr() || o.Local.Addr() != t.Remote || o.Kind != t.Kind || o.ListenPort != t.Endpoint.Port() {
		return false
	}
	mine, ok1 := session(c, t.Name)
	theirs, ok2 := session(peer, t.Name)
	return ok1 && ok2 && mine.ASN == peer.BGP.ASN && theirs.ASN == c.BGP.ASN
}

// session is the BGP session over a tunnel.
func session(c *edge.Config, tunnel string) (edge.Neighbour, bool) {
	i, ok := slices.BinarySearchFunc(c.BGP.Neighbours, tunnel, func(n edge.Neighbour, name string) int { return strings.Compare(n.Tunnel, name) })
	if !ok {
		return edge.Neighbour{}, false
	}
	return c.BGP.Neighbours[i], true
}

// stepFindings proves of the configurations that are in force between waves only,
// hubs that hold the old beside the new, that they are managed and keep their
// tunnels. What is in force before and after is proven whole.
func stepFindings(p Plan, from map[inventory.DeviceID]Want, to *Compiled) ([]proof.Counterexample, error) {
	var out []proof.Counterexample
	for _, w := range p.Waves {
		if !w.Additions {
			continue
		}
		for _, id := range w.Devices {
			found, err := proof.Control(proofBox(keepOld(to.Devices[id].Config, from[id].Config)))
			if err != nil {
				return nil, fmt.Errorf("prove the step %s of revision %d: %w", w.Name, to.Revision, err)
			}
			for _, x := range found {
				x.Intent = "after wave " + w.Name + ": " + x.Intent
				out = append(out, x)
			}
		}
	}
	return out, nil
}
