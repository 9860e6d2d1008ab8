//go:build lab

package forward

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab/netns"
	"github.com/wardnet/wardnet/labs/netlab/netns/netnstest"
	"github.com/wardnet/wardnet/labs/probe"
	"github.com/wardnet/wardnet/labs/probe/respond"
)

// cable is a box and a router joined by a veth pair; the router answers.
func cable(t *testing.T) (box, router string) {
	t.Helper()
	both := netnstest.Spaces(t, "box", "router")
	box, router = both[0], both[1]
	netnstest.Cable(t,
		netnstest.End{Space: box, Port: "wan0", Addresses: []string{"10.9.3.2/30", "fd09:3::2/64"}},
		netnstest.End{Space: router, Port: "s-1.0", Addresses: []string{"10.9.3.1/30", "fd09:3::1/64"}})
	netnstest.Batch(t, box, "route add default via 10.9.3.1\n")
	netnstest.Batch(t, router, "addr add 10.9.4.1/32 dev lo\n")
	return box, router
}

// shaped runs a forwarder until the returned function is called.
func shaped(t *testing.T, port Port, s Shape) (end func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- Run(ctx, port, s, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("the forwarder: %v", err)
	}
	return func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("end of the forwarder: %v", err)
		}
	}
}

func TestForwarderDelaysBothWays(t *testing.T) {
	box, router := cable(t)
	port := Port{Namespace: router, Name: "s-1.0"}
	ping := func(to string, n int) probe.Course {
		t.Helper()
		p, err := probe.Start(t.Context(), probe.Flow{Namespace: box, To: netip.MustParseAddr(to)})
		if err != nil {
			t.Fatal(err)
		}
		await(t, func() bool { c := p.Since(0, p.Mark()); return c.Sent-c.Lost >= n })
		return p.Stop()
	}
	plain := ping("10.9.3.1", 20)
	end := shaped(t, port, Shape{Delay: 40 * time.Millisecond, Jitter: 10 * time.Millisecond})
	for _, to := range []string{"10.9.3.1", "10.9.4.1", "fd09:3::1"} {
		c := ping(to, 50)
		if c.Median < 70*time.Millisecond || c.Median > 130*time.Millisecond {
			t.Errorf("%s: round trip %s with 40±10 ms each way, %s before", to, c.Median, plain.Median)
		}
		if c.Lost > 20 { // those under way when it stopped count as lost when the machine is slow
			t.Errorf("%s: %+v", to, c)
		}
	}
	end()
	if c := ping("10.9.3.1", 20); c.Median > 20*time.Millisecond || c.Lost > 5 {
		t.Errorf("after the forwarder: %+v", c)
	}
	left(t, port)
}

func left(t *testing.T, port Port) {
	t.Helper()
	err := netns.Do(port.Namespace, func() error {
		if _, err := net.InterfaceByName(port.Shadow()); err == nil {
			return fmt.Errorf("%s is still there", port.Shadow())
		}
		out, err := exec.Command("tc", "qdisc", "show", "dev", port.Name).CombinedOutput()
		if strings.Contains(string(out), "clsact") {
			return fmt.Errorf("traffic control is left behind: %s", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestForwarderSlowsTCP(t *testing.T) {
	box, router := cable(t)
	r, err := respond.Start(t.Context(), []respond.Host{{Namespace: router, Ports: []inventory.PortRange{{Proto: inventory.TCP, From: 7000, To: 7000}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	port := Port{Namespace: router, Name: "s-1.0"}
	rate := func() float64 { // bit/s, echoed
		t.Helper()
		var c net.Conn
		err := netns.Do(box, func() (err error) {
			c, err = net.Dial("tcp", "10.9.3.1:7000")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		const size = 1 << 20
		begin := time.Now()
		go func() { _, _ = c.Write(make([]byte, size)) }()
		if _, err := io.CopyN(io.Discard, c, size); err != nil {
			t.Fatal(err)
		}
		return size * 8 / time.Since(begin).Seconds()
	}
	end := shaped(t, port, Shape{Rate: 8 * inventory.Mbps})
	slow := rate()
	end()
	if slow > 8.2e6 || slow < 3e6 {
		t.Errorf("%.1f Mbit/s through a forwarder of 8", slow/1e6)
	}
	// Offloads must not break what passes, however fast.
	end = shaped(t, port, Shape{Delay: time.Microsecond})
	fast := rate()
	end()
	if fast < 20e6 {
		t.Errorf("%.1f Mbit/s through a forwarder without limit", fast/1e6)
	}
	t.Logf("8 Mbit/s: %.2f Mbit/s; no limit: %.0f Mbit/s", slow/1e6, fast/1e6)
	left(t, port)
}

func TestForwarderLosesNothingOfItsOwnAndIsIdempotent(t *testing.T) {
	_, router := cable(t)
	port := Port{Namespace: router, Name: "s-1.0"}
	shaped(t, port, Shape{Delay: time.Millisecond})()
	for range 2 {
		if err := Remove(port); err != nil {
			t.Error(err)
		}
	}
	if err := Run(t.Context(), Port{Namespace: router, Name: "none"}, Shape{Delay: 1}, nil); err == nil {
		t.Error("a port that is not there is shaped")
	}
	if err := Run(t.Context(), port, Shape{}, nil); err == nil {
		t.Error("a shape that changes nothing is taken")
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
