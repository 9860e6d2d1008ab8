package tool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/wardnet/wardnet/edge/gnoi"
	"github.com/wardnet/wardnet/edge/host/hosttest"
	"github.com/wardnet/wardnet/inventory"
)

// wires is a box in the test's namespace: circuit "wan", and "other", to which
// answers come back by "wan".
type wires struct{ port Port }

func (w wires) Leave(from From, _ netip.Addr) (Way, error) {
	switch from.Circuit {
	case "wan":
		return Way{Interface: w.port.Interface}, nil
	case "other":
		return Way{Interface: "c0", OnLink: true, Source: netip.MustParseAddr("10.9.1.1")}, nil
	case "":
		return Way{}, nil
	}
	return Way{}, fmt.Errorf("%w: this device has no %s", inventory.ErrInvalid, from)
}

func (w wires) Look(on From) (Port, error) {
	switch on.Circuit {
	case "wan":
		return w.port, nil
	case "gone":
		return Port{Interface: "gone0"}, nil
	}
	return Port{}, fmt.Errorf("%w: this device has no %s", inventory.ErrInvalid, on)
}

// dial serves the tools of box and returns a client of them.
func dial(t *testing.T, register func(*grpc.Server)) gnoi.ToolsClient {
	t.Helper()
	ln := bufconn.Listen(1 << 20)
	srv := grpc.NewServer()
	register(srv)
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient("passthrough:box", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return gnoi.NewToolsClient(conn)
}

// all reads a stream to its end.
func all[T any](stream grpc.ServerStreamingClient[T], err error) ([]*T, error) {
	var out []*T
	for err == nil {
		var m *T
		if m, err = stream.Recv(); err == nil {
			out = append(out, m)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return out, err
}

// streets connects this namespace by a router to "far": 10.9.1.0/24 here, then
// 10.9.2.0/24 with an MTU of 1400. Over a second link the router answers for
// 10.9.5.5 behind it, to which routing here knows no way.
func streets(t *testing.T) {
	t.Helper()
	own, mid, far := hosttest.Space(""), hosttest.Space("mid"), hosttest.Space("far")
	ip := func(args string, a ...any) { hosttest.Run(t, "ip", strings.Fields(fmt.Sprintf(args, a...))...) }
	for _, space := range []string{own, mid, far} { // no waiting for duplicate addresses
		hosttest.Run(t, "ip", "netns", "exec", space, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.default.dad_transmits=0")
	}
	ip("-n %s link add a0 type veth peer name a1 netns %s", own, mid)
	ip("-n %s link add b0 type veth peer name b1 netns %s", mid, far)
	ip("-n %s link add c0 type veth peer name c1 netns %s", own, mid)
	for _, l := range [][4]string{{own, "c0", "10.9.4.1", "fd09:4::1"}, {mid, "c1", "10.9.4.2", "fd09:4::2"}, {own, "a0", "10.9.1.1", "fd09:1::1"}, {mid, "a1", "10.9.1.2", "fd09:1::2"}, {mid, "b0", "10.9.2.1", "fd09:2::1"}, {far, "b1", "10.9.2.2", "fd09:2::2"}} {
		ip("-n %s link set %s up", l[0], l[1])
		ip("-n %s addr add %s/24 dev %s", l[0], l[2], l[1])
		ip("-n %s addr add %s/64 dev %s nodad", l[0], l[3], l[1])
	}
	ip("-n %s link set b0 mtu 1400", mid)
	ip("-n %s link set b1 mtu 1400", far)
	ip("-n %s addr add 10.9.5.5/32 dev lo", far)
	hosttest.Run(t, "ip", "netns", "exec", mid, "sysctl", "-qw", "net.ipv4.conf.c1.proxy_arp=1", "net.ipv4.neigh.c1.proxy_delay=0", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.icmp_ratelimit=0")
	for _, r := range [][2]string{{own, "10.9.0.0/16 via 10.9.1.2"}, {own, "fd09::/16 via fd09:1::2"}, {far, "10.9.1.0/24 via 10.9.2.1"}, {far, "fd09:1::/64 via fd09:2::1"}, {mid, "10.9.3.0/24 via 10.9.2.2"}, {mid, "10.9.5.0/24 via 10.9.2.2"}, {own, "blackhole 10.9.5.0/24"}} {
		ip("-n %s route add %s", r[0], r[1])
	}
	// Not a route of type prohibit: its answers are rationed for the whole machine.
	hosttest.Run(t, "ip", "netns", "exec", mid, "nft", "table ip guard { chain forward { type filter hook forward priority 0; ip daddr 10.9.3.0/24 reject with icmp admin-prohibited; }; }")
}

func TestToolsOnRealPackets(t *testing.T) {
	if !hosttest.Enter(t, "mid", "far") {
		return
	}
	streets(t)
	c := dial(t, New(wires{Port{Interface: "a0"}}, slog.New(slog.DiscardHandler)).Register)
	t.Run("ping", func(t *testing.T) { pingReal(t, c) })
	t.Run("trace", func(t *testing.T) { traceReal(t, c) })
	t.Run("capture", func(t *testing.T) { captureReal(t, c) })
	t.Run("filters", func(t *testing.T) { filtersReal(t, c) })
	t.Run("limits", func(t *testing.T) { limitsReal(t, c) })
	shared := dial(t, New(wires{Port{Interface: "a0", Hosts: []netip.Prefix{netip.MustParsePrefix("10.9.2.0/24")}}}, slog.New(slog.DiscardHandler)).Register)
	t.Run("shared port", func(t *testing.T) {
		got := during(t, shared, &gnoi.CaptureRequest{Circuit: "wan", Filter: "icmp or udp", MaxSeconds: 1}, c, "10.9.1.2", "10.9.2.2")
		if len(got) != 2 || dst(got[0]) != "10.9.2.2" {
			t.Errorf("%d packets, of another's too: %q", len(got), got)
		}
	})
}

func pingReal(t *testing.T, c gnoi.ToolsClient) {
	for _, tc := range []struct {
		name           string
		req            *gnoi.PingRequest
		received       uint32
		source, errors string
		hops           uint32
	}{
		{"reply", &gnoi.PingRequest{Destination: "10.9.2.2", Count: 3, IntervalMs: 100, WaitMs: 4000}, 3, "10.9.2.2", "", 63}, // a busy machine answers late
		{"reply by a circuit", &gnoi.PingRequest{Destination: "10.9.2.2", Count: 1, From: &gnoi.From{Circuit: "wan"}}, 1, "10.9.2.2", "", 63},
		{"by a link that routing does not use", &gnoi.PingRequest{Destination: "10.9.5.5", Count: 2, IntervalMs: 100, From: &gnoi.From{Circuit: "other"}}, 2, "10.9.5.5", "", 63},
		{"blackhole", &gnoi.PingRequest{Destination: "10.9.5.5", Count: 1}, 0, "", "no route on this device", 0},
		{"reply, IPv6", &gnoi.PingRequest{Destination: "fd09:2::2", Count: 2, IntervalMs: 100}, 2, "fd09:2::2", "", 63},
		{"cut into fragments", &gnoi.PingRequest{Destination: "10.9.2.2", Count: 1, SizeBytes: 3000}, 1, "10.9.2.2", "", 63},
		{"too big on the way", &gnoi.PingRequest{Destination: "10.9.2.2", Count: 2, IntervalMs: 100, SizeBytes: 1450, DontFragment: true}, 0, "10.9.1.2", "packet too big, mtu 1400", 0},
		{"too big on the way, IPv6", &gnoi.PingRequest{Destination: "fd09:2::2", Count: 2, IntervalMs: 100, SizeBytes: 1420, DontFragment: true}, 0, "fd09:1::2", "packet too big, mtu 1400", 0},
		{"too big here", &gnoi.PingRequest{Destination: "10.9.2.2", Count: 1, SizeBytes: 1473, DontFragment: true}, 0, "", "packet too big, mtu 1500", 0},
		{"just fits", &gnoi.PingRequest{Destination: "10.9.2.2", Count: 1, SizeBytes: 1372, DontFragment: true}, 1, "10.9.2.2", "", 63},
		{"prohibited", &gnoi.PingRequest{Destination: "10.9.3.1", Count: 1}, 0, "10.9.1.2", "prohibited", 0},
		{"no route", &gnoi.PingRequest{Destination: "198.51.100.1", Count: 1}, 0, "", "no route on this device", 0},
		{"silence", &gnoi.PingRequest{Destination: "10.9.2.77", Count: 2, IntervalMs: 100, WaitMs: 50}, 0, "", "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := all(c.Ping(t.Context(), tc.req))
			if err != nil || len(got) != int(tc.req.Count)+1 {
				t.Fatalf("%v, %v", got, err)
			}
			s := got[len(got)-1].GetSummary()
			if s.GetSent() != tc.req.Count || s.GetReceived() != tc.received || (tc.received > 0) != (s.GetMinTimeNs() > 0) {
				t.Errorf("summary %v", s)
			}
			for _, r := range got[:tc.req.Count] {
				if r.Source != tc.source || r.Error != tc.errors || r.HopLimit != tc.hops || (tc.received > 0) != (r.TimeNs > 0) {
					t.Errorf("%v", r)
				}
			}
		})
	}
}

func traceReal(t *testing.T, c gnoi.ToolsClient) {
	for _, tc := range []struct {
		dst  string
		want []string
	}{
		{"10.9.2.2", []string{"1.1 10.9.1.2 ", "1.2 10.9.1.2 ", "2.1 10.9.2.2 reached", "2.2 10.9.2.2 reached"}},
		{"fd09:2::2", []string{"1.1 fd09:1::2 ", "1.2 fd09:1::2 ", "2.1 fd09:2::2 reached", "2.2 fd09:2::2 reached"}},
		{"10.9.3.1", []string{"1.1 10.9.1.2 ", "1.2 10.9.1.2 ", "2.1 10.9.1.2 prohibited", "2.2 10.9.1.2 prohibited"}},
		{"198.51.100.1", []string{"1.1  no route on this device", "1.2  no route on this device"}},
		{"10.9.2.77", []string{"1.1 10.9.1.2 ", "1.2 10.9.1.2 ", "2.1  ", "2.2  ", "3.1  ", "3.2  "}},
	} {
		got, err := all(c.Traceroute(t.Context(), &gnoi.TracerouteRequest{Destination: tc.dst, MaxHops: 3, Probes: 2, WaitMs: 300}))
		var lines []string
		for _, r := range got {
			lines = append(lines, fmt.Sprintf("%d.%d %s %s", r.Hop, r.Probe, r.Address, r.State))
		}
		if strings.Join(lines, "\n") != strings.Join(tc.want, "\n") || err != nil {
			t.Errorf("%s: %q, %v\nwant %q", tc.dst, lines, err, tc.want)
		}
	}
}

// during captures while c pings dsts, once each, and returns the packets.
func during(t *testing.T, capture gnoi.ToolsClient, req *gnoi.CaptureRequest, c gnoi.ToolsClient, dsts ...string) [][]byte {
	t.Helper()
	stream, err := capture.Capture(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv() // it listens
	if err != nil {
		t.Fatal(err)
	}
	for _, dst := range dsts {
		if _, err := all(c.Ping(t.Context(), &gnoi.PingRequest{Destination: dst, Count: 1})); err != nil {
			t.Fatal(err)
		}
	}
	rest, err := all(stream, nil)
	if err != nil || len(rest) == 0 {
		t.Fatal(rest, err)
	}
	file, last := first.Pcap, rest[len(rest)-1]
	for _, r := range rest {
		file = append(file, r.Pcap...)
	}
	got := packets(t, file)
	if !last.Done || int(last.Packets) != len(got) || last.Ended == "" {
		t.Errorf("%d packets, %v", len(got), last)
	}
	return got
}

// packets reads a pcap file of Ethernet frames.
func packets(t *testing.T, file []byte) [][]byte {
	t.Helper()
	if len(file) < fileHeader || binary.LittleEndian.Uint32(file) != 0xa1b2c3d4 || file[20] != 1 {
		t.Fatalf("no pcap file of Ethernet: %x", file)
	}
	var out [][]byte
	for b := file[fileHeader:]; len(b) > 0; {
		n := recordHeader + int(binary.LittleEndian.Uint32(b[8:]))
		out, b = append(out, b[recordHeader:n]), b[n:]
	}
	return out
}

func dst(frame []byte) string { return netip.AddrFrom4([4]byte(frame[30:34])).String() }

func captureReal(t *testing.T, c gnoi.ToolsClient) {
	got := during(t, c, &gnoi.CaptureRequest{Circuit: "wan", Filter: "icmp and host 10.9.2.2", MaxPackets: 4, MaxSeconds: 20, SnapBytes: 64}, c, "10.9.1.2", "10.9.2.2", "10.9.2.2")
	if len(got) != 4 {
		t.Fatalf("%d packets", len(got))
	}
	for _, p := range got {
		if len(p) != 64 || binary.BigEndian.Uint16(p[12:]) != 0x0800 || p[23] != protoICMP {
			t.Errorf("%x", p)
		}
	}
	// The bound of bytes: the file stays whole.
	if got := during(t, c, &gnoi.CaptureRequest{Circuit: "wan", Filter: "icmp", MaxBytes: 300, MaxSeconds: 20}, c, "10.9.2.2", "10.9.2.2"); len(got) != 2 {
		t.Errorf("%d packets in 300 bytes", len(got))
	}
	// The bound of time.
	start := time.Now()
	if got := during(t, c, &gnoi.CaptureRequest{Circuit: "wan", Filter: "udp port 9", MaxSeconds: 1}, c, "10.9.2.2"); len(got) != 0 || time.Since(start) > 10*time.Second {
		t.Errorf("%d packets after %s", len(got), time.Since(start))
	}
	if _, err := all(c.Capture(t.Context(), &gnoi.CaptureRequest{Circuit: "gone"})); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a port that is not there: %v", err)
	}
}

func filtersReal(t *testing.T, c gnoi.ToolsClient) {
	trap := filepath.Join(t.TempDir(), "trap")
	for _, filter := range []string{"-w " + trap, "-z" + trap, "--version", "icmp and", "icmp) or (udp", "port 70000", "$(touch " + trap + ")"} {
		_, err := all(c.Capture(t.Context(), &gnoi.CaptureRequest{Circuit: "wan", Filter: filter, MaxSeconds: 1}))
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "filter") {
			t.Errorf("%q: %v", filter, err)
		}
	}
	if _, err := os.Stat(trap); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a filter became an option: %v", err)
	}
}

// dumps are this process's tcpdump children, with their status.
func dumps(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if s := string(b); err == nil && strings.HasPrefix(s, "Name:\ttcpdump\n") && strings.Contains(s, fmt.Sprintf("\nPPid:\t%d\n", os.Getpid())) {
			out = append(out, s)
		}
	}
	return out
}

func limitsReal(t *testing.T, c gnoi.ToolsClient) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range atOnce {
		stream, err := c.Capture(ctx, &gnoi.CaptureRequest{Circuit: "wan", Filter: "udp port 9", MaxSeconds: 60})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := all(c.Ping(t.Context(), &gnoi.PingRequest{Destination: "10.9.2.2"})); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "wait until") {
		t.Errorf("a third tool: %v", err)
	}
	running := dumps(t)
	if len(running) != atOnce {
		t.Fatalf("%d tcpdump run", len(running))
	}
	for _, s := range running { // nobody, with CAP_NET_RAW (bit 13) alone
		if !strings.Contains(s, "\nUid:\t65534\t65534\t65534\t65534\n") || !strings.Contains(s, "\nCapEff:\t0000000000002000\n") {
			t.Errorf("tcpdump may more than it must:\n%s", s)
		}
	}
	cancel()
	hosttest.Eventually(t, 5*time.Second, "tcpdump ends with its stream", func() bool { return len(dumps(t)) == 0 })
	hosttest.Eventually(t, 5*time.Second, "the places are free again", func() bool {
		_, err := all(c.Ping(t.Context(), &gnoi.PingRequest{Destination: "10.9.2.2", Count: 1}))
		return err == nil
	})
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := all(c.Ping(ctx, &gnoi.PingRequest{Destination: "10.9.2.77", Count: 100, IntervalMs: 5000})); status.Code(err) != codes.DeadlineExceeded || time.Since(start) > 5*time.Second {
		t.Errorf("a ping outlives its caller: %v after %s", err, time.Since(start))
	}
	for _, err := range []error{
		second(all(c.Ping(t.Context(), &gnoi.PingRequest{Destination: "10.9.2.2", Count: 101}))),
		second(all(c.Ping(t.Context(), &gnoi.PingRequest{Destination: "10.9.2.2", From: &gnoi.From{Circuit: "none"}}))),
		second(all(c.Traceroute(t.Context(), &gnoi.TracerouteRequest{Destination: "x", MaxHops: 65}))),
		second(all(c.Capture(t.Context(), &gnoi.CaptureRequest{Circuit: "none"}))),
	} {
		if status.Code(err) != codes.InvalidArgument {
			t.Error(err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestAbsentSaysWhy(t *testing.T) {
	c := dial(t, Absent("a simulated edge sends no packet"))
	for _, err := range []error{
		second(all(c.Ping(t.Context(), &gnoi.PingRequest{}))), second(all(c.Traceroute(t.Context(), &gnoi.TracerouteRequest{}))), second(all(c.Capture(t.Context(), &gnoi.CaptureRequest{}))),
	} {
		if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "simulated") {
			t.Error(err)
		}
	}
}
