package openconfig

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/openconfig/gnmi/proto/gnmi"
)

// node is what a device told, in one form whatever form it was told in: a
// container, an entry of a list, or a leaf.
type node struct {
	elem elem
	leaf any // string, json.Number, bool, or []any of them; nil: no leaf
	kids map[string]*node
}

// errAnswer is wrapped by every fault of an answer.
var errAnswer = errors.New("the device's answer cannot be read")

func garbage(p path, what string, v any) error {
	s := fmt.Sprint(v)
	if b, ok := v.([]byte); ok {
		s = string(b)
	}
	if len(s) > 120 {
		s = s[:120] + "…"
	}
	return fmt.Errorf("%w: %s: %s: %q", errAnswer, p, what, s)
}

// child returns the node below n, made when it is missing.
func (n *node) child(e elem) *node {
	if n.kids == nil {
		n.kids = map[string]*node{}
	}
	name := e.String()
	k, ok := n.kids[name]
	if !ok {
		k = &node{elem: e}
		n.kids[name] = k
	}
	return k
}

// at returns the node at p, or nil.
func (n *node) at(p path) *node {
	for _, e := range p {
		if n == nil {
			return nil
		}
		n = n.kids[e.String()]
	}
	return n
}

// entries returns the entries of the list called name, in a fixed order.
func (n *node) entries(name string) []*node {
	if n == nil {
		return nil
	}
	var out []*node
	for _, k := range slices.Sorted(maps.Keys(n.kids)) {
		if n.kids[k].elem.name == name {
			out = append(out, n.kids[k])
		}
	}
	return out
}

// add puts what notifications say into the tree. Deletes in them are of a
// stream and mean nothing to a snapshot.
func (n *node) add(notes []*gnmi.Notification) error {
	for _, note := range notes {
		prefix, err := absolute(nil, note.GetPrefix())
		if err != nil {
			return err
		}
		for _, u := range note.GetUpdate() {
			p, err := absolute(prefix, u.GetPath())
			if err != nil {
				return err
			}
			v, err := value(p, u.GetVal())
			if err != nil {
				return err
			}
			if err := n.put(p, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// absolute appends what a device sent to prefix. A list's entry must have its
// keys; the elements of a list we do not know keep no keys.
func absolute(prefix path, p *gnmi.Path) (path, error) {
	out := slices.Clone(prefix)
	for i, pe := range p.GetElem() {
		name := bare(pe.GetName())
		if name == "" {
			return nil, fmt.Errorf("%w: a path with an empty element below %s", errAnswer, out)
		}
		e := elem{name: name}
		given := map[string]string{}
		for k, v := range pe.GetKey() {
			given[bare(k)] = v
		}
		names, known := keysOf[out.schema()+"/"+name]
		switch {
		case known && len(given) == 0 && i == len(p.GetElem())-1: // the whole list
		case known:
			for _, k := range names {
				v, ok := given[k]
				if !ok {
					return nil, garbage(out.to(name), "an entry without its key "+k, pe.GetKey())
				}
				e.keys = append(e.keys, key{k, identityKey(k, v)})
			}
		default:
			for _, k := range slices.Sorted(maps.Keys(given)) {
				e.keys = append(e.keys, key{k, given[k]})
			}
		}
		out = append(out, e)
	}
	return out, nil
}

func identityKey(k, v string) string {
	if slices.Contains(identityKeys, k) {
		return bare(v)
	}
	return v
}

// value turns a gNMI value into what JSON decodes to: blobs into objects,
// scalars into scalars.
func value(p path, tv *gnmi.TypedValue) (any, error) {
	switch v := tv.GetValue().(type) {
	case *gnmi.TypedValue_JsonIetfVal:
		return decode(p, v.JsonIetfVal)
	case *gnmi.TypedValue_JsonVal:
		return decode(p, v.JsonVal)
	case *gnmi.TypedValue_StringVal:
		return v.StringVal, nil
	case *gnmi.TypedValue_AsciiVal:
		return v.AsciiVal, nil
	case *gnmi.TypedValue_IntVal:
		return json.Number(strconv.FormatInt(v.IntVal, 10)), nil
	case *gnmi.TypedValue_UintVal:
		return json.Number(strconv.FormatUint(v.UintVal, 10)), nil
	case *gnmi.TypedValue_BoolVal:
		return v.BoolVal, nil
	case *gnmi.TypedValue_DoubleVal:
		return json.Number(strconv.FormatFloat(v.DoubleVal, 'g', -1, 64)), nil
	case *gnmi.TypedValue_BytesVal: // RFC 7951 §6.6
		return base64.StdEncoding.EncodeToString(v.BytesVal), nil
	case *gnmi.TypedValue_LeaflistVal:
		out := []any{}
		for _, e := range v.LeaflistVal.GetElement() {
			s, err := value(p, e)
			if err != nil {
				return nil, err
			}
			out = append(out, s)
		}
		return out, nil
	case nil:
		return nil, garbage(p, "an update without a value", "")
	default:
		return nil, garbage(p, fmt.Sprintf("a value of kind %T", v), tv.String())
	}
}

func decode(p path, b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, garbage(p, "not JSON: "+err.Error(), b)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, garbage(p, "more than one JSON value", b)
	}
	return v, nil
}

// put writes v at p. A blob that repeats the name of the element it is for is
// unwrapped: some devices send it so.
func (n *node) put(p path, v any) error {
	if v == nil {
		return garbage(p, "no value", "null")
	}
	if len(p) > 0 {
		v = unwrap(p[len(p)-1], v)
	}
	at := n
	for i, e := range p {
		if _, isList := keysOf[p[:i+1].schema()]; isList && len(e.keys) == 0 {
			return at.fill(p[:i], map[string]any{e.name: v}) // the whole list as one array
		}
		at = at.child(e)
	}
	return at.fill(p, v)
}

func unwrap(e elem, v any) any {
	m, ok := v.(map[string]any)
	if !ok || len(m) != 1 {
		return v
	}
	for k, inner := range m {
		if bare(k) != e.name {
			return v
		}
		if a, ok := inner.([]any); ok && len(a) == 1 && len(e.keys) > 0 {
			return a[0]
		}
		switch inner.(type) {
		case map[string]any, []any:
			return inner
		}
	}
	return v
}

func (n *node) fill(p path, v any) error {
	switch v := v.(type) {
	case nil: // an empty container, as some devices write it
	case map[string]any:
		for k, inner := range v {
			if len(k) == 0 || k[0] == '@' { // RFC 7952 metadata
				continue
			}
			if err := n.fillChild(p, bare(k), inner); err != nil {
				return err
			}
		}
	case []any:
		if containers[p.schema()] {
			return garbage(p, "a container that is an array", v)
		}
		for _, e := range v {
			switch e.(type) {
			case string, json.Number, bool:
			default:
				return nil // the entries of a list that is not ours
			}
		}
		n.leaf = v
	default:
		if containers[p.schema()] {
			return garbage(p, "a container that is a scalar", v)
		}
		n.leaf = v
	}
	return nil
}

// containers are the paths above the lists we know: what is no object there
// must not pass for nothing.
var containers = func() map[string]bool {
	out := map[string]bool{"": true}
	for p := range keysOf {
		for {
			p = p[:strings.LastIndexByte(p, '/')]
			if p == "" {
				break
			}
			out[p] = true
		}
	}
	return out
}()

func (n *node) fillChild(p path, name string, v any) error {
	names, known := keysOf[p.schema()+"/"+name]
	if !known {
		return n.child(elem{name: name}).fill(p.to(name), v)
	}
	list, ok := v.([]any)
	if !ok {
		return garbage(p.to(name), "a list that is no array", v)
	}
	for _, entry := range list {
		m, ok := entry.(map[string]any)
		if !ok {
			return garbage(p.to(name), "an entry that is no object", entry)
		}
		e := elem{name: name}
		for _, k := range names {
			s, ok := keyOf(m, k)
			if !ok {
				return garbage(p.to(name), "an entry without its key "+k, entry)
			}
			e.keys = append(e.keys, key{k, identityKey(k, s)})
		}
		if err := n.child(e).fill(append(slices.Clone(p), e), m); err != nil {
			return err
		}
	}
	return nil
}

// keyOf finds an entry's key: beside its containers, or in its config alone.
func keyOf(m map[string]any, name string) (string, bool) {
	if s, ok := keyIn(m, name); ok {
		return s, true
	}
	for k, v := range m {
		if c, ok := v.(map[string]any); ok && bare(k) == "config" {
			return keyIn(c, name)
		}
	}
	return "", false
}

func keyIn(m map[string]any, name string) (string, bool) {
	for k, v := range m {
		if bare(k) != name {
			continue
		}
		switch v := v.(type) {
		case string:
			return v, true
		case json.Number:
			return v.String(), true
		}
	}
	return "", false
}

// json is the node as JSON without module names: lists are arrays, an entry
// has its keys, and a container with nothing in it is left out (nil).
func (n *node) json() any {
	if n.leaf != nil {
		return n.leaf
	}
	out := map[string]any{}
	for _, k := range n.elem.keys {
		out[k.name] = k.value
	}
	for _, name := range slices.Sorted(maps.Keys(n.kids)) {
		k := n.kids[name]
		v := k.json()
		switch {
		case v == nil:
		case len(k.elem.keys) == 0:
			out[k.elem.name] = v
		default:
			list, _ := out[k.elem.name].([]any)
			out[k.elem.name] = append(list, v)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// into decodes what is at p into v, a pointer to a model struct; it reports
// whether anything is there.
func (n *node) into(p path, v any) (bool, error) {
	at := n.at(p)
	if at == nil {
		return false, nil
	}
	j := at.json()
	if j == nil {
		return false, nil
	}
	b, err := json.Marshal(j)
	if err != nil {
		return false, garbage(p, err.Error(), j)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, garbage(p, err.Error(), b)
	}
	return true, nil
}
