package edge

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/wardnet/wardnet/inventory"
)

// list says how one list of a [Config] is compared: what its elements are
// called, where an [Op] carries one, and what changing one interrupts.
type list[T any] struct {
	kind  Kind
	key   func(T) string
	field func(*Value) **T
	// flap is asked for replaced (changed holds the differing fields) and
	// removed (changed is nil) elements; nil: nothing is ever interrupted.
	flap func(peers map[string]inventory.DeviceID, have T, changed []string) string
	// equal says quickly of most equal elements that they are; nil: there is
	// nothing quick to ask.
	equal func(a, b T) bool
}

var (
	circuits = list[Circuit]{
		KindCircuit, func(c Circuit) string { return c.Name }, func(v *Value) **Circuit { return &v.Circuit },
		func(_ map[string]inventory.DeviceID, c Circuit, changed []string) string {
			switch {
			case changed == nil:
				return "will take down circuit " + c.Name
			case anyOf(changed, "port", "addressing", "address", "gateway"):
				return fmt.Sprintf("will interrupt circuit %s and its tunnels", c.Name)
			}
			return ""
		}, nil,
	}
	segments = list[Segment]{
		KindSegment, func(s Segment) string { return string(s.Kind) }, func(v *Value) **Segment { return &v.Segment },
		func(_ map[string]inventory.DeviceID, s Segment, changed []string) string {
			switch {
			case changed == nil:
				return fmt.Sprintf("will take down segment %s", s.Kind)
			case anyOf(changed, "v4", "v6"):
				return fmt.Sprintf("will renumber segment %s: its hosts need new addresses", s.Kind)
			case anyOf(changed, "port"):
				return fmt.Sprintf("will move segment %s from port %s", s.Kind, cmp.Or(s.Port, "none"))
			}
			return "" // leases, DNS and NTP change under running hosts
		}, nil,
	}
	translations = list[Translation]{
		KindLegacy, func(t Translation) string { return string(t.Segment) }, func(v *Value) **Translation { return &v.Legacy },
		func(_ map[string]inventory.DeviceID, t Translation, changed []string) string {
			if changed == nil {
				return fmt.Sprintf("will stop translating %s of segment %s", t.Inside, t.Segment)
			}
			return fmt.Sprintf("will cut the flows of translated hosts in segment %s", t.Segment)
		}, nil,
	}
	uplinks = list[Uplink]{
		KindUplink, func(u Uplink) string { return u.Name }, func(v *Value) **Uplink { return &v.Uplink },
		func(_ map[string]inventory.DeviceID, u Uplink, changed []string) string {
			switch {
			case changed == nil:
				return fmt.Sprintf("will drop BGP to %s over uplink %s", u.Peer, u.Name)
			case anyOf(changed, "port", "local", "peer", "peer_asn"):
				return fmt.Sprintf("will reset BGP to %s over uplink %s", u.Peer, u.Name)
			}
			return "" // what is accepted is policy
		}, nil,
	}
	classes = list[Class]{
		kind: KindClass, key: func(c Class) string { return c.Name }, field: func(v *Value) **Class { return &v.Class },
	}
	tunnels = list[Tunnel]{
		KindTunnel, func(t Tunnel) string { return t.Name }, func(v *Value) **Tunnel { return &v.Tunnel },
		func(_ map[string]inventory.DeviceID, t Tunnel, changed []string) string {
			switch {
			case changed == nil:
				return fmt.Sprintf("will drop BGP to %s over %s", t.Peer, t.Name)
			case anyOf(changed, "kind", "circuit", "peer", "endpoint", "listen_port", "local", "remote"):
				return fmt.Sprintf("will reset BGP to %s over %s", t.Peer, t.Name)
			}
			return "" // MTU, allowed addresses and preference change on a live tunnel
		}, equalTunnels,
	}
	neighbours = list[Neighbour]{
		KindNeighbour, func(n Neighbour) string { return n.Tunnel }, func(v *Value) **Neighbour { return &v.Neighbour },
		func(peers map[string]inventory.DeviceID, n Neighbour, changed []string) string {
			peer := string(peers[n.Tunnel])
			if peer == "" {
				peer = n.Addr.String()
			}
			switch {
			case changed == nil:
				return fmt.Sprintf("will drop BGP to %s over %s", peer, n.Tunnel)
			case anyOf(changed, "addr", "asn"):
				return fmt.Sprintf("will reset BGP to %s over %s", peer, n.Tunnel)
			}
			return "" // preference is policy; BFD timers are renegotiated by a poll sequence (RFC 5880 §6.8.3)
		}, func(a, b Neighbour) bool { return a == b },
	}
	rules = list[Rule]{
		kind: KindRule,
		key: func(r Rule) string {
			if r.From == "" {
				return string(r.Permit)
			}
			return string(r.Permit) + "/" + string(r.From)
		},
		field: func(v *Value) **Rule { return &v.Rule }, equal: equalRules,
	}
)

// Diff returns the [Change] from have to want in a fixed order; equal configs
// give an empty one. A nil list equals an empty one.
func Diff(have, want Config) Change {
	peers := map[string]inventory.DeviceID{}
	for _, t := range have.Tunnels {
		peers[t.Name] = t.Peer
	}
	var c Change
	c = diffOne(c, KindIdentity, Identity{have.Device, have.Site, have.Role}, Identity{want.Device, want.Site, want.Role},
		func(v *Value) **Identity { return &v.Identity }, func(changed []string) string {
			if anyOf(changed, "role") {
				return "will rebuild every tunnel of the device"
			}
			return ""
		})
	c = diffOne(c, KindLoopback, have.Loopback, want.Loopback, func(v *Value) **netip.Addr { return &v.Loopback },
		func([]string) string { return fmt.Sprintf("will move the device's address %s", have.Loopback) })
	c = diffList(c, circuits, have.Circuits, want.Circuits, peers)
	c = diffList(c, segments, have.Segments, want.Segments, peers)
	c = diffList(c, translations, have.Legacy, want.Legacy, peers)
	c = diffList(c, tunnels, have.Tunnels, want.Tunnels, peers)
	speaker := func(b BGP) BGP { b.Neighbours = nil; return b }
	c = diffOne(c, KindBGP, speaker(have.BGP), speaker(want.BGP), func(v *Value) **BGP { return &v.BGP },
		func(changed []string) string {
			if anyOf(changed, "asn", "router_id") {
				return "will reset every BGP session of the device"
			}
			return ""
		})
	c = diffList(c, neighbours, have.BGP.Neighbours, want.BGP.Neighbours, peers)
	c = diffList(c, uplinks, have.Uplinks, want.Uplinks, peers)
	c = diffList(c, classes, have.Classes, want.Classes, peers)
	c = diffList(c, rules, have.Rules, want.Rules, peers)
	return diffOne(c, KindContract, have.Contract, want.Contract, func(v *Value) **Contract { return &v.Contract }, nil)
}

// diffOne compares a part that exists at most once.
func diffOne[T any](c Change, kind Kind, have, want T, field func(*Value) **T, flap func([]string) string) Change {
	reason, changed := differences(have, want)
	if len(changed) == 0 {
		return c
	}
	op := Op{Verb: Set, Kind: kind, Reason: reason}
	hadNone, wantsNone := isZero(have), isZero(want)
	switch {
	case hadNone:
		op.Verb, op.Reason = Add, "wanted, and not on the device"
	case wantsNone:
		op.Verb, op.Reason = Del, "on the device, and not wanted"
	}
	if !wantsNone {
		*field(&op.Value) = &want
	}
	if !hadNone && flap != nil {
		op.Flap = flap(changed)
	}
	return append(c, op)
}

// diffList compares two lists element by element, matched by name.
func diffList[T any](c Change, l list[T], have, want []T, peers map[string]inventory.DeviceID) Change {
	if l.equal != nil && slices.EqualFunc(have, want, l.equal) {
		return c // as most lists of a hub are, which are long
	}
	at := map[string]int{}
	for i, name := range l.names(have) {
		at[name] = i
	}
	last := -1 // index in have of the last element that stays where it is
	for i, name := range l.names(want) {
		op := Op{Verb: Add, Kind: l.kind, Name: name, At: i, Reason: "wanted, and not on the device"}
		if h, ok := at[name]; ok {
			delete(at, name)
			var reason string
			var changed []string
			if l.equal == nil || !l.equal(have[h], want[i]) {
				reason, changed = differences(have[h], want[i])
			}
			switch {
			case len(changed) == 0 && h > last:
				last = h
				continue
			case len(changed) == 0:
				reason = "order"
			case l.flap != nil:
				op.Flap = l.flap(peers, have[h], changed)
			}
			op.Verb, op.Reason = Set, reason
		}
		w := want[i]
		*l.field(&op.Value) = &w
		c = append(c, op)
	}
	for _, name := range l.names(have) {
		h, left := at[name]
		if !left {
			continue
		}
		op := Op{Verb: Del, Kind: l.kind, Name: name, Reason: "on the device, and not wanted"}
		if l.flap != nil {
			op.Flap = l.flap(peers, have[h], nil)
		}
		c = append(c, op)
	}
	return c
}

// names returns the name of each element; a repeated one gets "#2", "#3", … so
// that even a malformed list is matched one to one.
func (l list[T]) names(in []T) []string {
	out := make([]string, len(in))
	taken := make(map[string]bool, len(in))
	for i, e := range in {
		name := l.key(e)
		for n := 2; taken[name]; n++ {
			name = l.key(e) + "#" + strconv.Itoa(n)
		}
		taken[name] = true
		out[i] = name
	}
	return out
}

// differences compares two values of one type field by field. Fields go by
// their JSON names; new fields need no code here.
func differences(have, want any) (reason string, changed []string) {
	h, w := reflect.ValueOf(have), reflect.ValueOf(want)
	if !isRecord(h) {
		if same(h, w) {
			return "", nil
		}
		return fmt.Sprintf("%v → %v", have, want), []string{""}
	}
	var parts []string
	for i := range h.NumField() {
		hf, wf := h.Field(i), w.Field(i)
		if same(hf, wf) {
			continue
		}
		name, _, _ := strings.Cut(h.Type().Field(i).Tag.Get("json"), ",")
		changed = append(changed, name)
		if hp, ok := hf.Interface().([]netip.Prefix); ok {
			parts = append(parts, name+" "+setDifference(hp, wf.Interface().([]netip.Prefix)))
		} else if hf.Kind() == reflect.Slice {
			parts = append(parts, name+" "+setDifference(elements(hf), elements(wf)))
		} else {
			parts = append(parts, fmt.Sprintf("%s %v → %v", name, show(hf), show(wf)))
		}
	}
	return strings.Join(parts, ", "), changed
}

// describe prints the non-zero fields of a value but the one that is its name.
func describe(v any, name string) string {
	r := reflect.ValueOf(v)
	if !r.IsValid() || !isRecord(r) {
		return fmt.Sprint(v)
	}
	var parts []string
	for i := range r.NumField() {
		if f := r.Field(i); !f.IsZero() && (i > 0 || f.String() != name) {
			field, _, _ := strings.Cut(r.Type().Field(i).Tag.Get("json"), ",")
			parts = append(parts, fmt.Sprintf("%s %v", field, show(f)))
		}
	}
	return strings.Join(parts, ", ")
}

// isRecord tells our own structs from values that print themselves.
func isRecord(v reflect.Value) bool {
	_, prints := v.Interface().(fmt.Stringer)
	return v.Kind() == reflect.Struct && !prints
}

func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	if ps, ok := a.Interface().([]netip.Prefix); ok {
		return slices.Equal(ps, b.Interface().([]netip.Prefix))
	}
	if isRecord(a) {
		for i := range a.NumField() {
			if !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// isZero is reflect's, with empty lists counted as nil.
func isZero(v any) bool {
	r := reflect.ValueOf(v)
	if !isRecord(r) {
		return r.IsZero()
	}
	for i := range r.NumField() {
		if f := r.Field(i); !f.IsZero() && (f.Kind() != reflect.Slice || f.Len() > 0) {
			return false
		}
	}
	return true
}

func show(v reflect.Value) any {
	if v.Kind() == reflect.Slice {
		return some(elements(v))
	}
	if v.IsZero() && (v.Kind() == reflect.String || v.Kind() == reflect.Struct) {
		return "none"
	}
	if isRecord(v) {
		return "{" + describe(v.Interface(), "") + "}"
	}
	return v.Interface()
}

func elements(v reflect.Value) []string {
	out := make([]string, v.Len())
	for i := range out {
		if p, ok := v.Index(i).Interface().(inventory.PortRange); ok {
			out[i] = ports(p)
		} else {
			out[i] = fmt.Sprint(v.Index(i).Interface())
		}
	}
	return out
}

func ports(p inventory.PortRange) string {
	switch {
	case p.From == 0 && p.To == 0:
		return string(p.Proto)
	case p.From == p.To:
		return fmt.Sprintf("%s/%d", p.Proto, p.From)
	}
	return fmt.Sprintf("%s/%d-%d", p.Proto, p.From, p.To)
}

func some(parts []string) string {
	const most = 4
	if len(parts) <= most {
		return strings.Join(parts, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(parts[:most], " "), len(parts)-most)
}

func anyOf(changed []string, names ...string) bool {
	return slices.ContainsFunc(changed, func(f string) bool { return slices.Contains(names, f) })
}
