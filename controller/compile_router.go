package controller

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// router gives what a router of the data centre is to run of ours: an eBGP
// session with BFD to each hub whose uplink ends at it. It announces what the hubs
// take from it, the applications behind it, and takes what is the city's.
func (ix *index) router(r *inventory.Router) (edge.Config, error) {
	cfg := edge.Config{Device: r.ID, Site: r.Site, Role: inventory.RoleRouter, Rules: []edge.Rule{}}
	for i := range ix.inv.Sites {
		s := &ix.inv.Sites[i]
		for _, u := range s.Uplinks {
			if u.Router != r.ID {
				continue
			}
			hub := ix.edgeAt[s.ID]
			if hub == nil {
				continue // the hub is not in service yet
			}
			lo, ok := ix.loopback[hub.ID]
			if !ok {
				return cfg, fmt.Errorf("compile %s: %w: no loopback is allocated to hub %s; allocate addresses before making a revision", r.ID, inventory.ErrInvalid, hub.ID)
			}
			cfg.BGP.ASN = u.PeerASN
			if !cfg.BGP.RouterID.IsValid() || u.Peer.Less(cfg.BGP.RouterID) {
				cfg.BGP.RouterID = u.Peer
			}
			cfg.BGP.Neighbours = append(cfg.BGP.Neighbours, edge.Neighbour{
				Tunnel: string(hub.ID) + "/" + u.Name, Addr: u.Address.Addr(), ASN: asn(lo), Preference: 100, BFDMinMS: bfdMinMS, BFDMult: bfdMult,
			})
		}
	}
	cfg.BGP.Networks = append([]netip.Prefix{}, ix.beyond...)
	for _, p := range ix.overlay { // what the hubs announce: sites, loopbacks and their applications
		if !slices.Contains(ix.beyond, p) {
			cfg.BGP.Accept = append(cfg.BGP.Accept, p)
		}
	}
	if len(cfg.BGP.Neighbours) == 0 {
		return cfg, fmt.Errorf("compile %s: %w: no uplink of a hub in service ends at it; name it as an uplink's router, or set it to planned", r.ID, inventory.ErrInvalid)
	}
	slices.SortFunc(cfg.BGP.Neighbours, func(a, b edge.Neighbour) int { return cmp.Compare(a.Tunnel, b.Tunnel) })
	d := r.Device()
	return override(cfg, &d)
}
