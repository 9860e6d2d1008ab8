package telemetry

import (
	"strings"

	gpb "github.com/openconfig/gnmi/proto/gnmi"
)

// Origins of the paths that the agent publishes.
const (
	originOpenConfig = "openconfig"
	originState      = "wardnet-state"
)

// leaf is what a path means to us.
type leaf struct {
	metric, object string
	// up is the state name that counts as 1; empty for numbers.
	up string
}

var counterLeaves = map[string]string{
	"in-octets": InOctets, "out-octets": OutOctets, "in-pkts": InPkts, "out-pkts": OutPkts,
	"in-errors": InErrors, "out-discards": OutDiscards,
}

var tunnelLeaves = map[string]string{"loss-ratio": TunnelLoss, "latency-ms": TunnelLatency, "jitter-ms": TunnelJitter}

var deviceLeaves = map[string]string{"revision": ConfigRevision, "epoch": CredentialsEpoch, "config-changes": ConfigChanges}

// isTunnel tells a tunnel's interface from a circuit's: a tunnel is named
// "<edge circuit>--<hub device>".
func isTunnel(name string) bool { return strings.Contains(name, "--") }

// resolve maps a whole path (prefix and path joined) to its meaning; ok is
// false for paths that carry no metric of ours. It runs once per path and
// stream, so it may allocate.
func resolve(origin string, elems []*gpb.PathElem) (l leaf, ok bool) {
	name := func(i int) string {
		if i < len(elems) {
			return elems[i].GetName()
		}
		return ""
	}
	n := len(elems)
	switch {
	case origin == originState && name(0) == "tunnels" && n == 4:
		m, ok := tunnelLeaves[name(3)]
		return leaf{metric: m, object: elems[1].GetKey()["name"]}, ok
	case origin == originState && name(0) == "device" && n == 3:
		m, ok := deviceLeaves[name(2)]
		return leaf{metric: m}, ok
	case origin == originState || origin != originOpenConfig && origin != "":
		return leaf{}, false
	case name(0) == "interfaces" && n == 4 && name(3) == "oper-status":
		object := elems[1].GetKey()["name"]
		if isTunnel(object) {
			return leaf{metric: TunnelUp, object: object, up: "UP"}, true
		}
		return leaf{metric: CircuitUp, object: object, up: "UP"}, true
	case name(0) == "interfaces" && n == 5 && name(3) == "counters":
		m, ok := counterLeaves[name(4)]
		return leaf{metric: m, object: elems[1].GetKey()["name"]}, ok
	case name(0) == "network-instances" && n == 9 && name(6) == "neighbor" && name(8) == "session-state":
		return leaf{metric: BGPUp, object: elems[6].GetKey()["neighbor-address"], up: "ESTABLISHED"}, true
	case name(0) == "bfd" && n == 7 && name(6) == "session-state":
		return leaf{metric: BFDUp, object: elems[2].GetKey()["id"], up: "UP"}, true
	}
	return leaf{}, false
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func hashString(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return (h ^ 0xff) * fnvPrime // so that "ab","c" differs from "a","bc"
}

// hashElems continues h over elems without building a string. The keys of one
// element are summed, for a map has no order.
func hashElems(h uint64, elems []*gpb.PathElem) uint64 {
	for _, e := range elems {
		h = hashString(h, e.GetName())
		var keys uint64
		for k, v := range e.GetKey() {
			keys += hashString(hashString(fnvOffset, k), v)
		}
		h = (h ^ keys) * fnvPrime
	}
	return h
}

// hashPath hashes origin, prefix and path as one.
func hashPath(origin string, prefix, path []*gpb.PathElem) uint64 {
	return hashElems(hashElems(hashString(fnvOffset, origin), prefix), path)
}

// samePath guards against a collision of hashes: whole was interned as prefix
// and path joined.
func samePath(whole, prefix, path []*gpb.PathElem) bool {
	if len(whole) != len(prefix)+len(path) {
		return false
	}
	for i, w := range whole {
		var e *gpb.PathElem
		if i < len(prefix) {
			e = prefix[i]
		} else {
			e = path[i-len(prefix)]
		}
		if w.GetName() != e.GetName() || len(w.GetKey()) != len(e.GetKey()) {
			return false
		}
		for k, v := range w.GetKey() {
			if other, ok := e.GetKey()[k]; !ok || other != v { // an absent key is not an empty value
				return false
			}
		}
	}
	return true
}

// number reads a value: a number as it is, a state name as 1 when it equals up.
func number(v *gpb.TypedValue, up string) (float64, bool) {
	switch t := v.GetValue().(type) {
	case *gpb.TypedValue_UintVal:
		return float64(t.UintVal), true
	case *gpb.TypedValue_IntVal:
		return float64(t.IntVal), true
	case *gpb.TypedValue_DoubleVal:
		return t.DoubleVal, true
	case *gpb.TypedValue_BoolVal:
		if t.BoolVal {
			return 1, true
		}
		return 0, true
	case *gpb.TypedValue_StringVal:
		switch {
		case up == "":
			return 0, false
		case t.StringVal == up:
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

// subscriptions are what we ask every device for.
func subscriptions(cfg Config) *gpb.SubscriptionList {
	path := func(origin string, elems ...*gpb.PathElem) *gpb.Path { return &gpb.Path{Origin: origin, Elem: elems} }
	el := func(name string, kv ...string) *gpb.PathElem {
		e := &gpb.PathElem{Name: name}
		if len(kv) > 0 {
			e.Key = map[string]string{}
			for i := 0; i+1 < len(kv); i += 2 {
				e.Key[kv[i]] = kv[i+1]
			}
		}
		return e
	}
	onChange := func(p *gpb.Path) *gpb.Subscription {
		return &gpb.Subscription{Path: p, Mode: gpb.SubscriptionMode_ON_CHANGE, HeartbeatInterval: uint64(cfg.Heartbeat)}
	}
	sample := func(p *gpb.Path) *gpb.Subscription {
		return &gpb.Subscription{Path: p, Mode: gpb.SubscriptionMode_SAMPLE, SampleInterval: uint64(cfg.SampleInterval)}
	}
	return &gpb.SubscriptionList{
		Mode: gpb.SubscriptionList_STREAM, Encoding: gpb.Encoding_PROTO,
		Subscription: []*gpb.Subscription{
			onChange(path(originOpenConfig, el("interfaces"), el("interface", "name", "*"), el("state"), el("oper-status"))),
			onChange(path(originOpenConfig, el("network-instances"), el("network-instance", "name", "default"), el("protocols"),
				el("protocol", "identifier", "BGP", "name", "BGP"), el("bgp"), el("neighbors"),
				el("neighbor", "neighbor-address", "*"), el("state"), el("session-state"))),
			onChange(path(originOpenConfig, el("bfd"), el("interfaces"), el("interface", "id", "*"), el("peers"),
				el("peer", "local-discriminator", "*"), el("state"), el("session-state"))),
			onChange(path(originState, el("device"), el("state"))),
			sample(path(originOpenConfig, el("interfaces"), el("interface", "name", "*"), el("state"), el("counters"))),
			sample(path(originState, el("tunnels"), el("tunnel", "name", "*"), el("state"))),
		},
	}
}
