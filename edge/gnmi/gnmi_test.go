package gnmi

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openconfig/gnmi/proto/gnmi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// scripted answers every call as the test says and keeps the last request.
type scripted struct {
	gnmi.UnimplementedGNMIServer
	err  error
	caps *gnmi.CapabilityResponse
	get  *gnmi.GetResponse
	hang chan struct{} // no answer before it is closed; nil: at once

	lastGet, lastSet atomic.Value // *gnmi.GetRequest, *gnmi.SetRequest; a late handler may still write
}

func (s *scripted) Capabilities(context.Context, *gnmi.CapabilityRequest) (*gnmi.CapabilityResponse, error) {
	return s.caps, s.err
}

func (s *scripted) Get(_ context.Context, req *gnmi.GetRequest) (*gnmi.GetResponse, error) {
	s.lastGet.Store(req)
	return s.get, s.err
}

// sent returns the last Set.
func (s *scripted) sent() *gnmi.SetRequest { return s.lastSet.Load().(*gnmi.SetRequest) }

func (s *scripted) Set(_ context.Context, req *gnmi.SetRequest) (*gnmi.SetResponse, error) {
	s.lastSet.Store(req)
	if s.hang != nil { // not until ctx ends: an answer then may still arrive in time
		<-s.hang
	}
	return &gnmi.SetResponse{}, s.err
}

// serve runs register's services in memory and returns a connection to them.
func serve(t *testing.T, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()
	ln := bufconn.Listen(1 << 20)
	srv := grpc.NewServer()
	register(srv)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	conn, err := grpc.NewClient("passthrough:///bufconn",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		srv.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn
}

func script(t *testing.T, cfg Config) (*scripted, *Driver) {
	s := &scripted{}
	return s, New(serve(t, func(srv *grpc.Server) { gnmi.RegisterGNMIServer(srv, s) }), cfg)
}

func TestErrors(t *testing.T) {
	s, d := script(t, Config{})
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		s.err = status.Error(code, "because")
		err := d.Confirm(t.Context(), "c-1")
		var want error
		switch code {
		case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
			want = edge.ErrUnreachable
		case codes.Unknown, codes.Internal, codes.Aborted, codes.ResourceExhausted, codes.DataLoss:
		default:
			want = edge.ErrRejected
		}
		if err == nil || !strings.Contains(err.Error(), `confirm commit "c-1"`) || !strings.Contains(err.Error(), "because") {
			t.Errorf("%s: %v, want what was being done and why it failed", code, err)
		}
		for _, sentinel := range []error{edge.ErrUnreachable, edge.ErrRejected} {
			if errors.Is(err, sentinel) != (sentinel == want) {
				t.Errorf("%s: %v, want %v", code, err, want)
			}
		}
	}
}

func TestContexts(t *testing.T) {
	s, d := script(t, Config{Timeout: 50 * time.Millisecond})
	s.hang = make(chan struct{})
	t.Cleanup(func() { close(s.hang) })
	err := d.Confirm(t.Context(), "c-1")
	if !errors.Is(err, edge.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer: %v, want ErrUnreachable with the cause", err)
	}
	pass := errors.New("pass took over 1s")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, pass)
	defer cancel()
	if err := d.Confirm(ctx, "c-1"); !errors.Is(err, pass) || !errors.Is(err, edge.ErrUnreachable) {
		t.Errorf("caller's deadline: %v, want its cause", err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := d.Confirm(stopped, "c-1"); !errors.Is(err, context.Canceled) || errors.Is(err, edge.ErrUnreachable) {
		t.Errorf("stopping: %v, want Canceled and nothing said of the device", err)
	}

	// The session ends under the driver's hands.
	conn := serve(t, func(srv *grpc.Server) { gnmi.RegisterGNMIServer(srv, s) })
	conn.Close()
	if err := New(conn, Config{}).Confirm(t.Context(), "c-1"); !errors.Is(err, edge.ErrUnreachable) {
		t.Errorf("closed session: %v, want ErrUnreachable", err)
	}
}

func TestRequests(t *testing.T) {
	s, d := script(t, Config{})
	want := edge.Signed{Device: "e-1", Revision: 3}
	must(t, d.Apply(t.Context(), "c-1", want, 45*time.Second))
	up, ext := s.sent().GetReplace()[0], s.sent().GetExtension()[0].GetCommit()
	if up.GetPath().GetOrigin() != "wardnet" || len(up.GetPath().GetElem()) != 0 || !strings.Contains(string(up.GetVal().GetJsonIetfVal()), `"revision":3`) {
		t.Errorf("Apply sent %v", up)
	}
	if ext.GetId() != "c-1" || ext.GetCommit().GetRollbackDuration().AsDuration() != 45*time.Second {
		t.Errorf("Apply sent extension %v", ext)
	}
	must(t, d.Confirm(t.Context(), "c-1"))
	if ext := s.sent().GetExtension()[0].GetCommit(); ext.GetConfirm() == nil || len(s.sent().GetReplace()) != 0 {
		t.Errorf("Confirm sent %v", s.sent())
	}
	must(t, d.Cancel(t.Context(), "c-1"))
	if ext := s.sent().GetExtension()[0].GetCommit(); ext.GetCancel() == nil {
		t.Errorf("Cancel sent %v", s.sent())
	}
	must(t, d.SetCredentials(t.Context(), edge.Credentials{Epoch: 4}))
	if up := s.sent().GetUpdate()[0]; up.GetPath().GetOrigin() != "wardnet-credentials" || len(s.sent().GetExtension()) != 0 {
		t.Errorf("SetCredentials sent %v", s.sent())
	}
	before := s.sent()
	if err := d.Apply(t.Context(), "c-1", want, 0); !errors.Is(err, inventory.ErrInvalid) || s.sent() != before {
		t.Errorf("Apply() without a revert time = %v, sent %v", err, s.sent())
	}
}

func TestCheck(t *testing.T) {
	s, d := script(t, Config{})
	good := func() *gnmi.CapabilityResponse {
		return &gnmi.CapabilityResponse{
			SupportedEncodings: []gnmi.Encoding{gnmi.Encoding_JSON_IETF},
			SupportedModels:    []*gnmi.ModelData{{Name: "openconfig-bfd"}, {Name: "wardnet", Version: "1.4.0"}},
		}
	}
	for name, tt := range map[string]struct {
		edit func(*gnmi.CapabilityResponse)
		want string
	}{
		"good":        {func(*gnmi.CapabilityResponse) {}, ""},
		"no encoding": {func(c *gnmi.CapabilityResponse) { c.SupportedEncodings = nil }, "JSON_IETF"},
		"no model":    {func(c *gnmi.CapabilityResponse) { c.SupportedModels = nil }, "is it a Wardnet edge"},
		"new model":   {func(c *gnmi.CapabilityResponse) { c.SupportedModels[1].Version = "2.0.0" }, "2.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			s.caps = good()
			tt.edit(s.caps)
			err := d.Check(t.Context())
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (!errors.Is(err, edge.ErrRejected) || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("Check() = %v, want %q", err, tt.want)
			}
		})
	}
}

func answer(origin string, val *gnmi.TypedValue) *gnmi.GetResponse {
	return &gnmi.GetResponse{Notification: []*gnmi.Notification{{
		Prefix: &gnmi.Path{Origin: origin}, Update: []*gnmi.Update{{Path: &gnmi.Path{}, Val: val}},
	}}}
}

func ietf(s string) *gnmi.TypedValue {
	return &gnmi.TypedValue{Value: &gnmi.TypedValue_JsonIetfVal{JsonIetfVal: []byte(s)}}
}

func TestGet(t *testing.T) {
	s, d := script(t, Config{})
	s.get = answer("wardnet-state", ietf(`{"revision":3,"pending":"c-9","epoch":4,"news":true}`))
	st, err := d.State(t.Context())
	if err != nil || st.Revision != 3 || st.Epoch != 4 {
		t.Errorf("State() = %+v, %v", st, err)
	}
	asked := s.lastGet.Load().(*gnmi.GetRequest)
	if p := asked.GetPath()[0]; p.GetOrigin() != "wardnet-state" || asked.GetEncoding() != gnmi.Encoding_JSON_IETF {
		t.Errorf("State asked %v", asked)
	}
	if id, err := d.Pending(t.Context()); id != "c-9" || err != nil {
		t.Errorf("Pending() = %q, %v", id, err)
	}

	// A device whose content is not what its hash says must not look in sync.
	s.get = answer("wardnet", ietf(`{"device":"e-1","revision":3,"hash":"abc","config":{"device":"e-1"}}`))
	run, err := d.Running(t.Context())
	if err != nil || run.Revision != 3 || run.Hash != (edge.Config{Device: "e-1"}).Hash() {
		t.Errorf("Running() = %+v, %v", run, err)
	}
	s.get = answer("wardnet", ietf(`{"device":"","revision":0,"hash":"","config":{"device":""}}`))
	if run, err := d.Running(t.Context()); err != nil || run.Hash != "" || run.Revision != 0 {
		t.Errorf("Running() of a new device = %+v, %v", run, err)
	}

	part := answer("wardnet", ietf(`{}`))
	part.Notification[0].Update[0].Path.Elem = []*gnmi.PathElem{{Name: "rules"}}
	for name, resp := range map[string]*gnmi.GetResponse{
		"nothing":      {},
		"two":          {Notification: []*gnmi.Notification{{}, {}}},
		"no value":     {Notification: []*gnmi.Notification{{}}},
		"other origin": answer("openconfig", ietf(`{}`)),
		"a part":       part,
		"not JSON":     answer("wardnet", ietf(`{"device":`)),
		"wrong type":   answer("wardnet", ietf(`{"revision":-1}`)),
		"a string":     answer("wardnet", &gnmi.TypedValue{Value: &gnmi.TypedValue_StringVal{StringVal: "x"}}),
		"null value":   answer("wardnet", nil),
	} {
		s.get = resp
		if got, err := d.Running(t.Context()); err == nil {
			t.Errorf("%s: Running() = %+v, want an error", name, got)
		}
	}
}

// Whatever a device sends, decoding ends with a document or an error, and what
// was decoded encodes and decodes to the same hash.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"device":"e-1","revision":3,"config":{"loopback":"172.16.0.1","tunnels":[{"name":"a","endpoint":"203.0.113.1:51820"}]}}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"config":{"segments":[{"v4":"10.0.0.0/8","v6":""}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, again edge.Signed
		if decode(answer(originConfig, ietf(string(b))), originConfig, &s) != nil {
			return
		}
		u, err := document(originConfig, s)
		must(t, err)
		must(t, decode(answer(originConfig, u.GetVal()), originConfig, &again))
		if s.Config.Hash() != again.Config.Hash() {
			t.Errorf("%q: hash %s, after a round trip %s", b, s.Config.Hash(), again.Config.Hash())
		}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
