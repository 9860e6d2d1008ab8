//go:build lab

package linux

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/host/hosttest"
	"github.com/wardnet/wardnet/inventory"
)

// TestHeal breaks the box behind the host's back, part by part.
func TestHeal(t *testing.T) {
	if !hosttest.Enter(t, "out") {
		return
	}
	plug(t, hosttest.Space(""))
	h := open(t, t.TempDir())
	apply(t, h, ward())
	run(t, h)
	woken := h.Watch(t.Context())
	breaks := func(limit time.Duration, args ...string) {
		t.Helper()
		hosttest.Run(t, args[0], args[1:]...)
		start := time.Now()
		hosttest.Eventually(t, hosttest.Within(t, limit), "healed after "+strings.Join(args, " "), func() bool {
			diff, err := h.Equal(t.Context(), ward(), keys())
			return err == nil && len(diff) == 0
		})
		t.Logf("%s: healed in %s", strings.Join(args, " "), time.Since(start).Round(10*time.Millisecond))
	}
	breaks(3*time.Second, "ip", "addr", "del", "10.64.0.1/23", "dev", "lan0")
	breaks(3*time.Second, "ip", "route", "del", "default", "via", "198.51.100.1", "dev", "wan0", "metric", "1024")
	breaks(3*time.Second, "ip", "link", "set", "lan1", "down")
	hosttest.Run(t, "ip", "link", "del", "lan1")
	select {
	case <-woken:
	case <-time.After(2 * time.Second):
		t.Error("nobody was woken")
	}
	out := hosttest.Space("out")
	hosttest.Run(t, "ip", "link", "add", "lan1", "type", "veth", "peer", "name", "lan1", "netns", out)
	hosttest.Eventually(t, 3*time.Second, "the port that came back is configured", func() bool {
		diff, err := h.Equal(t.Context(), ward(), keys())
		return err == nil && len(diff) == 0
	})
	for _, name := range []string{"zebra", "bfdd", "bgpd"} {
		b, err := os.ReadFile(filepath.Join("/run/frr", hosttest.Space(""), name+".pid"))
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		hosttest.Eventually(t, hosttest.Within(t, 4*time.Second), name+" is back", func() bool {
			b, err := os.ReadFile(filepath.Join("/run/frr", hosttest.Space(""), name+".pid"))
			if err != nil || strings.TrimSpace(string(b)) == strconv.Itoa(pid) {
				return false
			}
			diff, err := h.Equal(t.Context(), ward(), keys())
			return err == nil && len(diff) == 0
		})
		t.Logf("%s is back in %s", name, time.Since(start).Round(10*time.Millisecond))
	}
	hosttest.Run(t, "nft", "flush", "ruleset")
	h.heal() // as the minute's look does
	hosttest.Eventually(t, 3*time.Second, "the filter is back", func() bool {
		diff, err := h.Equal(t.Context(), ward(), keys())
		return err == nil && len(diff) == 0
	})
}

// TestLease: a circuit's address comes from a real DHCP server, and routes and
// rules follow it when it moves.
func TestLease(t *testing.T) {
	if !hosttest.Enter(t, "out") {
		return
	}
	plug(t, hosttest.Space(""))
	out := hosttest.Space("out")
	hosttest.Run(t, "ip", "-n", out, "addr", "add", "203.0.113.1/24", "dev", "wan1")
	stop := serve(t, out, "203.0.113.50,203.0.113.50")
	dir := t.TempDir()
	h := open(t, dir)
	c := ward()
	c.Circuits[1].Addressing, c.Circuits[1].Address, c.Circuits[1].Gateway = inventory.CGNAT, netip.Prefix{}, netip.Addr{}
	apply(t, h, c)
	equal(t, h, c)
	run(t, h)
	has := func(what, in string) bool {
		return strings.Contains(hosttest.Run(t, "ip", strings.Fields(in)...), what)
	}
	hosttest.Eventually(t, 10*time.Second, "the lease is in use", func() bool {
		return has("203.0.113.50/24", "addr show dev wan1") && has("from 203.0.113.50", "rule show") && has("default via 203.0.113.1", "route show")
	})
	equal(t, h, c)

	// A new process uses the lease at once, and touches nothing.
	again := open(t, dir)
	if again.wan.learned(c.Circuits)["c-lte"].Address != prefix("203.0.113.50/24") {
		t.Errorf("a new process does not know the lease: %v", again.wan.learned(c.Circuits))
	}
	equal(t, again, c)

	stop()
	serve(t, out, "203.0.113.60,203.0.113.60")
	hosttest.Run(t, "ip", "-n", out, "link", "set", "wan1", "down")
	hosttest.Run(t, "ip", "-n", out, "link", "set", "wan1", "up")
	hosttest.Eventually(t, 20*time.Second, "the new address is in use", func() bool {
		return has("203.0.113.60/24", "addr show dev wan1") && has("from 203.0.113.60", "rule show") && !has("203.0.113.50", "addr show") && !has("203.0.113.50", "rule show")
	})
	equal(t, h, c)
}

func serve(t *testing.T, space, pool string) (stop func()) {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", space, "/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
		"--port=0", "--no-ping", "--dhcp-authoritative", "--interface=wan1", "--bind-interfaces", "--user=root", "--log-facility=-",
		"--dhcp-range="+pool+",255.255.255.0,2m", "--dhcp-leasefile="+filepath.Join(dir, "leases"), "--pid-file="+filepath.Join(dir, "pid"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		cancel()
		_ = cmd.Wait() // it was killed
	}
	t.Cleanup(stop)
	return stop
}

// TestDial leaves by the first circuit, by the next when that is silent, and
// waits for an address at first boot.
func TestDial(t *testing.T) {
	if !hosttest.Enter(t, "out") {
		return
	}
	plug(t, hosttest.Space(""))
	out := hosttest.Space("out")
	for _, a := range []string{"198.51.100.1/24 dev wan0", "203.0.113.1/24 dev wan1", "192.0.2.80/32 dev lo"} {
		hosttest.Run(t, "ip", append([]string{"-n", out, "addr", "add"}, strings.Fields(a)...)...)
	}
	listener := exec.CommandContext(t.Context(), "ip", "netns", "exec", out, "iperf3", "-s", "-p", "9443")
	if err := listener.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Process.Kill(); _ = listener.Wait() })
	h := open(t, t.TempDir())
	apply(t, h, ward())
	from := func() (string, time.Duration, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
		defer cancel()
		start := time.Now()
		c, err := h.Dial(ctx, "tcp", "192.0.2.80:9443")
		if err != nil {
			return "", time.Since(start), err
		}
		defer func() { _ = c.Close() }()
		return c.LocalAddr().(*net.TCPAddr).IP.String(), time.Since(start), nil
	}
	hosttest.Eventually(t, 5*time.Second, "the server answers", func() bool {
		_, _, err := from()
		return err == nil
	})
	if a, took, err := from(); err != nil || a != "198.51.100.2" {
		t.Errorf("dialled from %q in %s: %v", a, took, err)
	}
	hosttest.Run(t, "ip", "netns", "exec", out, "nft", "add table netdev cut; add chain netdev cut in { type filter hook ingress device wan0 priority 0; policy drop; }")
	a, took, err := from()
	if err != nil || a != "203.0.113.2" {
		t.Errorf("with the first circuit silent: from %q in %s: %v", a, took, err)
	}
	t.Logf("by the second circuit in %s", took.Round(time.Millisecond))
	hosttest.Run(t, "ip", "link", "set", "wan1", "down")
	if a, _, err := from(); err == nil {
		t.Errorf("dialled from %q with every circuit dead", a)
	}
}

// TestUnrelatedChange: a BGP session in use does not notice a change of the
// rest, nor does the box's own restart disturb it.
func TestUnrelatedChange(t *testing.T) {
	if !hosttest.Enter(t, "out") {
		return
	}
	plug(t, hosttest.Space(""))
	out := hosttest.Space("out")
	c := edge.Config{
		Device: "hub-1", Site: "h-1", Role: inventory.RoleHub, Loopback: addr("172.16.0.1"),
		Circuits: ward().Circuits[:1],
		BGP:      edge.BGP{ASN: 4200100001, RouterID: addr("172.16.0.1"), Networks: []netip.Prefix{prefix("10.96.0.0/20")}},
		Uplinks: []edge.Uplink{{
			Name: "dc", Port: "dc0", Local: prefix("172.17.0.2/30"), Peer: addr("172.17.0.1"), PeerASN: 65010, Accept: []netip.Prefix{prefix("10.0.0.0/9")},
		}},
		Contract: edge.Contract{Prefixes: []netip.Prefix{prefix("10.0.0.0/24"), prefix("10.0.1.0/24")}},
	}
	router(t, out)
	dir := t.TempDir()
	h := open(t, dir)
	apply(t, h, c)
	peer := addr("172.17.0.1")
	hosttest.Eventually(t, 20*time.Second, "BGP and BFD are up", func() bool {
		s, err := h.routing.Sessions(t.Context())
		return err == nil && s.BGP[peer] && s.BFD[peer]
	})
	hosttest.Eventually(t, 10*time.Second, "the prefix is known", func() bool {
		s, err := h.State(t.Context())
		return err == nil && len(s.Holds) == 1 && s.Holds[0] == "prefix/10.0.0.0/24"
	})
	since := func() time.Duration {
		s, err := h.routing.Sessions(t.Context())
		if err != nil || !s.BGP[peer] {
			t.Fatalf("the session is down: %v", err)
		}
		return s.Since[peer]
	}
	up, start := since(), time.Now()
	d := c
	d.BGP.Networks = append([]netip.Prefix{prefix("10.96.16.0/20")}, c.BGP.Networks...)
	d.Uplinks = append([]edge.Uplink{{Name: "dc2", Port: "lan0", Local: prefix("172.17.0.6/30"), Peer: addr("172.17.0.5"), PeerASN: 65010, Accept: c.Uplinks[0].Accept}}, c.Uplinks...)
	for range 2 {
		apply(t, h, d)
		equal(t, h, d)
		apply(t, h, c)
		equal(t, h, c)
	}
	h = open(t, dir)
	apply(t, h, c)
	hosttest.Eventually(t, 5*time.Second, "a second has passed", func() bool { return time.Since(start) > 2*time.Second })
	if now := since(); now < up+time.Since(start)-2*time.Second {
		t.Errorf("the session flapped: up for %s, %s before it was up for %s", now, time.Since(start), up)
	}
	s, err := h.State(t.Context())
	if err != nil || len(s.Circuits) != 1 || !s.Circuits[0].Up || s.Circuits[0].Counters.OutPkts == 0 {
		t.Errorf("State = %+v, %v", s, err)
	}
}

// router is the data centre's: FRR in another namespace.
func router(t *testing.T, space string) {
	t.Helper()
	hosttest.Run(t, "ip", "-n", space, "addr", "add", "172.17.0.1/30", "dev", "dc0")
	hosttest.Run(t, "install", "-d", "-o", "frr", "-g", "frr", "/run/frr", "/run/frr/"+space)
	t.Cleanup(func() { _ = os.RemoveAll("/run/frr/" + space) })
	file := filepath.Join(t.TempDir(), "frr.conf")
	text := `router bgp 65010
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 172.17.0.2 remote-as 4200100001
 neighbor 172.17.0.2 bfd
 neighbor 172.17.0.2 timers connect 1
 address-family ipv4 unicast
  network 10.0.0.0/24
 exit-address-family
exit
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"zebra", "bfdd", "bgpd"} {
		hosttest.Run(t, "ip", "netns", "exec", space, "/usr/lib/frr/"+d, "-N", space, "-d", "-A", "127.0.0.1", "-P", "0")
	}
	hosttest.Run(t, "vtysh", "-N", space, "-f", file)
	t.Cleanup(func() {
		if t.Failed() {
			fmt.Println(hosttest.Run(t, "vtysh", "-N", space, "-c", "show bgp summary", "-c", "show bfd peers"))
		}
	})
}
