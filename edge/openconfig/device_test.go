package openconfig

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/openconfig/gnmi/proto/gnmi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// habits are how one simulated device differs from another.
type habits struct {
	noGet, noCapabilities bool
	encoding              string // the only one it takes, "JSON" or "JSON_IETF"; "": both
	names                 string // "modules": wants them, "bare": knows none, "": either
	commit                bool   // has Commit Confirmed; else the extension is ignored
	refusesExtensions     bool
	emptyOrigin           bool   // paths have origin ""; else "openconfig"
	target                string // every prefix must have it
	form                  string // "leaves", "mixed", "wrapped"; "": subtrees
	noNotFound            bool   // says nothing of what it does not have
	anyType               bool   // Get knows no type
	maxMessage            int
	lacks                 []string // of acl, bfd, routing-policy
	tells                 bool     // Capabilities lists its models
	more                  bool     // of habits that other devices have, too
	serial                string
}

// device is a simulated device: a gNMI server (specification 0.10) over TLS
// with client certificates, on a generic JSON tree that the OpenConfig models
// guard. It shares no code with the driver.
type device struct {
	gnmi.UnimplementedGNMIServer
	habits
	schema *schema

	mu      sync.Mutex
	config  *store
	state   *store // operational, of stateOf
	stateOf *store
	trial   *store // what a commit on trial returns to; nil: none
	id      string
	timer   *time.Timer
	sets    int

	// spoil, when not nil, changes what an answer says; fail, when not nil, is
	// asked for each Set with a change before ("before") and after it was
	// carried out.
	spoil func(*gnmi.Notification)
	fail  func(when string, req *gnmi.SetRequest) error
	down  bool // answers nothing
	cut   bool // a subscription ends before the sync
}

// factory is what every device has that is not ours.
const factory = `{
 "interfaces": {"interface": [
  {"name": "mgmt0", "config": {"name": "mgmt0", "type": "iana-if-type:ethernetCsmacd", "description": "out-of-band", "mtu": 1500, "enabled": true},
   "subinterfaces": {"subinterface": [{"index": 0, "config": {"index": 0}, "ipv4": {"addresses": {"address": [{"ip": "192.0.2.10", "config": {"ip": "192.0.2.10", "prefix-length": 24}}]}}}]}},
  {"name": "eth1", "config": {"name": "eth1", "type": "iana-if-type:ethernetCsmacd", "mtu": 9000}, "subinterfaces": {"subinterface": [{"index": 0, "config": {"index": 0}}]}},
  {"name": "eth2", "config": {"name": "eth2", "type": "iana-if-type:ethernetCsmacd", "description": "lab bench, do not touch"}, "subinterfaces": {"subinterface": [{"index": 0, "config": {"index": 0}, "ipv4": {"addresses": {"address": [{"ip": "198.51.100.1", "config": {"ip": "198.51.100.1", "prefix-length": 24}}]}}}]}},
  {"name": "eth3", "config": {"name": "eth3", "type": "iana-if-type:ethernetCsmacd"}, "subinterfaces": {"subinterface": [{"index": 0, "config": {"index": 0}}]}}
 ]},
 "acl": {"acl-sets": {"acl-set": [
   {"name": "mgmt-only", "type": "openconfig-acl:ACL_IPV4", "config": {"name": "mgmt-only", "type": "openconfig-acl:ACL_IPV4"},
    "acl-entries": {"acl-entry": [{"sequence-id": 5, "config": {"sequence-id": 5}, "ipv4": {"config": {"source-address": "192.0.2.0/24", "dscp": 8}}, "actions": {"config": {"forwarding-action": "openconfig-acl:ACCEPT"}}}]}}]},
  "interfaces": {"interface": [{"id": "mgmt0", "config": {"id": "mgmt0"}, "interface-ref": {"config": {"interface": "mgmt0", "subinterface": 0}},
   "ingress-acl-sets": {"ingress-acl-set": [{"set-name": "mgmt-only", "type": "openconfig-acl:ACL_IPV4", "config": {"set-name": "mgmt-only", "type": "openconfig-acl:ACL_IPV4"}}]}}]}},
 "routing-policy": {"defined-sets": {"prefix-sets": {"prefix-set": [{"name": "bogons", "config": {"name": "bogons", "mode": "IPV4"},
   "prefixes": {"prefix": [{"ip-prefix": "192.0.2.0/24", "masklength-range": "24..32", "config": {"ip-prefix": "192.0.2.0/24", "masklength-range": "24..32"}}]}}]}},
  "policy-definitions": {"policy-definition": [{"name": "keep-out", "config": {"name": "keep-out"}, "statements": {"statement": [{"name": "1", "config": {"name": "1"}, "actions": {"config": {"policy-result": "REJECT_ROUTE"}}}]}}]}},
 "network-instances": {"network-instance": [{"name": "DEFAULT", "config": {"name": "DEFAULT", "type": "openconfig-network-instance-types:DEFAULT_INSTANCE"},
  "protocols": {"protocol": [{"identifier": "openconfig-policy-types:STATIC", "name": "DEFAULT", "config": {"identifier": "openconfig-policy-types:STATIC", "name": "DEFAULT"},
   "static-routes": {"static": [{"prefix": "192.0.2.128/25", "config": {"prefix": "192.0.2.128/25"}, "next-hops": {"next-hop": [{"index": "0", "config": {"index": "0", "next-hop": "192.0.2.1"}}]}}]}}]}}]}
}`

func newDevice(t testing.TB, h habits) *device {
	t.Helper()
	v, err := parse([]byte(factory))
	must(t, err)
	sc := models(t)
	sc = &schema{Nodes: maps.Clone(sc.Nodes)}
	root := v.(map[string]any)
	for _, m := range h.lacks {
		delete(sc.Nodes, m)
		delete(root, m)
	}
	d := &device{habits: h, schema: sc, config: &store{sc, root}}
	must(t, sc.validate(&trail{data: d.config.root}))
	return d
}

// text is the whole configuration, to compare.
func (d *device) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config.text()
}

// edit changes the configuration behind the driver's back.
func (d *device) edit(t testing.TB, fn func(*store)) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	fn(d.config)
	d.state = nil
	must(t, d.schema.validate(&trail{data: d.config.root}))
}

func (d *device) Capabilities(context.Context, *gnmi.CapabilityRequest) (*gnmi.CapabilityResponse, error) {
	if d.noCapabilities {
		return nil, status.Error(codes.Unimplemented, "no such RPC")
	}
	resp := &gnmi.CapabilityResponse{GNMIVersion: "0.10.0", SupportedEncodings: []gnmi.Encoding{gnmi.Encoding_JSON, gnmi.Encoding_JSON_IETF}}
	if d.tells {
		for _, m := range []string{"interfaces", "network-instance", "acl", "bfd", "routing-policy", "platform"} {
			if !slices.Contains(d.lacks, m) {
				resp.SupportedModels = append(resp.SupportedModels, &gnmi.ModelData{Name: "openconfig-" + m, Organization: "OpenConfig working group", Version: "1.0.0"})
			}
		}
	}
	if d.encoding != "" {
		resp.SupportedEncodings = []gnmi.Encoding{gnmi.Encoding(gnmi.Encoding_value[d.encoding])}
	}
	return resp, nil
}

func (d *device) takes(e gnmi.Encoding) error {
	if d.encoding != "" && e.String() != d.encoding || e != gnmi.Encoding_JSON && e != gnmi.Encoding_JSON_IETF {
		return status.Errorf(codes.Unimplemented, "encoding %s is not supported", e)
	}
	return nil
}

// locate checks prefix and path and returns the elements.
func (d *device) locate(prefix, p *gnmi.Path) ([]*gnmi.PathElem, error) {
	origin := prefix.GetOrigin() + p.GetOrigin()
	if want := map[bool]string{true: "", false: "openconfig"}[d.emptyOrigin]; origin != want {
		return nil, status.Errorf(codes.InvalidArgument, "unknown origin %q", origin)
	}
	if prefix.GetTarget() != d.target {
		return nil, status.Errorf(codes.InvalidArgument, "target %q is not this device", prefix.GetTarget())
	}
	return append(append([]*gnmi.PathElem{}, prefix.GetElem()...), p.GetElem()...), nil
}

// answer is what the device tells of a path.
func (d *device) answer(prefix, p *gnmi.Path, kind gnmi.GetRequest_DataType) (*gnmi.Notification, error) {
	elems, err := d.locate(prefix, p)
	if err != nil {
		return nil, err
	}
	if len(elems) > 0 && slices.Contains(d.lacks, elems[0].GetName()) {
		if d.tells {
			return nil, status.Errorf(codes.NotFound, "no data at %v", names(elems))
		}
		return nil, status.Errorf(codes.InvalidArgument, "no model for %v", names(elems))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.config
	if kind != gnmi.GetRequest_CONFIG {
		if d.state == nil || d.stateOf != d.config {
			d.state, d.stateOf = d.operational(), d.config
		}
		all = d.state
	}
	at, err := all.descend(elems, false)
	note := &gnmi.Notification{Timestamp: time.Now().UnixNano(), Prefix: &gnmi.Path{Target: d.target}}
	if err != nil || len(at) == 0 {
		if d.noNotFound {
			return note, nil
		}
		return nil, status.Errorf(codes.NotFound, "no data at %v", names(elems))
	}
	sc := d.schema.at(names(elems)...)
	emit := func(elems []*gnmi.PathElem, sc *schema, v any) {
		note.Update = append(note.Update, &gnmi.Update{Path: &gnmi.Path{Origin: p.GetOrigin(), Elem: elems}, Val: d.typed(elems, sc, v)})
	}
	switch d.form {
	case "leaves":
		leaves(elems, sc, at, func(string) bool { return false }, emit)
	case "mixed":
		leaves(elems, sc, at, func(name string) bool { return name == "config" || name == "statements" }, emit)
	default:
		emit(elems, sc, at)
	}
	if d.spoil != nil {
		d.spoil(note)
	}
	return note, nil
}

// typed is v as a gNMI value: objects as JSON, leaves as scalars.
func (d *device) typed(elems []*gnmi.PathElem, sc *schema, v any) *gnmi.TypedValue {
	switch v := v.(type) {
	case string:
		return &gnmi.TypedValue{Value: &gnmi.TypedValue_StringVal{StringVal: named(nil, "", v, d.names == "bare").(string)}}
	case bool:
		return &gnmi.TypedValue{Value: &gnmi.TypedValue_BoolVal{BoolVal: v}}
	case json.Number:
		var n uint64
		if _, err := fmt.Sscan(v.String(), &n); err != nil {
			panic(err)
		}
		return &gnmi.TypedValue{Value: &gnmi.TypedValue_UintVal{UintVal: n}}
	case []any:
		list := &gnmi.ScalarArray{}
		for _, e := range v {
			list.Element = append(list.Element, d.typed(nil, nil, e))
		}
		return &gnmi.TypedValue{Value: &gnmi.TypedValue_LeaflistVal{LeaflistVal: list}}
	}
	out := named(sc, "", v, d.names == "bare")
	if d.form == "wrapped" && sc != nil {
		last := elems[len(elems)-1]
		if name := sc.Module + ":" + last.GetName(); len(last.GetKey()) > 0 {
			out = map[string]any{name: []any{out}}
		} else {
			out = map[string]any{name: out}
		}
	}
	b, err := json.Marshal(out)
	if err != nil {
		panic(err)
	}
	if d.encoding == "JSON" {
		return &gnmi.TypedValue{Value: &gnmi.TypedValue_JsonVal{JsonVal: b}}
	}
	return &gnmi.TypedValue{Value: &gnmi.TypedValue_JsonIetfVal{JsonIetfVal: b}}
}

// operational is the configuration with the state that the driver asks for:
// every BGP session is established, and BFD with each neighbour is up.
func (d *device) operational() *store {
	s := d.config.clone()
	s.root["components"] = map[string]any{"component": []any{
		map[string]any{"name": "fan1", "state": map[string]any{"type": "openconfig-platform-types:FAN", "serial-no": "F-1"}},
		map[string]any{"name": "chassis", "state": map[string]any{"type": "openconfig-platform-types:CHASSIS", "serial-no": d.serial}},
	}}
	if d.serial == "" {
		delete(s.root, "components")
	}
	var peers []any
	walk(s.root, func(name string, m map[string]any) {
		if addr, ok := m["neighbor-address"]; ok && name == "neighbor" {
			m["state"] = map[string]any{"neighbor-address": addr, "session-state": "ESTABLISHED"}
			peers = append(peers, map[string]any{"local-discriminator": fmt.Sprint(len(peers)), "state": map[string]any{"remote-address": addr, "session-state": "UP"}})
		}
	})
	walk(s.root, func(name string, m map[string]any) {
		if list, ok := m["interface"].([]any); ok && name == "interfaces" {
			for _, i := range list {
				if bfd, ok := i.(map[string]any); ok && bfd["id"] != nil && bfd["config"].(map[string]any)["detection-multiplier"] != nil {
					bfd["peers"] = map[string]any{"peer": peers}
				}
			}
		}
	})
	return s
}

func walk(v any, visit func(string, map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if m, ok := inner.(map[string]any); ok {
				visit(name, m)
			}
			if list, ok := inner.([]any); ok {
				for _, e := range list {
					if m, ok := e.(map[string]any); ok {
						visit(name, m)
					}
				}
			}
			walk(inner, visit)
		}
	case []any:
		for _, e := range v {
			walk(e, visit)
		}
	}
}

func (d *device) Get(_ context.Context, req *gnmi.GetRequest) (*gnmi.GetResponse, error) {
	d.mu.Lock()
	down, noGet := d.down, d.noGet
	d.mu.Unlock()
	if down {
		return nil, status.Error(codes.Unavailable, "rebooting")
	}
	if noGet {
		return nil, status.Error(codes.Unimplemented, "no such RPC")
	}
	if err := d.takes(req.GetEncoding()); err != nil {
		return nil, err
	}
	if d.anyType && req.GetType() != gnmi.GetRequest_ALL {
		return nil, status.Errorf(codes.Unimplemented, "type %s is not supported", req.GetType())
	}
	resp := &gnmi.GetResponse{}
	for _, p := range req.GetPath() {
		note, err := d.answer(req.GetPrefix(), p, req.GetType())
		if err != nil {
			return nil, err
		}
		resp.Notification = append(resp.Notification, note)
	}
	return resp, nil
}

func (d *device) Subscribe(stream gnmi.GNMI_SubscribeServer) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	sub := req.GetSubscribe()
	if sub.GetMode() != gnmi.SubscriptionList_ONCE {
		return status.Error(codes.Unimplemented, "the simulated device has ONCE only")
	}
	if err := d.takes(sub.GetEncoding()); err != nil {
		return err
	}
	for _, s := range sub.GetSubscription() {
		note, err := d.answer(sub.GetPrefix(), s.GetPath(), gnmi.GetRequest_ALL)
		if err != nil {
			return err
		}
		if err := stream.Send(&gnmi.SubscribeResponse{Response: &gnmi.SubscribeResponse_Update{Update: note}}); err != nil {
			return err
		}
	}
	if d.cut {
		return nil
	}
	return stream.Send(&gnmi.SubscribeResponse{Response: &gnmi.SubscribeResponse_SyncResponse{SyncResponse: true}})
}
