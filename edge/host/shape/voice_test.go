//go:build lab

package shape

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge/host/hosttest"
	"github.com/wardnet/wardnet/edge/host/wireguard"
	"github.com/wardnet/wardnet/edge/render"
)

// TestVoice: a call by WireGuard over a circuit of 20 Mbit/s, whose modem buffers
// 200 ms, while TCP and UDP by two tunnels and past them ask for more than it
// has. It loses less than 1 % and gains less than 10 ms of jitter; without the
// queue it is ruined.
func TestVoice(t *testing.T) {
	if !hosttest.Enter(t, "far") {
		return
	}
	s := newScene(t, wireGuard)
	s.check(t, quality.jitter)
	if err := s.queues.Apply(t.Context(), render.Input{}); err != nil {
		t.Fatal(err)
	}
	s.calls.call(t, 2*time.Second)
	bare := s.calls.call(t, 4*time.Second)
	t.Logf("bare   %s", bare)
	if bare.loss() < 0.05 && bare.p(50) < 50*time.Millisecond {
		t.Error("the call is fine without a queue too: this proves nothing")
	}
}

// TestVoiceQueue is the same by tunnels that take no time of their own, so that
// what is measured is the queue: peak to peak, but for one packet in a hundred.
func TestVoiceQueue(t *testing.T) {
	if !hosttest.Enter(t, "far") {
		return
	}
	newScene(t, plain).check(t, func(q quality) time.Duration { return q.p(99) - q.p(0) })
}

// scene is the box, its circuit, and who receives at the far end of it.
type scene struct {
	queues      *Queues
	calls, bulk *sink
}

// newScene is a box whose modem takes 20 Mbit/s, as the contract says.
func newScene(t *testing.T, tunnels func(*testing.T, render.Input)) scene {
	t.Helper()
	s := wired(t, input(), tunnels)
	hosttest.Run(t, "tc", "qdisc", "add", "dev", "wan0", "root", "tbf", "rate", "20mbit", "burst", "4k", "limit", "500k")
	return s
}

// wired is a box whose circuit is as fast as the machine.
func wired(t *testing.T, in render.Input, tunnels func(*testing.T, render.Input)) scene {
	t.Helper()
	far := hosttest.Space("far")
	run := func(args ...string) { t.Helper(); hosttest.Run(t, args[0], args[1:]...) }
	run("ip", "link", "add", "wan0", "type", "veth", "peer", "name", "eth0", "netns", far)
	run("ip", "link", "set", "wan0", "up")
	run("ip", "-n", far, "link", "set", "eth0", "up")
	run("ip", "addr", "add", "198.51.100.2/24", "dev", "wan0")
	run("ip", "-n", far, "addr", "add", "198.51.100.1/24", "dev", "eth0")
	tunnels(t, in)
	for i, tn := range in.Config.Tunnels {
		name := render.Interface(tn)
		run("ip", "addr", "add", fmt.Sprintf("10.9.%d.1/30", i), "dev", name)
		run("ip", "link", "set", name, "up", "mtu", "1420")
		run("ip", "-n", far, "addr", "add", fmt.Sprintf("10.9.%d.2/30", i), "dev", name)
		run("ip", "-n", far, "link", "set", name, "up", "mtu", "1420")
	}
	s := scene{queues: open(t), calls: &sink{}, bulk: &sink{}}
	s.calls.serve(t, "10.9.0.2:5004")
	s.bulk.serve(t, "10.9.0.2:5001", "198.51.100.1:5001")
	s.bulk.accept(t, "10.9.1.2:5001")
	apply(t, s.queues, in)
	return s
}

// check compares a call in an idle circuit with one in a full one, which stays
// full until the test ends.
func (s scene) check(t *testing.T, jitter func(quality) time.Duration) {
	t.Helper()
	idle := s.calls.call(t, 3*time.Second)
	t.Cleanup(load(t))
	s.calls.call(t, 2*time.Second) // until TCP has filled the circuit
	s.bulk.bytes.Store(0)
	start := time.Now()
	loaded := s.calls.call(t, 8*time.Second)
	mbps := float64(s.bulk.bytes.Load()) * 8 / 1e6 / time.Since(start).Seconds()
	t.Logf("idle   %s", idle)
	t.Logf("queued %s beside %.1f Mbit/s", loaded, mbps)
	added := jitter(loaded) - jitter(idle)
	if limit := hosttest.Within(t, 10*time.Millisecond); loaded.loss() >= 0.01 || added >= limit {
		t.Errorf("the call loses %.1f %% and gains %s of jitter under load, want under 1 %% and %s", 100*loaded.loss(), added, limit)
	}
	if mbps < 12 {
		t.Errorf("the rest gets %.1f Mbit/s of the circuit's 20", mbps)
	}
}

// load asks for more than the circuit has, until it is stopped.
func load(t *testing.T) (stop func()) {
	t.Helper()
	end := make(chan struct{})
	var all sync.WaitGroup
	flood := func(to string, every time.Duration) {
		c := dial(t, "udp", to, 0)
		all.Go(func() {
			defer c.Close()
			tick := time.NewTicker(every)
			defer tick.Stop()
			packet := make([]byte, 1300)
			for {
				select {
				case <-end:
					return
				case <-tick.C:
					for range 4 {
						_, _ = c.Write(packet) // a full queue is what is wanted
					}
				}
			}
		})
	}
	flood("10.9.0.2:5001", 4*time.Millisecond)     // 10 Mbit/s by the call's tunnel
	flood("198.51.100.1:5001", 4*time.Millisecond) // 10 Mbit/s to the internet
	for _, mark := range []uint32{0, 0, render.ClassMark(1)} {
		c := dial(t, "tcp", "10.9.1.2:5001", mark)
		all.Go(func() {
			buffer := make([]byte, 256<<10)
			for {
				if _, err := c.Write(buffer); err != nil {
					return
				}
			}
		})
		all.Go(func() { <-end; _ = c.Close() })
	}
	return func() { close(end); all.Wait() }
}

func dial(t *testing.T, network, to string, mark uint32) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{Timeout: 5 * time.Second, Control: marked(mark)}).Dial(network, to)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func marked(mark uint32) func(string, string, syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark)) }); e != nil {
			return e
		}
		return err
	}
}

// sink receives in the far namespace.
type sink struct {
	bytes  atomic.Int64
	mu     sync.Mutex
	delays []time.Duration // of packets that begin with when they were sent
}

func (s *sink) serve(t *testing.T, addrs ...string) {
	t.Helper()
	for _, a := range addrs {
		inFar(t, func() error {
			c, err := net.ListenPacket("udp", a)
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = c.Close() })
			go func() {
				b := make([]byte, 2000)
				for {
					n, _, err := c.ReadFrom(b)
					if err != nil {
						return
					}
					s.bytes.Add(int64(n))
					d := time.Duration(time.Now().UnixNano() - int64(binary.BigEndian.Uint64(b)))
					s.mu.Lock()
					s.delays = append(s.delays, d)
					s.mu.Unlock()
				}
			}()
			return nil
		})
	}
}

func (s *sink) accept(t *testing.T, addr string) {
	t.Helper()
	inFar(t, func() error {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(counter{&s.bytes}, c) }() // until the sender ends
			}
		}()
		return nil
	})
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}

// call sends 50 packets a second, as a telephone does, and says how they fared.
func (s *sink) call(t *testing.T, d time.Duration) quality {
	t.Helper()
	s.mu.Lock()
	s.delays = nil
	s.mu.Unlock()
	c := dial(t, "udp", "10.9.0.2:5004", render.ClassMark(0))
	defer c.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	n := int(d / (20 * time.Millisecond))
	packet := make([]byte, 172) // G.711, 20 ms
	for range n {
		<-tick.C
		binary.BigEndian.PutUint64(packet, uint64(time.Now().UnixNano()))
		if _, err := c.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	got := func() []time.Duration {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Clone(s.delays)
	}
	for end := time.Now().Add(time.Second); len(got()) < n && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	return quality{n, got()}
}

// quality is how the packets of a call fared: delays are as they came.
type quality struct {
	sent   int
	delays []time.Duration
}

func (q quality) loss() float64 { return 1 - float64(len(q.delays))/float64(q.sent) }

// jitter is what a telephone reports (RFC 3550 §6.4.1), over the whole call.
func (q quality) jitter() time.Duration {
	if len(q.delays) < 2 {
		return time.Hour
	}
	var sum time.Duration
	for i := range len(q.delays) - 1 {
		sum += (q.delays[i+1] - q.delays[i]).Abs()
	}
	return sum / time.Duration(len(q.delays)-1)
}

func (q quality) p(percent int) time.Duration {
	if len(q.delays) == 0 {
		return time.Hour
	}
	sorted := slices.Sorted(slices.Values(q.delays))
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}

func (q quality) String() string {
	r := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
	return fmt.Sprintf("%d sent, %.2f %% lost, jitter %s, delay p50 %s p95 %s p99 %s max %s",
		q.sent, 100*q.loss(), r(q.jitter()), r(q.p(50)), r(q.p(95)), r(q.p(99)), r(q.p(100)))
}

// Keys of the two ends, base64; made for this test.
const (
	nearKey = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
	farKey  = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
)

// plain joins the box with the far namespace by links in place of tunnels.
func plain(t *testing.T, in render.Input) {
	t.Helper()
	for _, tn := range in.Config.Tunnels {
		name := render.Interface(tn)
		hosttest.Run(t, "ip", "link", "add", name, "type", "veth", "peer", "name", name, "netns", hosttest.Space("far"))
	}
}

// wireGuard joins them by WireGuard, as the host does.
func wireGuard(t *testing.T, in render.Input) {
	t.Helper()
	nearPublic, err1 := wireguard.PublicKey(nearKey)
	farPublic, err2 := wireguard.PublicKey(farKey)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	var near, other []render.WireGuard
	for i, tn := range in.Config.Tunnels {
		name, port := render.Interface(tn), uint16(51820+i)
		all := []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(i), 0}), 30)}
		near = append(near, render.WireGuard{Name: name, MTU: 1420, Mark: render.CircuitMark(tn.Circuit), Peers: []render.Peer{{
			Tunnel: tn.Name, PublicKey: farPublic, Endpoint: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), port), AllowedIPs: all, KeepaliveSeconds: 25,
		}}})
		other = append(other, render.WireGuard{Name: name, MTU: 1420, ListenPort: port, Peers: []render.Peer{{Tunnel: tn.Name, PublicKey: nearPublic, AllowedIPs: all}}})
	}
	dir, kernel := t.TempDir(), false
	put := func(side, key string, devices []render.WireGuard) error {
		d, err := wireguard.Open(wireguard.Config{RunDir: filepath.Join(dir, side), Log: slog.New(slog.DiscardHandler), Kernel: &kernel})
		if err != nil {
			return err
		}
		return d.Apply(t.Context(), key, devices)
	}
	inFar(t, func() error { return put("far", farKey, other) })
	if err := put("near", nearKey, near); err != nil {
		t.Fatal(err)
	}
}

// inFar runs what opens sockets in the far namespace.
func inFar(t *testing.T, do func() error) {
	t.Helper()
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.GetFromName(hosttest.Space("far"))
		if err == nil {
			err = netns.Set(ns)
			_ = ns.Close() // it was only entered
		}
		if err == nil {
			err = do()
		}
		result <- err
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}
