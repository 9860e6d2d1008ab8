package edge

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
)

// filled sets every field under v to something, lists to two elements. Equal
// calls give equal values that share no memory.
func filled(v reflect.Value, n *int) {
	*n++
	switch x := v.Addr().Interface().(type) {
	case *netip.Addr:
		*x = netip.AddrFrom4([4]byte{10, 0, byte(*n >> 8), byte(*n)})
		return
	case *netip.Prefix:
		*x = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(*n >> 8), byte(*n)}), 31)
		return
	case *netip.AddrPort:
		*x = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), uint16(*n))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(string(rune('a' + *n%26)))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n%255 + 1))
	case reflect.Float64:
		v.SetFloat(float64(*n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		filled(v.Index(0), n)
		filled(v.Index(1), n)
	case reflect.Struct:
		for i := range v.NumField() {
			filled(v.Field(i), n)
		}
	default:
		panic("a config has a field of kind " + v.Kind().String() + ": say here how to fill it")
	}
}

// leaves visits every value under v that holds no other.
func leaves(v reflect.Value, at string, visit func(at string, v reflect.Value)) {
	switch v.Addr().Interface().(type) {
	case *netip.Addr, *netip.Prefix, *netip.AddrPort:
		visit(at, v)
		return
	}
	switch v.Kind() {
	case reflect.Slice:
		visit(at+" (whole)", v)
		for i := range v.Len() {
			leaves(v.Index(i), at+"[]", visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			leaves(v.Field(i), at+"."+v.Type().Field(i).Name, visit)
		}
	default:
		visit(at, v)
	}
}

func full() (c Config) {
	n := 0
	filled(reflect.ValueOf(&c).Elem(), &n)
	return c
}

// Whatever one field of a config is changed, a new one too, Equal sees it, as
// the hash does.
func TestEqualSeesEveryField(t *testing.T) {
	if a, b := full(), full(); !a.Equal(b) || a.Hash() != b.Hash() {
		t.Fatal("equal configs are not Equal")
	}
	want, n := full(), 0
	changed := full()
	leaves(reflect.ValueOf(&changed).Elem(), "", func(at string, v reflect.Value) {
		n++
		old := reflect.New(v.Type()).Elem()
		old.Set(v)
		v.SetZero()
		if changed.Equal(want) || want.Equal(changed) {
			t.Errorf("Equal does not see %s", at)
		}
		if changed.Hash() == want.Hash() {
			t.Errorf("the hash does not see %s", at)
		}
		v.Set(old)
	})
	if n < 80 || !changed.Equal(want) {
		t.Errorf("%d fields were changed and put back", n)
	}
}

// A nil list and an empty one are other bytes, where the field is not left out.
func TestEqualTellsNilFromEmpty(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"tunnels":   func(c *Config) { c.Tunnels = []Tunnel{} },
		"rules":     func(c *Config) { c.Rules = []Rule{} },
		"networks":  func(c *Config) { c.BGP.Networks = []netip.Prefix{} },
		"circuits":  func(c *Config) { c.Circuits = []Circuit{} },
		"neighbour": func(c *Config) { c.BGP.Neighbours = []Neighbour{} },
	} {
		var a, b Config
		change(&b)
		if a.Equal(b) || a.Hash() == b.Hash() {
			t.Errorf("%s: nil is taken for empty", name)
		}
	}
	a, b := Config{Rules: []Rule{{Permit: inventory.PermitID("p")}}}, Config{Rules: []Rule{{Permit: "p", Src: []netip.Prefix{}}}}
	if a.Equal(b) {
		t.Error("a rule's nil list is taken for an empty one")
	}
}

// Sorted lists are compared by going along both; any others by looking up.
func TestLackingIsTheSameBothWays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) netip.Prefix {
			bits := rapid.IntRange(6, 8).Draw(t, "bits")
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{rapid.Byte().Draw(t, "byte")}), bits)
		}), 0, 12)
		a, b := list.Draw(t, "a"), list.Draw(t, "b")
		sorted := rapid.Bool().Draw(t, "sorted")
		if sorted {
			slices.SortFunc(a, netip.Prefix.Compare)
			slices.SortFunc(b, netip.Prefix.Compare)
		}
		var want []netip.Prefix
		for _, p := range a {
			if !slices.Contains(b, p) {
				want = append(want, p)
			}
		}
		if got := lacking(a, b); !slices.Equal(got, want) {
			t.Fatalf("%v without %v: %v, want %v", a, b, got, want)
		}
	})
}
