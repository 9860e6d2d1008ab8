package inventory

import (
	"fmt"
	"io"
	"reflect"
	"slices"

	"gopkg.in/yaml.v3"
)

// oneLine are the types written on one line each, to keep documents short.
var oneLine = []reflect.Type{
	reflect.TypeFor[UnitCode](), reflect.TypeFor[Segment](), reflect.TypeFor[PortRange](), reflect.TypeFor[Uplink](),
	reflect.TypeFor[Variable](), reflect.TypeFor[ProfileSegment](), reflect.TypeFor[ProfileCircuit](), reflect.TypeFor[ProfileUplink](), reflect.TypeFor[Opening](),
	reflect.TypeFor[ServiceClass](), reflect.TypeFor[Allocation](), reflect.TypeFor[Pool](), reflect.TypeFor[Carrier](),
}

// Encode writes inv, normalized, as one YAML document that [Decode] reads back
// to an equal inventory.
func Encode(w io.Writer, inv Inventory) error {
	root := yamlNode(reflect.ValueOf(document{APIVersion: APIVersion, Kind: DocumentKind, Inventory: inv.Normalize()}))
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return fmt.Errorf("encode inventory: %w", err)
	}
	if err := enc.Close(); err != nil {
		return fmt.Errorf("encode inventory: %w", err)
	}
	return nil
}

func yamlNode(v reflect.Value) *yaml.Node {
	if s, ok := scalarText(v); ok {
		n := &yaml.Node{Kind: yaml.ScalarNode, Tag: yamlTag(v), Value: s}
		if s == "<<" {
			n.Style = yaml.DoubleQuotedStyle // YAML's merge key, which the encoder leaves bare
		}
		return n
	}
	if v.Kind() == reflect.Slice {
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for i := range v.Len() {
			n.Content = append(n.Content, yamlNode(v.Index(i)))
		}
		if v.Len() == 0 || n.Content[0].Kind == yaml.ScalarNode {
			n.Style = yaml.FlowStyle
		}
		return n
	}
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	if v.Kind() == reflect.Map {
		n.Style = yaml.FlowStyle
		for _, k := range sortedKeys(v) {
			n.Content = append(n.Content, yamlNode(k), yamlNode(v.MapIndex(k)))
		}
		return n
	}
	if slices.Contains(oneLine, v.Type()) {
		n.Style = yaml.FlowStyle
	}
	for _, f := range fieldsOf(v.Type()) {
		val := v.FieldByIndex(f.index)
		if f.optional && empty(val) {
			continue
		}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: f.name}, yamlNode(val))
	}
	return n
}

// yamlTag makes the encoder quote text that looks like something else.
func yamlTag(v reflect.Value) string {
	if v.Kind() == reflect.Struct {
		if f, ok := v.Interface().(fieldText); ok {
			return f.yamlTag()
		}
	}
	if v.Type() == reflect.TypeFor[VariableValue]() && plainInteger.MatchString(v.String()) {
		return "!!int"
	}
	switch v.Kind() {
	case reflect.Bool:
		return "!!bool"
	case reflect.Int, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "!!int"
	case reflect.Float64:
		return "" // 10 and 10.5 are both decimal numbers
	}
	return "!!str"
}

// EncodeSite writes one site and its circuits as they stand in a document, for
// people to look at.
func EncodeSite(w io.Writer, site Site, circuits []Circuit) error {
	part := struct {
		Sites    []Site    `yaml:"sites"`
		Circuits []Circuit `yaml:"circuits"`
	}{[]Site{site}, circuits}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(yamlNode(reflect.ValueOf(part))); err != nil {
		return fmt.Errorf("encode site %s: %w", site.ID, err)
	}
	if err := enc.Close(); err != nil {
		return fmt.Errorf("encode site %s: %w", site.ID, err)
	}
	return nil
}
