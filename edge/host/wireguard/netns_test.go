//go:build lab

package wireguard

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"github.com/wardnet/wardnet/edge/host/wireguard/process"
	"github.com/wardnet/wardnet/edge/render"
)

// box is an edge in a network namespace of its own.
type box struct {
	ns, dir         string
	private, public string
	*Driver
	end func() // of Supervise
}

// newBox makes a namespace and opens a driver in it. Everything goes when the
// test ends.
func newBox(tb testing.TB, name string) *box {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root for network namespaces; run the tests as root")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		tb.Skipf("needs TUN devices: %v", err)
	}
	dir, err := os.MkdirTemp("", "w3") // short: a socket's path is limited
	if err != nil {
		tb.Fatal(err)
	}
	b := &box{ns: fmt.Sprintf("w3-%d-%s", os.Getpid(), name), dir: dir}
	b.private, b.public = newKey(tb)
	ip(tb, "netns", "add", b.ns)
	tb.Cleanup(func() { // after the process has ended
		ip(tb, "netns", "del", b.ns)
		_ = os.RemoveAll(dir)
	})
	ip(tb, "-n", b.ns, "link", "set", "lo", "up")
	b.in(func() { b.Driver, err = Open(b.config(tb)) })
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { b.kill(tb) })
	return b
}

func (b *box) config(tb testing.TB) Config {
	user := false
	return Config{RunDir: b.dir, Log: slog.New(slog.NewTextHandler(tb.Output(), nil)), Kernel: &user}
}

// in runs f in the box's namespace.
func (b *box) in(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.GetFromName(b.ns)
		if err == nil {
			err = netns.Set(ns)
			_ = ns.Close()
		}
		if err != nil {
			panic(fmt.Sprintf("enter %s: %v", b.ns, err))
		}
		f()
	}()
	<-done
}

// supervise runs Supervise until the returned function or the test ends.
func (b *box) supervise(tb testing.TB, onRestart func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.in(func() { b.Supervise(ctx, onRestart) })
	}()
	b.end = sync.OnceFunc(func() { cancel(); <-done })
	tb.Cleanup(b.end)
}

// apply must succeed.
func (b *box) apply(tb testing.TB, devices ...render.WireGuard) {
	tb.Helper()
	var err error
	b.in(func() { err = b.Apply(tb.Context(), b.private, devices) })
	if err != nil {
		tb.Fatal(err)
	}
}

func (b *box) state(tb testing.TB) map[string]Device {
	tb.Helper()
	s, err := b.State(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func (b *box) pid(tb testing.TB) int {
	tb.Helper()
	r, err := b.process.ask(context.Background(), process.Request{Op: process.Hello})
	if err != nil {
		tb.Fatal(err)
	}
	return r.PID
}

// kill ends the process of the box if there is one.
func (b *box) kill(tb testing.TB) {
	r, err := b.process.ask(context.Background(), process.Request{Op: process.Hello})
	if err != nil {
		return
	}
	if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
		tb.Error(err)
	}
	if err := b.process.gone(context.Background()); err != nil {
		tb.Error(err)
	}
}

// ip runs ip(8).
func ip(tb testing.TB, args ...string) string {
	tb.Helper()
	var errw bytes.Buffer
	cmd := exec.Command("ip", args...)
	cmd.Stderr = &errw
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, errw.String())
	}
	return string(out)
}

// link joins two boxes by a cable; a gets .1 and b .2 of net, as in 198.18.1.
func link(tb testing.TB, a, b *box, port, net string) {
	tb.Helper()
	ip(tb, "link", "add", port, "netns", a.ns, "type", "veth", "peer", "name", port, "netns", b.ns)
	for i, x := range []*box{a, b} {
		ip(tb, "-n", x.ns, "addr", "add", fmt.Sprintf("%s.%d/24", net, i+1), "dev", port)
		ip(tb, "-n", x.ns, "link", "set", port, "up")
	}
}

// pinger sends ICMP echo requests to one address.
type pinger struct {
	c   *icmp.PacketConn
	to  *net.IPAddr
	seq int
}

func (b *box) pinger(tb testing.TB, to string) *pinger {
	tb.Helper()
	p := &pinger{to: &net.IPAddr{IP: netip.MustParseAddr(to).AsSlice()}}
	var err error
	b.in(func() { p.c, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0") })
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.c.Close() })
	return p
}

// flow sends n requests, one each 10 ms, and returns how many had no answer
// within a second of the last.
func (p *pinger) flow(n int) (lost int) {
	first := p.seq + 1
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range n {
			p.send()
			time.Sleep(10 * time.Millisecond)
		}
	}()
	got := map[int]bool{}
	deadline := time.Now().Add(time.Duration(n)*10*time.Millisecond + time.Second)
	for len(got) < n {
		seq, ok := p.receive(deadline)
		if !ok {
			break
		}
		if seq >= first {
			got[seq] = true
		}
	}
	<-sent
	return n - len(got)
}

// answers tries every 10 ms until an answer comes or the time is over.
func (p *pinger) answers(within time.Duration) bool {
	for end := time.Now().Add(within); time.Now().Before(end); {
		p.send()
		if _, ok := p.receive(time.Now().Add(10 * time.Millisecond)); ok {
			return true
		}
	}
	return false
}

func (p *pinger) send() {
	p.seq++
	msg := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: p.seq}}
	raw, _ := msg.Marshal(nil)
	_, _ = p.c.WriteTo(raw, p.to) // a lost one has no answer
}

// receive returns the number of the next answer.
func (p *pinger) receive(deadline time.Time) (int, bool) {
	_ = p.c.SetReadDeadline(deadline)
	for buf := make([]byte, 1500); ; {
		n, _, err := p.c.ReadFrom(buf)
		if err != nil {
			return 0, false
		}
		msg, err := icmp.ParseMessage(1, buf[:n])
		if err != nil || msg.Type != ipv4.ICMPTypeEchoReply {
			continue
		}
		if echo, ok := msg.Body.(*icmp.Echo); ok && echo.ID == os.Getpid()&0xffff {
			return echo.Seq, true
		}
	}
}
