package inventory

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// SiteOwner names a site in [Allocation.Owner].
func SiteOwner(id SiteID) string { return "site/" + string(id) }

// DeviceOwner names a device in [Allocation.Owner].
func DeviceOwner(id DeviceID) string { return "device/" + string(id) }

// TunnelOwner names the tunnel from an edge's circuit to a hub device in
// [Allocation.Owner].
func TunnelOwner(edge CircuitID, hub DeviceID) string {
	return "tunnel/" + string(edge) + "/" + string(hub)
}

// Allocate gives every owner that lacks one a block: each site a site4 and a
// site6 block, each device that is not retired a loopback4, each circuit of an
// edge site a tunnel4 link per hub device of the site's hubs. A kind of which
// the inventory has no pool is left out.
//
// The result is normalized and depends on inv alone. What is allocated stays,
// even when its owner is gone, so that no address returns under another name;
// new owners, in order of id, get the first free block of the pools in order
// of id that overlaps no other allocation, circuit or legacy prefix. It wraps
// [ErrInvalid] when the pools of a kind are exhausted. inv should be valid.
func Allocate(inv Inventory) (Inventory, error) {
	inv = inv.Normalize()
	type slot struct {
		owner string
		kind  PoolKind
	}
	kinds := make(map[PoolID]PoolKind, len(inv.Pools))
	for _, p := range inv.Pools {
		kinds[p.ID] = p.Kind
	}
	have := make(map[slot]bool, len(inv.Allocations))
	for _, a := range inv.Allocations {
		have[slot{a.Owner, kinds[a.Pool]}] = true
	}
	for _, kind := range []PoolKind{PoolSite4, PoolSite6, PoolLoopback4, PoolTunnel4} {
		var free []*cutter
		for _, p := range inv.Pools {
			if p.Kind == kind {
				free = append(free, newCutter(inv, p))
			}
		}
		if len(free) == 0 {
			continue
		}
		for _, owner := range owners(inv, kind) {
			if have[slot{owner, kind}] {
				continue
			}
			a, err := cut(free, owner, kind)
			if err != nil {
				return Inventory{}, err
			}
			inv.Allocations = append(inv.Allocations, a)
		}
	}
	return inv.Normalize(), nil
}

// cut takes the first free block of the pools.
func cut(free []*cutter, owner string, kind PoolKind) (Allocation, error) {
	for _, c := range free {
		if p, ok := c.next(); ok {
			return Allocation{Owner: owner, Pool: c.pool.ID, Prefix: p}, nil
		}
	}
	full := make([]string, len(free))
	for i, c := range free {
		full[i] = fmt.Sprintf("%s (%s)", c.pool.ID, c.pool.Prefix)
	}
	return Allocation{}, fmt.Errorf("%w: allocate for %s: no free block is left in the pools of kind %s: %v; add another pool of this kind", ErrInvalid, owner, kind, full)
}

// owners lists who needs a block of a kind, in order of id.
func owners(inv Inventory, kind PoolKind) []string {
	var out []string
	switch kind {
	case PoolSite4, PoolSite6:
		for _, s := range inv.Sites {
			out = append(out, SiteOwner(s.ID))
		}
	case PoolLoopback4:
		for _, d := range inv.Devices {
			if d.Intended != Retired {
				out = append(out, DeviceOwner(d.ID))
			}
		}
	case PoolTunnel4:
		x := inv.Index()
		for _, k := range inv.Circuits {
			for _, d := range x.HubDevices(k.Site) {
				out = append(out, TunnelOwner(k.ID, d.ID))
			}
		}
	}
	return out
}

// cutter gives out the free blocks of one pool in ascending order.
type cutter struct {
	pool    Pool
	blocked []netip.Prefix // disjoint, ascending, inside or around the pool
	n, size uint64         // next block, number of blocks
}

func newCutter(inv Inventory, p Pool) *cutter {
	c := &cutter{pool: p}
	if free := p.Bits - p.Prefix.Bits(); free >= 0 && free < 64 {
		c.size = 1 << free
	}
	add := func(q netip.Prefix) {
		if q.IsValid() && q.Overlaps(p.Prefix) {
			c.blocked = append(c.blocked, q.Masked())
		}
	}
	for _, a := range inv.Allocations {
		add(a.Prefix)
	}
	for _, k := range inv.Circuits {
		add(k.Address)
	}
	for _, s := range inv.Sites {
		add(s.Legacy)
	}
	slices.SortFunc(c.blocked, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	// Prefixes nest or are disjoint: keep the outermost of each nest.
	out := c.blocked[:0]
	for _, q := range c.blocked {
		if len(out) == 0 || !contains(out[len(out)-1], q) {
			out = append(out, q)
		}
	}
	c.blocked = out
	return c
}

// next returns the next free block; false when the pool is exhausted.
func (c *cutter) next() (netip.Prefix, bool) {
	for c.n < c.size {
		p := block(c.pool.Prefix, c.pool.Bits, c.n)
		for len(c.blocked) > 0 && !c.blocked[0].Overlaps(p) && c.blocked[0].Addr().Less(p.Addr()) {
			c.blocked = c.blocked[1:]
		}
		if len(c.blocked) == 0 || !c.blocked[0].Overlaps(p) {
			c.n++
			return p, true
		}
		c.n = c.after(c.blocked[0])
	}
	return netip.Prefix{}, false
}

// after is the number of the first block behind q, which overlaps the pool.
func (c *cutter) after(q netip.Prefix) uint64 {
	switch {
	case q.Bits() <= c.pool.Prefix.Bits():
		return c.size
	case q.Bits() >= c.pool.Bits:
		return indexOf(c.pool.Prefix, c.pool.Bits, q.Addr()) + 1
	}
	return indexOf(c.pool.Prefix, c.pool.Bits, q.Addr()) + 1<<(c.pool.Bits-q.Bits())
}
