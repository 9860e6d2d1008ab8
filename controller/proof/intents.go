package proof

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/inventory"
)

// intents are what the inventory says may pass, and nothing else. They know
// nothing of compiled configurations, so that they can judge them.
type intents struct {
	permits []inventory.Permit
	apps    []inventory.Application
	pools   []netip.Prefix
	zones   map[inventory.SiteID][]inventory.SegmentBlock
	kinds   map[inventory.SegmentKind][]netip.Prefix // of all sites
	seg     map[netip.Prefix]inventory.SegmentKind   // of each of them
	ports   []inventory.PortRange                    // of all permits
	digest  string                                   // of pools and applications
}

func newIntents(inv inventory.Inventory) (*intents, error) {
	x := &intents{digest: digestOf(inv), permits: inv.Permits, apps: inv.Applications, kinds: map[inventory.SegmentKind][]netip.Prefix{}}
	var err error
	if x.zones, err = zonesOf(inv); err != nil {
		return nil, err
	}
	x.seg = make(map[netip.Prefix]inventory.SegmentKind, 2*len(inventory.SegmentKinds)*len(inv.Sites))
	for _, p := range inv.Pools {
		x.pools = append(x.pools, p.Prefix)
	}
	for _, a := range inv.Applications {
		x.ports = append(x.ports, a.Ports...)
	}
	for _, p := range inv.Permits {
		x.ports = append(x.ports, p.Ports...)
	}
	for _, s := range inv.Sites {
		for _, b := range x.zones[s.ID] {
			for _, p := range [...]netip.Prefix{b.V4, b.V6} {
				if p.IsValid() {
					x.kinds[b.Kind], x.seg[p] = append(x.kinds[b.Kind], p), b.Kind
				}
			}
		}
	}
	return x, nil
}

// zonesOf are the segments in use at all sites, in the order of the cut: those of
// [inventory.Index.SegmentBlocks], without all else that an index is made of.
func zonesOf(inv inventory.Inventory) (map[inventory.SiteID][]inventory.SegmentBlock, error) {
	kinds := make(map[inventory.PoolID]inventory.PoolKind, len(inv.Pools))
	for _, p := range inv.Pools {
		kinds[p.ID] = p.Kind
	}
	site4, site6 := make(map[string]netip.Prefix, len(inv.Sites)), make(map[string]netip.Prefix, len(inv.Sites))
	for _, a := range inv.Allocations {
		switch kinds[a.Pool] {
		case inventory.PoolSite4:
			site4[a.Owner] = a.Prefix
		case inventory.PoolSite6:
			site6[a.Owner] = a.Prefix
		}
	}
	out := make(map[inventory.SiteID][]inventory.SegmentBlock, len(inv.Sites))
	for i := range inv.Sites {
		s := &inv.Sites[i]
		owner := inventory.SiteOwner(s.ID)
		blocks := make([]inventory.SegmentBlock, 0, len(s.Segments))
		for _, g := range s.Segments {
			if g.Unused != "" {
				continue
			}
			v4, v6, err := inventory.SegmentPrefixes(site4[owner], site6[owner], g.Kind)
			if err != nil {
				return nil, fmt.Errorf("segments of %s: %w", s.ID, err)
			}
			blocks = append(blocks, inventory.SegmentBlock{Kind: g.Kind, V4: v4, V6: v6})
		}
		slices.SortFunc(blocks, func(a, b inventory.SegmentBlock) int {
			return slices.Index(inventory.SegmentKinds, a.Kind) - slices.Index(inventory.SegmentKinds, b.Kind)
		})
		out[s.ID] = blocks
	}
	return out, nil
}

// special is what is not the internet's (RFC 6890, RFC 5771; RFC 4291 for IPv6,
// whose global unicast addresses are those of 2000::/3).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("::/3"), netip.MustParsePrefix("4000::/2"), netip.MustParsePrefix("8000::/1"),
}

// public says whether an address is the internet's.
func public(a netip.Addr) bool {
	return !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

// services are the first packets that a permit names.
func (x *intents) services(s *services, p inventory.Permit) set {
	switch {
	case p.ToApp != "":
		if i := slices.IndexFunc(x.apps, func(a inventory.Application) bool { return a.ID == p.ToApp }); i >= 0 {
			return s.asked(x.apps[i].Ports)
		}
		return set{}
	case p.ToInternet && len(p.Ports) == 0:
		return s.news
	}
	return s.asked(p.Ports)
}

// holds says whether a target belongs to an application.
func (t target) holds(app inventory.ApplicationID) bool {
	return slices.Contains(strings.Fields(t.apps), string(app))
}

// reaching are the first packets of a permit that a host may need to get through:
// a permit of all there is lets ICMP errors and redirects be stopped.
func (x *intents) reaching(s *services, p inventory.Permit) set {
	if !p.ToInternet || len(p.Ports) > 0 {
		return x.services(s, p)
	}
	return s.asked([]inventory.PortRange{{Proto: inventory.TCP, To: 65535}, {Proto: inventory.UDP, To: 65535}, {Proto: inventory.ICMP}})
}

// sets are what the intents tell addresses apart by, of all sites.
func (x *intents) sets() [][]netip.Prefix {
	out := [][]netip.Prefix{x.pools, special}
	for _, kind := range inventory.SegmentKinds {
		if len(x.kinds[kind]) > 0 {
			out = append(out, x.kinds[kind])
		}
	}
	for _, a := range x.apps {
		out = append(out, a.Prefixes)
	}
	return out
}

// blocks are the segments of a site, each a set.
func (x *intents) blocks(site inventory.SiteID) [][]netip.Prefix {
	var out [][]netip.Prefix
	for _, b := range x.zones[site] {
		var one []netip.Prefix
		for _, p := range []netip.Prefix{b.V4, b.V6} {
			if p.IsValid() {
				one = append(one, p)
			}
		}
		out = append(out, one)
	}
	return out
}

// target is where an address is, in a segment of whatever site.
func (x *intents) target(a netip.Addr) target {
	t := x.outside(a)
	for bits := a.BitLen(); bits > 0; bits-- {
		p, err := a.Prefix(bits)
		if kind, ok := x.seg[p]; ok && err == nil {
			t.segment, t.ours = kind, true
			break
		}
	}
	return t
}

// outside is where an address is that no site owns.
func (x *intents) outside(a netip.Addr) target {
	t := target{ours: slices.ContainsFunc(x.pools, func(p netip.Prefix) bool { return p.Contains(a) })}
	var apps []string
	for _, app := range x.apps {
		if slices.ContainsFunc(app.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) }) {
			apps = append(apps, string(app.ID))
			t.ours = true
		}
	}
	t.apps = strings.Join(apps, " ")
	return t
}

// at is where an address is that lives at a site.
func (x *intents) at(site inventory.SiteID, a netip.Addr) target {
	t := x.outside(a)
	t.ours = true
	for _, b := range x.zones[site] {
		for _, p := range []netip.Prefix{b.V4, b.V6} {
			if p.IsValid() && p.Contains(a) {
				t.segment = b.Kind
			}
		}
	}
	return t
}

// permitted is what hosts of a segment may open to a target, and by which
// permits.
func (x *intents) permitted(s *services, from inventory.SegmentKind, to target) (set, []inventory.PermitID) {
	var out set
	var by []inventory.PermitID
	for _, p := range x.permits {
		if !slices.Contains(p.From, from) {
			continue
		}
		var some set
		if p.ToApp != "" && to.holds(p.ToApp) || p.ToSeg != "" && p.ToSeg == to.segment || p.ToInternet && !to.ours {
			some = x.services(s, p)
		}
		if !some.empty() {
			out, by = out.or(some), append(by, p.ID)
		}
	}
	return out, by
}
