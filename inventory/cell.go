package inventory

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// A CSV cell holds a scalar as in YAML, a list with ";" between its entries, or
// a list of small records with "|" between their fields, optional last fields
// left out: "staff;dmz|no servers for the public" is two segments. Names with
// values are "name=value;name=value". A backslash
// takes the meaning from the next character. A list inside a record is written
// as a cell of its own and then escaped as one text, which is for programs; by
// hand YAML is the better choice for it.

// splitCell cuts s at unescaped separators and keeps the escapes.
func splitCell(s string, sep byte) []string {
	var parts []string
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

var cellEscape = strings.NewReplacer(`\`, `\\`, `;`, `\;`, `|`, `\|`)

// unescapeCell removes the escapes of one part.
func unescapeCell(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			if i++; i == len(s) {
				return "", errors.New(`ends with a lone backslash; write \\ for one`)
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), nil
}

// setCell parses the text of one cell into v.
func setCell(v reflect.Value, s string) error {
	if v.Kind() == reflect.Map {
		return setEntries(v, s)
	}
	if v.Kind() != reflect.Slice {
		return setScalar(v, s)
	}
	if s == "" {
		return nil
	}
	parts := splitCell(s, ';')
	v.Set(reflect.MakeSlice(v.Type(), len(parts), len(parts)))
	for i, part := range parts {
		if err := setPart(v.Index(i), part); err != nil {
			return fmt.Errorf("entry %d: %w", i+1, err)
		}
	}
	return nil
}

// setEntries parses "name=value;name=value" into a map of texts.
func setEntries(v reflect.Value, s string) error {
	if s == "" {
		return nil
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i, part := range splitCell(s, ';') {
		part, err := unescapeCell(part)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i+1, err)
		}
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return fmt.Errorf("entry %d: %q is not name=value", i+1, part)
		}
		key := reflect.ValueOf(name)
		if v.MapIndex(key).IsValid() {
			return fmt.Errorf("entry %d: %q has a value already", i+1, name)
		}
		v.SetMapIndex(key, reflect.ValueOf(value).Convert(v.Type().Elem()))
	}
	return nil
}

// sortedKeys are the names of a map of texts.
func sortedKeys(v reflect.Value) []reflect.Value {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	return keys
}

// setPart parses one entry of a list.
func setPart(v reflect.Value, s string) error {
	if _, isText := asText(v); v.Kind() != reflect.Struct || isText {
		s, err := unescapeCell(s)
		if err != nil {
			return err
		}
		return setCell(v, s)
	}
	fields, parts := fieldsOf(v.Type()), splitCell(s, '|')
	if len(parts) > len(fields) {
		return fmt.Errorf("%d parts, want %s", len(parts), strings.ReplaceAll(names(fields), ", ", "|"))
	}
	for i, f := range fields {
		if i >= len(parts) {
			if !f.optional {
				return fmt.Errorf("%s is missing, want %s", f.name, strings.ReplaceAll(names(fields), ", ", "|"))
			}
			continue
		}
		if parts[i] == "" && f.optional {
			continue
		}
		if err := setPart(v.FieldByIndex(f.index), parts[i]); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// cellText is the inverse of setCell.
func cellText(v reflect.Value) string {
	if v.Kind() == reflect.Map {
		var parts []string
		for _, k := range sortedKeys(v) {
			parts = append(parts, cellEscape.Replace(k.String()+"="+v.MapIndex(k).String()))
		}
		return strings.Join(parts, ";")
	}
	if v.Kind() != reflect.Slice {
		s, _ := scalarText(v)
		return s
	}
	parts := make([]string, v.Len())
	for i := range parts {
		parts[i] = partText(v.Index(i))
	}
	return strings.Join(parts, ";")
}

func partText(v reflect.Value) string {
	if s, ok := scalarText(v); ok {
		return cellEscape.Replace(s)
	}
	if v.Kind() == reflect.Slice {
		return cellEscape.Replace(cellText(v))
	}
	var parts []string
	keep := 0 // parts up to the last one that must be written
	for i, f := range fieldsOf(v.Type()) {
		val := v.FieldByIndex(f.index)
		if f.optional && empty(val) {
			parts = append(parts, "")
			continue
		}
		parts, keep = append(parts, partText(val)), i+1
	}
	return strings.Join(parts[:keep], "|")
}
