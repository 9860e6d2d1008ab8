//go:build lab

package probe

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab/netns"
	"github.com/wardnet/wardnet/labs/netlab/netns/netnstest"
	"github.com/wardnet/wardnet/labs/probe/respond"
)

// hall is a host and a server on both sides of a router; it returns the names
// of the three namespaces.
func hall(t *testing.T) (host, router, server string) {
	t.Helper()
	all := netnstest.Spaces(t, "host", "router", "server")
	host, router, server = all[0], all[1], all[2]
	netnstest.Cable(t,
		netnstest.End{Space: host, Port: "eth0", Addresses: []string{"10.9.1.10/24", "fd09:1::10/64"}},
		netnstest.End{Space: router, Port: "lan", Addresses: []string{"10.9.1.1/24", "fd09:1::1/64"}})
	netnstest.Cable(t,
		netnstest.End{Space: router, Port: "left", Addresses: []string{"10.9.2.1/24", "fd09:2::1/64"}},
		netnstest.End{Space: server, Port: "right", Addresses: []string{"10.9.2.10/24", "fd09:2::10/64"}})
	netnstest.Batch(t, host, "route add default via 10.9.1.1\nroute add default via fd09:1::1\n")
	netnstest.Batch(t, server, "route add default via 10.9.2.1\nroute add default via fd09:2::1\n")
	err := netns.Do(router, func() error {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0); err != nil {
			return err
		}
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	return host, router, server
}

func filter(t *testing.T, ns, text string) {
	t.Helper()
	err := netns.Do(ns, func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader("flush ruleset\n" + text)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The prober reports what packets do, whatever is wanted of them.
func TestRunTellsWhatPackets(t *testing.T) {
	host, router, server := hall(t)
	r, err := respond.Start(t.Context(), []respond.Host{{Namespace: server, Ports: []inventory.PortRange{
		{Proto: inventory.TCP, From: 80, To: 82}, {Proto: inventory.UDP, From: 53, To: 53}, {Proto: inventory.UDP, From: 123, To: 123}, {Proto: inventory.UDP, From: 7000, To: 7001},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	filter(t, router, `table inet t { chain f { type filter hook forward priority 0; policy drop;
		ct state established,related accept
		tcp dport { 80, 99 } accept
		udp dport { 53, 123, 7000, 7099 } accept
		icmp type echo-request ip ttl > 0 accept
		tcp dport 81 reject with tcp reset
	}
	}`)
	v4, v6 := netip.MustParseAddr("10.9.2.10"), netip.MustParseAddr("fd09:2::10")
	pair := func(to netip.Addr, proto inventory.Proto, port uint16, got Verdict) Pair {
		return Pair{To: to, Proto: proto, Port: port, Want: got, namespace: host}
	}
	pairs := []Pair{
		pair(v4, inventory.TCP, 80, Allow), pair(v6, inventory.TCP, 80, Allow),
		pair(v4, inventory.TCP, 82, Deny), pair(v6, inventory.TCP, 82, Deny),
		pair(v4, inventory.TCP, 81, Refused), // the filter answers in the server's name: a reset is never a pass
		pair(v4, inventory.TCP, 99, Refused),
		pair(v4, inventory.UDP, 53, Allow), pair(v4, inventory.UDP, 123, Allow), pair(v4, inventory.UDP, 7000, Allow), pair(v6, inventory.UDP, 7000, Allow),
		pair(v4, inventory.UDP, 7001, Deny), pair(v6, inventory.UDP, 7001, Deny),
		pair(v4, inventory.UDP, 7099, Refused),
		pair(v4, inventory.ICMP, 0, Allow), pair(v6, inventory.ICMP, 0, Deny),
		pair(netip.MustParseAddr("10.9.1.1"), inventory.ICMP, 0, Allow), pair(netip.MustParseAddr("fd09:1::1"), inventory.ICMP, 0, Allow),
	}
	report, err := Run(t.Context(), pairs, Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range report.List {
		t.Errorf("%s: got %s, want %s", d, d.Got, d.Want)
	}
	if report.Pairs != len(pairs) || report.Seconds > 5 {
		t.Errorf("%d pairs in %.1f s", report.Pairs, report.Seconds)
	}

	// With nothing filtered, what was denied passes and is reported.
	filter(t, router, "")
	for i := range pairs {
		pairs[i].Want = Deny
	}
	if report, err = Run(t.Context(), pairs, Config{}); err != nil || report.Differences != len(pairs) {
		t.Errorf("%d of %d differences, %v", report.Differences, len(pairs), err)
	}
}

func TestPingerMeasuresAnOutage(t *testing.T) {
	host, router, server := hall(t)
	r, err := respond.Start(t.Context(), []respond.Host{{Namespace: server, Address: netip.MustParseAddr("10.9.2.10"), Ports: []inventory.PortRange{{Proto: inventory.UDP, From: 53, To: 53}, {Proto: inventory.UDP, From: 7000, To: 7000}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for name, flow := range map[string]Flow{
		"icmp":  {To: netip.MustParseAddr("10.9.2.10")},
		"icmp6": {To: netip.MustParseAddr("fd09:2::10")},
		"dns":   {To: netip.MustParseAddr("10.9.2.10"), Port: 53},
		"echo":  {To: netip.MustParseAddr("10.9.2.10"), Port: 7000, DSCP: 46},
	} {
		t.Run(name, func(t *testing.T) {
			filter(t, router, "")
			flow.Namespace = host
			p, err := Start(t.Context(), flow)
			if err != nil {
				t.Fatal(err)
			}
			await(t, func() bool { c := p.Since(0, p.Mark()); return c.Sent-c.Lost >= 20 })
			from := p.Mark()
			filter(t, router, "table inet t { chain f { type filter hook forward priority 0; policy drop; }; }")
			await(t, func() bool { return p.Mark()-from > 400*time.Millisecond })
			filter(t, router, "")
			back := p.Mark()
			await(t, func() bool { c := p.Since(back, p.Mark()); return c.Sent-c.Lost >= 20 })
			c := p.Since(from, p.Mark()) // before it the links of the hall came up
			p.Stop()
			if c.Outage < 350*time.Millisecond || c.Outage > back-from+300*time.Millisecond {
				t.Errorf("outage %s, the filter was there for %s: %+v", c.Outage, back-from, c)
			}
			if c.Lost < 10 || c.Lost > c.Sent/2+40 {
				t.Errorf("%+v", c)
			}
		})
	}
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("waited 10 s in vain")
		}
	}
}
