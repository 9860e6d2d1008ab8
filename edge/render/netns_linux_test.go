package render

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// needRoot skips aloud where namespaces cannot be made.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to make network namespaces")
	}
	for _, prog := range []string{"ip", "nft", "vtysh"} {
		switch _, err := exec.LookPath(prog); {
		case errors.Is(err, exec.ErrNotFound):
			t.Skipf("SKIPPED: %s is not installed", prog)
		case err != nil:
			t.Fatal(err)
		}
	}
}

// run executes a program and gives what it says.
func run(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	out, err := try(stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// space makes a namespace of this test's own.
func space(t testing.TB, name string) string {
	t.Helper()
	ns := fmt.Sprintf("w1-%d-%s", os.Getpid(), name)
	run(t, "", "ip", "netns", "add", ns)
	t.Cleanup(func() { _, _ = try("", "ip", "netns", "del", ns) })
	run(t, "", "ip", "-n", ns, "link", "set", "lo", "up")
	return ns
}

// wire joins two namespaces by a veth pair with a name at each end.
func wire(t testing.TB, a, nameA, b, nameB string) {
	t.Helper()
	run(t, "", "ip", "link", "add", nameA, "netns", a, "type", "veth", "peer", "name", nameB, "netns", b)
	run(t, "", "ip", "-n", a, "link", "set", nameA, "up")
	run(t, "", "ip", "-n", b, "link", "set", nameB, "up")
}

// address gives a host its addresses and, if any, its default routers.
func address(t testing.TB, ns, dev string, via []string, addrs ...string) {
	t.Helper()
	var batch strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&batch, "addr add %s dev %s%s\n", a, dev, nodad(a))
	}
	for _, v := range via {
		fmt.Fprintf(&batch, "route add default via %s\n", v)
	}
	run(t, batch.String(), "ip", "-n", ns, "-batch", "-")
}

func nodad(a string) string {
	if strings.Contains(a, ":") {
		return " nodad"
	}
	return ""
}

// install does what a host does with a box, once: addresses, routes, filter,
// then forwarding. Its interfaces exist.
func install(t testing.TB, ns string, box Box) {
	t.Helper()
	var batch strings.Builder
	for _, l := range box.Links {
		for _, a := range l.Addresses {
			fmt.Fprintf(&batch, "addr add %s dev %s%s\n", a, l.Name, nodad(a.String()))
		}
	}
	for _, r := range box.Routes {
		kind, tail := "", ""
		if r.Blackhole {
			kind = "blackhole "
		}
		if r.Via.IsValid() {
			tail += " via " + r.Via.String()
		}
		if r.Dev != "" {
			tail += " dev " + r.Dev
		}
		if r.Metric > 0 {
			tail += fmt.Sprintf(" metric %d", r.Metric)
		}
		fmt.Fprintf(&batch, "route add %s%s%s table %d\n", kind, r.Dst, tail, r.Table)
	}
	for _, r := range box.Rules {
		family, match := "-4", fmt.Sprintf("fwmark 0x%x/0x%x", r.Mark, r.Mask)
		if r.V6 {
			family = "-6"
		}
		if r.Src.IsValid() {
			match = "from " + r.Src.String()
		}
		run(t, "", append([]string{"ip", "-n", ns, family, "rule", "add", "pref", fmt.Sprint(r.Priority)}, append(strings.Fields(match), "lookup", fmt.Sprint(r.Table))...)...)
	}
	run(t, batch.String(), "ip", "-n", ns, "-batch", "-")
	run(t, box.NFT, "ip", "netns", "exec", ns, "nft", "-f", "-")
	run(t, "", "ip", "netns", "exec", ns, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
}

// route starts FRR in a namespace with the box's configuration.
func route(t testing.TB, ns string, box Box) {
	t.Helper()
	for _, dir := range []string{"/etc/frr/" + ns, "/run/frr/" + ns} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	run(t, "", "chown", "frr:frr", "/etc/frr/"+ns, "/run/frr/"+ns)
	run(t, "", "touch", "/etc/frr/"+ns+"/vtysh.conf")
	for _, daemon := range []string{"zebra", "bfdd", "bgpd"} {
		run(t, "", "ip", "netns", "exec", ns, "/usr/lib/frr/"+daemon, "-d", "-N", ns, "--vty_port", "0")
		t.Cleanup(func() { stop(t, "/run/frr/"+ns+"/"+daemon+".pid") })
	}
	file := filepath.Join(t.TempDir(), ns+".conf")
	if err := os.WriteFile(file, []byte(box.FRR), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "FRR takes its configuration", func() error {
		_, err := try("", "vtysh", "-N", ns, "-f", file)
		return err
	})
}

// stop ends the process of a pid file and waits for its end.
func stop(t testing.TB, pidFile string) {
	b, err := os.ReadFile(pidFile)
	if err != nil {
		return
	}
	var pid int
	if _, err := fmt.Sscan(string(b), &pid); err != nil || pid <= 1 {
		return
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	eventually(t, 10*time.Second, "process ends", func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return nil // gone, or nobody has collected it yet
		}
		return fmt.Errorf("process %d still runs", pid)
	})
}

// eventually polls until check holds.
func eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// in runs f in a namespace; what f opens stays there.
func in(t testing.TB, ns string, f func() error) error {
	t.Helper()
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		h, err := netns.GetFromName(ns)
		if err == nil {
			err = netns.Set(h)
			_ = h.Close()
		}
		if err == nil {
			err = f()
		}
		errs <- err
	}()
	return <-errs
}

// serve accepts TCP at an address of a namespace and tells each caller who it is.
func serve(t testing.TB, ns, at string) {
	t.Helper()
	var l net.Listener
	if err := in(t, ns, func() (err error) { l, err = net.Listen("tcp", at); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			_, _ = c.Write([]byte(host))
			_ = c.Close()
		}
	}()
}

// call dials from a namespace and gives what the server saw as the source; an
// error is a refusal or silence.
func call(t testing.TB, ns, from, to string) (string, error) {
	t.Helper()
	buf := make([]byte, 64)
	n := 0
	err := in(t, ns, func() error {
		d := net.Dialer{Timeout: 700 * time.Millisecond}
		if from != "" {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
		}
		c, err := d.Dial("tcp", to)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		n, err = c.Read(buf)
		return err
	})
	return string(buf[:n]), err
}

// ping sends an echo request from a namespace and waits for the reply.
func ping(t testing.TB, ns, to string) error {
	t.Helper()
	network, proto := "ip4:icmp", 1
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if strings.Contains(to, ":") {
		network, proto, request, reply = "ip6:ipv6-icmp", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	return in(t, ns, func() error {
		c, err := icmp.ListenPacket(network, "")
		if err != nil {
			return err
		}
		defer c.Close()
		msg, err := (&icmp.Message{Type: request, Body: &icmp.Echo{ID: 7, Seq: 1}}).Marshal(nil)
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(msg, &net.IPAddr{IP: net.ParseIP(to)}); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return err
			}
			if m, err := icmp.ParseMessage(proto, buf[:n]); err == nil && m.Type == reply && from.String() == to {
				return nil
			}
		}
	})
}

// decode reads the JSON that vtysh prints.
func decode(t testing.TB, ns, command string, into any) error {
	t.Helper()
	out, err := try("", "vtysh", "-N", ns, "-c", command)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), into)
}
