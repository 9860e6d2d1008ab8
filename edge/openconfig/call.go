package openconfig

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/openconfig/gnmi/proto/gnmi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/wardnet/wardnet/edge"
)

// Dial prepares a connection to a device at address ("host:port"), which is
// made at the first call and again when it is lost. tlsConfig has the client
// certificate that the device knows and the roots that its own must chain to;
// login is for devices that want a name and a password as well, nil for none.
func Dial(address string, tlsConfig *tls.Config, login credentials.PerRPCCredentials, q Quirks) (*grpc.ClientConn, error) {
	if tlsConfig == nil {
		return nil, fmt.Errorf("dial %s: %w: gNMI needs TLS (gNMI specification §3.1); give the roots and the client certificate", address, edge.ErrRejected)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(tlsConfig)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(q.withDefaults().MaxAnswer)),
	}
	if login != nil {
		opts = append(opts, grpc.WithPerRPCCredentials(login))
	}
	conn, err := grpc.NewClient(address, opts...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return conn, nil
}

// mode is how the device is spoken to, as given or found out.
type mode struct {
	origin    string
	subscribe bool // ONCE, for lack of Get
	all       bool // Get without a type
	encoding  gnmi.Encoding
}

func (m mode) String() string {
	rpc := "Get"
	if m.subscribe {
		rpc = "Subscribe ONCE"
	}
	return fmt.Sprintf("%s, %s, origin %q", rpc, m.encoding, m.origin)
}

// call runs fn under the timeout and is the one place where a gRPC status
// becomes an error of ours.
func (b *Box) call(ctx context.Context, op string, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, b.cfg.Timeout, fmt.Errorf("no answer within %s: %w", b.cfg.Timeout, context.DeadlineExceeded))
	defer cancel()
	err := fn(ctx)
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%s: %w", op, err)
	}
	if cause := context.Cause(ctx); cause != nil {
		if errors.Is(cause, context.Canceled) { // the caller's wish, and no news of the device
			return fmt.Errorf("%s: %w", op, cause)
		}
		return fmt.Errorf("%s: %w: %w", op, edge.ErrUnreachable, cause)
	}
	switch st.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return &statusError{op, st, edge.ErrUnreachable, "check the device's management address and certificate"}
	case codes.PermissionDenied, codes.Unauthenticated:
		return &statusError{op, st, edge.ErrRejected, "let the device accept Wardnet's client certificate or login for this"}
	case codes.Unimplemented:
		return &statusError{op, st, edge.ErrRejected, "the device lacks it; see the platform's quirks"}
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange, codes.NotFound, codes.AlreadyExists, codes.Aborted:
		return &statusError{op, st, edge.ErrRejected, ""}
	case codes.ResourceExhausted:
		if strings.Contains(st.Message(), "larger than max") {
			return &statusError{op, st, edge.ErrRejected, "raise the device's limit, or max_answer in the platform's quirks if it was its answer"}
		}
	}
	return &statusError{op, st, nil, ""}
}

// statusError is a device's refusal in its own words.
type statusError struct {
	op   string
	st   *status.Status
	is   error
	hint string
}

func (e *statusError) Error() string {
	s := e.op + ": "
	if e.is != nil {
		s += e.is.Error() + ": "
	}
	s += fmt.Sprintf("%s (%s)", e.st.Message(), e.st.Code())
	if e.hint != "" {
		s += "; " + e.hint
	}
	return s
}

func (e *statusError) Unwrap() error { return e.is }

// codeOf is the device's status code; OK for other errors.
func codeOf(err error) codes.Code {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.st.Code()
	}
	return codes.OK
}

// snapshot reads subtrees into one tree, in one call where it can: a device
// answers NOT_FOUND for a path without data (gNMI specification §3.3.4), and
// for all others with it, so those are asked alone from then on.
func (b *Box) snapshot(ctx context.Context, m mode, kind gnmi.GetRequest_DataType, paths ...path) (*node, error) {
	tree := &node{}
	together, alone := b.absent.split(paths)
	if len(together) > 1 {
		err := b.read(ctx, m, kind, tree, together...)
		switch {
		case codeOf(err) == codes.NotFound:
			alone, together = paths, nil
		case err != nil:
			return nil, err
		}
	} else {
		alone, together = paths, nil
	}
	for _, p := range alone {
		err := b.read(ctx, m, kind, tree, p)
		if codeOf(err) == codes.NotFound {
			b.absent.note(p, true)
			continue
		}
		if err != nil {
			return nil, err
		}
		b.absent.note(p, false)
	}
	return tree, nil
}

func (b *Box) read(ctx context.Context, m mode, kind gnmi.GetRequest_DataType, tree *node, paths ...path) error {
	what := make([]string, len(paths))
	for i, p := range paths {
		what[i] = p.String()
	}
	var notes []*gnmi.Notification
	err := b.call(ctx, "read "+strings.Join(what, ", "), func(ctx context.Context) (err error) {
		if m.subscribe {
			notes, err = b.once(ctx, m, paths)
		} else {
			notes, err = b.get(ctx, m, kind, paths)
		}
		return err
	})
	if err != nil {
		return err
	}
	return tree.add(notes)
}

// paths is a set of paths, safe for concurrent use.
type paths struct {
	mu  sync.Mutex
	set map[string]bool
}

func (s *paths) note(p path, in bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = map[string]bool{}
	}
	s.set[p.String()] = in
}

func (s *paths) split(all []path) (out, in []path) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range all {
		if s.set[p.String()] {
			in = append(in, p)
		} else {
			out = append(out, p)
		}
	}
	return out, in
}

func (b *Box) prefix() *gnmi.Path {
	if b.cfg.Quirks.Target == "" {
		return nil
	}
	return &gnmi.Path{Target: b.cfg.Quirks.Target}
}

func (b *Box) get(ctx context.Context, m mode, kind gnmi.GetRequest_DataType, paths []path) ([]*gnmi.Notification, error) {
	if m.all {
		kind = gnmi.GetRequest_ALL
	}
	req := &gnmi.GetRequest{Prefix: b.prefix(), Type: kind, Encoding: m.encoding}
	for _, p := range paths {
		req.Path = append(req.Path, p.proto(m.origin))
	}
	resp, err := b.client.Get(ctx, req)
	return resp.GetNotification(), err
}

// once reads by a subscription that ends (gNMI specification §3.5.1.5.1).
func (b *Box) once(ctx context.Context, m mode, paths []path) ([]*gnmi.Notification, error) {
	list := &gnmi.SubscriptionList{Prefix: b.prefix(), Mode: gnmi.SubscriptionList_ONCE, Encoding: m.encoding}
	for _, p := range paths {
		list.Subscription = append(list.Subscription, &gnmi.Subscription{Path: p.proto(m.origin)})
	}
	stream, err := b.client.Subscribe(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&gnmi.SubscribeRequest{Request: &gnmi.SubscribeRequest_Subscribe{Subscribe: list}})
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the status comes with Recv
		return nil, err
	}
	if err == nil {
		if err := stream.CloseSend(); err != nil {
			return nil, err
		}
	}
	var notes []*gnmi.Notification
	for {
		resp, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%w: the subscription ended after %d notifications and before all was told", errAnswer, len(notes))
		case err != nil:
			return nil, err
		}
		switch r := resp.GetResponse().(type) {
		case *gnmi.SubscribeResponse_Update:
			notes = append(notes, r.Update)
		case *gnmi.SubscribeResponse_SyncResponse:
			return notes, nil
		}
	}
}
