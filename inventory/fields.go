package inventory

import (
	"encoding"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
)

// field is one named field of a noun, as the documents call it.
type field struct {
	name     string
	index    []int // for reflect's FieldByIndex
	optional bool  // left out when empty
}

// fieldsOf lists the fields of a struct by their yaml tags, in order. Embedded
// structs are part of the outer one.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for f := range t.Fields() {
		tag, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if f.Anonymous {
			for _, inner := range fieldsOf(f.Type) {
				inner.index = append(append([]int{}, f.Index...), inner.index...)
				out = append(out, inner)
			}
			continue
		}
		out = append(out, field{name: tag, index: f.Index, optional: strings.HasPrefix(opts, "omit")})
	}
	return out
}

func names(fields []field) string {
	list := make([]string, len(fields))
	for i, f := range fields {
		list[i] = f.name
	}
	return strings.Join(list, ", ")
}

// asText returns the text codec of a value that has one (netip.Prefix, netip.Addr).
func asText(v reflect.Value) (encoding.TextUnmarshaler, bool) {
	u, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return u, ok
}

// setScalar parses s into v and says what was wanted when it cannot.
func setScalar(v reflect.Value, s string) error {
	if u, ok := asText(v); ok {
		if err := u.UnmarshalText([]byte(s)); err != nil {
			if _, ours := u.(fieldText); ours {
				return err
			}
			if v.Type() == reflect.TypeFor[netip.Addr]() {
				return fmt.Errorf("%q is not an address (want e.g. 10.64.0.1)", s)
			}
			return fmt.Errorf("%q is not a prefix (want address/length, e.g. 10.64.0.0/20)", s)
		}
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		switch s {
		case "true", "false":
			v.SetBool(s == "true")
		default:
			return fmt.Errorf("%q is not true or false", s)
		}
	case reflect.Int:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", s)
		}
		v.SetInt(n)
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(s, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number from 0 to %d", s, uint64(math.MaxUint64)>>(64-v.Type().Bits()))
		}
		v.SetUint(n)
	case reflect.Float64:
		x, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsInf(x, 0) || math.IsNaN(x) {
			return fmt.Errorf("%q is not a decimal number", s)
		}
		v.SetFloat(x)
	default:
		return fmt.Errorf("a field of type %s has no text form", v.Type())
	}
	return nil
}

// scalarText is the inverse of setScalar; ok is false for lists and structs.
func scalarText(v reflect.Value) (s string, ok bool) {
	if m, isText := v.Interface().(encoding.TextMarshaler); isText {
		b, err := m.MarshalText()
		return string(b), err == nil
	}
	switch v.Kind() {
	case reflect.String:
		return v.String(), true
	case reflect.Bool:
		return strconv.FormatBool(v.Bool()), true
	case reflect.Int:
		return strconv.FormatInt(v.Int(), 10), true
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10), true
	case reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'f', -1, 64), true
	}
	return "", false
}

// empty says whether an optional field may be left out.
func empty(v reflect.Value) bool {
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		return v.Len() == 0
	}
	return v.IsZero()
}
