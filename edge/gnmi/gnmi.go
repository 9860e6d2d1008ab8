// Package gnmi drives a Wardnet edge over gNMI: whole signed documents in
// origins of our own, pushed with the Commit Confirmed extension. It satisfies
// the controller's Driver and Credentialer.
package gnmi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openconfig/gnmi/proto/gnmi"
	"github.com/openconfig/gnmi/proto/gnmi_ext"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// The origins a Wardnet edge serves with an empty path, each one JSON document.
const (
	originConfig      = "wardnet"             // edge.Signed; Get, and Set as replace with a commit
	originCredentials = "wardnet-credentials" // edge.Credentials; Set as update
	originState       = "wardnet-state"       // edge.State; Get
)

// model is what an edge's Capabilities must name, with this major version.
const model, modelMajor = "wardnet", "1"

// Config are the knobs. Zero means default.
type Config struct {
	Timeout time.Duration // for one call; default 20 s
}

// Driver drives the device at the other end of a connection. It keeps no
// state and is safe for concurrent use.
type Driver struct {
	client gnmi.GNMIClient
	cfg    Config
}

// New drives the device behind conn, which stays the caller's.
func New(conn grpc.ClientConnInterface, cfg Config) *Driver {
	if cfg.Timeout == 0 {
		cfg.Timeout = 20 * time.Second
	}
	return &Driver{gnmi.NewGNMIClient(conn), cfg}
}

// Check asks whether the device speaks what the driver needs: our model in a
// version we know, and JSON_IETF. [edge.ErrRejected] if it does not.
func (d *Driver) Check(ctx context.Context) error {
	return d.call(ctx, "read capabilities", func(ctx context.Context) error {
		resp, err := d.client.Capabilities(ctx, &gnmi.CapabilityRequest{})
		if err != nil {
			return err
		}
		if !slices.Contains(resp.GetSupportedEncodings(), gnmi.Encoding_JSON_IETF) {
			return fmt.Errorf("%w: the device does not encode JSON_IETF", edge.ErrRejected)
		}
		for _, m := range resp.GetSupportedModels() {
			if m.GetName() != model {
				continue
			}
			if major, _, _ := strings.Cut(m.GetVersion(), "."); major != modelMajor {
				return fmt.Errorf("%w: the device has model %s %s, this controller needs %s.x; upgrade the agent", edge.ErrRejected, model, m.GetVersion(), modelMajor)
			}
			return nil
		}
		return fmt.Errorf("%w: the device does not have model %q; is it a Wardnet edge?", edge.ErrRejected, model)
	})
}

// Running returns the configuration in force, confirmed or not; the zero value
// if there is none. Hash is always that of the content returned, whatever the
// device says, so that comparing hashes is comparing content.
func (d *Driver) Running(ctx context.Context) (edge.Signed, error) {
	var s edge.Signed
	if err := d.get(ctx, "read the running config", originConfig, gnmi.GetRequest_CONFIG, &s); err != nil {
		return edge.Signed{}, err
	}
	if s.Revision == 0 {
		return edge.Signed{}, nil
	}
	s.Hash = s.Config.Hash()
	return s, nil
}

// State returns operational facts, at most a second old. An agent whose
// protocol is too far from ours is refused with an [*edge.ProtocolError], which
// is before any push: [Driver.Pending] comes first.
func (d *Driver) State(ctx context.Context) (edge.State, error) {
	var s edge.State
	if err := d.get(ctx, "read state", originState, gnmi.GetRequest_STATE, &s); err != nil {
		return edge.State{}, err
	}
	if err := s.CheckProtocol(); err != nil {
		return edge.State{}, fmt.Errorf("read state: %w", err)
	}
	return s, nil
}

// Pending returns the commit that waits for its Confirm, or "".
func (d *Driver) Pending(ctx context.Context) (edge.CommitID, error) {
	s, err := d.State(ctx)
	return s.Pending, err
}

// Apply puts want in force under the commit id; the device returns to the old
// config by itself unless Confirm(id) arrives within revert.
func (d *Driver) Apply(ctx context.Context, id edge.CommitID, want edge.Signed, revert time.Duration) error {
	op := fmt.Sprintf("apply commit %q", id)
	if id == "" || revert <= 0 {
		return fmt.Errorf("%s: %w: a push needs a commit id and a positive revert time, not %s", op, inventory.ErrInvalid, revert)
	}
	update, err := document(originConfig, want)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return d.set(ctx, op, &gnmi.SetRequest{
		Replace: []*gnmi.Update{update},
		Extension: commit(id, &gnmi_ext.Commit{Action: &gnmi_ext.Commit_Commit{
			Commit: &gnmi_ext.CommitRequest{RollbackDuration: durationpb.New(revert)},
		}}),
	})
}

// Confirm keeps what Apply(id) put in force; repeating it is a no-op.
func (d *Driver) Confirm(ctx context.Context, id edge.CommitID) error {
	return d.set(ctx, fmt.Sprintf("confirm commit %q", id), &gnmi.SetRequest{
		Extension: commit(id, &gnmi_ext.Commit{Action: &gnmi_ext.Commit_Confirm{Confirm: &gnmi_ext.CommitConfirm{}}}),
	})
}

// Cancel reverts the commit id at once, without waiting for its deadline.
func (d *Driver) Cancel(ctx context.Context, id edge.CommitID) error {
	return d.set(ctx, fmt.Sprintf("cancel commit %q", id), &gnmi.SetRequest{
		Extension: commit(id, &gnmi_ext.Commit{Action: &gnmi_ext.Commit_Cancel{Cancel: &gnmi_ext.CommitCancel{}}}),
	})
}

// SetCredentials stores and applies the set of tunnel peers.
func (d *Driver) SetCredentials(ctx context.Context, c edge.Credentials) error {
	op := fmt.Sprintf("set credentials of epoch %d", c.Epoch)
	update, err := document(originCredentials, c)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return d.set(ctx, op, &gnmi.SetRequest{Update: []*gnmi.Update{update}})
}

func document(origin string, v any) (*gnmi.Update, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return &gnmi.Update{
		Path: &gnmi.Path{Origin: origin},
		Val:  &gnmi.TypedValue{Value: &gnmi.TypedValue_JsonIetfVal{JsonIetfVal: b}},
	}, nil
}

func commit(id edge.CommitID, c *gnmi_ext.Commit) []*gnmi_ext.Extension {
	c.Id = string(id)
	return []*gnmi_ext.Extension{{Ext: &gnmi_ext.Extension_Commit{Commit: c}}}
}

func (d *Driver) set(ctx context.Context, op string, req *gnmi.SetRequest) error {
	return d.call(ctx, op, func(ctx context.Context) error {
		_, err := d.client.Set(ctx, req)
		return err
	})
}

func (d *Driver) get(ctx context.Context, op, origin string, data gnmi.GetRequest_DataType, into any) error {
	return d.call(ctx, op, func(ctx context.Context) error {
		resp, err := d.client.Get(ctx, &gnmi.GetRequest{
			Path: []*gnmi.Path{{Origin: origin}}, Type: data, Encoding: gnmi.Encoding_JSON_IETF,
		})
		if err != nil {
			return err
		}
		return decode(resp, origin, into)
	})
}

// decode takes the one document out of a Get's answer. Fields we do not know
// are left out: a newer agent may tell more.
func decode(resp *gnmi.GetResponse, origin string, into any) error {
	if n := len(resp.GetNotification()); n != 1 {
		return fmt.Errorf("the device answered with %d notifications, want one document", n)
	}
	note := resp.GetNotification()[0]
	if n := len(note.GetUpdate()); n != 1 {
		return fmt.Errorf("the device answered with %d values, want one document", n)
	}
	u := note.GetUpdate()[0]
	if len(note.GetPrefix().GetElem())+len(u.GetPath().GetElem()) > 0 {
		return errors.New("the device answered with a part, want the whole document")
	}
	for _, o := range []string{note.GetPrefix().GetOrigin(), u.GetPath().GetOrigin()} {
		if o != "" && o != origin {
			return fmt.Errorf("the device answered with origin %q, want %q", o, origin)
		}
	}
	b := u.GetVal().GetJsonIetfVal()
	if b == nil {
		b = u.GetVal().GetJsonVal()
	}
	if b == nil {
		return fmt.Errorf("the device answered with a %T, want JSON_IETF", u.GetVal().GetValue())
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("decode the device's document: %w", err)
	}
	return nil
}

// call runs fn under the timeout and is the one place where a gRPC status
// becomes an error of ours.
func (d *Driver) call(ctx context.Context, op string, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d.cfg.Timeout, fmt.Errorf("no answer within %s: %w", d.cfg.Timeout, context.DeadlineExceeded))
	defer cancel()
	err := fn(ctx)
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%s: %w", op, err)
	}
	if at, _ := ctx.Deadline(); st.Code() == codes.DeadlineExceeded && time.Until(at) < time.Second {
		<-ctx.Done() // the device counts the same deadline and may be a little ahead
	}
	if cause := context.Cause(ctx); cause != nil {
		if errors.Is(cause, context.Canceled) { // the caller's wish, and no news of the device
			return fmt.Errorf("%s: %w", op, cause)
		}
		return fmt.Errorf("%s: %w: %w", op, edge.ErrUnreachable, cause)
	}
	switch st.Code() {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange, codes.NotFound, codes.AlreadyExists,
		codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		return fmt.Errorf("%s: %w: %s (%s)", op, edge.ErrRejected, st.Message(), st.Code())
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled: // Canceled: the session was superseded or closed
		return fmt.Errorf("%s: %w: %s (%s)", op, edge.ErrUnreachable, st.Message(), st.Code())
	}
	return fmt.Errorf("%s: %s (%s)", op, st.Message(), st.Code())
}
