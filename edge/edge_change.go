package edge

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/inventory"
)

// Verb is what an [Op] does.
type Verb string

// Verbs of an operation.
const (
	Add Verb = "add"
	Set Verb = "set"
	Del Verb = "del"
)

// Kind is the part of a [Config] an [Op] is about.
type Kind string

// Kinds of operation, in the order a [Change] lists them.
const (
	KindIdentity  Kind = "identity" // device, site and role
	KindLoopback  Kind = "loopback"
	KindCircuit   Kind = "circuit"
	KindSegment   Kind = "segment"
	KindLegacy    Kind = "legacy" // translation of a segment's old prefix
	KindTunnel    Kind = "tunnel"
	KindBGP       Kind = "bgp" // all of BGP but the neighbours
	KindNeighbour Kind = "neighbour"
	KindUplink    Kind = "uplink"
	KindClass     Kind = "class"
	KindRule      Kind = "rule"
	KindContract  Kind = "contract"
)

// Identity is whose config it is.
type Identity struct {
	Device inventory.DeviceID   `json:"device"`
	Site   inventory.SiteID     `json:"site"`
	Role   inventory.DeviceRole `json:"role"`
}

// Value is what an [Op] puts in force: the one field its kind names. All are
// nil when the verb is [Del].
type Value struct {
	Identity  *Identity    `json:"identity,omitempty"`
	Loopback  *netip.Addr  `json:"loopback,omitempty"`
	Circuit   *Circuit     `json:"circuit,omitempty"`
	Segment   *Segment     `json:"segment,omitempty"`
	Legacy    *Translation `json:"legacy,omitempty"`
	Tunnel    *Tunnel      `json:"tunnel,omitempty"`
	BGP       *BGP         `json:"bgp,omitempty"` // Neighbours are empty
	Neighbour *Neighbour   `json:"neighbour,omitempty"`
	Uplink    *Uplink      `json:"uplink,omitempty"`
	Class     *Class       `json:"class,omitempty"`
	Rule      *Rule        `json:"rule,omitempty"`
	Contract  *Contract    `json:"contract,omitempty"`
}

// Op is one step of a [Change].
type Op struct {
	Verb Verb   `json:"verb"`
	Kind Kind   `json:"kind"`
	Name string `json:"name,omitempty"` // within its kind; empty where there is only one
	// Reason says why the step is there; for Set, which fields differ and how.
	Reason string `json:"reason"`
	// Flap says what the step interrupts while it is carried out, e.g. "will
	// reset BGP to hub-1". Empty: nothing that is up goes down.
	Flap  string `json:"flap,omitempty"`
	At    int    `json:"at,omitempty"` // index in the wanted list, for kinds that are lists
	Value Value  `json:"value,omitzero"`
}

// Change turns one [Config] into another. It is data: print it, count it,
// store it as JSON.
type Change []Op

// Empty reports whether there is nothing to do.
func (c Change) Empty() bool { return len(c) == 0 }

// Flaps returns what the change interrupts, each effect once, sorted.
func (c Change) Flaps() []string {
	var out []string
	for _, op := range c {
		if op.Flap != "" {
			out = append(out, op.Flap)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Summary is one line for a table, e.g. "2 added, 1 changed, 0 removed, 1 flap".
func (c Change) Summary() string {
	n := map[Verb]int{}
	for _, op := range c {
		n[op.Verb]++
	}
	if c.Empty() {
		return "no change"
	}
	s := fmt.Sprintf("%d added, %d changed, %d removed", n[Add], n[Set], n[Del])
	switch f := len(c.Flaps()); f {
	case 0:
		return s
	case 1:
		return s + ", 1 flap"
	default:
		return fmt.Sprintf("%s, %d flaps", s, f)
	}
}

// String prints one line per step: "+ tunnel …", "~ rule …", "- segment …".
func (c Change) String() string {
	var b strings.Builder
	for _, op := range c {
		b.WriteString(op.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// String is the step as one line.
func (op Op) String() string {
	s := map[Verb]string{Add: "+", Set: "~", Del: "-"}[op.Verb] + " " + string(op.Kind)
	if op.Name != "" {
		s += " " + op.Name
	}
	switch op.Verb {
	case Add:
		s += ": " + describe(op.Value.any(), op.Name)
	case Set:
		s += ": " + op.Reason
	}
	if op.Flap != "" {
		s += "; " + op.Flap
	}
	return s
}

// any returns the one field that is set, or nil.
func (v Value) any() any {
	switch {
	case v.Identity != nil:
		return *v.Identity
	case v.Loopback != nil:
		return *v.Loopback
	case v.Circuit != nil:
		return *v.Circuit
	case v.Segment != nil:
		return *v.Segment
	case v.Legacy != nil:
		return *v.Legacy
	case v.Tunnel != nil:
		return *v.Tunnel
	case v.BGP != nil:
		return *v.BGP
	case v.Neighbour != nil:
		return *v.Neighbour
	case v.Uplink != nil:
		return *v.Uplink
	case v.Class != nil:
		return *v.Class
	case v.Rule != nil:
		return *v.Rule
	case v.Contract != nil:
		return *v.Contract
	}
	return nil
}

// Apply returns have with c carried out; it is the inverse of [Diff]: for all
// configs, Diff(have, want).Apply(have) equals want. The result shares slices
// with have and c; none of them may be written to.
func (c Change) Apply(have Config) Config {
	out := have
	id := Identity{have.Device, have.Site, have.Role}
	speaker := have.BGP
	speaker.Neighbours = nil
	for _, op := range c {
		switch op.Kind {
		case KindIdentity:
			id = deref(op.Value.Identity)
		case KindLoopback:
			out.Loopback = deref(op.Value.Loopback)
		case KindBGP:
			speaker = deref(op.Value.BGP)
		case KindContract:
			out.Contract = deref(op.Value.Contract)
		}
	}
	out.Device, out.Site, out.Role = id.Device, id.Site, id.Role
	out.Circuits = applyList(c, circuits, have.Circuits)
	out.Segments = applyList(c, segments, have.Segments)
	out.Legacy = applyList(c, translations, have.Legacy)
	out.Tunnels = applyList(c, tunnels, have.Tunnels)
	out.BGP = speaker
	out.BGP.Neighbours = applyList(c, neighbours, have.BGP.Neighbours)
	out.Uplinks = applyList(c, uplinks, have.Uplinks)
	out.Classes = applyList(c, classes, have.Classes)
	out.Rules = applyList(c, rules, have.Rules)
	return out
}

// applyList takes away what c removes or replaces and puts what c adds or
// replaces where the wanted list has it.
func applyList[T any](c Change, l list[T], have []T) []T {
	gone := map[string]bool{}
	var put []Op
	for _, op := range c {
		if op.Kind != l.kind {
			continue
		}
		gone[op.Name] = true
		if op.Verb != Del {
			put = append(put, op)
		}
	}
	if len(gone) == 0 {
		return have
	}
	slices.SortStableFunc(put, func(a, b Op) int { return cmp.Compare(a.At, b.At) })
	out := make([]T, 0, len(have)+len(put))
	place := func() {
		for len(put) > 0 && put[0].At <= len(out) {
			out = append(out, deref(*l.field(&put[0].Value)))
			put = put[1:]
		}
	}
	for i, name := range l.names(have) {
		place()
		if !gone[name] {
			out = append(out, have[i])
		}
	}
	place()
	for _, op := range put { // only a change that Diff did not make has any left
		out = append(out, deref(*l.field(&op.Value)))
	}
	return out
}

// deref returns the zero value for nil: a step that deletes has no value.
func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
