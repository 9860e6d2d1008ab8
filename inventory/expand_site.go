package inventory

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// resolver writes the profile of one site out.
type resolver struct {
	x       *expander
	i       int   // of the site
	site    *Site // as written
	f       *flatProfile
	used    []string      // variables that a field took
	broken  []string      // variables whose value is refused or missing
	sources *[]Derivation // nil: nobody asks
}

// site writes out the i-th site. With sources it only says where everything
// comes from: its faults are known.
func (x *expander) site(i int, sources *[]Derivation) {
	s := &x.in.Sites[i]
	out := &x.out.Sites[i]
	out.Profile, out.Variables = "", nil
	r := &resolver{x: x, i: i, site: s, sources: sources}
	f, known := x.flat[s.Profile]
	switch {
	case s.Profile == "" && len(s.Variables) > 0:
		r.bad("variables", "values without a profile that takes them; name it under profile")
		return
	case s.Profile == "":
		return
	case !known:
		r.bad("profile", "unknown profile %q; declare it under profiles", s.Profile)
		return
	case f == nil:
		return // its fault is told where it is declared
	}
	r.f = f
	r.given()
	out.BFDIntervalMS = take(r, s.BFDIntervalMS, f.bfd, "", "bfd_interval_ms")
	out.Segments = r.segments(s.Segments)
	out.Uplinks = r.uplinks(s.Uplinks)
	switch {
	case len(s.Opens) > 0:
		r.note("opens", "", permits(s.Opens), Derivation{})
	case len(f.opens) > 0:
		out.Opens = make([]Opening, len(f.opens))
		for j, o := range f.opens {
			o.From = slices.Clone(o.From)
			out.Opens[j] = o
		}
		r.note("opens", "", permits(f.opens), Derivation{Profile: f.opensBy, At: f.opensAt})
	}
	for _, k := range x.circuits[s.ID] {
		r.circuit(&x.in.Circuits[k], &x.out.Circuits[k])
	}
	r.spare()
}

func (r *resolver) bad(field, format string, args ...any) {
	if r.sources == nil {
		r.x.broken[r.i] = true
		r.x.bad(fmt.Sprintf("sites[%d].%s", r.i, field), "site %q: %s", r.site.ID, fmt.Sprintf(format, args...))
	}
}

// given checks the values that the site gives.
func (r *resolver) given() {
	defer r.ordered(len(r.x.faults.list))
	for name, v := range r.site.Variables {
		d, known := r.f.vars[name]
		if !known {
			r.bad("variables."+name, "unknown variable %q; profile %q takes %s", name, r.f.id, r.f.variables())
			continue
		}
		if why := d.refuses(v); why != "" {
			r.bad("variables."+name, "variable %q of type %s (profile %q): %s", name, d.Type, d.by, why)
			r.broken = append(r.broken, name)
		}
	}
}

// ordered sorts the faults from the n-th on, which were found in the order of a
// map.
func (r *resolver) ordered(n int) {
	slices.SortFunc(r.x.faults.list[n:], func(a, b Fault) int { return strings.Compare(a.Field, b.Field) })
}

// spare reports the values that no field took.
func (r *resolver) spare() {
	defer r.ordered(len(r.x.faults.list))
	for name := range r.site.Variables {
		if _, known := r.f.vars[name]; known && !slices.Contains(r.used, name) {
			r.bad("variables."+name, "no field takes the value of variable %q: the site has those fields itself; leave out one of both", name)
		}
	}
}

// variables lists what a profile asks for.
func (f *flatProfile) variables() string {
	if len(f.vars) == 0 {
		return "none"
	}
	return joined(slices.Sorted(maps.Keys(f.vars)), ", ")
}

func (r *resolver) segments(own []Segment) []Segment {
	out := make([]Segment, 0, max(len(own), len(r.f.segments)))
	for j, g := range own {
		f, key := r.f.segments[g.Kind], r.key("segments.", string(g.Kind))
		if r.note(key, "", "", Derivation{}); listed(own[:j], g.Kind) || g.Unused != "" {
			f = flatSegment{} // it has nothing but its reason
		}
		f.unused = setting[string]{}
		out = append(out, r.segment(g, f, key))
	}
	for _, kind := range SegmentKinds {
		if f, has := r.f.segments[kind]; has && !listed(own, kind) {
			key := r.key("segments.", string(kind))
			r.note(key, "", "", Derivation{Profile: f.by, At: f.at})
			out = append(out, r.segment(Segment{Kind: kind}, f, key))
		}
	}
	if len(out) == 0 {
		return own
	}
	return out
}

func listed(list []Segment, kind SegmentKind) bool {
	return slices.ContainsFunc(list, func(g Segment) bool { return g.Kind == kind })
}

func (r *resolver) segment(g Segment, f flatSegment, key string) Segment {
	g.Unused = take(r, g.Unused, f.unused, key, "unused")
	g.Port = take(r, g.Port, f.port, key, "port")
	g.DHCP = take(r, g.DHCP, f.dhcp, key, "dhcp")
	if g.DHCP == DHCPRelay {
		g.Relay = take(r, g.Relay, f.relay, key, "dhcp_relay")
	}
	return g
}

// key names a thing in [Derivation.Field], when somebody asks.
func (r *resolver) key(list, name string) string {
	if r.sources == nil {
		return ""
	}
	return list + name
}

func permits(list []Opening) string { return fmt.Sprintf("%d permits", len(list)) }

func (r *resolver) uplinks(own []Uplink) []Uplink {
	if len(r.f.uplinks) == 0 {
		return own
	}
	out := slices.Clone(own)
	for j, u := range own {
		r.note(r.key("uplinks.", u.Name), "", "", Derivation{})
		if k := slices.IndexFunc(r.f.uplinks, func(f flatUplink) bool { return f.name == u.Name }); k >= 0 {
			out[j] = r.uplink(u, r.f.uplinks[k])
		}
	}
	for _, f := range r.f.uplinks {
		if !slices.ContainsFunc(own, func(u Uplink) bool { return u.Name == f.name }) {
			r.note(r.key("uplinks.", f.name), "", "", Derivation{Profile: f.by, At: f.at})
			out = append(out, r.uplink(Uplink{Name: f.name}, f))
		}
	}
	return out
}

func (r *resolver) uplink(u Uplink, f flatUplink) Uplink {
	key := r.key("uplinks.", u.Name)
	u.Port = take(r, u.Port, f.port, key, "port")
	u.Address = take(r, u.Address, f.address, key, "address")
	u.Peer = take(r, u.Peer, f.peer, key, "peer")
	u.PeerASN = take(r, u.PeerASN, f.peerASN, key, "peer_asn")
	u.Router = take(r, u.Router, f.router, key, "router")
	return u
}

// circuit fills in what a circuit leaves out: by its kind, else as for all.
func (r *resolver) circuit(k, out *Circuit) {
	kind, all := r.f.circuits[k.Kind], r.f.circuits[""]
	if kind.mtu.at == "" {
		kind.mtu = all.mtu
	}
	if kind.overlay.at == "" {
		kind.overlay = all.overlay
	}
	if kind.mtu.at == "" && kind.overlay.at == "" {
		return
	}
	key := r.key("circuits.", string(k.ID))
	out.MTU = take(r, k.MTU, kind.mtu, key, "mtu")
	out.Overlay = take(r, k.Overlay, kind.overlay, key, "overlay")
}

// take is what a field of the site is: its own value, else what the profile
// gives.
func take[T comparable](r *resolver, own T, s setting[T], key, field string) T {
	var zero T
	if own != zero || s.at == "" {
		if own != zero && r.sources != nil {
			r.note(key, field, textOf(own), Derivation{Overrides: s.by})
		}
		return own
	}
	if s.name == "" {
		if r.sources != nil {
			r.note(key, field, textOf(s.literal), Derivation{Profile: s.by, At: s.at})
		}
		return s.literal
	}
	text, from, ok := r.value(s.name, s.at)
	if !ok {
		return zero
	}
	v, err := parsed[T](string(text))
	if err != nil {
		r.bad("variables."+s.name, "variable %q: %v (taken by %s of profile %q)", s.name, err, s.at, s.by)
		r.broken = append(r.broken, s.name)
		return zero
	}
	if r.sources != nil {
		from.Profile, from.At = s.by, s.at
		r.note(key, field, textOf(v), from)
	}
	return v
}

// value is what a variable has at the site.
func (r *resolver) value(name, taker string) (VariableValue, Derivation, bool) {
	d, known := r.f.vars[name]
	if !known {
		return "", Derivation{}, false // told where the profile is declared
	}
	r.used = append(r.used, name)
	v, given := r.site.Variables[name]
	switch {
	case slices.Contains(r.broken, name):
		return "", Derivation{}, false
	case given:
		return v, Derivation{Variable: name}, true
	case d.Default != "":
		return d.Default, Derivation{Variable: name, Default: true}, true
	}
	r.broken = append(r.broken, name)
	r.bad("variables", "no value for variable %q of type %s, which %s of profile %q takes; give it one, or the variable a default", name, d.Type, taker, r.f.id)
	return "", Derivation{}, false
}

func parsed[T any](text string) (T, error) {
	var v T
	err := setScalar(reflect.ValueOf(&v).Elem(), text)
	return v, err
}

func textOf[T any](v T) string {
	s, _ := scalarText(reflect.ValueOf(&v).Elem())
	return s
}
