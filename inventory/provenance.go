package inventory

import (
	"fmt"
	"slices"
	"strings"
)

// Derivation says where one field of a site's expansion comes from.
type Derivation struct {
	// Field is by kind, name and id: "segments.staff.port", "circuits.c-1-1.mtu",
	// "uplinks.dc.peer", "opens"; "segments.staff" is that the segment is there.
	Field string `json:"field"`
	Value string `json:"value,omitempty"`
	// Profile wrote the field, at At ("profiles[0].segments[2].port"); empty: the
	// site did.
	Profile ProfileID `json:"profile,omitempty"`
	At      string    `json:"at,omitempty"`
	// Variable gave the value, by Default where the site gives none.
	Variable string `json:"variable,omitempty"`
	Default  bool   `json:"default,omitempty"`
	// Overrides is the profile whose value the site's own takes the place of.
	Overrides ProfileID `json:"overrides,omitempty"`
}

// String is what a message says behind the field, e.g. "from profile
// ward-standard".
func (s Derivation) String() string {
	switch {
	case s.Profile == "" && s.Overrides != "":
		return fmt.Sprintf("the site's own, in place of profile %s", s.Overrides)
	case s.Profile == "":
		return "the site's own"
	case s.Default:
		return fmt.Sprintf("default of variable %s of profile %s", s.Variable, s.Profile)
	case s.Variable != "":
		return fmt.Sprintf("the site's variable %s, through profile %s", s.Variable, s.Profile)
	}
	return fmt.Sprintf("from profile %s", s.Profile)
}

// Explain lists where every field that the profile of a site may give comes
// from, in the order of the document; none for a site without a profile. inv is
// as people wrote it and should be valid. It wraps [ErrNotFound].
func Explain(inv Inventory, id SiteID) ([]Derivation, error) {
	i := slices.IndexFunc(inv.Sites, func(s Site) bool { return s.ID == id })
	if i < 0 {
		return nil, notFound("site", id)
	}
	one := inv // the site alone: the others cost their expansion
	one.Sites, one.Circuits = []Site{inv.Sites[i]}, nil
	for _, k := range inv.Circuits {
		if k.Site == id {
			one.Circuits = append(one.Circuits, k)
		}
	}
	return NewExplainer(one).Explain(id)
}

// Explainer is [Explain] for many sites of one inventory. It is for one goroutine.
type Explainer struct {
	x  *expander
	at map[SiteID]int
}

// NewExplainer takes an inventory as people wrote it, which should be valid.
func NewExplainer(inv Inventory) *Explainer {
	e := &Explainer{at: make(map[SiteID]int, len(inv.Sites))}
	e.x, _ = flattened(inv)
	for i := range inv.Sites {
		e.at[inv.Sites[i].ID] = i
	}
	return e
}

// Explain is [Explain].
func (e *Explainer) Explain(id SiteID) ([]Derivation, error) {
	i, ok := e.at[id]
	if !ok {
		return nil, notFound("site", id)
	}
	return e.x.sources(i), nil
}

// sources are those of the i-th site.
func (x *expander) sources(i int) []Derivation {
	out := []Derivation{}
	if x.in.Sites[i].Profile != "" {
		x.site(i, &out)
	}
	return out
}

// note keeps where a field comes from, when somebody asks.
func (r *resolver) note(key, field, value string, from Derivation) {
	if r.sources == nil {
		return
	}
	if field != "" {
		key = strings.TrimPrefix(key+"."+field, ".")
	}
	from.Field, from.Value = key, value
	*r.sources = append(*r.sources, from)
}

// references checks what the fields of a flattened profile refer to.
func (x *expander) references(f *flatProfile, by ProfileID) {
	for _, s := range f.settings() {
		if s.owner() != by {
			continue // told of the profile that it comes from
		}
		name := s.Variable()
		if name == "" {
			if text, err := s.MarshalText(); err != nil || residue(string(text)) != "" {
				x.bad(s.where(), "profile %q: %q holds what is left of a template; write the value, or \"${name}\" alone", by, text)
			}
			continue
		}
		d, known := f.vars[name]
		switch {
		case !known:
			x.bad(s.where(), "profile %q: unknown variable %q (it has %s); declare it under variables", by, name, f.variables())
		case slices.Contains(VariableTypes, d.Type) && !slices.Contains(s.fits(), d.Type):
			x.bad(s.where(), "profile %q: variable %q is of type %s; this field takes %s", by, name, d.Type, oneOf(s.fits()))
		}
	}
}

// settings are all fields that a variable may give.
func (f *flatProfile) settings() []anySetting {
	out := []anySetting{f.bfd}
	for _, kind := range SegmentKinds {
		if s, ok := f.segments[kind]; ok {
			out = append(out, s.unused, s.port, s.dhcp, s.relay)
		}
	}
	for _, kind := range []CircuitKind{"", FTTH, Metronet, LTE, FiveG} {
		if c, ok := f.circuits[kind]; ok {
			out = append(out, c.mtu, c.overlay)
		}
	}
	for _, u := range f.uplinks {
		out = append(out, u.port, u.address, u.peer, u.peerASN, u.router)
	}
	return slices.DeleteFunc(out, func(s anySetting) bool { return s.where() == "" })
}

// unusedVariables reports declared variables that no field takes, in no profile
// that has them.
func (x *expander) unusedVariables() {
	used := map[string]bool{}
	for _, f := range x.flat {
		if f == nil {
			return // a broken profile may be the one that takes it
		}
		for _, s := range f.settings() {
			if d, ok := f.vars[s.Variable()]; ok {
				used[d.at] = true
			}
		}
	}
	for i, p := range x.in.Profiles {
		f := x.flat[p.ID]
		for j, v := range p.Variables {
			at := fmt.Sprintf("profiles[%d].variables[%d]", i, j)
			if d := f.vars[v.Name]; d.at == at && !used[at] {
				x.bad(at, "profile %q: no field takes variable %q; leave it out", p.ID, v.Name)
			}
		}
	}
}
