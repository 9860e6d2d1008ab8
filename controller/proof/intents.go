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
	ports   []inventory.PortRange // of all permits
}

func newIntents(inv inventory.Inventory) (*intents, error) {
	x := &intents{permits: inv.Permits, apps: inv.Applications, zones: map[inventory.SiteID][]inventory.SegmentBlock{}}
	for _, p := range inv.Pools {
		x.pools = append(x.pools, p.Prefix)
	}
	for _, a := range inv.Applications {
		x.ports = append(x.ports, a.Ports...)
	}
	for _, p := range inv.Permits {
		x.ports = append(x.ports, p.Ports...)
	}
	index := inv.Index()
	for _, s := range inv.Sites {
		blocks, err := index.SegmentBlocks(s.ID)
		if err != nil {
			return nil, fmt.Errorf("segments of %s: %w", s.ID, err)
		}
		x.zones[s.ID] = blocks
	}
	return x, nil
}

// sets are what the intents tell addresses apart by, of all sites.
func (x *intents) sets() [][]netip.Prefix {
	out := [][]netip.Prefix{x.pools}
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

// target is where an address is that no site owns.
func (x *intents) target(a netip.Addr) target {
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
	t := x.target(a)
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
		switch {
		case p.ToApp != "":
			if i := slices.IndexFunc(x.apps, func(a inventory.Application) bool { return a.ID == p.ToApp }); i >= 0 && slices.Contains(strings.Fields(to.apps), string(p.ToApp)) {
				some = s.asked(x.apps[i].Ports)
			}
		case p.ToSeg != "":
			if p.ToSeg == to.segment {
				some = s.asked(p.Ports)
			}
		case p.ToInternet && !to.ours:
			if some = s.news; len(p.Ports) > 0 {
				some = s.asked(p.Ports)
			}
		}
		if !some.empty() {
			out, by = out.or(some), append(by, p.ID)
		}
	}
	return out, by
}
