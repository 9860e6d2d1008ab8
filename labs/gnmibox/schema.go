package gnmibox

import (
	_ "embed" // the models
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// schema is a part of the OpenConfig models as data: models/schema.json is
// extracted from the schema that github.com/openconfig/ygot v0.36.0 carries in
// exampleoc (Apache-2.0), which goyang compiled from the YANG files. The
// device checks every Set against it.
type schema struct {
	Module    string             `json:"module"`
	Key       []string           `json:"key"`
	Mandatory bool               `json:"mandatory"`
	LeafList  bool               `json:"leaflist"`
	Type      *yangType          `json:"type"`
	Nodes     map[string]*schema `json:"nodes"`
}

type yangType struct {
	Kind     string       `json:"kind"`
	Values   []string     `json:"values"`
	Patterns []string     `json:"patterns"`
	Range    [][2]float64 `json:"range"`
	Path     string       `json:"path"`
	Types    []*yangType  `json:"types"`
}

//go:embed models/schema.json
var schemaText []byte

var loadSchema = sync.OnceValues(func() (*schema, error) {
	var s schema
	if err := json.Unmarshal(schemaText, &s); err != nil {
		return nil, err
	}
	// Lists of state, which no Set can reach: their keys are enough.
	s.Nodes["components"] = &schema{Module: "openconfig-platform", Nodes: map[string]*schema{
		"component": {Module: "openconfig-platform", Key: []string{"name"}},
	}}
	s.at("bfd", "interfaces", "interface").Nodes["peers"] = &schema{Module: "openconfig-bfd", Nodes: map[string]*schema{
		"peer": {Module: "openconfig-bfd", Key: []string{"local-discriminator"}},
	}}
	return &s, nil
})

// at follows names; nil where the models that we have end.
func (s *schema) at(names ...string) *schema {
	for _, n := range names {
		if s == nil {
			return nil
		}
		s = s.Nodes[n]
	}
	return s
}

// isKey says whether the list's key is an integer, through its leafref.
func (s *schema) integerKey(name string) bool {
	t := s.Nodes[name].Type
	if c := s.at("config", name); t.Kind == "leafref" && c != nil {
		t = c.Type
	}
	return strings.HasPrefix(t.Kind, "uint")
}

// patterns are compiled once, and asked once of each value: every Set has the
// whole configuration checked, most of which was checked before.
var patterns, verdicts sync.Map // string → *regexp.Regexp; pattern, NUL, value → bool

func matches(pattern, s string) bool {
	key := pattern + "\x00" + s
	if ok, known := verdicts.Load(key); known {
		return ok.(bool)
	}
	re, ok := patterns.Load(pattern)
	if !ok {
		re, _ = patterns.LoadOrStore(pattern, regexp.MustCompile(pattern))
	}
	is := re.(*regexp.Regexp).MatchString(s)
	verdicts.Store(key, is)
	return is
}

var predicate = regexp.MustCompile(`\[[^]]*\]`)

// trail is a node of the data with its way to the root.
type trail struct {
	data any
	up   *trail
	name string
}

// validate checks data against s as a server does before it commits (RFC 7950
// §8.3.3): names, types, mandatory leaves, keys and references.
func (s *schema) validate(at *trail) error {
	if s.Type != nil {
		if s.LeafList {
			list, ok := at.data.([]any)
			if !ok {
				return fmt.Errorf("%s: a leaf-list must be an array, not %v", at, at.data)
			}
			for _, v := range list {
				if err := s.Type.check(at, v); err != nil {
					return err
				}
			}
			return nil
		}
		return s.Type.check(at, at.data)
	}
	m, ok := at.data.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: not an object: %v", at, at.data)
	}
	for name, v := range m {
		c := s.Nodes[name]
		if c == nil {
			if name == "state" {
				continue
			}
			return fmt.Errorf("%s: the model has no %q here", at, name)
		}
		if len(c.Key) == 0 {
			if err := c.validate(&trail{v, at, name}); err != nil {
				return err
			}
			continue
		}
		list, ok := v.([]any)
		if !ok {
			return fmt.Errorf("%s/%s: a list must be an array", at, name)
		}
		for _, e := range list {
			t := &trail{e, at, name}
			if err := c.validate(t); err != nil {
				return err
			}
			for _, k := range c.Key {
				if key, config := t.child(k), t.child("config").child(k); key.data == nil || (config.data != nil && noModule(fmt.Sprint(config.data)) != noModule(fmt.Sprint(key.data))) {
					return fmt.Errorf("%s: key %s is %v, its config says %v", t, k, key.data, config.data)
				}
			}
		}
	}
	for name, c := range s.Nodes {
		if _, there := m[name]; c.Mandatory && !there {
			return fmt.Errorf("%s: mandatory %q is missing", at, name)
		}
	}
	return nil
}

func (t *trail) String() string {
	if t.up == nil {
		return ""
	}
	return t.up.String() + "/" + t.name
}

func (t *trail) child(name string) *trail {
	m, _ := t.data.(map[string]any)
	return &trail{m[name], t, name}
}

func (y *yangType) check(at *trail, v any) error {
	bad := func(why string) error { return fmt.Errorf("%s: %v (%T) %s", at, v, v, why) }
	s, isString := v.(string)
	switch {
	case strings.HasPrefix(y.Kind, "uint") || strings.HasPrefix(y.Kind, "int"):
		n, ok := v.(json.Number)
		if y.Kind == "uint64" || y.Kind == "int64" { // RFC 7951 §6.1
			n, ok = json.Number(s), isString
		}
		f, err := strconv.ParseFloat(string(n), 64)
		if !ok || err != nil {
			return bad("is no " + y.Kind)
		}
		if len(y.Range) > 0 && !slices.ContainsFunc(y.Range, func(r [2]float64) bool { return f >= r[0] && f <= r[1] }) {
			return bad(fmt.Sprint("is out of range ", y.Range))
		}
	case y.Kind == "string":
		if !isString {
			return bad("is no string")
		}
		for _, p := range y.Patterns {
			if !matches(p, s) {
				return bad("does not match " + p)
			}
		}
	case y.Kind == "bool":
		if _, ok := v.(bool); !ok {
			return bad("is no boolean")
		}
	case y.Kind == "enum":
		if !isString || !slices.Contains(y.Values, s) {
			return bad(fmt.Sprint("is not one of ", y.Values))
		}
	case y.Kind == "identity":
		if !isString || !slices.Contains(y.Values, s[strings.LastIndexByte(s, ':')+1:]) {
			return bad(fmt.Sprint("is no identity of ", y.Values))
		}
	case y.Kind == "union":
		for _, t := range y.Types {
			if t.check(at, v) == nil {
				return nil
			}
		}
		return bad("fits no type of the union")
	case y.Kind == "leafref":
		return y.refer(at, v)
	default:
		return bad("has a type the test device does not check: " + y.Kind)
	}
	return nil
}

// refer looks for what a leafref points to. Predicates are not followed: a
// reference into any entry of the list will do. Targets outside our part of
// the models, which a device fills by itself, are not looked for.
func (y *yangType) refer(at *trail, v any) error {
	if strings.HasPrefix(y.Path, "../config/") { // a key: checked with its entry
		return nil
	}
	if strings.Contains(y.Path, "/tables/") || strings.Contains(y.Path, "peer-groups") {
		return nil
	}
	from, p := at, y.Path
	if strings.HasPrefix(p, "/") {
		for from.up != nil {
			from = from.up
		}
	}
	found := []any{from.data}
	for part := range strings.SplitSeq(predicate.ReplaceAllString(strings.Trim(p, "/"), ""), "/") {
		if part == ".." {
			from = from.up
			found = []any{from.data}
			continue
		}
		var next []any
		for _, d := range found {
			m, _ := d.(map[string]any)
			switch x := m[part[strings.LastIndexByte(part, ':')+1:]].(type) {
			case nil:
			case []any:
				next = append(next, x...)
			default:
				next = append(next, x)
			}
		}
		found = next
	}
	for _, d := range found {
		if noModule(fmt.Sprint(d)) == noModule(fmt.Sprint(v)) {
			return nil
		}
	}
	return fmt.Errorf("%s: %v refers to nothing at %s", at, v, y.Path)
}
