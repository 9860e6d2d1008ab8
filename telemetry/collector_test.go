package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	gpb "github.com/openconfig/gnmi/proto/gnmi"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/wardnet/wardnet/inventory"
)

// device is a gNMI server in memory that sends what the test tells it to.
type device struct {
	gpb.UnimplementedGNMIServer
	asked chan *gpb.SubscriptionList // each new subscription
	send  chan *gpb.SubscribeResponse

	mu   sync.Mutex
	conn *grpc.ClientConn // nil: no session
}

func (d *device) Subscribe(s gpb.GNMI_SubscribeServer) error {
	req, err := s.Recv()
	if err != nil {
		return err
	}
	d.asked <- req.GetSubscribe()
	for {
		select {
		case <-s.Context().Done():
			return s.Context().Err()
		case r := <-d.send:
			if r == nil {
				return errors.New("the agent ended the stream")
			}
			if err := s.Send(r); err != nil {
				return err
			}
		}
	}
}

func (d *device) dial(context.Context, inventory.DeviceID) (grpc.ClientConnInterface, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return nil, errors.New("no session")
	}
	return d.conn, nil
}

func (d *device) session(t *testing.T, up bool) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !up {
		if err := d.conn.Close(); err != nil {
			t.Error(err)
		}
		d.conn = nil
		return
	}
	lis := bufconn.Listen(1 << 20)
	srv := grpc.NewServer()
	gpb.RegisterGNMIServer(srv, d)
	go srv.Serve(lis) //nolint:errcheck // ends with Stop
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient("passthrough:///device", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return lis.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	d.conn = conn
}

func update(at time.Time, pairs ...any) *gpb.SubscribeResponse {
	n := &gpb.Notification{Timestamp: at.UnixNano()}
	for i := 0; i < len(pairs); i += 2 {
		var v *gpb.TypedValue
		switch x := pairs[i+1].(type) {
		case string:
			v = &gpb.TypedValue{Value: &gpb.TypedValue_StringVal{StringVal: x}}
		case uint64:
			v = &gpb.TypedValue{Value: &gpb.TypedValue_UintVal{UintVal: x}}
		case float64:
			v = &gpb.TypedValue{Value: &gpb.TypedValue_DoubleVal{DoubleVal: x}}
		}
		n.Update = append(n.Update, &gpb.Update{Path: pairs[i].(*gpb.Path), Val: v})
	}
	return &gpb.SubscribeResponse{Response: &gpb.SubscribeResponse_Update{Update: n}}
}

var synced = &gpb.SubscribeResponse{Response: &gpb.SubscribeResponse_SyncResponse{SyncResponse: true}}

type rig struct {
	*device
	c   *Collector
	got chan Sample
	reg *prometheus.Registry
}

func newRig(t *testing.T, cfg Config) *rig {
	r := &rig{
		device: &device{asked: make(chan *gpb.SubscriptionList, 8), send: make(chan *gpb.SubscribeResponse)},
		got:    make(chan Sample, 4096), reg: prometheus.NewPedanticRegistry(),
	}
	var err error
	r.c, err = NewCollector(Deps{
		Dial: r.dial, Sinks: []func(Sample){func(s Sample) { r.got <- s }}, Log: slog.New(slog.DiscardHandler), Reg: r.reg,
		Labels: func(inventory.DeviceID, string) (inventory.SiteID, inventory.CarrierID) { return `s "1"`, "vnpt" },
	}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

// wait takes samples until one fits.
func (r *rig) wait(t *testing.T, metric, object string, value float64) Sample {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case s := <-r.got:
			if s.Metric == metric && s.Object == object && (s.Value == value || math.IsNaN(s.Value) && math.IsNaN(value)) {
				return s
			}
		case <-deadline:
			t.Fatalf("no sample %s %s %v", metric, object, value)
		}
	}
}

func TestCollectorFollowsADevice(t *testing.T) {
	r := newRig(t, Config{SampleInterval: time.Second})
	r.session(t, true)
	r.c.Up("d-1")
	list := <-r.asked
	if len(list.GetSubscription()) != 6 || list.GetEncoding() != gpb.Encoding_PROTO {
		t.Fatalf("subscription %v", list)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	r.send <- update(now, ifPath("c-1", "oper-status"), "UP", ifPath("c-1--h", "oper-status"), "DOWN",
		ifPath("c-1", "counters", "in-octets"), uint64(42),
		path(originState, "device", "state", "config-hash"), "abc", ifPath("c-1", "counters", "in-octets"), "not a number",
		path(originState, "tunnels", [3]string{"tunnel", "name", "c-1--h"}, "state", "loss-ratio"), 0.25) // last: all before it is counted
	r.send <- synced
	r.wait(t, DeviceUp, "", 1)
	if s := r.wait(t, CircuitUp, "c-1", 1); !s.At.Equal(now) || s.Device != "d-1" {
		t.Errorf("sample %+v, want time %s", s, now)
	}
	r.wait(t, TunnelUp, "c-1--h", 0)
	r.wait(t, InOctets, "c-1", 42)
	r.wait(t, TunnelLoss, "c-1--h", 0.25)
	if n := testutil.ToFloat64(r.c.m.ignored.WithLabelValues("value")); n != 1 {
		t.Errorf("%v unusable values", n)
	}

	// A device whose clock is hours off moves nothing else.
	r.send <- update(now.Add(3*time.Hour), ifPath("c-1", "oper-status"), "DOWN")
	if s := r.wait(t, CircuitUp, "c-1", 0); s.At.After(time.Now().Add(31 * time.Second)) {
		t.Errorf("time %s was not clamped", s.At)
	}
	r.send <- update(now.Add(-3*time.Hour), ifPath("c-1", "oper-status"), "UP")
	if s := r.wait(t, CircuitUp, "c-1", 1); s.At.Before(time.Now().Add(-11 * time.Minute)) {
		t.Errorf("time %s was not clamped", s.At)
	}
	for _, dir := range directions {
		if n := testutil.ToFloat64(r.c.m.clamped.WithLabelValues(dir)); n != 1 {
			t.Errorf("clamped %s %v", dir, n)
		}
	}
	if st := r.c.Targets(); len(st) != 1 || !st[0].Up || st[0].Clamped != 2 || st[0].Series != 4 {
		t.Errorf("targets %+v", st)
	}

	// The tunnel is taken out of the configuration.
	r.send <- &gpb.SubscribeResponse{Response: &gpb.SubscribeResponse_Update{Update: &gpb.Notification{
		Timestamp: now.UnixNano(), Prefix: path(originOpenConfig, "interfaces"), Delete: []*gpb.Path{path("", [3]string{"interface", "name", "c-1--h"})},
	}}}
	r.wait(t, TunnelUp, "c-1--h", math.NaN())

	// The session ends: the device is down, and says so again and again.
	r.session(t, false)
	r.c.Down("d-1")
	r.wait(t, DeviceUp, "", 0)
	r.wait(t, DeviceUp, "", 0)
	body := r.exposition()
	for _, want := range []string{
		"# TYPE device_up gauge\ndevice_up{device=\"d-1\",site=\"s \\\"1\\\"\",carrier=\"vnpt\"} 0\n",
		"# TYPE interface_in_octets_total counter\ninterface_in_octets_total{device=\"d-1\",site=\"s \\\"1\\\"\",object=\"c-1\",carrier=\"vnpt\"} 42\n",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("exposition lacks %q:\n%s", want, body)
		}
	}
	if strings.Contains(body, "tunnel_up{") {
		t.Errorf("the tunnel is still exposed:\n%s", body)
	}

	// It comes back; what it does not mention any more is gone.
	r.session(t, true)
	r.c.Up("d-1")
	<-r.asked
	r.send <- update(time.Now(), ifPath("c-2", "oper-status"), "UP")
	r.send <- synced
	r.wait(t, DeviceUp, "", 1)
	r.wait(t, CircuitUp, "c-1", math.NaN())

	r.c.Forget("d-1")
	r.wait(t, DeviceUp, "", math.NaN())
	if st := r.c.Targets(); len(st) != 0 {
		t.Errorf("targets %+v", st)
	}
}

func (r *rig) exposition() string {
	w := httptest.NewRecorder()
	r.c.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/federate", nil))
	return w.Body.String()
}

func TestCollectorComesBackAfterTheStreamEnds(t *testing.T) {
	r := newRig(t, Config{SampleInterval: time.Hour})
	r.session(t, true)
	r.c.Up("d-1")
	<-r.asked
	r.send <- update(time.Now(), ifPath("c-1", "oper-status"), "UP")
	r.wait(t, CircuitUp, "c-1", 1)
	r.send <- nil
	r.wait(t, DeviceUp, "", 0)
	<-r.asked // by itself
	r.send <- update(time.Now(), ifPath("c-1", "oper-status"), "UP")
	r.wait(t, DeviceUp, "", 1)
}

func TestCollectorRestartsASilentStream(t *testing.T) {
	r := newRig(t, Config{SampleInterval: 20 * time.Millisecond, Stall: 200 * time.Millisecond})
	r.session(t, true)
	r.c.Up("d-1")
	<-r.asked
	r.send <- update(time.Now(), ifPath("c-1", "oper-status"), "UP")
	<-r.asked
	if n := testutil.ToFloat64(r.c.m.streamEnds.WithLabelValues("stalled")); n < 1 {
		t.Errorf("%v stalled streams counted", n)
	}
}

func TestCollectorMissesWhoNeverCame(t *testing.T) {
	r := &rig{device: &device{}, got: make(chan Sample, 4096)}
	var err error
	r.c, err = NewCollector(Deps{
		Dial: r.dial, Sinks: []func(Sample){func(s Sample) { r.got <- s }}, Log: slog.New(slog.DiscardHandler),
		Expected: func() []inventory.DeviceID { return []inventory.DeviceID{"d-9"} },
	}, Config{SampleInterval: 10 * time.Millisecond, Grace: 30 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.c.Run(ctx) }()
	if s := r.wait(t, DeviceUp, "", 0); s.Device != "d-9" {
		t.Errorf("sample %+v", s)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCollectorBoundsAndCounts(t *testing.T) {
	c, err := NewCollector(Deps{
		Dial: func(context.Context, inventory.DeviceID) (grpc.ClientConnInterface, error) {
			return nil, errors.New("none")
		},
		Log: slog.New(slog.DiscardHandler),
	}, Config{Queue: 8, SeriesPer: 3})
	if err != nil {
		t.Fatal(err)
	}
	target := newTarget(c, "d-1")
	for i := range 20 {
		n := update(time.Now(), ifPath("c-1", "counters", "in-octets"), uint64(i)).GetUpdate()
		target.take(n, 1, time.Now())
	}
	if n := testutil.ToFloat64(c.m.dropped.WithLabelValues("measurement")); n != 12 {
		t.Errorf("dropped %v of 20 with room for 8", n)
	}
	for _, name := range []string{"c-2", "c-3", "c-4", "c-5"} {
		target.take(update(time.Now(), ifPath(name, "oper-status"), "UP").GetUpdate(), 1, time.Now())
	}
	if n := testutil.ToFloat64(c.m.ignored.WithLabelValues("full")); n != 2 {
		t.Errorf("%v series beyond the bound of one device", n)
	}
}
