package agent

import (
	"strings"

	"github.com/openconfig/gnmi/proto/gnmi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// pattern is a requested path: "*" stands for any element or key value, a key
// that is left out for all values, and a path that ends early for all below.
type pattern struct {
	origin string
	elems  []*gnmi.PathElem
}

// newPattern joins prefix and path; the origin may stand in either and defaults
// to openconfig.
func newPattern(prefix, path *gnmi.Path) (pattern, error) {
	p := pattern{origin: path.GetOrigin()}
	if p.origin == "" {
		p.origin = prefix.GetOrigin()
	} else if o := prefix.GetOrigin(); o != "" && o != p.origin {
		return p, status.Errorf(codes.InvalidArgument, "path: origin %q in the prefix and %q in the path; give one", o, p.origin)
	}
	if p.origin == "" {
		p.origin = OriginOpenConfig
	}
	//lint:ignore SA1019 the deprecated field is refused, not used
	if len(prefix.GetElement())+len(path.GetElement()) > 0 {
		return p, status.Error(codes.InvalidArgument, "path: the deprecated field element is set; use elem")
	}
	p.elems = append(p.elems, prefix.GetElem()...)
	p.elems = append(p.elems, path.GetElem()...)
	return p, nil
}

func (p pattern) String() string {
	var b strings.Builder
	b.WriteString(p.origin + ":")
	for _, e := range p.elems {
		b.WriteString("/" + e.GetName())
		for k, v := range e.GetKey() {
			b.WriteString("[" + k + "=" + v + "]")
		}
	}
	if len(p.elems) == 0 {
		b.WriteString("/")
	}
	return b.String()
}

// covers says whether p names n or something above it, keys aside.
func (p pattern) covers(n *node) bool {
	if p.origin != n.origin || len(p.elems) > len(n.names) {
		return false
	}
	for i, e := range p.elems {
		if e.GetName() != "*" && e.GetName() != n.names[i] {
			return false
		}
	}
	return true
}

// matches says whether p names l or something above it.
func (p pattern) matches(l *leaf) bool {
	if !p.covers(l.node) {
		return false
	}
	for i, e := range p.elems {
		for k, v := range e.GetKey() {
			if have, ok := l.path.Elem[i].Key[k]; !ok || v != "*" && v != have {
				return false
			}
		}
	}
	return true
}

// nodes returns the schema nodes p covers; none is the caller's mistake.
func (p pattern) nodes() ([]*node, error) {
	var found []*node
	for _, n := range schema {
		if p.covers(n) {
			found = append(found, n)
		}
	}
	if len(found) == 0 {
		return nil, status.Errorf(codes.InvalidArgument, "path %s: no such path; Capabilities names the models", p)
	}
	return found, nil
}

// selects returns the leaves of t that p matches and want accepts.
func (p pattern) selects(t *tree, want func(*leaf) bool) []*leaf {
	var found []*leaf
	for _, l := range t.leaves {
		if p.matches(l) && want(l) {
			found = append(found, l)
		}
	}
	return found
}
