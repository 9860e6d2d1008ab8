//go:build lab

package strongswan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// box is one device in a namespace of its own.
type box struct {
	t      *testing.T
	ns     string
	dir    string
	driver *Driver
	input  render.Input
	id     Identity
	stop   func() // ends the driver's Run, as the agent's end would
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: network namespaces need root")
	}
	switch _, err := os.Stat("/dev/net/tun"); {
	case errors.Is(err, fs.ErrNotExist):
		t.Skip("SKIPPED: userspace ESP needs /dev/net/tun")
	case err != nil:
		t.Fatal(err)
	}
}

// in runs f in the box's namespace, on a thread that ends with it.
func (b *box) in(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread is spoilt
		done <- func() error {
			ns, err := os.Open("/run/netns/" + b.ns)
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			return f()
		}()
	}()
	return <-done
}

// open makes a driver in the place of the one there is, as a new agent process
// would, and runs it.
func (b *box) open() {
	b.t.Helper()
	if b.stop != nil {
		b.stop()
	}
	log := slog.New(slog.NewTextHandler(b.t.Output(), nil)).With("device", b.input.Config.Device)
	if err := b.in(func() (err error) {
		b.driver, err = Open(Config{RunDir: b.dir, Log: log})
		return err
	}); err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan struct{})
	d := b.driver
	go func() {
		defer close(ended)
		_ = b.in(func() error { d.Run(ctx); return nil })
	}()
	b.stop = func() { cancel(); <-ended }
	b.t.Cleanup(b.stop)
}

func (b *box) tunnels() []render.IPsecTunnel {
	b.t.Helper()
	list, err := render.IPsec(b.input)
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}

// apply is what the host does: tunnels, then the interfaces' addresses.
func (b *box) apply(list []render.IPsecTunnel) {
	b.t.Helper()
	if err := b.in(func() error {
		if err := b.driver.Apply(b.t.Context(), b.id, list); err != nil {
			return err
		}
		for _, x := range list {
			l, err := netlink.LinkByName(x.Interface)
			if err != nil {
				return err
			}
			for _, c := range b.input.Config.Tunnels {
				if c.Name != x.Name {
					continue
				}
				four := &netlink.Addr{IPNet: &net.IPNet{IP: c.Local.Addr().AsSlice(), Mask: net.CIDRMask(31, 32)}}
				six := &netlink.Addr{IPNet: &net.IPNet{IP: render.Inner(c.Local.Addr()).AsSlice(), Mask: net.CIDRMask(127, 128)}, Flags: unix.IFA_F_NODAD}
				if err := errors.Join(netlink.AddrReplace(l, four), netlink.AddrReplace(l, six)); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		b.t.Fatalf("%s: %v", b.ns, err)
	}
}

// ping sends n echo requests from src to dst, one after the other's reply or
// 200 ms, at most one in 10 ms, and counts replies.
func (b *box) ping(src, dst string, n int) (got int) {
	b.t.Helper()
	if err := b.in(func() error {
		c, err := icmp.ListenPacket("ip4:icmp", src)
		if err != nil {
			return err
		}
		defer c.Close()
		to := &net.IPAddr{IP: net.ParseIP(dst)}
		id := int(time.Now().UnixNano() & 0xffff)
		buf := make([]byte, 2000)
		for i := range n {
			m, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: i, Data: bytes.Repeat([]byte("w"), 1322)}}).Marshal(nil)
			if err != nil {
				return err
			}
			if i > 0 {
				time.Sleep(10 * time.Millisecond)
			}
			_, _ = c.WriteTo(m, to) // refused by a filter: no reply
			end := time.Now().Add(200 * time.Millisecond)
			for time.Now().Before(end) {
				_ = c.SetReadDeadline(end)
				k, _, err := c.ReadFrom(buf)
				if err != nil {
					break
				}
				if r, err := icmp.ParseMessage(1, buf[:k]); err == nil && r.Type == ipv4.ICMPTypeEchoReply {
					if e := r.Body.(*icmp.Echo); e.ID == id && e.Seq == i {
						got++
						break
					}
				}
			}
		}
		return nil
	}); err != nil {
		b.t.Fatalf("%s: ping: %v", b.ns, err)
	}
	return got
}

// carriesV6 opens a TCP connection over IPv6 from b to peer, at the address
// beside there.
func (b *box) carriesV6(peer *box, there string) {
	b.t.Helper()
	var l net.Listener
	addr := netip.AddrPortFrom(render.Inner(netip.MustParseAddr(there)), 7).String()
	err := peer.in(func() (err error) { l, err = net.Listen("tcp6", addr); return err })
	if err != nil {
		b.t.Fatal(err)
	}
	defer l.Close()
	if err := b.in(func() error {
		c, err := net.DialTimeout("tcp6", addr, 3*time.Second)
		if err == nil {
			err = c.Close()
		}
		return err
	}); err != nil {
		b.t.Errorf("IPv6 over the tunnel: %v", err)
	}
}

// session is a conversation with the box's charon.
func (b *box) session(f func(*client) error) {
	b.t.Helper()
	s, err := dial(b.t.Context(), b.driver.charon.socket())
	if err != nil {
		b.t.Fatal(err)
	}
	defer s.close()
	if err := f(s); err != nil {
		b.t.Fatal(err)
	}
}

// sas gives the unique id of each tunnel's IKE SA, by tunnel.
func (b *box) sas() map[string]string {
	b.t.Helper()
	out := map[string]string{}
	b.session(func(s *client) error {
		list, err := s.stream(b.t.Context(), "list-sas", "list-sa", nil)
		for _, x := range b.tunnels() {
			if c, ok := newest(children(list)[key(x)]); ok {
				out[x.Name] = c.ike
			}
		}
		return err
	})
	return out
}

// up waits until every tunnel of the box is up.
func (b *box) up(within time.Duration) time.Duration {
	b.t.Helper()
	return b.until(within, "tunnels are up", func() bool {
		list, err := b.driver.State(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		for _, s := range list {
			if !s.Up {
				return false
			}
		}
		return len(list) > 0
	})
}

func (b *box) until(within time.Duration, what string, ok func() bool) time.Duration {
	b.t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > within {
			log, _ := os.ReadFile(b.driver.charon.logFile())
			b.t.Fatalf("%s: not within %s: %s; charon says:\n%s", b.ns, within, what, log)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(start)
}

// talkative makes charon log what it refuses.
func (b *box) talkative() {
	b.t.Helper()
	path := filepath.Join(b.dir, "strongswan.conf")
	text := strings.Replace(b.driver.charon.settings(), "default = 0", "default = 1", 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.session(func(s *client) error {
		_, err := s.call(b.t.Context(), "reload-settings", nil)
		return err
	})
}

func (b *box) logged(text string) bool {
	log, err := os.ReadFile(b.driver.charon.logFile())
	return err == nil && bytes.Contains(log, []byte(text))
}

// newBox makes a device with a /30 per circuit to the router namespace.
func newBox(t *testing.T, router, name string, in render.Input) *box {
	t.Helper()
	b := &box{t: t, ns: fmt.Sprintf("ipsec-%d-%s", os.Getpid(), name), input: in}
	var err error
	if b.dir, err = os.MkdirTemp("", "wn-ipsec-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(b.dir) })
	namespace(t, b.ns)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if b.driver != nil {
			if err := b.driver.charon.stop(ctx); err != nil {
				t.Error(err)
			}
		}
	})
	for i, c := range in.Config.Circuits {
		gw := c.Gateway.String()
		far := fmt.Sprintf("%s%d", name, i)
		ip(t, "link", "add", c.Port, "netns", b.ns, "type", "veth", "peer", "name", far, "netns", router)
		ip(t, "-n", router, "addr", "add", gw+"/30", "dev", far)
		ip(t, "-n", router, "link", "set", far, "up")
		ip(t, "-n", b.ns, "addr", "add", c.Address.String(), "dev", c.Port)
		ip(t, "-n", b.ns, "link", "set", c.Port, "up")
		table := fmt.Sprint(101 + i)
		ip(t, "-n", b.ns, "route", "add", "default", "via", gw, "table", table)
		ip(t, "-n", b.ns, "rule", "add", "from", c.Address.Addr().String(), "lookup", table)
		ip(t, "-n", b.ns, "route", "add", "default", "via", gw, "metric", table)
	}
	return b
}

func namespace(t *testing.T, name string) {
	t.Helper()
	ip(t, "netns", "add", name)
	t.Cleanup(func() { ip(t, "netns", "del", name) })
	ip(t, "-n", name, "link", "set", "lo", "up")
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// circuit is the n-th /30 of the underlay; the router has its second address.
func circuit(name string, n byte) edge.Circuit {
	return edge.Circuit{
		Name: name, MTU: 1500, Port: "w" + name, Addressing: inventory.Static,
		Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, n, 1}), 30), Gateway: netip.AddrFrom4([4]byte{198, 18, n, 2}),
	}
}
