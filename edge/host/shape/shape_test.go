package shape

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/host/hosttest"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

func input() render.Input {
	return render.Input{Config: edge.Config{
		Circuits: []edge.Circuit{{Name: "c-1-a", Port: "wan0", UpBPS: 20 * inventory.Mbps, MTU: 1500}},
		Tunnels: []edge.Tunnel{
			{Name: "c-1-a--h1", Kind: edge.WireGuard, Circuit: "c-1-a"},
			{Name: "c-1-a--h2", Kind: edge.WireGuard, Circuit: "c-1-a"},
		},
		Classes: []edge.Class{
			{Name: "thoại", DSCP: 46, Share: 0.3, LatencyMS: 150, JitterMS: 30},
			{Name: "nền", DSCP: 8, Share: 0.05, LatencyMS: 1000, JitterMS: 500},
		},
	}}
}

func open(t *testing.T) *Queues {
	t.Helper()
	q, err := Open(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func apply(t *testing.T, q *Queues, in render.Input) {
	t.Helper()
	if err := q.Apply(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if diff, err := q.Diff(t.Context(), in); err != nil || len(diff) > 0 {
		t.Fatalf("after Apply: %v, %v", diff, err)
	}
}

func diff(t *testing.T, q *Queues, in render.Input) string {
	t.Helper()
	d, err := q.Diff(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(d, "\n")
}

// The box converges from anything to anything, touches nothing that is as it
// should be, and leaves nothing behind.
func TestConverge(t *testing.T) {
	if !hosttest.Enter(t) {
		return
	}
	q, in := open(t), input()
	tunnels := render.Shape(in, nil)[0].Tunnels
	for _, name := range append([]string{"wan0"}, tunnels...) {
		hosttest.Run(t, "ip", "tuntap", "add", name, "mode", "tun")
		hosttest.Run(t, "ip", "link", "set", name, "up")
	}
	device := render.Shape(in, nil)[0].Device
	index := func() string { return strings.Fields(hosttest.Run(t, "ip", "-o", "link", "show", device))[0] }

	apply(t, q, in)
	first := index()
	apply(t, q, in)
	faster := input()
	faster.Config.Circuits[0].UpBPS = 40 * inventory.Mbps
	if diff(t, q, faster) == "" {
		t.Error("another rate is no difference")
	}
	apply(t, q, faster)
	if got := index(); got != first {
		t.Errorf("another rate made another queue: %s, was %s", got, first)
	}
	fast := input()
	fast.Config.Circuits[0].UpBPS = inventory.Gbps
	apply(t, q, fast) // packets are no longer cut
	fewer := input()
	fewer.Config.Classes = fewer.Config.Classes[:1]
	fewer.Config.Tunnels = fewer.Config.Tunnels[:1]
	apply(t, q, fewer)

	for _, harm := range [][]string{
		{"tc", "filter", "del", "dev", tunnels[0], "egress"},
		{"tc", "qdisc", "del", "dev", "wan0", "clsact"},
		{"tc", "filter", "del", "dev", device, "parent", "1:"},
		{"tc", "class", "change", "dev", device, "parent", "1:1", "classid", "1:11", "htb", "rate", "1mbit"},
		{"tc", "qdisc", "del", "dev", device, "root"},
		{"ip", "link", "del", device},
	} {
		apply(t, q, in)
		hosttest.Run(t, harm[0], harm[1:]...)
		if diff(t, q, in) == "" {
			t.Errorf("%v is not seen", harm)
		}
	}
	apply(t, q, in)
	apply(t, q, render.Input{})
	if out := hosttest.Run(t, "ip", "link", "show", "type", "ifb"); out != "" {
		t.Errorf("left behind: %s", out)
	}
	if out := hosttest.Run(t, "tc", "filter", "show", "dev", "wan0", "egress"); out != "" {
		t.Errorf("left behind: %s", out)
	}
}
