//go:build lab

package frr

import (
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge/host/hosttest"
	"github.com/wardnet/wardnet/edge/host/program"
)

const base = `frr defaults datacenter
!
router bgp 65100
 bgp router-id 172.16.255.1
 no bgp default ipv4-unicast
 neighbor 172.16.0.0 remote-as 65001
 neighbor 172.16.0.0 bfd
 neighbor 172.16.0.0 bfd profile quick
 !
 address-family ipv4 unicast
  network 10.64.0.0/20
  neighbor 172.16.0.0 activate
  neighbor 172.16.0.0 route-map IN-200 in
  neighbor 172.16.0.0 route-map OUT out
 exit-address-family
exit
!
ip prefix-list OVERLAY seq 5 permit 10.64.0.0/10 le 32
!
route-map IN-200 permit 10
 match ip address prefix-list OVERLAY
 set local-preference 200
exit
!
route-map OUT permit 10
exit
!
bfd
 profile quick
  transmit-interval 100
  receive-interval 100
 exit
 !
exit
!
end
`

// far is the other end of base, in words of its own.
var far = strings.NewReplacer("65100", "65001", "65001", "65100", "172.16.255.1", "172.16.255.2", "172.16.0.0", "172.16.0.1", "10.64.0.0/20", "10.64.16.0/20").Replace(base)

func TestCompare(t *testing.T) {
	running := "Building configuration...\n!\nfrr version 8.4.4\nfrr defaults datacenter\nhostname vm\nno ip forwarding\n!\n" +
		strings.ReplaceAll(strings.TrimPrefix(base, "frr defaults datacenter\n"), "  transmit", "   transmit")
	if diff := compare(running, base); len(diff) > 0 {
		t.Errorf("the same configuration in two dresses differs: %q", diff)
	}
	other := strings.Replace(base, "local-preference 200", "local-preference 100", 1)
	want := []string{
		"+ route-map IN-200 permit 10 / set local-preference 100",
		"- route-map IN-200 permit 10 / set local-preference 200",
	}
	if diff := compare(base, other); strings.Join(diff, "|") != strings.Join(want, "|") {
		t.Errorf("compare = %q, want %q", diff, want)
	}
	if !empty(ofTheBox(running)) {
		t.Errorf("lines of the box are not ignored: %q", ofTheBox(running))
	}
}

func TestPathspace(t *testing.T) {
	for _, bad := range []string{"..", "a/b", "-x", "a b"} {
		if _, err := Open(Config{Pathspace: bad, Dir: t.TempDir()}); err == nil {
			t.Errorf("pathspace %q was taken", bad)
		}
	}
}

// pair opens two instances whose boxes are joined by a cable; the second is in
// another namespace, so its daemons are started from there.
func pair(t *testing.T) (*Instance, func()) {
	t.Helper()
	own, peer := hosttest.Space(""), hosttest.Space("far")
	hosttest.Run(t, "ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", peer)
	hosttest.Run(t, "ip", "addr", "add", "172.16.0.1/31", "dev", "cable")
	hosttest.Run(t, "ip", "link", "set", "cable", "up")
	hosttest.Run(t, "ip", "-n", peer, "addr", "add", "172.16.0.0/31", "dev", "cable")
	hosttest.Run(t, "ip", "-n", peer, "link", "set", "cable", "up")
	i, err := Open(Config{Pathspace: own, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	dir := t.TempDir()
	j, err := Open(Config{Pathspace: peer, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.makeVtyDir(); err != nil {
		t.Fatal(err)
	}
	for _, name := range daemonOrder {
		hosttest.Run(t, "ip", append([]string{"netns", "exec", peer, j.daemons[name], "-N", peer}, arguments[name]...)...)
	}
	return i, func() {
		path, err := j.file(far)
		if err != nil {
			t.Fatal(err)
		}
		hosttest.Run(t, j.vtysh, "--config_dir", dir, "-N", peer, "-f", path)
	}
}

// TestInstance loads, changes, refuses and reads back on real daemons, and sees
// that a session in use does not notice.
func TestInstance(t *testing.T) {
	if !hosttest.Enter(t, "far") {
		return
	}
	ctx := t.Context()
	i, other := pair(t)
	other()
	if diff, err := i.Diff(ctx, base); err != nil || len(diff) != 1 || !strings.Contains(diff[0], "down") {
		t.Errorf("before the start: %q, %v", diff, err)
	}
	start := time.Now()
	if err := i.Load(ctx, base); err != nil {
		t.Fatal(err)
	}
	t.Logf("first load in %s", time.Since(start))
	peer := netip.MustParseAddr("172.16.0.0")
	// FRR registers a session's BFD anew, now with its address and interface, when
	// BGP is first established; where BFD was up by then, both ends see it go down
	// once and establish a second time (github.com/FRRouting/frr/issues/17337).
	// Only what has stayed up since tells whether a change flaps it.
	hosttest.Eventually(t, 20*time.Second, "BFD and BGP are up, and have been for a while", func() bool {
		s, err := i.Sessions(ctx)
		return err == nil && s.BFD[peer] && s.BGP[peer] && s.Since[peer] > 3*time.Second
	})
	before, forward := established(t, i, peer), forwards(t)

	start = time.Now()
	changed := strings.Replace(base, "local-preference 200", "local-preference 150", 1)
	changed = strings.Replace(changed, "  network 10.64.0.0/20\n", "  network 10.64.0.0/20\n  network 10.64.64.0/20\n", 1)
	changed = strings.Replace(changed, " neighbor 172.16.0.0 remote-as 65001\n", " neighbor 172.16.0.0 remote-as 65001\n neighbor 172.16.9.0 remote-as 65001\n", 1)
	if err := i.Load(ctx, changed); err != nil {
		t.Fatal(err)
	}
	t.Logf("change in %s", time.Since(start))
	if forwards(t) != forward {
		t.Error("a load of the routing switched forwarding")
	}
	if err := i.Load(ctx, base); err != nil {
		t.Fatal(err)
	}
	if diff, err := i.Diff(ctx, base); err != nil || len(diff) > 0 {
		t.Errorf("after there and back: %q, %v", diff, err)
	}
	start = time.Now()
	if err := i.Load(ctx, base); err != nil {
		t.Fatal(err)
	}
	t.Logf("nothing to change, in %s", time.Since(start))
	if after := established(t, i, peer); after != before {
		t.Errorf("the session flapped: it came up %d times, %d before the changes", after, before)
	}

	bad := strings.Replace(base, "10.64.0.0/10 le 32", "10.64.0.0/99", 1)
	if err := i.Check(ctx, bad); err == nil || !strings.Contains(err.Error(), "10.64.0.0/99") {
		t.Errorf("check of a bad line: %v", err)
	}
	if err := i.Check(ctx, base); err != nil {
		t.Errorf("check of a good text: %v", err)
	}

	pids := map[string]int{}
	for _, name := range daemonOrder {
		pids[name] = i.pid(name)
	}
	start = time.Now()
	if err := syscall.Kill(pids["bgpd"], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	hosttest.Eventually(t, 5*time.Second, "bgpd is seen down", func() bool { return len(i.Down()) == 1 })
	if s, err := i.Sessions(ctx); err != nil || s.BGP[peer] {
		t.Errorf("with bgpd dead: %+v, %v", s, err)
	}
	if err := i.Load(ctx, base); err != nil {
		t.Fatal(err)
	}
	t.Logf("bgpd is back with its configuration in %s", time.Since(start))
	if diff, err := i.Diff(ctx, base); err != nil || len(diff) > 0 {
		t.Errorf("after the restart of bgpd: %q, %v", diff, err)
	}
	out, err := i.shell(ctx, shortLimit, "-d", "bgpd", "-c", "show running-config")
	if err != nil || !strings.Contains(out, "prefix-list OVERLAY") || !strings.Contains(out, "set local-preference 200") {
		t.Errorf("the new bgpd lacks its lists: %v\n%s", err, out)
	}
	hosttest.Eventually(t, 20*time.Second, "BGP is back", func() bool {
		s, err := i.Sessions(ctx)
		return err == nil && s.BGP[peer]
	})
	if i.pid("zebra") != pids["zebra"] || i.pid("bfdd") != pids["bfdd"] {
		t.Error("a daemon that lived was started again")
	}
	if err := i.Remove(ctx); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(i.vty); err == nil {
		t.Error("the directory of sockets stayed behind")
	}
}

// TestStray finds the daemons of a namespace that is no more.
func TestStray(t *testing.T) {
	if !hosttest.Enter(t, "old") {
		return
	}
	i, err := Open(Config{Pathspace: hosttest.Space(""), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	if err := i.makeVtyDir(); err != nil {
		t.Fatal(err)
	}
	hosttest.Run(t, "ip", append([]string{"netns", "exec", hosttest.Space("old"), i.daemons["zebra"], "-N", hosttest.Space("")}, arguments["zebra"]...)...)
	stray := i.process("zebra")
	if stray == 0 || i.pid("zebra") != 0 {
		t.Fatalf("process %d, ours %d", stray, i.pid("zebra"))
	}
	if err := i.Load(t.Context(), base); err != nil {
		t.Fatal(err)
	}
	if i.pid("zebra") == stray || i.pid("zebra") == 0 {
		t.Errorf("zebra %d, the stray one was %d", i.pid("zebra"), stray)
	}
	if program.Lives(stray) {
		t.Error("the stray daemon lives")
	}
}

// established is how often the session came up: one that never flapped, once.
func established(t *testing.T, i *Instance, peer netip.Addr) int {
	t.Helper()
	out, err := i.shell(t.Context(), shortLimit, "-c", "show bgp neighbors "+peer.String()+" json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]struct {
		State       string `json:"bgpState"`
		Established int    `json:"connectionsEstablished"`
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatal(err)
	}
	n := all[peer.String()]
	if n.State != "Established" || n.Established == 0 {
		t.Fatalf("session is not up: %+v", n)
	}
	return n.Established
}

func forwards(t *testing.T) string {
	t.Helper()
	cat, err := program.Find("cat")
	if err != nil {
		t.Fatal(err)
	}
	return hosttest.Run(t, cat, "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")
}
