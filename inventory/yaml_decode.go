package inventory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// What the first two lines of every document say.
const (
	APIVersion   = "wardnet/v1"
	DocumentKind = "Inventory"
)

// maxValues bounds the values of one document, counted by their separators, so
// that a document of nothing but brackets cannot eat the memory: ten times
// what 10,000 sites need.
const maxValues = 8_000_000

// document is an inventory as it is written in YAML.
type document struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Inventory
}

// Decode reads one YAML document (JSON is YAML), checks it and returns it
// normalized. name stands for the file in the faults. The error is [Faults]
// with file, line and field of every fault of form and of content, or a
// failure to read r. Allocations may be missing; see [Adopt].
func Decode(name string, r io.Reader) (Inventory, error) {
	inv, root, faults, err := decodeYAML(name, r)
	if err != nil {
		return Inventory{}, err
	}
	faults.placed(Validate(inv), func(f *Fault) { f.File, f.Line = name, lineOf(root, f.Field) })
	if err := faults.err(); err != nil {
		return Inventory{}, err
	}
	return inv.Normalize(), nil
}

// decodeYAML reads a document without judging its content. The returned node
// is the document's root; faults are those of form.
func decodeYAML(name string, r io.Reader) (Inventory, *yaml.Node, *faultList, error) {
	d := &yamlDecoder{file: name}
	data, fault, err := readText(name, r)
	if err != nil || fault != nil {
		return Inventory{}, nil, nil, asError(fault, err)
	}
	var values int
	for _, sep := range []string{"\n", ",", "[", "{"} {
		values += bytes.Count(data, []byte(sep))
	}
	if values > maxValues {
		return Inventory{}, nil, nil, Faults{{File: name, Text: fmt.Sprintf("more than %d values; this is not an inventory", maxValues)}}
	}
	root, err := parseYAML(name, data)
	if err != nil {
		return Inventory{}, nil, nil, err
	}
	doc := document{APIVersion: APIVersion, Kind: DocumentKind} // absent is a fault below
	d.value(root, reflect.ValueOf(&doc).Elem(), "")
	for _, want := range []struct{ field, have, want string }{
		{"apiVersion", doc.APIVersion, APIVersion}, {"kind", doc.Kind, DocumentKind},
	} {
		if find(root, want.field) == nil {
			d.bad(root, "", "%s is missing; the document begins with %q", want.field, want.field+": "+want.want)
		} else if want.have != want.want {
			d.bad(root, want.field, "%q is not known here (want %s)", want.have, want.want)
		}
	}
	return doc.Inventory, root, &d.faults, nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// parseYAML returns the one mapping of the one document in data.
func parseYAML(name string, data []byte) (root *yaml.Node, err error) {
	refuse := func(line int, text string) (*yaml.Node, error) {
		return nil, Faults{{File: name, Line: line, Text: text}}
	}
	syntax := func(err error) (*yaml.Node, error) {
		text, line := err.Error(), 0
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			line, _ = strconv.Atoi(m[1])
			text = m[2]
		}
		return refuse(line, "not well-formed YAML: "+text)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return refuse(0, "the document is empty")
	case err != nil:
		return syntax(err)
	}
	switch err := dec.Decode(&next); {
	case err == nil:
		return refuse(next.Line, "a second document begins here; one file holds one inventory")
	case !errors.Is(err, io.EOF):
		return syntax(err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return refuse(doc.Line, fmt.Sprintf("not an inventory; the document begins with %q", "apiVersion: "+APIVersion))
	}
	return doc.Content[0], nil
}

type yamlDecoder struct {
	file   string
	faults faultList
}

func (d *yamlDecoder) bad(n *yaml.Node, path, format string, args ...any) {
	d.faults.add(Fault{File: d.file, Line: n.Line, Field: path, Text: fmt.Sprintf(format, args...)})
}

// value decodes n into v; path names v in faults.
func (d *yamlDecoder) value(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		d.bad(n, path, "anchors and aliases are not accepted; write the value out")
		return
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.bad(n, path, "tags (%s) are not accepted", n.Tag)
		return
	}
	_, isText := asText(v)
	switch {
	case v.Kind() == reflect.Struct && !isText:
		d.mapping(n, v, path)
	case v.Kind() == reflect.Slice:
		d.sequence(n, v, path)
	case v.Kind() == reflect.Map:
		d.entries(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

func (d *yamlDecoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.bad(n, path, "%s is not a mapping of fields", shape(n))
		return
	}
	fields := fieldsOf(v.Type())
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		if key.Kind != yaml.ScalarNode {
			d.bad(key, path, "%s as the name of a field", shape(key))
			continue
		}
		if line, dup := seen[key.Value]; dup {
			d.bad(key, at, "duplicate key; the first is on line %d", line)
			continue
		}
		seen[key.Value] = key.Line
		known := false
		for _, f := range fields {
			if f.name == key.Value {
				d.value(val, v.FieldByIndex(f.index), at)
				known = true
			}
		}
		if !known {
			d.bad(key, at, "unknown field (want one of %s)", names(fields))
		}
	}
}

func (d *yamlDecoder) sequence(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.bad(n, path, "%s is not a list (write [] for an empty one)", shape(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

// entries decodes a mapping of names to texts.
func (d *yamlDecoder) entries(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.bad(n, path, "%s is not a mapping of names to values", shape(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Anchor != "" || key.Tag == "!!null" {
			d.bad(key, path, "%s as a name", shape(key))
			continue
		}
		name := reflect.ValueOf(key.Value)
		if v.MapIndex(name).IsValid() {
			d.bad(key, join(path, key.Value), "duplicate name")
			continue
		}
		one := reflect.New(v.Type().Elem()).Elem()
		d.value(val, one, join(path, key.Value))
		v.SetMapIndex(name, one)
	}
}

func (d *yamlDecoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		d.bad(n, path, "%s is not a value of type %s", shape(n), typeName(v))
		return
	}
	u, isText := asText(v)
	field, ours := u.(fieldText)
	ok := true
	switch v.Kind() {
	case reflect.Int, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		ok = n.Tag == "!!int"
	case reflect.Float64:
		ok = n.Tag == "!!int" || n.Tag == "!!float"
	case reflect.Bool:
		ok = n.Tag == "!!bool"
	case reflect.String:
		// A date is text here; a bare number or true is a slip, for codes and
		// serials lose zeros when a tool takes them for numbers.
		// A variable's value is parsed later, as what takes it.
		ok = n.Tag == "!!str" || n.Tag == "!!timestamp" || v.Type() == reflect.TypeFor[VariableValue]()
	default:
		ok = isText && n.Tag == "!!str" || ours && n.Tag == field.yamlTag()
	}
	if !ok {
		hint := ""
		if v.Kind() == reflect.String {
			hint = "; put it in quotes"
		}
		d.bad(n, path, "%s is not a value of type %s%s", shape(n), typeName(v), hint)
		return
	}
	if err := setScalar(v, n.Value); err != nil {
		d.bad(n, path, "%v", err)
	}
}

// shape describes what stands at n.
func shape(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias"
	case n.Tag == "!!null":
		return "nothing"
	}
	const limit = 60 // bytes of a value worth repeating
	if len(n.Value) > limit {
		return fmt.Sprintf("%q…", strings.ToValidUTF8(n.Value[:limit], ""))
	}
	return fmt.Sprintf("%q", n.Value)
}

func typeName(v reflect.Value) string {
	if f, ok := v.Interface().(fieldText); ok {
		return f.typeName() + " or ${variable}"
	}
	if v.Type() == reflect.TypeFor[netip.Addr]() {
		return "address"
	}
	if _, ok := asText(v); ok {
		return "prefix"
	}
	switch v.Kind() {
	case reflect.Int, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "whole number"
	case reflect.Float64:
		return "decimal number"
	case reflect.Bool:
		return "true or false"
	}
	return "text"
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
