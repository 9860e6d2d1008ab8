//go:build lab

package service

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/host/hosttest"
	"github.com/wardnet/wardnet/edge/host/program"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// TestSegments: hosts get addresses and reservations, their queries go to their
// own segment's server and from its gateway, and all of it survives the death of
// a process and of the agent.
func TestSegments(t *testing.T) {
	if !hosttest.Enter(t, "lan0", "lan1", "dc0") {
		return
	}
	in := ward()
	lab(t, in)
	dir := t.TempDir()
	s := open(t, dir)
	apply(t, s, in)
	staff, kiosk := serveDNS(t, "192.0.2.53"), serveDNS(t, "192.0.2.54")

	got := lease(t, "lan0", "02:00:00:00:00:05")
	if got.YourIPAddr.String() != "10.64.0.5" {
		t.Errorf("reserved host got %s", got.YourIPAddr)
	}
	dynamic := lease(t, "lan0", "02:00:00:00:00:06")
	for what, list := range map[string][]net.IP{"router": dynamic.Router(), "DNS": dynamic.DNS(), "NTP": dynamic.NTPServers()} {
		if len(list) != 1 || list[0].String() != "10.64.0.1" {
			t.Errorf("%s option %v, want the gateway", what, list)
		}
	}
	if ip := dynamic.YourIPAddr.String(); !strings.HasPrefix(ip, "10.64.0.1") || dynamic.SubnetMask().String() != "fffffe00" {
		t.Errorf("got %s/%s", ip, dynamic.SubnetMask())
	}
	if ack := lease(t, "lan1", "02:00:00:00:01:06"); !strings.HasPrefix(ack.YourIPAddr.String(), "10.64.4.1") || len(ack.NTPServers()) != 0 {
		t.Errorf("kiosk got %s", ack)
	}
	address := func(space, a string) {
		hosttest.Run(t, "ip", "-n", hosttest.Space(space), "addr", "add", a, "dev", "eth0")
	}
	address("lan0", "10.64.0.5/23")
	address("lan1", "10.64.4.100/24")
	for _, c := range []struct {
		space, gateway, server string
		asked                  *resolver
	}{{"lan0", "10.64.0.1", "192.0.2.53", staff}, {"lan1", "10.64.4.1", "192.0.2.54", kiosk}} {
		if a, err := ask(t, c.space, c.gateway, "portal.example."); err != nil || a.String() != c.server {
			t.Errorf("%s: portal.example. = %v, %v; want the answer of %s", c.space, a, err, c.server)
		}
		if by := c.asked.askers(); len(by) == 0 || slices.ContainsFunc(by, func(a netip.Addr) bool { return a.String() != c.gateway }) {
			t.Errorf("%s was asked by %v, want %s alone", c.server, by, c.gateway)
		}
	}
	if _, err := ask(t, "lan1", "10.64.0.1", "portal.example."); err == nil {
		t.Error("a kiosk asks by the gateway of staff")
	}

	// Another agent adopts them, and nothing is restarted.
	pids := func() string {
		out := ""
		for _, d := range s.daemons(in) {
			out += fmt.Sprint(d.name, d.pid(), " ")
		}
		return out
	}
	before := pids()
	heir := open(t, dir)
	apply(t, heir, in)
	if after := pids(); after != before {
		t.Errorf("adopted: %s, were %s", after, before)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	told := make(chan struct{}, 100)
	go func() {
		heir.Supervise(ctx, func() { told <- struct{}{} })
		close(ended)
	}()
	for _, d := range s.daemons(in) {
		old := d.pid()
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		hosttest.Eventually(t, hosttest.Within(t, 3*time.Second), d.name+" is back", func() bool { return d.runs() && d.pid() != old })
		t.Logf("%s was back after %s", d.name, time.Since(start).Round(time.Millisecond))
	}
	if again := lease(t, "lan0", "02:00:00:00:00:06"); !again.YourIPAddr.Equal(dynamic.YourIPAddr) {
		t.Errorf("after its restart the server gives %s, gave %s", again.YourIPAddr, dynamic.YourIPAddr)
	}
	hosttest.Eventually(t, hosttest.Within(t, 3*time.Second), "the lease is told", func() bool { return len(told) > 0 })
	cancel()
	<-ended
	leases, err := heir.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if l := leases[inventory.Staff]; len(l) != 2 || l[0].Addr.String() != "10.64.0.5" || l[0].Name != "My-in" && l[0].Name != "my-in" || l[1].MAC != "02:00:00:00:00:06" || time.Until(l[1].Until) < 50*time.Minute {
		t.Errorf("leases of staff: %+v", l)
	}

	// Only what changed starts again, and what is gone ends.
	other := ward()
	other.Config.Segments[1].DNS = nil
	keep := s.daemons(in)[0].pid()
	apply(t, heir, other)
	if now := heir.daemons(other)[0].pid(); now != keep {
		t.Error("the unchanged segment's process was restarted")
	}
	if _, err := ask(t, "lan1", "10.64.4.1", "portal.example."); err == nil {
		t.Error("a segment without DNS servers is answered")
	}
	measure(t, heir.daemons(other))
	apply(t, heir, render.Input{})
	if diff, err := heir.Diff(t.Context(), in); err != nil || len(diff) != 3 {
		t.Errorf("after the end: %v, %v", diff, err)
	}
}

// measure logs what the processes cost.
func measure(t *testing.T, list []daemon) {
	t.Helper()
	for _, d := range list {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", d.pid()))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "Pss:") || strings.HasPrefix(line, "Rss:") {
				t.Log(d.name, strings.Join(strings.Fields(line), " "))
			}
		}
	}
}

// TestRelay: hosts of a relayed segment get their addresses from the server far
// away, and both families' hosts learn their IPv6 prefix from the box.
func TestRelay(t *testing.T) {
	if !hosttest.Enter(t, "lan0", "lan1", "dc0") {
		return
	}
	in := ward()
	in.Config.Uplinks = []edge.Uplink{{Name: "dc", Port: "dc0", Local: prefix("192.0.2.1/24"), Peer: addr("192.0.2.2"), PeerASN: 65010}}
	in.Config.Segments[1].DHCP = edge.DHCP{Relay: addr("192.0.2.53")}
	lab(t, in)
	s := open(t, t.TempDir())
	apply(t, s, in)
	inside(t, "dc0", func() error {
		d := exec.CommandContext(t.Context(), s.dnsmasq, "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--no-ping", "--user=root",
			"--pid-file=", "--dhcp-leasefile="+t.TempDir()+"/leases", "--dhcp-range=10.64.4.50,10.64.4.60,255.255.255.0,10m", "--dhcp-authoritative")
		d.WaitDelay = time.Second
		if err := d.Start(); err != nil {
			return err
		}
		t.Cleanup(func() { _ = d.Process.Kill(); _ = d.Wait() })
		return nil
	})
	if ack := lease(t, "lan1", "02:00:00:00:01:06"); !strings.HasPrefix(ack.YourIPAddr.String(), "10.64.4.5") || ack.GatewayIPAddr.String() != "10.64.4.1" {
		t.Errorf("the relayed host got %s", ack)
	}
	if ack := lease(t, "lan0", "02:00:00:00:00:06"); !strings.HasPrefix(ack.YourIPAddr.String(), "10.64.0.1") {
		t.Errorf("the host beside it got %s", ack)
	}
	for space, want := range map[string]string{"lan0": "fd5a:1::", "lan1": "fd5a:1:0:2:"} {
		hosttest.Eventually(t, hosttest.Within(t, 20*time.Second), space+" has an IPv6 address", func() bool {
			out := hosttest.Run(t, "ip", "-n", hosttest.Space(space), "-6", "addr", "show", "dev", "eth0", "scope", "global")
			return strings.Contains(out, want) && strings.Contains(out, "dynamic")
		})
	}
}

// TestTime: the box takes the time from its source, by the gateway of the
// segment that may, and serves it there and nowhere else.
func TestTime(t *testing.T) {
	if !hosttest.Enter(t, "lan0", "lan1", "dc0") {
		return
	}
	in := ward()
	lab(t, in)
	dir := t.TempDir()
	conf := dir + "/source.conf"
	text := "local stratum 3\nallow 10.64.0.1\ncmdport 0\nbindcmdaddress /\npidfile " + dir + "/source.pid\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := program.Run(t.Context(), limit, nil, "/usr/sbin/ip", "netns", "exec", hosttest.Space("dc0"), "/usr/sbin/chronyd", "-x", "-f", conf); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	apply(t, s, in)
	hosttest.Run(t, "ip", "-n", hosttest.Space("lan0"), "addr", "add", "10.64.0.9/23", "dev", "eth0")
	hosttest.Run(t, "ip", "-n", hosttest.Space("lan1"), "addr", "add", "10.64.4.9/24", "dev", "eth0")
	start := time.Now()
	hosttest.Eventually(t, hosttest.Within(t, 30*time.Second), "the gateway serves its source's time", func() bool {
		stratum, when, err := ntp(t, "lan0", "10.64.0.1")
		if err != nil {
			return false
		}
		if off := time.Since(when).Abs(); off > time.Second {
			t.Fatalf("the time served is off by %s", off)
		}
		return stratum == 4
	})
	t.Logf("stratum 4 after %s", time.Since(start).Round(time.Millisecond))
	if _, _, err := ntp(t, "lan1", "10.64.4.1"); err == nil {
		t.Error("a segment without NTP gets the time")
	}
	measure(t, s.daemons(in))
}

// ntp asks for the time (RFC 5905).
func ntp(t *testing.T, space, server string) (stratum int, when time.Time, err error) {
	t.Helper()
	inside(t, space, func() error {
		var c net.Conn
		if c, err = net.Dial("udp", server+":123"); err != nil {
			return nil
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Second)) // a socket takes any
		packet := make([]byte, 48)
		packet[0] = 4<<3 | 3 // version 4, client
		if _, err = c.Write(packet); err != nil {
			return nil
		}
		if _, err = c.Read(packet); err != nil {
			return nil
		}
		const since1900 = 2208988800
		stratum = int(packet[1])
		when = time.Unix(int64(binary.BigEndian.Uint32(packet[40:]))-since1900, int64(binary.BigEndian.Uint32(packet[44:]))*1e9>>32)
		return nil
	})
	return stratum, when, err
}
