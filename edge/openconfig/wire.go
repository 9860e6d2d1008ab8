package openconfig

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/openconfig/gnmi/proto/gnmi"
)

// modules are the modules of the nodes that do not have their parent's, by
// schema path (RFC 7951 §4).
var modules = map[string]string{
	"/acl":                              "openconfig-acl",
	"/bfd":                              "openconfig-bfd",
	"/interfaces":                       "openconfig-interfaces",
	"/network-instances":                "openconfig-network-instance",
	"/routing-policy":                   "openconfig-routing-policy",
	subinterfaces + "/vlan":             "openconfig-vlan",
	subinterfaces + "/ipv4":             "openconfig-if-ip",
	subinterfaces + "/ipv6":             "openconfig-if-ip",
	statements + "/actions/bgp-actions": "openconfig-bgp-policy",
}

const statements = "/routing-policy/policy-definitions/policy-definition/statements/statement"

// wire is how a device wants values written.
type wire struct {
	encoding gnmi.Encoding // JSON_IETF or JSON
	bare     bool          // without modules, in names and identities
}

// value encodes a model struct for p.
func (w wire) value(p path, v any) (*gnmi.TypedValue, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", p, err)
	}
	plain, err := decode(p, b)
	if err != nil {
		return nil, err
	}
	b, err = json.Marshal(w.named(p.schema(), "", plain))
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", p, err)
	}
	if w.encoding == gnmi.Encoding_JSON {
		return &gnmi.TypedValue{Value: &gnmi.TypedValue_JsonVal{JsonVal: b}}, nil
	}
	return &gnmi.TypedValue{Value: &gnmi.TypedValue_JsonIetfVal{JsonIetfVal: b}}, nil
}

// named puts the module before the names that need one: those at the top, and
// those whose module is not their parent's.
func (w wire) named(at, parent string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, inner := range v {
			below := at + "/" + name
			module := moduleOf(below)
			key := name
			if module != parent && !w.bare {
				key = module + ":" + name
			}
			out[key] = w.named(below, module, inner)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = w.named(at, parent, e)
		}
		return out
	case string:
		if module, name, ok := strings.Cut(v, ":"); ok && w.bare && isModule(module) {
			return name
		}
	}
	return v
}

// isModule tells an identity's module from the first part of an IPv6 address.
func isModule(s string) bool {
	return strings.HasPrefix(s, "openconfig-") || s == "iana-if-type"
}

func moduleOf(schema string) string {
	for {
		if m, ok := modules[schema]; ok {
			return m
		}
		i := strings.LastIndexByte(schema, '/')
		if i <= 0 {
			return ""
		}
		schema = schema[:i]
	}
}

// canonical is v, a pointer to a model struct, as it would be read back.
func canonical(p path, v any) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", p, err)
	}
	plain, err := decode(p, b)
	if err != nil {
		return nil, err
	}
	var root node
	if err := root.put(p, plain); err != nil {
		return nil, err
	}
	out := reflect.New(reflect.TypeOf(v).Elem()).Interface()
	if _, err := root.into(p, out); err != nil {
		return nil, err
	}
	return out, nil
}
