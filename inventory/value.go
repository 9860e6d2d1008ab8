package inventory

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Value is one field of a profile: a value of the field's own type, or the name
// of a variable that gives each site its own. The zero Value is a field left
// out. Documents write a variable as "${name}", and that is the whole field: a
// value is parsed as the field's type and never pasted into a text.
type Value[T any] struct {
	literal T
	name    string
}

// Given is the Value that is the same at every site.
func Given[T any](v T) Value[T] { return Value[T]{literal: v} }

// FromVariable is the Value that the variable called name gives a site.
func FromVariable[T any](name string) Value[T] { return Value[T]{name: name} }

// Variable is the name of the variable that gives the value; empty: [Value.Literal] does.
func (v Value[T]) Variable() string { return v.name }

// Literal is the value that is written out; zero for a variable.
func (v Value[T]) Literal() T { return v.literal }

// MarshalText gives the text of the value, or "${name}".
func (v Value[T]) MarshalText() ([]byte, error) {
	if v.name != "" {
		return []byte("${" + v.name + "}"), nil
	}
	s, ok := scalarText(reflect.ValueOf(&v.literal).Elem())
	if !ok {
		return nil, fmt.Errorf("%w: a field of type %T has no text form", ErrInvalid, v.literal)
	}
	return []byte(s), nil
}

// UnmarshalText is the inverse of MarshalText. The error says what was wanted.
func (v *Value[T]) UnmarshalText(text []byte) error {
	s := string(text)
	*v = Value[T]{}
	if found := referenceForm.FindStringSubmatch(s); found != nil {
		v.name = found[1]
		return nil
	}
	switch left := residue(s); {
	case left == "${":
		return fmt.Errorf("%q is no reference to a variable (want \"${name}\" alone, the name of a-z, 0-9 and _; a value is never part of a text)", s)
	case left != "":
		return fmt.Errorf("%q holds %q of another template language (a variable is written \"${name}\")", s, left)
	case s == "":
		return nil
	}
	return setScalar(reflect.ValueOf(&v.literal).Elem(), s)
}

func (v Value[T]) yamlTag() string {
	if v.name != "" {
		return "!!str"
	}
	return yamlTag(reflect.ValueOf(&v.literal).Elem())
}

func (v Value[T]) typeName() string { return typeName(reflect.ValueOf(&v.literal).Elem()) }

// fits lists the types of variables whose values are values of T.
func (Value[T]) fits() []VariableType {
	switch any(*new(T)).(type) {
	case netip.Addr:
		return []VariableType{AddressVariable}
	case netip.Prefix:
		return []VariableType{PrefixVariable}
	case string, DeviceID: // an open list
		return []VariableType{TextVariable, ChoiceVariable}
	case int, uint32:
		return []VariableType{IntegerVariable}
	}
	return []VariableType{ChoiceVariable} // a closed list
}

// fieldText is a text type that knows how documents write it.
type fieldText interface {
	yamlTag() string
	typeName() string
}

// VariableValue is the text of a variable's value, parsed where a field takes
// it. Documents may write a number without quotes.
type VariableValue string

var plainInteger = regexp.MustCompile(`^(0|-?[1-9][0-9]{0,17})$`)

var (
	nameForm      = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	referenceForm = regexp.MustCompile(`^\$\{([a-z][a-z0-9_]{0,62})\}$`)
)

// residue is what s still holds of a template that nobody filled in.
func residue(s string) string {
	for _, left := range []string{"${", "{{", "<no value>"} {
		if strings.Contains(s, left) {
			return left
		}
	}
	return ""
}

// VariableType is the type of a variable's values.
type VariableType string

// Types of variables.
const (
	AddressVariable VariableType = "address"
	PrefixVariable  VariableType = "prefix"
	IntegerVariable VariableType = "integer"
	TextVariable    VariableType = "text"
	ChoiceVariable  VariableType = "choice" // one of its choices
)

// VariableTypes are all of them.
var VariableTypes = []VariableType{AddressVariable, PrefixVariable, IntegerVariable, TextVariable, ChoiceVariable}

// Variable is what a profile leaves to its sites.
type Variable struct {
	Name string       `yaml:"name" json:"name"` // of a-z, 0-9 and _, a letter first
	Type VariableType `yaml:"type" json:"type"`
	// Default is the value at sites that give none; empty: each gives one.
	Default     VariableValue   `yaml:"default,omitempty" json:"default,omitempty"`
	Choices     []VariableValue `yaml:"choices,omitempty" json:"choices,omitempty"` // of type choice only
	Description string          `yaml:"description,omitempty" json:"description,omitempty"`
}

// refuses says why s is no value of v; empty: it is one.
func (v Variable) refuses(s VariableValue) string {
	text := string(s)
	if left := residue(text); left != "" {
		return fmt.Sprintf("%q holds %q: a value is written out, it refers to nothing", text, left)
	}
	if text == "" {
		return "is empty; leave it out where a default is to hold"
	}
	var err error
	switch v.Type {
	case AddressVariable:
		if _, err = netip.ParseAddr(text); err != nil {
			return fmt.Sprintf("%q is not an address (want e.g. 10.64.0.1)", text)
		}
	case PrefixVariable:
		if _, err = netip.ParsePrefix(text); err != nil {
			return fmt.Sprintf("%q is not a prefix (want address/length, e.g. 10.64.0.0/20)", text)
		}
	case IntegerVariable:
		if _, err = strconv.ParseInt(text, 10, 64); err != nil {
			return fmt.Sprintf("%q is not a whole number", text)
		}
	case ChoiceVariable:
		if !slices.Contains(v.Choices, s) {
			return fmt.Sprintf("%q is none of its choices (want %s)", text, oneOf(v.Choices))
		}
	case TextVariable:
	}
	return ""
}
