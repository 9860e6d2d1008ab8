package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/openconfig/gnmi/proto/gnmi"
	"github.com/openconfig/gnmi/proto/gnmi_ext"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/commit"
	"github.com/wardnet/wardnet/edge/yang"
	"github.com/wardnet/wardnet/inventory"
)

// Register adds the agent's gNMI service to s.
func (a *Agent) Register(s *grpc.Server) { gnmi.RegisterGNMIServer(s, &server{agent: a}) }

// server speaks gNMI for an agent.
type server struct {
	gnmi.UnimplementedGNMIServer
	agent *Agent
}

// Capabilities implements gnmi.GNMIServer.
func (s *server) Capabilities(context.Context, *gnmi.CapabilityRequest) (*gnmi.CapabilityResponse, error) {
	return &gnmi.CapabilityResponse{
		SupportedModels: []*gnmi.ModelData{
			{Name: "wardnet", Organization: "Wardnet", Version: yang.Version},
			{Name: "openconfig-interfaces", Organization: "OpenConfig working group", Version: "3.0.0"},
			{Name: "openconfig-network-instance", Organization: "OpenConfig working group", Version: "4.0.0"},
			{Name: "openconfig-bfd", Organization: "OpenConfig working group", Version: "0.3.0"},
		},
		SupportedEncodings: []gnmi.Encoding{gnmi.Encoding_JSON_IETF, gnmi.Encoding_JSON, gnmi.Encoding_PROTO},
		GNMIVersion:        "0.10.0",
	}, nil
}

// Get implements gnmi.GNMIServer.
func (s *server) Get(ctx context.Context, req *gnmi.GetRequest) (*gnmi.GetResponse, error) {
	var enc encoder
	switch e := req.GetEncoding(); e {
	case gnmi.Encoding_PROTO:
		enc = scalar
	case gnmi.Encoding_JSON, gnmi.Encoding_JSON_IETF:
		enc = jsonIETF
	default:
		return nil, status.Errorf(codes.Unimplemented, "get: encoding %s; use JSON_IETF or PROTO", e)
	}
	resp := &gnmi.GetResponse{}
	for _, path := range req.GetPath() {
		p, err := newPattern(req.GetPrefix(), path)
		if err != nil {
			return nil, err
		}
		n, err := s.get(ctx, p, enc)
		if err != nil {
			return nil, toStatus(err)
		}
		resp.Notification = append(resp.Notification, n)
	}
	return resp, nil
}

func (s *server) get(ctx context.Context, p pattern, enc encoder) (*gnmi.Notification, error) {
	if len(p.elems) == 0 && p.origin != OriginOpenConfig {
		return s.getDocument(ctx, p.origin)
	}
	if _, err := p.nodes(); err != nil {
		return nil, err
	}
	snap, err := s.agent.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	n := &gnmi.Notification{Timestamp: snap.host.At.UnixNano(), Prefix: &gnmi.Path{Origin: p.origin}}
	for _, l := range p.selects(snap.tree, func(*leaf) bool { return true }) {
		if v := l.value(snap, l.name); v != nil {
			n.Update = append(n.Update, &gnmi.Update{Path: l.path, Val: enc(v)})
		}
	}
	return n, nil
}

func (s *server) getDocument(ctx context.Context, origin string) (*gnmi.Notification, error) {
	var doc any
	switch origin {
	case OriginConfig:
		doc = s.agent.Running()
	case OriginCredentials:
		doc = s.agent.look().state.Credentials
	case OriginState:
		st, err := s.agent.State(ctx)
		if err != nil {
			return nil, err
		}
		doc = st
	default:
		return nil, status.Errorf(codes.InvalidArgument, "get: unknown origin %q", origin)
	}
	return &gnmi.Notification{
		Timestamp: time.Now().UnixNano(),
		Prefix:    &gnmi.Path{Origin: origin},
		Update:    []*gnmi.Update{{Path: &gnmi.Path{}, Val: jsonIETF(doc)}},
	}, nil
}

// Set implements gnmi.GNMIServer: one document, or one word on a commit.
func (s *server) Set(ctx context.Context, req *gnmi.SetRequest) (*gnmi.SetResponse, error) {
	ext, err := commitOf(req.GetExtension())
	if err != nil {
		return nil, err
	}
	resp := &gnmi.SetResponse{Prefix: req.GetPrefix()}
	if ext.GetAction() != nil && ext.GetCommit() == nil {
		if len(req.GetDelete())+len(req.GetReplace())+len(req.GetUpdate())+len(req.GetUnionReplace()) > 0 {
			return nil, status.Error(codes.InvalidArgument, "set: a Confirm, Cancel or SetRollbackDuration carries no operation")
		}
		err = s.word(ctx, ext)
	} else {
		resp.Response, err = s.write(ctx, req, ext)
	}
	if err != nil {
		return nil, toStatus(err)
	}
	resp.Timestamp = time.Now().UnixNano()
	return resp, nil
}

// word carries out an action on the commit in flight.
func (s *server) word(ctx context.Context, ext *gnmi_ext.Commit) error {
	id := edge.CommitID(ext.GetId())
	switch act := ext.GetAction().(type) {
	case *gnmi_ext.Commit_Confirm:
		return s.agent.Confirm(ctx, id)
	case *gnmi_ext.Commit_Cancel:
		return s.agent.Cancel(ctx, id)
	case *gnmi_ext.Commit_SetRollbackDuration:
		return s.agent.Extend(ctx, id, act.SetRollbackDuration.GetRollbackDuration().AsDuration())
	default:
		return status.Errorf(codes.Unimplemented, "set: commit action %T", act)
	}
}

// write carries out the one operation of req.
func (s *server) write(ctx context.Context, req *gnmi.SetRequest, ext *gnmi_ext.Commit) ([]*gnmi.UpdateResult, error) {
	ops := append(append([]*gnmi.Update{}, req.GetReplace()...), req.GetUpdate()...)
	if len(ops) != 1 || len(req.GetDelete())+len(req.GetUnionReplace()) > 0 {
		return nil, status.Error(codes.InvalidArgument, "set: send exactly one replace or update of one whole document")
	}
	p, err := newPattern(req.GetPrefix(), ops[0].GetPath())
	if err != nil {
		return nil, err
	}
	result := &gnmi.UpdateResult{Path: ops[0].GetPath(), Op: gnmi.UpdateResult_UPDATE}
	if len(req.GetReplace()) > 0 {
		result.Op = gnmi.UpdateResult_REPLACE
	}
	switch {
	case len(p.elems) > 0:
		err = status.Errorf(codes.InvalidArgument, "set %s: only whole documents can be set; leave the path empty", p)
	case p.origin == OriginConfig && result.Op != gnmi.UpdateResult_REPLACE:
		err = status.Errorf(codes.InvalidArgument, "set %s: the document is replaced, not updated", p)
	case p.origin == OriginConfig && ext.GetCommit() == nil:
		err = status.Errorf(codes.InvalidArgument, "set %s: needs a Commit extension, so that it reverts unless confirmed", p)
	case p.origin == OriginConfig:
		var want edge.Signed
		if err = decode(ops[0].GetVal(), &want); err == nil {
			err = s.agent.Try(ctx, edge.CommitID(ext.GetId()), want, ext.GetCommit().GetRollbackDuration().AsDuration())
		}
	case p.origin == OriginCredentials && ext != nil:
		err = status.Errorf(codes.InvalidArgument, "set %s: credentials are never rolled back; send no Commit extension", p)
	case p.origin == OriginCredentials:
		var c edge.Credentials
		if err = decode(ops[0].GetVal(), &c); err == nil {
			err = s.agent.Admit(ctx, c)
		}
	default:
		err = status.Errorf(codes.InvalidArgument, "set %s: not writable; origins %s and %s are", p, OriginConfig, OriginCredentials)
	}
	return []*gnmi.UpdateResult{result}, err
}

// commitOf returns the Commit extension, nil without one. What we do not
// understand we refuse.
func commitOf(exts []*gnmi_ext.Extension) (*gnmi_ext.Commit, error) {
	var found *gnmi_ext.Commit
	for _, e := range exts {
		c := e.GetCommit()
		switch {
		case c == nil:
			return nil, status.Errorf(codes.Unimplemented, "set: extension %T", e.GetExt())
		case found != nil:
			return nil, status.Error(codes.InvalidArgument, "set: more than one Commit extension")
		case c.GetAction() == nil || c.GetId() == "":
			return nil, status.Error(codes.InvalidArgument, "set: the Commit extension needs an id and an action")
		}
		found = c
	}
	return found, nil
}

// decode reads a JSON document strictly: what the controller signed is obeyed
// whole or not at all.
func decode(val *gnmi.TypedValue, into any) error {
	b := val.GetJsonIetfVal()
	if b == nil {
		b = val.GetJsonVal()
	}
	if b == nil {
		return fmt.Errorf("%w: the value is a %T; send JSON_IETF", inventory.ErrInvalid, val.GetValue())
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err != nil && json.Unmarshal(b, into) == nil { // only strictness refuses it
		return fmt.Errorf("%w: the document is of a newer controller (%w), and this agent speaks protocol %d; upgrade the agent", inventory.ErrInvalid, err, edge.Protocol)
	}
	if err != nil {
		return fmt.Errorf("%w: decode the document: %w", inventory.ErrInvalid, err)
	}
	return nil
}

// encoder turns a leaf's value into a gNMI one.
type encoder func(any) *gnmi.TypedValue

func scalar(v any) *gnmi.TypedValue {
	switch v := v.(type) {
	case string:
		return &gnmi.TypedValue{Value: &gnmi.TypedValue_StringVal{StringVal: v}}
	case uint64:
		return &gnmi.TypedValue{Value: &gnmi.TypedValue_UintVal{UintVal: v}}
	case float64:
		return &gnmi.TypedValue{Value: &gnmi.TypedValue_DoubleVal{DoubleVal: v}}
	}
	panic(fmt.Sprintf("agent: no gNMI value for a %T", v)) // the schema's values are of the three kinds
}

func jsonIETF(v any) *gnmi.TypedValue {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("agent: %T does not marshal: %v", v, err)) // plain values only
	}
	return &gnmi.TypedValue{Value: &gnmi.TypedValue_JsonIetfVal{JsonIetfVal: b}}
}

// toStatus is the one place where an error becomes a gRPC code.
func toStatus(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	code := codes.Internal
	switch {
	case errors.Is(err, inventory.ErrInvalid):
		code = codes.InvalidArgument
	case errors.Is(err, commit.ErrRefused), errors.Is(err, commit.ErrBusy), errors.Is(err, commit.ErrExpired):
		code = codes.FailedPrecondition
	case errors.Is(err, commit.ErrNotYet), errors.Is(err, edge.ErrUnreachable):
		code = codes.Unavailable
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code = status.FromContextError(err).Code()
	}
	return status.Error(code, err.Error())
}
