package controller

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// segments cuts the site's blocks into its segments in use.
func (ix *index) segments(site *inventory.Site) ([]edge.Segment, error) {
	b := ix.blocks[site.ID]
	var out []edge.Segment
	for _, s := range site.Segments {
		if s.Unused != "" {
			continue
		}
		v4, v6, err := inventory.SegmentPrefixes(b[0], b[1], s.Kind)
		if err != nil {
			return nil, fmt.Errorf("site %s: segment %s: %w", site.ID, s.Kind, err)
		}
		out = append(out, edge.Segment{Kind: s.Kind, V4: v4, V6: v6})
	}
	slices.SortFunc(out, func(a, b edge.Segment) int { return cmp.Compare(a.Kind, b.Kind) })
	return out, nil
}

// rules turns the permits into what d lets pass; all else is denied.
//
// An edge lets its own segments out to an application's prefixes, or towards
// the sites' pools for a permit that names a segment; so a new site changes the
// hubs and not every edge. A hub is exact: it lets through only from the
// permitted segments of all sites to the application, or to that segment of
// all sites; what its own segments may reach is as exact, for its uplinks see it. Since every path between sites crosses a hub, the exact rule holds
// everywhere. To the internet every site goes by its own circuits: such a permit
// gives no rule for what comes through a tunnel.
func (ix *index) rules(d *inventory.Device, own []edge.Segment) []edge.Rule {
	return ix.rulesAt(d, own, ix.sites[d.Site])
}

// rulesAt is rules with the openings that site lists.
func (ix *index) rulesAt(d *inventory.Device, own []edge.Segment, site *inventory.Site) []edge.Rule {
	out := []edge.Rule{}
	for i := range ix.inv.Permits {
		p := &ix.inv.Permits[i]
		from, ok := opened(p, d, site)
		if !ok {
			continue
		}
		app := ix.apps[p.ToApp]
		ports := p.Ports
		if app != nil {
			ports = app.Ports
		}
		for _, s := range own {
			if !slices.Contains(from, s.Kind) {
				continue
			}
			dst := ix.sitePool
			switch {
			case p.ToSeg != "" && d.Role == inventory.RoleHub:
				dst = ix.zones[p.ToSeg]
			case app != nil:
				dst = sortPrefixes(slices.Clone(app.Prefixes))
			case p.ToInternet:
				dst, ports = []netip.Prefix{}, append([]inventory.PortRange{}, p.Ports...)
			}
			out = append(out, edge.Rule{
				Permit: p.ID, From: s.Kind, Src: valid(s.V4, s.V6), Dst: dst, Ports: ports,
				Class: ix.classOf(p, app), Internet: p.ToInternet,
			})
		}
		if r, ok := ix.inbound(p, app, d, own); ok {
			r.Ports, r.Class = ports, ix.classOf(p, app)
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b edge.Rule) int {
		return cmp.Or(cmp.Compare(a.Permit, b.Permit), cmp.Compare(a.From, b.From))
	})
	return out
}

// kept are the rules that the permits ask for and the openings of d's site leave
// out: what is in use of them must not be cut.
func (ix *index) kept(d *inventory.Device, own []edge.Segment, have []edge.Rule) []edge.Rule {
	site := ix.sites[d.Site]
	if d.Role == inventory.RoleHub || len(site.Opens) == 0 {
		return nil
	}
	all := *site
	all.Opens = nil
	var out []edge.Rule
	for _, r := range ix.rulesAt(d, own, &all) {
		if !slices.ContainsFunc(have, func(o edge.Rule) bool { return o.Permit == r.Permit && o.From == r.From }) {
			out = append(out, r)
		}
	}
	return out
}

// opened lists the segments of a site for which its box carries p out, out of
// those that p names; false: for none. A site that lists no openings has all.
func opened(p *inventory.Permit, d *inventory.Device, site *inventory.Site) ([]inventory.SegmentKind, bool) {
	if d.Role == inventory.RoleHub || len(site.Opens) == 0 {
		return p.From, true
	}
	i := slices.IndexFunc(site.Opens, func(o inventory.Opening) bool { return o.Permit == p.ID })
	if i < 0 {
		return nil, false
	}
	if o := site.Opens[i]; len(o.From) > 0 {
		return o.From, true
	}
	return p.From, true
}

// inbound is the rule for flows of permit p that arrive through a tunnel.
func (ix *index) inbound(p *inventory.Permit, app *inventory.Application, d *inventory.Device, own []edge.Segment) (edge.Rule, bool) {
	r := edge.Rule{Permit: p.ID}
	if p.ToInternet {
		return r, false
	}
	if d.Role == inventory.RoleHub {
		r.Src, r.Dst = ix.sources[p.ID], ix.zones[p.ToSeg]
		if app != nil {
			r.Dst = sortPrefixes(slices.Clone(app.Prefixes))
		}
		return r, len(r.Src) > 0 && len(r.Dst) > 0
	}
	r.Src = ix.sitePool
	if app != nil {
		r.Dst = sortPrefixes(slices.Clone(app.Prefixes))
		return r, app.Site == d.Site
	}
	for _, s := range own {
		if s.Kind == p.ToSeg {
			r.Dst = valid(s.V4, s.V6)
		}
	}
	return r, len(r.Dst) > 0
}

// cutOwner splits "noun/id"; the id may hold slashes.
func cutOwner(owner string) (noun, id string, ok bool) { return strings.Cut(owner, "/") }

// within says whether inner is part of outer; false for the zero value.
func within(inner, outer netip.Prefix) bool {
	return outer.IsValid() && inner.IsValid() && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// valid keeps the prefixes that are set.
func valid(ps ...netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(ps, func(p netip.Prefix) bool { return !p.IsValid() })
}

// sortPrefixes sorts in place and drops repetitions.
func sortPrefixes(ps []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ps, comparePrefix)
	return slices.Compact(ps)
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
