package yang

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"text/scanner"

	"github.com/wardnet/wardnet/edge"
)

// statement is one YANG statement (RFC 7950 §6.3).
type statement struct {
	keyword, arg string
	sub          []statement
}

func (s statement) child(name string) (statement, bool) {
	for _, c := range s.sub {
		if c.arg == name {
			return c, true
		}
	}
	return statement{}, false
}

// parse reads the statements up to the closing brace or the end.
func parse(sc *scanner.Scanner, depth int) ([]statement, error) {
	var out []statement
	for {
		switch tok := next(sc); tok {
		case "":
			if depth > 0 {
				return nil, fmt.Errorf("%s: a block is not closed", sc.Pos())
			}
			return out, nil
		case "}":
			if depth == 0 {
				return nil, fmt.Errorf("%s: } without {", sc.Pos())
			}
			return out, nil
		default:
			s := statement{keyword: tok}
			tok = next(sc)
			if tok != "{" && tok != ";" {
				s.arg, tok = strings.Trim(tok, `"`), next(sc)
			}
			switch tok {
			case "{":
				sub, err := parse(sc, depth+1)
				if err != nil {
					return nil, err
				}
				s.sub = sub
			case ";":
			default:
				return nil, fmt.Errorf("%s: %q after %s %s, want ; or {", sc.Pos(), tok, s.keyword, s.arg)
			}
			out = append(out, s)
		}
	}
}

// next is one token: a brace, a semicolon, a quoted string or a word.
func next(sc *scanner.Scanner) string {
	for strings.ContainsRune(" \t\n", sc.Peek()) {
		sc.Next()
	}
	var b strings.Builder
	quoted := sc.Peek() == '"'
	for {
		r := sc.Peek()
		switch {
		case r == scanner.EOF:
			return b.String()
		case quoted && r == '"' && b.Len() > 0:
			b.WriteRune(sc.Next())
			return b.String()
		case quoted, !strings.ContainsRune(" \t\n{};", r):
			b.WriteRune(sc.Next())
		case b.Len() == 0:
			return string(sc.Next())
		default:
			return b.String()
		}
	}
}

func module(t *testing.T) statement {
	t.Helper()
	var sc scanner.Scanner
	sc.Init(strings.NewReader(Module))
	top, err := parse(&sc, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(top) != 1 || top[0].keyword != "module" || top[0].arg != "wardnet" {
		t.Fatalf("%d statements at the top, want module wardnet", len(top))
	}
	return top[0]
}

// nodes are the data nodes below s, groupings expanded.
func nodes(mod, s statement) map[string]statement {
	m := map[string]statement{}
	for _, c := range s.sub {
		switch c.keyword {
		case "leaf", "leaf-list", "list", "container", "anydata":
			m[c.arg] = c
		case "uses":
			g, _ := mod.child(c.arg)
			for k, v := range nodes(mod, g) {
				m[k] = v
			}
		}
	}
	return m
}

// same compares a Go struct's JSON members with the data nodes of s.
func same(t *testing.T, mod, s statement, typ reflect.Type) {
	t.Helper()
	have := nodes(mod, s)
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		n, ok := have[name]
		delete(have, name)
		if !ok {
			t.Errorf("%s.%s is %q in JSON, and no node of %s", typ, f.Name, name, s.arg)
			continue
		}
		inner, list := f.Type, f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() != reflect.Uint8
		if list {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		object := inner.Kind() == reflect.Struct && !inner.Implements(reflect.TypeFor[encoding.TextMarshaler]())
		want := map[[2]bool]string{{false, false}: "leaf", {true, false}: "leaf-list", {false, true}: "container", {true, true}: "list"}[[2]bool{list, object}]
		if f.Type.Kind() == reflect.Map {
			want = "anydata"
		}
		if n.keyword != want {
			t.Errorf("%s is a %s, %s.%s a %s", name, n.keyword, typ, f.Name, want)
		}
		if object {
			same(t, mod, n, inner)
		}
	}
	for name := range have {
		t.Errorf("%s has node %q, %s no such member", s.arg, name, typ)
	}
}

// The module says what the Go types say.
func TestModuleMatchesTypes(t *testing.T) {
	mod := module(t)
	for name, typ := range map[string]reflect.Type{
		"document":    reflect.TypeFor[edge.Signed](),
		"credentials": reflect.TypeFor[edge.Credentials](),
		"state":       reflect.TypeFor[edge.State](),
	} {
		s, ok := mod.child(name)
		if !ok || s.keyword != "sx:structure" {
			t.Errorf("no structure %s", name)
			continue
		}
		same(t, mod, s, typ)
	}
}

// Every type that is used is built in or defined in the module.
func TestTypesAreDefined(t *testing.T) {
	mod := module(t)
	known := map[string]bool{}
	for _, n := range strings.Fields("string boolean binary enumeration decimal64 uint8 uint16 uint32 uint64 int32") {
		known[n] = true
	}
	for _, s := range mod.sub {
		if s.keyword == "typedef" {
			known[s.arg] = true
		}
	}
	var walk func(statement)
	walk = func(s statement) {
		leaf := s.keyword == "leaf" || s.keyword == "leaf-list" || s.keyword == "typedef"
		typed := 0
		for _, c := range s.sub {
			if c.keyword == "type" {
				typed++
				if !known[c.arg] {
					t.Errorf("%s %s has the unknown type %q", s.keyword, s.arg, c.arg)
				}
			}
			walk(c)
		}
		if leaf && typed != 1 {
			t.Errorf("%s %s has %d types", s.keyword, s.arg, typed)
		}
	}
	walk(mod)
}
