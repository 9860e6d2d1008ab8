package sim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/inventory"
)

// Pick makes n edges of an inventory: the devices in service at the hubs and,
// evenly over the rest, as many others; 0 takes all. They have no bundles yet.
// Errors wrap [inventory.ErrInvalid].
func Pick(inv inventory.Inventory, n int) ([]Edge, error) {
	circuits := map[inventory.SiteID][]Circuit{}
	for _, c := range inv.Circuits {
		circuits[c.Site] = append(circuits[c.Site], Circuit{ID: c.ID, Kind: c.Kind, Carrier: c.Carrier})
	}
	var hubs, rest []Edge
	for _, d := range inv.Devices {
		if d.Intended != inventory.InService {
			continue
		}
		e := Edge{Device: d.ID, Serial: d.Serial, Site: d.Site, Role: d.Role, Circuits: circuits[d.Site]}
		if d.Role == inventory.RoleHub {
			hubs = append(hubs, e)
		} else {
			rest = append(rest, e)
		}
	}
	all := len(hubs) + len(rest)
	switch {
	case all == 0:
		return nil, fmt.Errorf("%w: the inventory has no device in service", inventory.ErrInvalid)
	case n < 0 || n > all:
		return nil, fmt.Errorf("%w: %d edges are asked for; the inventory has %d devices in service", inventory.ErrInvalid, n, all)
	case n == 0 || n == all:
		return slices.Concat(hubs, rest), nil
	case n < len(hubs):
		return hubs[:n], nil
	}
	out := slices.Clone(hubs)
	for want, i := n-len(hubs), 0; i < want; i++ {
		out = append(out, rest[i*len(rest)/want])
	}
	return out, nil
}

// mostSources is how many loopback addresses [sources] hands out.
const mostSources = 250 * 250 * 250

// sources gives each edge a loopback address of its own to dial from: a
// controller bounds what one address may hold, and wards come from many. Only
// a controller on the same machine can be reached so.
func sources(edges []Edge) func(inventory.DeviceID) netip.Addr {
	at := make(map[inventory.DeviceID]netip.Addr, len(edges))
	for i, e := range edges {
		k := uint32(i % mostSources)
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 127<<24|(k/250/250+1)<<16|(k/250%250)<<8|(k%250+1))
		at[e.Device] = netip.AddrFrom4(b)
	}
	return func(id inventory.DeviceID) netip.Addr { return at[id] }
}
