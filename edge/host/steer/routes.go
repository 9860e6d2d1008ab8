package steer

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// Paths are the tunnels of c as st saw them, with their quality. The tunnels to
// one device are a group: an edge's to one hub, a hub's to one site.
func Paths(c edge.Config, st agent.HostState, quality func(tunnel string) Quality) []Path {
	seen := make(map[string]agent.TunnelState, len(st.Tunnels))
	for _, t := range st.Tunnels {
		seen[t.Name] = t
	}
	paths := make([]Path, 0, len(c.Tunnels))
	for _, t := range c.Tunnels {
		s := seen[t.Name]
		paths = append(paths, Path{
			Tunnel: t.Name, Group: string(t.Peer), Preference: t.Preference,
			Up: s.Up && s.BFD && s.BGP, Quality: quality(t.Name),
		})
	}
	return paths
}

// Deviations are the routes, for the tables of the service classes, that carry
// out choices where routing by itself would use another tunnel. Routing uses
// the most preferred path that is up. An edge deviates only among the tunnels
// to the hub that routing uses: the way back is that hub's to choose.
func Deviations(c edge.Config, paths []Path, choices []Choice) []render.Route {
	natural, hub := routing(paths)
	tunnels := make(map[string]edge.Tunnel, len(c.Tunnels))
	for _, t := range c.Tunnels {
		tunnels[t.Name] = t
	}
	var routes []render.Route
	for _, choice := range choices {
		i := slices.IndexFunc(c.Classes, func(k edge.Class) bool { return k.Name == choice.Class })
		t, ok := tunnels[choice.Tunnel]
		if i < 0 || !ok || natural[choice.Group] == choice.Tunnel {
			continue
		}
		table := render.ClassTable(i)
		if c.Role == inventory.RoleHub {
			routes = append(routes, over(table, t, t.AllowedIPs)...)
		} else if choice.Group == hub {
			routes = append(routes, over(table, t, beyond(c, choice.Class))...)
			routes = append(routes, local(c, table)...)
		}
	}
	sortRoutes(routes)
	return slices.Compact(routes)
}

// Ridden are the tunnels that flows ride on, sorted: of each group the one that
// routing uses and those of the classes' choices; at an edge only of the group
// that routing uses.
func Ridden(c edge.Config, paths []Path, choices []Choice) []string {
	natural, hub := routing(paths)
	used := func(group string) bool { return c.Role == inventory.RoleHub || group == hub }
	var out []string
	for group, tunnel := range natural {
		if used(group) {
			out = append(out, tunnel)
		}
	}
	for _, choice := range choices {
		if used(choice.Group) {
			out = append(out, choice.Tunnel)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func sortRoutes(routes []render.Route) {
	slices.SortFunc(routes, func(a, b render.Route) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), a.Dst.Compare(b.Dst), cmp.Compare(a.Dev, b.Dev))
	})
}

// Follow keeps of an edge's deviations those to where routing, as main has it,
// goes by the same device: a hub whose session is up may not know the way, as
// when it has just come back or lost the data centre, and routing then goes by
// another one. Where routing goes by several, the parts that go by that hub are
// kept.
func Follow(c edge.Config, routes, main []render.Route) []render.Route {
	if c.Role == inventory.RoleHub { // one interface for many sites, each the only way to its own
		return routes
	}
	peers := make(map[string]inventory.DeviceID, len(c.Tunnels))
	for _, t := range c.Tunnels {
		peers[render.Interface(t)] = t.Peer
	}
	tables := map[int]bool{}
	var out []render.Route
	for _, r := range routes {
		if !r.Via.IsValid() {
			continue
		}
		var same []render.Route
		all := true
		for _, m := range main {
			peer, tunnel := peers[m.Dev]
			switch {
			case !tunnel || !m.Dst.Overlaps(r.Dst):
			case peer != peers[r.Dev]:
				all = false
			case m.Dst.Bits() > r.Dst.Bits():
				part := r
				part.Dst = m.Dst
				same = append(same, part)
			default:
				same = append(same, r)
			}
		}
		if len(same) > 0 && all {
			same = []render.Route{r}
		}
		out = append(out, same...)
		tables[r.Table] = tables[r.Table] || len(same) > 0
	}
	for _, r := range routes {
		if !r.Via.IsValid() && tables[r.Table] {
			out = append(out, r)
		}
	}
	sortRoutes(out)
	return slices.Compact(out)
}

// routing says which tunnel routing uses to each group, and to which group all
// that several groups lead to goes.
func routing(paths []Path) (natural map[string]string, first string) {
	natural = map[string]string{}
	best, all := map[string]Path{}, Path{}
	prefer := func(a, b Path) bool {
		return b.Tunnel == "" || a.Preference > b.Preference || a.Preference == b.Preference && a.Tunnel < b.Tunnel
	}
	for _, p := range paths {
		if !p.Up {
			continue
		}
		if prefer(p, best[p.Group]) {
			best[p.Group], natural[p.Group] = p, p.Tunnel
		}
		if prefer(p, all) {
			all = p
		}
	}
	return natural, all.Group
}

// over are the routes to dsts through t.
func over(table int, t edge.Tunnel, dsts []netip.Prefix) []render.Route {
	var routes []render.Route
	for _, dst := range dsts {
		via := t.Remote
		if dst.Addr().Is6() {
			via = render.Inner(via)
		}
		if !dst.Contains(via) { // the tunnel's own ends are no deviation
			routes = append(routes, render.Route{Table: table, Dst: dst.Masked(), Via: via, Dev: render.Interface(t)})
		}
	}
	return routes
}

// beyond are the far prefixes of a class at an edge: where its flows go, and
// where they come from.
func beyond(c edge.Config, class string) []netip.Prefix {
	var far []netip.Prefix
	for _, r := range c.Rules {
		if r.Class != class || r.Internet {
			continue
		}
		ends := r.Dst
		if r.From == "" {
			ends = r.Src
		}
		for _, p := range ends {
			own := slices.ContainsFunc(c.BGP.Networks, func(n netip.Prefix) bool { return n.Bits() <= p.Bits() && n.Contains(p.Addr()) })
			if !own {
				far = append(far, p.Masked())
			}
		}
	}
	slices.SortFunc(far, netip.Prefix.Compare)
	return slices.Compact(far)
}

// local are the site's own segments: a far prefix may hold them, and a class's
// table is looked up before the main one.
func local(c edge.Config, table int) []render.Route {
	var routes []render.Route
	for _, s := range c.Segments {
		for _, p := range []netip.Prefix{s.V4, s.V6} {
			if p.IsValid() && s.Port != "" {
				routes = append(routes, render.Route{Table: table, Dst: p.Masked(), Dev: s.Port})
			}
		}
	}
	return routes
}
