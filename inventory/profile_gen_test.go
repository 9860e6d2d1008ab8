package inventory

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"pgregory.net/rapid"
)

// drawProfiles moves some of what the sites of inv say into profiles and
// variables: the result says the same in other words.
func drawProfiles(t *rapid.T, inv Inventory) Inventory {
	inv = inv.Normalize()
	for n := range rapid.IntRange(0, 3).Draw(t, "profiles") {
		if len(inv.Sites) == 0 {
			break
		}
		p := drawProfile(t, inv, rapid.SampledFrom(inv.Sites).Draw(t, "model"), fmt.Sprintf("w-%d", n))
		taken := false
		for i, s := range inv.Sites {
			if s.Profile != "" || rapid.IntRange(0, 3).Draw(t, "without") == 0 {
				continue
			}
			site, circuits, ok := withProfile(t, inv, s, p)
			if !ok {
				continue
			}
			taken = true
			inv.Sites[i] = site
			for j, k := range inv.Circuits {
				if k.Site == s.ID {
					inv.Circuits[j] = circuits[k.ID]
				}
			}
		}
		if taken || rapid.Bool().Draw(t, "of no site") {
			inv.Profiles = append(inv.Profiles, split(t, p)...)
		}
	}
	for i := range inv.Sites { // what was noted as taken by default
		maps.DeleteFunc(inv.Sites[i].Variables, func(_ string, v VariableValue) bool { return v == "" })
	}
	return inv.Normalize()
}

// drawProfile draws a profile in the shape of one site.
func drawProfile(t *rapid.T, inv Inventory, model Site, id string) Profile {
	p := Profile{ID: ProfileID(id), Description: drawText.Draw(t, "description")}
	if model.BFDIntervalMS != 0 && rapid.Bool().Draw(t, "bfd") {
		p.BFDIntervalMS = drawValue(t, &p, "bfd", IntegerVariable, model.BFDIntervalMS)
	}
	for _, g := range model.Segments {
		if !rapid.Bool().Draw(t, "segment") {
			continue
		}
		s := ProfileSegment{Kind: g.Kind}
		name := "s_" + string(g.Kind)
		if g.Unused != "" {
			s.Unused = drawValue(t, &p, name+"_unused", TextVariable, g.Unused)
		}
		if g.Port != "" && rapid.Bool().Draw(t, "port") {
			s.Port = drawValue(t, &p, name+"_port", TextVariable, g.Port)
		}
		if g.DHCP != "" && rapid.Bool().Draw(t, "dhcp") {
			s.DHCP = drawValue(t, &p, name+"_dhcp", ChoiceVariable, g.DHCP)
		}
		if g.Relay.IsValid() && rapid.Bool().Draw(t, "relay") {
			s.Relay = drawValue(t, &p, name+"_relay", AddressVariable, g.Relay)
		}
		p.Segments = append(p.Segments, s)
	}
	for _, kind := range []CircuitKind{"", FTTH, LTE} {
		if len(inv.Circuits) == 0 || !rapid.Bool().Draw(t, "circuits") {
			continue
		}
		k, like := ProfileCircuit{Kind: kind}, rapid.SampledFrom(inv.Circuits).Draw(t, "like")
		if rapid.Bool().Draw(t, "mtu") {
			k.MTU = drawValue(t, &p, "c_mtu"+string(kind), IntegerVariable, like.MTU)
		}
		if like.Overlay != "" && rapid.Bool().Draw(t, "overlay") {
			k.Overlay = drawValue(t, &p, "c_overlay"+string(kind), ChoiceVariable, like.Overlay)
		}
		if k != (ProfileCircuit{Kind: kind}) {
			p.Circuits = append(p.Circuits, k)
		}
	}
	for _, u := range model.Uplinks {
		if !rapid.Bool().Draw(t, "uplink") {
			continue
		}
		name := "u_" + u.Name[len(u.Name)-1:]
		x := ProfileUplink{
			Name: u.Name, Port: drawValue(t, &p, name+"_port", TextVariable, u.Port), Address: drawValue(t, &p, name+"_address", PrefixVariable, u.Address),
			Peer: drawValue(t, &p, name+"_peer", AddressVariable, u.Peer), PeerASN: drawValue(t, &p, name+"_asn", IntegerVariable, u.PeerASN),
		}
		if u.Router != "" && rapid.Bool().Draw(t, "its router") {
			x.Router = drawValue(t, &p, name+"_router", TextVariable, u.Router)
		}
		p.Uplinks = append(p.Uplinks, x)
	}
	return p
}

// drawValue draws v as it is, or as a variable with v as its default, or with
// none.
func drawValue[T any](t *rapid.T, p *Profile, name string, kind VariableType, v T) Value[T] {
	how := rapid.IntRange(0, 2).Draw(t, name)
	if how == 0 {
		return Given(v)
	}
	d := Variable{Name: name, Type: kind}
	if how == 1 {
		d.Default = VariableValue(textOf(v))
	}
	if kind == ChoiceVariable {
		d.Choices = []VariableValue{"server", "relay", "wireguard", "ipsec"}
	}
	p.Variables = append(p.Variables, d)
	return FromVariable[T](name)
}

// split draws p as one profile, or as two of which one extends the other.
func split(t *rapid.T, p Profile) []Profile {
	if !rapid.Bool().Draw(t, "split") {
		return []Profile{p}
	}
	base := Profile{ID: "a-" + p.ID, Circuits: p.Circuits, BFDIntervalMS: p.BFDIntervalMS}
	p.Extends, p.Circuits, p.BFDIntervalMS = base.ID, nil, Value[int]{}
	all := p.Variables
	p.Variables = nil
	for _, v := range all {
		if v.Name[0] == 's' || v.Name[0] == 'u' {
			p.Variables = append(p.Variables, v)
		} else {
			base.Variables = append(base.Variables, v)
		}
	}
	return []Profile{base, p}
}

// fitter takes out of one site what a profile gives it.
type fitter struct {
	t    *rapid.T
	p    Profile
	site Site
	ok   bool
}

// withProfile says the same as s by profile p; not ok: it cannot be said.
func withProfile(t *rapid.T, inv Inventory, s Site, p Profile) (Site, map[CircuitID]Circuit, bool) {
	f := &fitter{t: t, p: p, site: s, ok: true}
	f.site.Profile, f.site.Variables = p.ID, map[string]VariableValue{}
	f.site.BFDIntervalMS = fit(f, s.BFDIntervalMS, p.BFDIntervalMS)
	f.site.Segments = nil
	for _, g := range s.Segments {
		f.segment(g)
	}
	f.site.Uplinks = slices.Clone(s.Uplinks)
	for _, u := range p.Uplinks {
		i := slices.IndexFunc(s.Uplinks, func(o Uplink) bool { return o.Name == u.Name })
		if i < 0 {
			return s, nil, false
		}
		o := &f.site.Uplinks[i]
		o.Port, o.Address = fit(f, o.Port, u.Port), fit(f, o.Address, u.Address)
		o.Peer, o.PeerASN, o.Router = fit(f, o.Peer, u.Peer), fit(f, o.PeerASN, u.PeerASN), fit(f, o.Router, u.Router)
	}
	f.site.Uplinks = slices.DeleteFunc(f.site.Uplinks, func(u Uplink) bool {
		return u == (Uplink{Name: u.Name}) && rapid.Bool().Draw(t, "leave the uplink out")
	})
	for _, g := range p.Segments {
		if !slices.ContainsFunc(s.Segments, func(o Segment) bool { return o.Kind == g.Kind }) {
			return s, nil, false
		}
	}
	circuits := map[CircuitID]Circuit{}
	for _, k := range inv.Circuits {
		if k.Site == s.ID {
			circuits[k.ID] = f.circuit(k)
		}
	}
	return f.site, circuits, f.ok
}

func (f *fitter) segment(g Segment) {
	i := slices.IndexFunc(f.p.Segments, func(o ProfileSegment) bool { return o.Kind == g.Kind })
	if i < 0 {
		f.site.Segments = append(f.site.Segments, g)
		return
	}
	s := f.p.Segments[i]
	unused := s.Unused != Value[string]{}
	switch {
	case unused && g.Unused != "":
		if g.Unused = fit(f, g.Unused, s.Unused); g.Unused == "" {
			return
		}
	case g.Unused == "" && !unused:
		mode := g.DHCP
		g.Port, g.DHCP = fit(f, g.Port, s.Port), fit(f, g.DHCP, s.DHCP)
		if mode == DHCPRelay {
			g.Relay = fit(f, g.Relay, s.Relay)
		}
		if g.Port == "" && g.DHCP == "" && g.Relay == (netip.Addr{}) && len(g.Reservations) == 0 && rapid.Bool().Draw(f.t, "leave it out") {
			return
		}
	}
	f.site.Segments = append(f.site.Segments, g)
}

func (f *fitter) circuit(k Circuit) Circuit {
	var kind, all ProfileCircuit
	for _, c := range f.p.Circuits {
		switch c.Kind {
		case "":
			all = c
		case k.Kind:
			kind = c
		}
	}
	if kind.MTU == (Value[int]{}) {
		kind.MTU = all.MTU
	}
	if kind.Overlay == (Value[Overlay]{}) {
		kind.Overlay = all.Overlay
	}
	k.MTU, k.Overlay = fit(f, k.MTU, kind.MTU), fit(f, k.Overlay, kind.Overlay)
	return k
}

// fit is what the site itself must say so that it has v.
func fit[T comparable](f *fitter, v T, given Value[T]) T {
	var zero T
	name := given.Variable()
	switch {
	case given == Value[T]{}:
		return v
	case v == zero:
		f.ok = false // a profile's value cannot be taken away
		return v
	case name == "" && given.Literal() == v:
		return rapid.SampledFrom([]T{v, zero}).Draw(f.t, "repeat it")
	case name == "" || rapid.IntRange(0, 3).Draw(f.t, "own") == 0:
		return v
	}
	text := VariableValue(textOf(v))
	for _, d := range f.p.Variables {
		if d.Name == name && d.Default == text && f.site.Variables[name] == "" && rapid.Bool().Draw(f.t, "default") {
			text = ""
		}
	}
	had, set := f.site.Variables[name]
	switch {
	case set && had != text:
		return v
	case !set && text == "":
		f.site.Variables = maps.Clone(f.site.Variables)
		f.site.Variables[name] = "" // the default is taken: no other circuit may ask for another value
		return zero
	}
	f.site.Variables[name] = text
	return zero
}

// drawOpenings lets sites and profiles open some of the permits.
func drawOpenings(t *rapid.T, inv *Inventory) {
	draw := func() []Opening {
		var out []Opening
		for _, p := range inv.Permits {
			if rapid.Bool().Draw(t, "opens") {
				out = append(out, Opening{p.ID, rapid.Permutation(p.From).Draw(t, "from")[:rapid.IntRange(0, len(p.From)).Draw(t, "n")]})
			}
		}
		return sortedOpenings(out)
	}
	for i := range inv.Sites {
		if inv.Sites[i].Kind != Hub {
			inv.Sites[i].Opens = draw()
		}
	}
	if slices.ContainsFunc(inv.Sites, func(s Site) bool { return s.Kind == Hub && s.Profile != "" }) {
		return // a hub opens what is permitted
	}
	for i := range inv.Profiles {
		inv.Profiles[i].Opens = draw()
	}
}
