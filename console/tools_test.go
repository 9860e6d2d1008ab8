package console

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/gnoi"
	"github.com/wardnet/wardnet/inventory"
)

func (n *network) Ping(_ context.Context, id inventory.DeviceID, want client.NewPing) (client.PingResult, error) {
	if want.Destination == "192.0.2.66" {
		return client.PingResult{}, offline{fmt.Errorf("%w: %s has no management session", edge.ErrUnreachable, id)}
	}
	return client.PingResult{Device: id, Destination: want.Destination, Replies: []client.PingReply{{Sequence: 1, Source: want.Destination}}, Summary: client.PingSummary{Sent: 1, Received: 1}}, nil
}

func (n *network) Trace(_ context.Context, id inventory.DeviceID, want client.NewTrace) (client.TraceResult, error) {
	return client.TraceResult{Device: id, Destination: want.Destination, Reached: true, Probes: []client.TraceProbe{{Hop: 1, Probe: 1, State: "reached"}}}, nil
}

func (n *network) Capture(context.Context, inventory.DeviceID, client.NewCapture) (client.CaptureResult, error) {
	return client.CaptureResult{Packets: 2, Dropped: 1, Ended: "seconds", Pcap: []byte("\xd4\xc3\xb2\xa1what people say")}, nil
}

func TestToolsNeedTheirRoleAndLeaveATrace(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	noc, eng, admin, sec := s.user("noc", client.RoleNOC), s.user("eng", client.RoleEngineer), s.user("adm", client.RoleAdmin), s.user("sec", client.RoleSecurity)
	ping := client.NewPing{Destination: "10.64.1.2", From: client.ToolFrom{Segment: "staff"}, Count: 3}
	r, err := noc.Ping(ctx, "d-1", ping)
	if err != nil || r.Device != "d-1" || len(r.Replies) != 1 || r.Summary.Received != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	e := s.last(1)[0]
	if e.Who != "noc" || e.What != "ping-device" || e.Object != "device/d-1" || e.Outcome != outcomeDone || !strings.Contains(string(e.Before), "10.64.1.2") || !strings.Contains(string(e.Before), "staff") || !strings.Contains(string(e.After), `"received":1`) {
		t.Errorf("audit %+v %s %s", e, e.Before, e.After)
	}
	if tr, err := noc.Trace(ctx, "d-1", client.NewTrace{Destination: "10.64.1.2"}); err != nil || !tr.Reached || len(tr.Probes) != 1 {
		t.Errorf("%+v, %v", tr, err)
	}
	headers := client.NewCapture{Circuit: "c-1", Filter: "udp port 51820", MaxPackets: 5}
	payload := headers
	payload.SnapBytes = 97
	for _, c := range []*client.Client{noc, sec} {
		if _, err := c.Capture(ctx, "d-1", headers); !errors.Is(err, client.ErrForbidden) {
			t.Errorf("a capture without its role: %v", err)
		}
	}
	if _, err := sec.Ping(ctx, "d-1", ping); !errors.Is(err, client.ErrForbidden) {
		t.Errorf("a ping without its role: %v", err)
	}
	got, err := eng.Capture(ctx, "d-1", headers)
	if err != nil || string(got.Pcap) != "\xd4\xc3\xb2\xa1what people say" || got.Packets != 2 || got.Dropped != 1 || got.Ended != "seconds" {
		t.Fatalf("%+v, %v", got, err)
	}
	e = s.last(1)[0]
	if e.What != "capture-device" || e.Outcome != outcomeDone || !strings.Contains(string(e.Before), "udp port 51820") || !strings.Contains(string(e.After), `"packets":2`) || strings.Contains(string(e.After)+string(e.Before), "people say") {
		t.Errorf("audit %+v %s %s", e, e.Before, e.After)
	}
	// What people say is an administrator's to ask for, and the refusal is kept.
	if _, err := eng.Capture(ctx, "d-1", payload); !errors.Is(err, client.ErrForbidden) || client.HintOf(err) == "" {
		t.Errorf("payload for an engineer: %v", err)
	}
	if e := s.last(1)[0]; e.Outcome != outcomeRefused || e.Who != "eng" || !strings.Contains(string(e.Before), `"snap_bytes":97`) {
		t.Errorf("audit %+v %s", e, e.Before)
	}
	if _, err := admin.Capture(ctx, "d-1", payload); err != nil {
		t.Error(err)
	}
}

func TestToolsSayWhatIsWrong(t *testing.T) {
	s := newSite(t)
	ctx, noc := t.Context(), s.user("noc", client.RoleNOC)
	if _, err := noc.Ping(ctx, "d-1", client.NewPing{Destination: "192.0.2.66"}); !errors.Is(err, client.ErrUnavailable) || !strings.Contains(client.HintOf(err), "device show") {
		t.Errorf("an offline device: %v, hint %q", err, client.HintOf(err))
	}
	if e := s.last(1)[0]; e.Outcome != outcomeFailed || !strings.Contains(string(e.Before), "192.0.2.66") || e.Reason == "" {
		t.Errorf("audit %+v", e)
	}
	if _, err := noc.Ping(ctx, "d-9", client.NewPing{Destination: "192.0.2.1"}); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("an unknown device: %v", err)
	}
	if _, err := noc.Ping(ctx, "d-1", client.NewPing{Destination: "192.0.2.1", Count: 100, IntervalMS: 5000}); !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), "2m0s") {
		t.Errorf("a ping of eight minutes: %v", err)
	}
	_, err := noc.Ping(ctx, "d-1", client.NewPing{Destination: "192.0.2.1", Count: 101, SizeBytes: 9000})
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != 422 || len(p.Faults) != 2 {
		t.Errorf("two faults: %v", err)
	}
}

// device is an edge that answers what the test wants.
type device struct {
	gnoi.UnimplementedToolsServer
	err   error
	flood int // replies without end
	asked chan *gnoi.PingRequest
}

func (d *device) Ping(m *gnoi.PingRequest, out grpc.ServerStreamingServer[gnoi.PingReply]) error {
	if d.err != nil {
		return d.err
	}
	if d.asked != nil {
		d.asked <- m
	}
	for range d.flood {
		if err := out.Send(&gnoi.PingReply{Sequence: 1}); err != nil {
			return err
		}
	}
	return errors.Join(out.Send(&gnoi.PingReply{Sequence: 1, Source: "10.0.0.1", TimeNs: 5}), out.Send(&gnoi.PingReply{Summary: &gnoi.PingSummary{Sent: 1, Received: 1, AvgTimeNs: 5}}))
}

func (d *device) Capture(_ *gnoi.CaptureRequest, out grpc.ServerStreamingServer[gnoi.CaptureReply]) error {
	return errors.Join(out.Send(&gnoi.CaptureReply{Pcap: []byte("abc")}), out.Send(&gnoi.CaptureReply{Pcap: []byte("def")}), out.Send(&gnoi.CaptureReply{Done: true, Packets: 2, Ended: "packets"}))
}

// channelTo serves d as its management channel would.
func channelTo(t *testing.T, d *device) grpc.ClientConnInterface {
	t.Helper()
	ln, srv := bufconn.Listen(1<<20), grpc.NewServer()
	gnoi.RegisterToolsServer(srv, d)
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient("passthrough:d", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestToolsOverTheChannel(t *testing.T) {
	d := &device{asked: make(chan *gnoi.PingRequest, 1)}
	conn, reg := channelTo(t, d), prometheus.NewRegistry()
	tools := AdaptTools(ToolSources{Conn: func(id inventory.DeviceID) (grpc.ClientConnInterface, error) {
		if id == "off" {
			return nil, fmt.Errorf("%w: off has no management session", edge.ErrUnreachable)
		}
		return conn, nil
	}, Reg: reg})
	ask := client.NewPing{Destination: "10.0.0.1", From: client.ToolFrom{Tunnel: "t"}, Count: 1, IntervalMS: 200, SizeBytes: 99, DontFragment: true, WaitMS: 7}
	r, err := tools.Ping(t.Context(), "d-1", ask)
	if err != nil || len(r.Replies) != 1 || r.Replies[0].TimeNS != 5 || r.Summary.AvgTimeNS != 5 {
		t.Fatalf("%+v, %v", r, err)
	}
	if m := <-d.asked; m.GetFrom().GetTunnel() != "t" || m.GetCount() != 1 || m.GetIntervalMs() != 200 || m.GetSizeBytes() != 99 || !m.GetDontFragment() || m.GetWaitMs() != 7 {
		t.Errorf("%v", m)
	}
	c, err := tools.Capture(t.Context(), "d-1", client.NewCapture{Circuit: "c"})
	if err != nil || string(c.Pcap) != "abcdef" || c.Packets != 2 || c.Ended != "packets" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := tools.Ping(t.Context(), "off", ask); !errors.Is(err, edge.ErrUnreachable) {
		t.Error(err)
	}
	d.asked = nil
	for code, want := range map[codes.Code]int{
		codes.InvalidArgument: 422, codes.ResourceExhausted: 429, codes.FailedPrecondition: 409, codes.Unimplemented: 501, codes.Internal: 502, codes.Unavailable: 503,
	} {
		d.err = status.Error(code, "invalid: one\ninvalid: two")
		_, err := tools.Ping(t.Context(), "d-1", ask)
		p := problemOf(err)
		if p == nil || p.Status != want || p.Hint == "" || code == codes.InvalidArgument && (len(p.Faults) != 2 || p.Faults[1] != "two") {
			t.Errorf("%s: %+v", code, p)
		}
	}
	d.err, d.flood = nil, 101
	if _, err := tools.Ping(t.Context(), "d-1", ask); err == nil || !strings.Contains(err.Error(), "more than it may") {
		t.Errorf("a device that never ends: %v", err)
	}
	if _, err := tools.Trace(t.Context(), "d-1", client.NewTrace{}); problemOf(err) == nil || problemOf(err).Status != 501 {
		t.Errorf("an agent without the tool: %v", err)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(`# HELP console_device_tools_total Tools run on devices, by tool and outcome.
# TYPE console_device_tools_total counter
console_device_tools_total{outcome="done",tool="capture"} 1
console_device_tools_total{outcome="done",tool="ping"} 1
console_device_tools_total{outcome="done",tool="traceroute"} 0
console_device_tools_total{outcome="failed",tool="capture"} 0
console_device_tools_total{outcome="failed",tool="ping"} 2
console_device_tools_total{outcome="failed",tool="traceroute"} 0
console_device_tools_total{outcome="refused",tool="capture"} 0
console_device_tools_total{outcome="refused",tool="ping"} 4
console_device_tools_total{outcome="refused",tool="traceroute"} 1
console_device_tools_total{outcome="unreachable",tool="capture"} 0
console_device_tools_total{outcome="unreachable",tool="ping"} 2
console_device_tools_total{outcome="unreachable",tool="traceroute"} 0
`)); err != nil {
		t.Error(err)
	}
}
