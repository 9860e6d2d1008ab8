package agent

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/openconfig/gnmi/proto/gnmi"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// Origins the agent serves.
const (
	OriginConfig      = "wardnet"             // the whole signed document
	OriginCredentials = "wardnet-credentials" // the whole credential set
	OriginState       = "wardnet-state"       // edge.State, and leaves of our own
	OriginOpenConfig  = "openconfig"
)

// node is one leaf of the schema. Its path is names, with keys (in pairs) on
// the elements of depth keyed.
type node struct {
	origin  string
	names   []string
	counter bool // changes all the time: sampled, never sent on change
	object  object
	value   func(snapshot, string) any // nil: absent now; the argument is the object's name
}

// object is what a leaf is repeated for.
type object int

const (
	perDevice object = iota
	perCircuit
	perTunnel
	perNeighbour // named by its tunnel
	perSegment
)

// leaf is one leaf of the device as configured.
type leaf struct {
	*node
	name string // the object's, in a HostState
	key  string // the object's, in the path
	path *gnmi.Path
}

// tree holds the leaves of one configuration. Elements are shared between
// paths; they are never written after newTree.
type tree struct {
	hash   string
	leaves []*leaf
}

// snapshot is the device at one instant.
type snapshot struct {
	view
	alarms   []string
	host     HostState
	circuits map[string]*CircuitState
	tunnels  map[string]*TunnelState
}

var schema = slices.Concat(
	interfaceNodes(perCircuit, func(s snapshot, name string) (bool, *Counters) {
		if c, ok := s.circuits[name]; ok {
			return c.Up, &c.Counters
		}
		return false, nil
	}),
	interfaceNodes(perTunnel, func(s snapshot, name string) (bool, *Counters) {
		if t, ok := s.tunnels[name]; ok {
			return t.Up, &t.Counters
		}
		return false, nil
	}),
	[]*node{
		{
			origin: OriginOpenConfig, object: perNeighbour,
			names: []string{"network-instances", "network-instance", "protocols", "protocol", "bgp", "neighbors", "neighbor", "state", "session-state"},
			value: ofTunnel(func(t *TunnelState) any { return either(t.BGP, "ESTABLISHED", "IDLE") }),
		},
		{
			origin: OriginOpenConfig, object: perTunnel,
			names: []string{"bfd", "interfaces", "interface", "peers", "peer", "state", "session-state"},
			value: ofTunnel(func(t *TunnelState) any { return either(t.BFD, "UP", "DOWN") }),
		},
		{
			origin: OriginState, object: perSegment,
			names: []string{"segments", "segment", "state", "leases"},
			value: func(s snapshot, kind string) any { return leases(s.host.Leases[inventory.SegmentKind(kind)]) },
		},
		{
			origin: OriginState, object: perCircuit, counter: true,
			names: []string{"circuits", "circuit", "state", "upload-bps"},
			value: func(s snapshot, name string) any {
				if c, ok := s.circuits[name]; ok && c.UploadBPS > 0 {
					return c.UploadBPS
				}
				return nil
			},
		},
		probeNode("loss-ratio", func(p Probe) any { return p.LossRatio }),
		probeNode("latency-ms", func(p Probe) any { return known(p, p.LatencyMS) }),
		probeNode("jitter-ms", func(p Probe) any { return known(p, p.JitterMS) }),
		deviceNode("config-hash", func(s snapshot) any { return s.state.Active().Hash }),
		deviceNode("revision", func(s snapshot) any { return s.state.Active().Revision }),
		deviceNode("config-changes", func(s snapshot) any { return s.turns + s.host.Mended }),
		deviceNode("epoch", func(s snapshot) any { return s.state.Credentials.Epoch }),
		deviceNode("alarms", func(s snapshot) any { return strings.Join(s.alarms, " ") }),
		deviceNode("platform", func(s snapshot) any { return string(s.host.Platform) }),
	},
)

func interfaceNodes(o object, get func(snapshot, string) (bool, *Counters)) []*node {
	nodes := []*node{{
		origin: OriginOpenConfig, object: o,
		names: []string{"interfaces", "interface", "state", "oper-status"},
		value: func(s snapshot, name string) any {
			up, c := get(s, name)
			if c == nil {
				return nil
			}
			return either(up, "UP", "DOWN")
		},
	}}
	for _, counter := range []struct {
		name string
		of   func(*Counters) uint64
	}{
		{"in-octets", func(c *Counters) uint64 { return c.InOctets }},
		{"out-octets", func(c *Counters) uint64 { return c.OutOctets }},
		{"in-pkts", func(c *Counters) uint64 { return c.InPkts }},
		{"out-pkts", func(c *Counters) uint64 { return c.OutPkts }},
		{"in-errors", func(c *Counters) uint64 { return c.InErrors }},
		{"out-discards", func(c *Counters) uint64 { return c.OutDiscards }},
	} {
		nodes = append(nodes, &node{
			origin: OriginOpenConfig, object: o, counter: true,
			names: []string{"interfaces", "interface", "state", "counters", counter.name},
			value: func(s snapshot, name string) any {
				if _, c := get(s, name); c != nil {
					return counter.of(c)
				}
				return nil
			},
		})
	}
	return nodes
}

func probeNode(name string, get func(Probe) any) *node {
	return &node{
		origin: OriginState, object: perTunnel, counter: true,
		names: []string{"tunnels", "tunnel", "state", name},
		value: ofTunnel(func(t *TunnelState) any { return get(t.Probe) }),
	}
}

func deviceNode(name string, get func(snapshot) any) *node {
	return &node{
		origin: OriginState, object: perDevice,
		names: []string{"device", "state", name},
		value: func(s snapshot, _ string) any { return get(s) },
	}
}

func ofTunnel(get func(*TunnelState) any) func(snapshot, string) any {
	return func(s snapshot, name string) any {
		if t, ok := s.tunnels[name]; ok {
			return get(t)
		}
		return nil
	}
}

// leases is a segment's leases as JSON text: they come and go, and the leaves of
// a configuration do not.
func leases(list []Lease) any {
	if len(list) == 0 {
		return "[]"
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic(fmt.Sprintf("agent: leases do not marshal: %v", err)) // plain values only
	}
	return string(b)
}

func either(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

// known hides what a probe cannot know when nothing came back.
func known(p Probe, v float64) any {
	if p.LossRatio >= 1 {
		return nil
	}
	return v
}

// newTree lays out the leaves of run.
func newTree(run edge.Signed) *tree {
	t := &tree{hash: run.Hash}
	for _, n := range schema {
		if n.object == perDevice {
			t.add(n, leaf{}, nil)
		}
	}
	for _, c := range run.Config.Circuits {
		t.addObject(perCircuit, leaf{name: c.Name, key: c.Name}, keyed("interface", "name", c.Name), keyed("circuit", "name", c.Name))
	}
	for _, w := range run.Config.Tunnels {
		t.addObject(perTunnel, leaf{name: w.Name, key: w.Name},
			keyed("interface", "name", w.Name),
			keyed("interface", "id", w.Name),
			keyed("tunnel", "name", w.Name))
	}
	for _, g := range run.Config.Segments {
		if kind := string(g.Kind); g.DHCP.From.IsValid() {
			t.addObject(perSegment, leaf{name: kind, key: kind}, keyed("segment", "kind", kind))
		}
	}
	for _, n := range run.Config.BGP.Neighbours {
		addr := n.Addr.String()
		t.addObject(perNeighbour, leaf{name: n.Tunnel, key: addr}, keyed("neighbor", "neighbor-address", addr))
	}
	return t
}

func keyed(name, key, value string) *gnmi.PathElem {
	return &gnmi.PathElem{Name: name, Key: map[string]string{key: value}}
}

// fixed are the elements that do not depend on the device.
var fixed = func() map[string]*gnmi.PathElem {
	m := map[string]*gnmi.PathElem{
		"network-instance": keyed("network-instance", "name", "default"),
		"protocol":         {Name: "protocol", Key: map[string]string{"identifier": "BGP", "name": "BGP"}},
		"peer":             keyed("peer", "local-discriminator", "1"),
	}
	for _, n := range schema {
		for _, name := range n.names {
			if m[name] == nil {
				m[name] = &gnmi.PathElem{Name: name}
			}
		}
	}
	return m
}()

func (t *tree) addObject(o object, of leaf, elems ...*gnmi.PathElem) {
	for _, n := range schema {
		if n.object == o {
			t.add(n, of, elems)
		}
	}
}

func (t *tree) add(n *node, of leaf, own []*gnmi.PathElem) {
	path := make([]*gnmi.PathElem, len(n.names))
	for i, elem := range n.names {
		path[i] = fixed[elem]
		for _, o := range own {
			// BFD lists interfaces by id, interfaces list them by name.
			if o.Name == elem && (o.Key["id"] != "") == (n.names[0] == "bfd") {
				path[i] = o
			}
		}
	}
	of.node, of.path = n, &gnmi.Path{Elem: path}
	t.leaves = append(t.leaves, &of)
}
