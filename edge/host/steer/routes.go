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
	slices.SortFunc(routes, func(a, b render.Route) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), a.Dst.Compare(b.Dst), cmp.Compare(a.Dev, b.Dev))
	})
	return slices.Compact(routes)
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
