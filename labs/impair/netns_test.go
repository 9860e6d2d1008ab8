//go:build lab

package impair

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/impair/forward"
	"github.com/wardnet/wardnet/labs/netlab/netns/netnstest"
	"github.com/wardnet/wardnet/labs/probe"
)

// TestMain is also the forwarder's process, as "wardnet lab forward" is.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != "lab" || os.Args[2] != "forward" {
		os.Exit(m.Run())
	}
	var port forward.Port
	var shape forward.Shape
	f := flag.NewFlagSet("forward", flag.ExitOnError)
	f.StringVar(&port.Namespace, "namespace", "", "")
	f.StringVar(&port.Name, "port", "", "")
	f.DurationVar(&shape.Delay, "delay", 0, "")
	f.DurationVar(&shape.Jitter, "jitter", 0, "")
	f.Uint64Var((*uint64)(&shape.Rate), "rate", 0, "")
	if err := f.Parse(os.Args[3:]); err != nil {
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := forward.Run(ctx, port, shape, func() { fmt.Println("ready") })
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// bench is a box and a carrier's router joined by a circuit.
func bench(t *testing.T) (*Bench, string, forward.Port) {
	t.Helper()
	both := netnstest.Spaces(t, "box", "carrier")
	box, router := both[0], both[1]
	netnstest.Cable(t,
		netnstest.End{Space: box, Port: "wan0", Addresses: []string{"10.9.5.2/30"}},
		netnstest.End{Space: router, Port: "s-1.0", Addresses: []string{"10.9.5.1/30"}})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(Deps{Dir: t.TempDir(), Wardnet: self})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := b.Heal(context.Background(), All); err != nil {
			t.Error(err)
		}
	})
	return b, box, forward.Port{Namespace: router, Name: "s-1.0"}
}

// Every kind of fault does what it says, and healed it is gone.
func TestFaultsOnARealCircuit(t *testing.T) {
	b, box, port := bench(t)
	p, err := probe.Start(t.Context(), probe.Flow{Namespace: box, To: netip.MustParseAddr("10.9.5.1")})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	// over sums up what is sent in the next time that was all answered or lost.
	over := func(d time.Duration) probe.Course {
		from := p.Mark()
		await(t, func() bool { return p.Mark()-from > d+1200*time.Millisecond })
		return p.Since(from, from+d)
	}
	well := func(when string) {
		t.Helper()
		from := p.Mark()
		await(t, func() bool { c := p.Since(from, p.Mark()); return c.Sent-c.Lost >= 10 })
		if list, err := b.List(); err != nil || len(list) != 0 {
			t.Errorf("%s: the journal holds %v, %v", when, list, err)
		}
	}
	well("at first")
	for name, tt := range map[string]struct {
		fault Fault
		check func(c probe.Course) bool
	}{
		"cut":   {Fault{Kind: Silence}, func(c probe.Course) bool { return c.Lost == c.Sent }},
		"down":  {Fault{Kind: Down}, func(c probe.Course) bool { return c.Lost == c.Sent }},
		"loss":  {Fault{Kind: Loss, LossRatio: 0.3}, func(c probe.Course) bool { return c.Lost > c.Sent/4 && c.Lost < c.Sent*4/5 }}, // 51 % both ways
		"delay": {Fault{Kind: Slow, DelayMS: 30}, func(c probe.Course) bool { return c.Median >= 60*time.Millisecond && c.Lost < c.Sent/4 }},
	} {
		tt.fault.Target, tt.fault.Ports = "circuit c", []forward.Port{port}
		if err := b.Make(t.Context(), tt.fault); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c := over(600 * time.Millisecond); !tt.check(c) {
			t.Errorf("%s: %+v", name, c)
		}
		if _, err := b.Heal(t.Context(), On(Target{Circuit: "c"})); err != nil {
			t.Fatalf("heal %s: %v", name, err)
		}
		well("after " + name)
	}
}

// A forwarder that was killed leaves a dead circuit behind, which heal mends.
func TestHealMendsAKilledForwarder(t *testing.T) {
	b, box, port := bench(t)
	f := Fault{Kind: Slow, Target: "circuit c", DelayMS: 5, RateBPS: 10 * inventory.Mbps, Ports: []forward.Port{port}}
	if err := b.Make(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	pid := alive(b.pidFile(port))
	if pid == 0 {
		t.Fatal("no forwarder runs")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if healed, err := b.Heal(t.Context(), All); err != nil || len(healed) != 1 {
		t.Fatalf("%v, %v", healed, err)
	}
	p, err := probe.Start(t.Context(), probe.Flow{Namespace: box, To: netip.MustParseAddr("10.9.5.1")})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	await(t, func() bool { c := p.Since(0, p.Mark()); return c.Sent-c.Lost >= 10 })
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
