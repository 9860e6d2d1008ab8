package gnmibox

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/openconfig/gnmi/proto/gnmi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var errDown = status.Error(codes.Unavailable, "rebooting")

func (d *Device) isDown() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.down
}

// Capabilities implements gNMI.
func (d *Device) Capabilities(context.Context, *gnmi.CapabilityRequest) (*gnmi.CapabilityResponse, error) {
	if d.isDown() {
		return nil, errDown
	}
	if d.NoCapabilities {
		return nil, status.Error(codes.Unimplemented, "no such RPC")
	}
	resp := &gnmi.CapabilityResponse{GNMIVersion: "0.10.0", SupportedEncodings: []gnmi.Encoding{gnmi.Encoding_JSON, gnmi.Encoding_JSON_IETF}}
	if d.Tells {
		for _, m := range []string{"interfaces", "network-instance", "acl", "bfd", "routing-policy", "platform"} {
			if !slices.Contains(d.Lacks, m) {
				resp.SupportedModels = append(resp.SupportedModels, &gnmi.ModelData{Name: "openconfig-" + m, Organization: "OpenConfig working group", Version: "1.0.0"})
			}
		}
	}
	if d.Encoding != "" {
		resp.SupportedEncodings = []gnmi.Encoding{gnmi.Encoding(gnmi.Encoding_value[d.Encoding])}
	}
	return resp, nil
}

func (d *Device) takes(e gnmi.Encoding) error {
	if d.Encoding != "" && e.String() != d.Encoding || e != gnmi.Encoding_JSON && e != gnmi.Encoding_JSON_IETF {
		return status.Errorf(codes.Unimplemented, "encoding %s is not supported", e)
	}
	return nil
}

// locate checks prefix and path and returns the elements.
func (d *Device) locate(prefix, p *gnmi.Path) ([]*gnmi.PathElem, error) {
	origin := prefix.GetOrigin() + p.GetOrigin()
	if want := map[bool]string{true: "", false: "openconfig"}[d.EmptyOrigin]; origin != want {
		return nil, status.Errorf(codes.InvalidArgument, "unknown origin %q", origin)
	}
	if prefix.GetTarget() != d.Target {
		return nil, status.Errorf(codes.InvalidArgument, "target %q is not this device", prefix.GetTarget())
	}
	return append(append([]*gnmi.PathElem{}, prefix.GetElem()...), p.GetElem()...), nil
}

// answer is what the device tells of a path.
func (d *Device) answer(prefix, p *gnmi.Path, kind gnmi.GetRequest_DataType) (*gnmi.Notification, error) {
	elems, err := d.locate(prefix, p)
	if err != nil {
		return nil, err
	}
	if len(elems) > 0 && slices.Contains(d.Lacks, elems[0].GetName()) {
		if d.Tells {
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
	note := &gnmi.Notification{Timestamp: time.Now().UnixNano(), Prefix: &gnmi.Path{Target: d.Target}}
	if err != nil || len(at) == 0 {
		if d.NoNotFound {
			return note, nil
		}
		return nil, status.Errorf(codes.NotFound, "no data at %v", names(elems))
	}
	sc := d.schema.at(names(elems)...)
	emit := func(elems []*gnmi.PathElem, sc *schema, v any) {
		note.Update = append(note.Update, &gnmi.Update{Path: &gnmi.Path{Origin: p.GetOrigin(), Elem: elems}, Val: d.typed(elems, sc, v)})
	}
	switch d.Form {
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
func (d *Device) typed(elems []*gnmi.PathElem, sc *schema, v any) *gnmi.TypedValue {
	switch v := v.(type) {
	case string:
		return &gnmi.TypedValue{Value: &gnmi.TypedValue_StringVal{StringVal: named(nil, "", v, d.Names == "bare").(string)}}
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
	out := named(sc, "", v, d.Names == "bare")
	if d.Form == "wrapped" && sc != nil {
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
	if d.Encoding == "JSON" {
		return &gnmi.TypedValue{Value: &gnmi.TypedValue_JsonVal{JsonVal: b}}
	}
	return &gnmi.TypedValue{Value: &gnmi.TypedValue_JsonIetfVal{JsonIetfVal: b}}
}

// sessionOf is the state of a neighbour's session; d.mu is held.
func (d *Device) sessionOf(addr string) string {
	if d.session == nil {
		return "ESTABLISHED"
	}
	return d.session(addr)
}

// operational is the configuration with the state that the driver asks for: BGP
// sessions as d.session says, and BFD with each neighbour is up. d.mu is held.
func (d *Device) operational() *Store {
	s := d.config.Clone()
	s.root["components"] = map[string]any{"component": []any{
		map[string]any{"name": "fan1", "state": map[string]any{"type": "openconfig-platform-types:FAN", "serial-no": "F-1"}},
		map[string]any{"name": "chassis", "state": map[string]any{"type": "openconfig-platform-types:CHASSIS", "serial-no": d.Serial}},
	}}
	if d.Serial == "" {
		delete(s.root, "components")
	}
	var peers []any
	walk(s.root, func(name string, m map[string]any) {
		if addr, ok := m["neighbor-address"]; ok && name == "neighbor" {
			m["state"] = map[string]any{"neighbor-address": addr, "session-state": d.sessionOf(fmt.Sprint(addr))}
			if d.Mute {
				delete(m, "state")
			}
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

// Get implements gNMI.
func (d *Device) Get(_ context.Context, req *gnmi.GetRequest) (*gnmi.GetResponse, error) {
	d.mu.Lock()
	noGet := d.NoGet
	d.mu.Unlock()
	if d.isDown() {
		return nil, errDown
	}
	if noGet {
		return nil, status.Error(codes.Unimplemented, "no such RPC")
	}
	if err := d.takes(req.GetEncoding()); err != nil {
		return nil, err
	}
	if d.AnyType && req.GetType() != gnmi.GetRequest_ALL {
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

// Subscribe implements gNMI, ONCE only.
func (d *Device) Subscribe(stream gnmi.GNMI_SubscribeServer) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	if d.isDown() {
		return errDown
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
	d.mu.Lock()
	cut := d.cut
	d.mu.Unlock()
	if cut {
		return nil
	}
	return stream.Send(&gnmi.SubscribeResponse{Response: &gnmi.SubscribeResponse_SyncResponse{SyncResponse: true}})
}
