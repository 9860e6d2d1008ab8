package openconfig

import (
	"slices"
	"strings"

	"github.com/openconfig/gnmi/proto/gnmi"
)

// path is an absolute OpenConfig path. Names carry no module, identities in
// keys neither; keys are in the order of the model.
type path []elem

type elem struct {
	name string
	keys []key
}

type key struct{ name, value string }

// keysOf are the keys of the lists that the driver reads and writes, by schema
// path. Other lists are somebody else's and are not entered.
var keysOf = map[string][]string{
	"/acl/acl-sets/acl-set":                                                     {"name", "type"},
	"/acl/acl-sets/acl-set/acl-entries/acl-entry":                               {"sequence-id"},
	"/acl/interfaces/interface":                                                 {"id"},
	"/acl/interfaces/interface/egress-acl-sets/egress-acl-set":                  {"set-name", "type"},
	"/acl/interfaces/interface/ingress-acl-sets/ingress-acl-set":                {"set-name", "type"},
	"/bfd/interfaces/interface":                                                 {"id"},
	"/bfd/interfaces/interface/peers/peer":                                      {"local-discriminator"},
	"/components/component":                                                     {"name"},
	"/interfaces/interface":                                                     {"name"},
	subinterfaces:                                                               {"index"},
	subinterfaces + "/ipv4/addresses/address":                                   {"ip"},
	subinterfaces + "/ipv6/addresses/address":                                   {"ip"},
	"/network-instances/network-instance":                                       {"name"},
	connections:                                                                 {"src-protocol", "dst-protocol", "address-family"},
	protocols:                                                                   {"identifier", "name"},
	protocols + "/bgp/neighbors/neighbor":                                       {"neighbor-address"},
	protocols + "/bgp/neighbors/neighbor/afi-safis/afi-safi":                    {"afi-safi-name"},
	protocols + "/static-routes/static":                                         {"prefix"},
	protocols + "/static-routes/static/next-hops/next-hop":                      {"index"},
	"/routing-policy/defined-sets/prefix-sets/prefix-set":                       {"name"},
	"/routing-policy/defined-sets/prefix-sets/prefix-set/prefixes/prefix":       {"ip-prefix", "masklength-range"},
	"/routing-policy/policy-definitions/policy-definition":                      {"name"},
	"/routing-policy/policy-definitions/policy-definition/statements/statement": {"name"},
}

const (
	subinterfaces = "/interfaces/interface/subinterfaces/subinterface"
	protocols     = "/network-instances/network-instance/protocols/protocol"
	connections   = "/network-instances/network-instance/table-connections/table-connection"
)

// identityKeys are the keys whose values are identities: with or without their
// module they mean the same.
var identityKeys = []string{"type", "identifier", "afi-safi-name", "src-protocol", "dst-protocol", "address-family"}

// to goes down through containers.
func (p path) to(names ...string) path {
	out := slices.Clone(p)
	for _, n := range names {
		out = append(out, elem{name: n})
	}
	return out
}

// list goes down to the entry of a list with these key values, in the order
// of the model.
func (p path) list(name string, values ...string) path {
	e := elem{name: name}
	for i, k := range keysOf[p.schema()+"/"+name] {
		e.keys = append(e.keys, key{k, values[i]})
	}
	return append(slices.Clone(p), e)
}

// schema is the path without keys.
func (p path) schema() string {
	var b strings.Builder
	for _, e := range p {
		b.WriteString("/" + e.name)
	}
	return b.String()
}

func (p path) String() string {
	if len(p) == 0 {
		return "/"
	}
	var b strings.Builder
	for _, e := range p {
		b.WriteString("/" + e.String())
	}
	return b.String()
}

var escape = strings.NewReplacer(`\`, `\\`, `]`, `\]`)

func (e elem) String() string {
	s := e.name
	for _, k := range e.keys {
		s += "[" + k.name + "=" + escape.Replace(k.value) + "]"
	}
	return s
}

func (p path) proto(origin string) *gnmi.Path {
	out := &gnmi.Path{Origin: origin}
	for _, e := range p {
		pe := &gnmi.PathElem{Name: e.name}
		for _, k := range e.keys {
			if pe.Key == nil {
				pe.Key = map[string]string{}
			}
			pe.Key[k.name] = k.value
		}
		out.Elem = append(out.Elem, pe)
	}
	return out
}

// bare is a name or an identity without its module.
func bare(s string) string {
	return s[strings.LastIndexByte(s, ':')+1:]
}

// last is the value of the key of the path's last element.
func (p path) last(name string) string {
	for _, k := range p[len(p)-1].keys {
		if k.name == name {
			return k.value
		}
	}
	return ""
}
