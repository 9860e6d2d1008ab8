package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Expand writes every profile out: the result has the segments, uplinks and
// openings of its sites, and the figures of its circuits, as if somebody had
// written them there, and no profiles and variables; sites and circuits keep
// their order. It is a pure function that leaves inv as it is; an inventory
// without profiles is its own expansion. The error is [Faults], all at
// once, with fields of inv: unknown profiles and variables, missing and unused
// values, values of another type, loops.
func Expand(inv Inventory) (Inventory, error) {
	x := newExpander(inv)
	if err := x.faults.err(); err != nil {
		return Inventory{}, err
	}
	return x.out, nil
}

// expander writes the profiles of one inventory out.
type expander struct {
	in, out  Inventory
	flat     map[ProfileID]*flatProfile // nil: broken
	circuits map[SiteID][]int           // of sites with a profile
	broken   map[int]bool               // sites whose expansion lacks something
	faults   faultList
}

// setting is a field of a flattened profile and where it is written.
type setting[T any] struct {
	Value[T]
	by ProfileID // empty: nowhere
	at string    // e.g. "profiles[2].segments[0].port"
}

// anySetting is a setting of whatever type.
type anySetting interface {
	Variable() string
	fits() []VariableType
	MarshalText() ([]byte, error)
	where() string
	owner() ProfileID
}

func (s setting[T]) where() string { return s.at }

func (s setting[T]) owner() ProfileID { return s.by }

// flatSegment is a segment of a flattened profile; at is empty without one.
type flatSegment struct {
	at     string
	by     ProfileID
	unused setting[string]
	port   setting[string]
	dhcp   setting[DHCPMode]
	relay  setting[netip.Addr]
}

// flatCircuit is what a flattened profile gives circuits.
type flatCircuit struct {
	mtu     setting[int]
	overlay setting[Overlay]
}

// flatUplink is an uplink of a flattened profile.
type flatUplink struct {
	name    string
	by      ProfileID
	at      string
	port    setting[string]
	address setting[netip.Prefix]
	peer    setting[netip.Addr]
	peerASN setting[uint32]
	router  setting[DeviceID]
}

// declared is a variable of a flattened profile.
type declared struct {
	Variable
	by ProfileID
	at string
}

// flatProfile is a profile together with all that it extends.
type flatProfile struct {
	id       ProfileID
	vars     map[string]declared
	bfd      setting[int]
	segments map[SegmentKind]flatSegment
	circuits map[CircuitKind]flatCircuit
	uplinks  []flatUplink
	opens    []Opening
	opensBy  ProfileID
	opensAt  string
	broken   bool // it lacks something
}

// newExpander expands inv as far as its faults let it.
func newExpander(inv Inventory) *expander {
	x, used := flattened(inv)
	if used {
		for i := range inv.Sites {
			x.site(i, nil)
		}
	}
	return x
}

// flattened has the profiles ready; used says whether there is anything to write
// out.
func flattened(inv Inventory) (x *expander, used bool) {
	x = &expander{in: inv, out: inv, flat: make(map[ProfileID]*flatProfile, len(inv.Profiles)), circuits: map[SiteID][]int{}, broken: map[int]bool{}}
	x.profiles()
	used = slices.ContainsFunc(inv.Sites, func(s Site) bool { return s.Profile != "" || len(s.Variables) > 0 })
	if len(inv.Profiles) == 0 && !used {
		return x, false
	}
	x.out.Profiles = nil
	x.out.Sites, x.out.Circuits = slices.Clone(inv.Sites), slices.Clone(inv.Circuits)
	with := make(map[SiteID]bool, len(inv.Sites))
	for _, s := range inv.Sites {
		if s.Profile != "" {
			with[s.ID] = true
		}
	}
	for i, k := range inv.Circuits {
		if with[k.Site] {
			x.circuits[k.Site] = append(x.circuits[k.Site], i)
		}
	}
	return x, true
}

func (x *expander) bad(field, format string, args ...any) {
	x.faults.add(Fault{Field: field, Text: fmt.Sprintf(format, args...)})
}

// profiles flattens every profile, those that others extend first.
func (x *expander) profiles() {
	at := make(map[ProfileID]int, len(x.in.Profiles))
	for i, p := range x.in.Profiles {
		first(at, p.ID, i) // the second of two is a fault of its own
	}
	for i := range x.in.Profiles {
		x.flatten(i, at, nil)
	}
	x.unusedVariables()
}

// flatten gives the i-th profile; path are the profiles that led to it.
func (x *expander) flatten(i int, at map[ProfileID]int, path []ProfileID) *flatProfile {
	p := &x.in.Profiles[i]
	if f, done := x.flat[p.ID]; done {
		return f
	}
	if j := slices.Index(path, p.ID); j >= 0 {
		loop := append(slices.Clone(path[j:]), p.ID)
		for _, id := range loop {
			x.flat[id] = nil
		}
		x.bad(fmt.Sprintf("profiles[%d].extends", i), "profile %q extends itself: %s; let one of them stand alone", p.ID, joined(loop, " → "))
		return nil
	}
	f := &flatProfile{id: p.ID, vars: map[string]declared{}, segments: map[SegmentKind]flatSegment{}, circuits: map[CircuitKind]flatCircuit{}}
	if p.Extends != "" {
		j, known := at[p.Extends]
		if !known {
			x.bad(fmt.Sprintf("profiles[%d].extends", i), "profile %q: unknown profile %q; declare it under profiles", p.ID, p.Extends)
			x.flat[p.ID] = nil
			return nil
		}
		base := x.flatten(j, at, append(path, p.ID))
		if base == nil {
			x.flat[p.ID] = nil
			return nil
		}
		f.inherit(base)
	}
	n := len(x.faults.list) + x.faults.more
	x.overlay(f, p, fmt.Sprintf("profiles[%d]", i))
	f.broken = f.broken || len(x.faults.list)+x.faults.more > n
	x.flat[p.ID] = f
	return f
}

func joined[T ~string](list []T, sep string) string {
	words := make([]string, len(list))
	for i, w := range list {
		words[i] = string(w)
	}
	return strings.Join(words, sep)
}

// inherit copies base into f, which is empty.
func (f *flatProfile) inherit(base *flatProfile) {
	id := f.id
	*f = *base
	f.id = id
	f.vars, f.segments, f.circuits = copied(base.vars), copied(base.segments), copied(base.circuits)
	f.uplinks = slices.Clone(base.uplinks)
}

func copied[K comparable, V any](m map[K]V) map[K]V {
	out := make(map[K]V, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// overlay writes p over what f has from the profile it extends.
func (x *expander) overlay(f *flatProfile, p *Profile, at string) {
	x.declare(f, p, at)
	put(&f.bfd, p.BFDIntervalMS, p.ID, at+".bfd_interval_ms")
	seen := map[string]bool{}
	twice := func(at, what, key string) bool {
		if seen[what+key] {
			x.bad(at, "profile %q: %s %q is listed twice", p.ID, what, key)
			return true
		}
		seen[what+key] = true
		return false
	}
	for j, g := range p.Segments {
		at := fmt.Sprintf("%s.segments[%d]", at, j)
		if twice(at+".kind", "segment", string(g.Kind)) {
			continue
		}
		s := f.segments[g.Kind]
		s.unused = setting[string]{} // listed: in use unless it says so itself
		if g.Unused != (Value[string]{}) {
			s = flatSegment{}
		}
		s.at, s.by = at, p.ID
		put(&s.unused, g.Unused, p.ID, at+".unused")
		put(&s.port, g.Port, p.ID, at+".port")
		put(&s.dhcp, g.DHCP, p.ID, at+".dhcp")
		put(&s.relay, g.Relay, p.ID, at+".dhcp_relay")
		f.segments[g.Kind] = s
	}
	for j, k := range p.Circuits {
		at := fmt.Sprintf("%s.circuits[%d]", at, j)
		if twice(at+".kind", "circuit kind", string(k.Kind)) {
			continue
		}
		c := f.circuits[k.Kind]
		put(&c.mtu, k.MTU, p.ID, at+".mtu")
		put(&c.overlay, k.Overlay, p.ID, at+".overlay")
		f.circuits[k.Kind] = c
	}
	for j, u := range p.Uplinks {
		at := fmt.Sprintf("%s.uplinks[%d]", at, j)
		if twice(at+".name", "uplink", u.Name) {
			continue
		}
		k := slices.IndexFunc(f.uplinks, func(o flatUplink) bool { return o.name == u.Name })
		if k < 0 {
			k, f.uplinks = len(f.uplinks), append(f.uplinks, flatUplink{name: u.Name})
		}
		l := &f.uplinks[k]
		l.at, l.by = at, p.ID
		put(&l.port, u.Port, p.ID, at+".port")
		put(&l.address, u.Address, p.ID, at+".address")
		put(&l.peer, u.Peer, p.ID, at+".peer")
		put(&l.peerASN, u.PeerASN, p.ID, at+".peer_asn")
		put(&l.router, u.Router, p.ID, at+".router")
	}
	if len(p.Opens) > 0 {
		f.opens, f.opensBy, f.opensAt = p.Opens, p.ID, at+".opens"
	}
	x.references(f, p.ID)
}

// put lets a field that is written win over what was there.
func put[T comparable](s *setting[T], v Value[T], by ProfileID, at string) {
	if v != (Value[T]{}) {
		*s = setting[T]{v, by, at}
	}
}

// declare adds the variables of p.
func (x *expander) declare(f *flatProfile, p *Profile, at string) {
	own := map[string]bool{}
	for j, v := range p.Variables {
		at := fmt.Sprintf("%s.variables[%d]", at, j)
		bad := func(field, format string, args ...any) {
			x.bad(at+field, "profile %q: variable %q: %s", p.ID, v.Name, fmt.Sprintf(format, args...))
		}
		base, inherited := f.vars[v.Name]
		switch {
		case !nameForm.MatchString(v.Name):
			bad(".name", "a name is 1 to 63 of a-z, 0-9 and _, a letter first")
			continue
		case own[v.Name]:
			bad(".name", "is declared twice")
			continue
		case !slices.Contains(VariableTypes, v.Type):
			bad(".type", "unknown type %q (want %s)", v.Type, oneOf(VariableTypes))
		case inherited && base.Type != v.Type:
			bad(".type", "is of type %s in profile %q, which this one extends; give it another name", base.Type, base.by)
		case (v.Type == ChoiceVariable) != (len(v.Choices) > 0):
			bad(".choices", "type %s has choices, the others have none", ChoiceVariable)
		default:
			for k, c := range v.Choices {
				if c == "" || residue(string(c)) != "" || slices.Contains(v.Choices[:k], c) {
					bad(fmt.Sprintf(".choices[%d]", k), "%q is empty, listed twice or a template", c)
				}
			}
			if v.Default != "" {
				if why := v.refuses(v.Default); why != "" {
					bad(".default", "%s", why)
				}
			}
		}
		own[v.Name] = true
		f.vars[v.Name] = declared{v, p.ID, at}
	}
}
