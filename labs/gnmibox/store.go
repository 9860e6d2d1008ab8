package gnmibox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/openconfig/gnmi/proto/gnmi"
)

// Store is the simulated device's configuration: a generic JSON tree with bare
// names. It knows nothing of the driver; list keys come from the models.
type Store struct {
	schema *schema
	root   map[string]any
}

// Parse reads one JSON value, its numbers as they are written.
func Parse(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one value")
	}
	return v, nil
}

// Clone is a copy.
func (s *Store) Clone() *Store {
	return &Store{s.schema, copied(s.root).(map[string]any)}
}

func copied(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, inner := range v {
			out[name] = copied(inner)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = copied(v[i])
		}
		return out
	}
	return v // a leaf
}

// Text is all of it, as JSON.
func (s *Store) Text() string {
	b, err := json.MarshalIndent(s.root, "", " ")
	if err != nil {
		panic(err)
	}
	return string(b)
}

// names are the path's, without keys.
func names(elems []*gnmi.PathElem) []string {
	var out []string
	for _, e := range elems {
		out = append(out, e.GetName())
	}
	return out
}

// noModule is an identity without its module.
func noModule(s string) string {
	if module, name, ok := strings.Cut(s, ":"); ok && strings.HasPrefix(module, "openconfig-") {
		return name
	}
	return s
}

func hasKeys(entry any, keys map[string]string) bool {
	m, _ := entry.(map[string]any)
	for k, v := range keys {
		if noModule(fmt.Sprint(m[k])) != noModule(v) {
			return false
		}
	}
	return true
}

// descend goes to the object at elems; nil when it is not there.
func (s *Store) descend(elems []*gnmi.PathElem, create bool) (map[string]any, error) {
	at := s.root
	for i, e := range elems {
		if len(e.GetKey()) == 0 {
			next, ok := at[e.GetName()].(map[string]any)
			if !ok {
				if !create {
					return nil, nil
				}
				next = map[string]any{}
				at[e.GetName()] = next
			}
			at = next
			continue
		}
		list, _ := at[e.GetName()].([]any)
		j := slices.IndexFunc(list, func(x any) bool { return hasKeys(x, e.GetKey()) })
		if j < 0 {
			if !create {
				return nil, nil
			}
			sc := s.schema.at(names(elems[:i+1])...)
			if sc == nil || len(sc.Key) != len(e.GetKey()) {
				return nil, fmt.Errorf("%s with keys %v is no list of the models", e.GetName(), e.GetKey())
			}
			entry := map[string]any{}
			for _, k := range sc.Key {
				v, ok := e.GetKey()[k]
				if !ok {
					return nil, fmt.Errorf("%s lacks key %s", e.GetName(), k)
				}
				entry[k] = v
				if sc.integerKey(k) {
					entry[k] = json.Number(v)
				}
			}
			list = append(list, entry)
			at[e.GetName()], j = list, len(list)-1
		}
		at = list[j].(map[string]any)
	}
	return at, nil
}

func (s *Store) isLeaf(elems []*gnmi.PathElem) bool {
	sc := s.schema.at(names(elems)...)
	return sc != nil && sc.Type != nil
}

// Delete removes what is at a path, e.g. "acl/interfaces/interface[id=eth1]", or
// nothing.
func (s *Store) Delete(path string) error { return s.remove(elems(path)) }

// Set puts v at a path, into what is there; numbers are [json.Number].
func (s *Store) Set(path string, v any) error { return s.put(elems(path), v, false) }

// elems parses a path as a person writes it.
func elems(s string) (out []*gnmi.PathElem) {
	depth, start := 0, 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && (s[i] != '/' || depth > 0) {
			depth += map[byte]int{'[': 1, ']': -1}[s[i]]
			continue
		}
		name, rest, _ := strings.Cut(s[start:i], "[")
		e := &gnmi.PathElem{Name: name}
		for rest != "" {
			var kv string
			kv, rest, _ = strings.Cut(rest, "]")
			rest = strings.TrimPrefix(rest, "[")
			k, v, _ := strings.Cut(kv, "=")
			if e.Key == nil {
				e.Key = map[string]string{}
			}
			e.Key[k] = v
		}
		out, start = append(out, e), i+1
	}
	return out
}

func (s *Store) remove(elems []*gnmi.PathElem) error {
	last := elems[len(elems)-1]
	up, err := s.descend(elems[:len(elems)-1], false)
	if err != nil || up == nil {
		return err // deleting what is not there is no error (gNMI specification §3.4.6)
	}
	if len(last.GetKey()) == 0 {
		delete(up, last.GetName())
		return nil
	}
	list, _ := up[last.GetName()].([]any)
	list = slices.DeleteFunc(slices.Clone(list), func(x any) bool { return hasKeys(x, last.GetKey()) })
	if up[last.GetName()] = list; len(list) == 0 {
		delete(up, last.GetName())
	}
	return nil
}

func (s *Store) put(elems []*gnmi.PathElem, v any, replace bool) error {
	if replace {
		if err := s.remove(elems); err != nil {
			return err
		}
	}
	if s.isLeaf(elems) {
		up, err := s.descend(elems[:len(elems)-1], true)
		if err == nil {
			up[elems[len(elems)-1].GetName()] = v
		}
		return err
	}
	at, err := s.descend(elems, true)
	if err != nil {
		return err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%v: an object is wanted, not %v", names(elems), v)
	}
	return s.merge(at, m, s.schema.at(names(elems)...))
}

func (s *Store) merge(at, v map[string]any, sc *schema) error {
	for name, inner := range v {
		c := sc.at(name)
		if c == nil {
			return fmt.Errorf("the model has no %q here", name)
		}
		switch {
		case c.Type != nil:
			at[name] = inner
		case len(c.Key) == 0:
			next, _ := at[name].(map[string]any)
			if next == nil {
				next = map[string]any{}
				at[name] = next
			}
			m, ok := inner.(map[string]any)
			if !ok {
				return fmt.Errorf("%s: an object is wanted, not %v", name, inner)
			}
			if err := s.merge(next, m, c); err != nil {
				return err
			}
		default:
			entries, ok := inner.([]any)
			if !ok {
				return fmt.Errorf("%s: an array is wanted, not %v", name, inner)
			}
			list, _ := at[name].([]any)
			for _, e := range entries {
				m, _ := e.(map[string]any)
				keys := map[string]string{}
				for _, k := range c.Key {
					keys[k] = fmt.Sprint(m[k])
				}
				j := slices.IndexFunc(list, func(x any) bool { return hasKeys(x, keys) })
				if j < 0 {
					list, j = append(list, map[string]any{}), len(list)
				}
				if err := s.merge(list[j].(map[string]any), m, c); err != nil {
					return err
				}
			}
			at[name] = list
		}
	}
	return nil
}

// plain takes the modules from names, and refuses one that is wrong; how says
// whether there must be any.
func plain(sc *schema, parent string, v any, how string) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, inner := range v {
			module, short, ok := strings.Cut(name, ":")
			if !ok {
				module, short = "", name
			}
			c := sc.at(short)
			if c == nil {
				return nil, fmt.Errorf("the model has no %q here", name)
			}
			switch {
			case how == "bare" && module != "":
				return nil, fmt.Errorf("this device knows no module names: %q", name)
			case how == "modules" && module == "" && c.Module != parent, module != "" && module != c.Module:
				return nil, fmt.Errorf("%q must be %s:%s (RFC 7951 §4)", name, c.Module, short)
			}
			x, err := plain(c, c.Module, inner, how)
			if err != nil {
				return nil, err
			}
			out[short] = x
		}
		return out, nil
	case []any:
		out := []any{}
		for _, e := range v {
			x, err := plain(sc, parent, e, how)
			if err != nil {
				return nil, err
			}
			out = append(out, x)
		}
		return out, nil
	}
	return v, nil
}

// named is v as the device tells it: with modules where RFC 7951 wants them.
func named(sc *schema, parent string, v any, bareNames bool) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, inner := range v {
			c, module := sc.at(name), parent
			if c != nil && c.Module != "" {
				module = c.Module
			}
			if key := module + ":" + name; module != parent && !bareNames {
				out[key] = named(c, module, inner, bareNames)
			} else {
				out[name] = named(c, module, inner, bareNames)
			}
		}
		return out
	case []any:
		out := []any{}
		for _, e := range v {
			out = append(out, named(sc, parent, e, bareNames))
		}
		return out
	case string:
		if module, short, ok := strings.Cut(v, ":"); ok && bareNames && strings.HasPrefix(module, "openconfig-") {
			return short
		}
	}
	return v
}

// leaves calls visit for every leaf below v; whole says which containers count
// as one.
func leaves(at []*gnmi.PathElem, sc *schema, v any, whole func(name string) bool, visit func([]*gnmi.PathElem, *schema, any)) {
	m, ok := v.(map[string]any)
	if !ok || len(at) > 0 && whole(at[len(at)-1].GetName()) {
		visit(at, sc, v)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		c := sc.at(name)
		if c == nil || len(c.Key) == 0 {
			leaves(append(slices.Clone(at), &gnmi.PathElem{Name: name}), c, m[name], whole, visit)
			continue
		}
		for _, e := range m[name].([]any) {
			key := map[string]string{}
			for _, k := range c.Key {
				key[k] = fmt.Sprint(e.(map[string]any)[k])
			}
			leaves(append(slices.Clone(at), &gnmi.PathElem{Name: name, Key: key}), c, e, whole, visit)
		}
	}
}
