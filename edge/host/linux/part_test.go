//go:build lab

package linux

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/edge/host/hosttest"
	"github.com/wardnet/wardnet/edge/host/service"
	"github.com/wardnet/wardnet/edge/host/shape"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// ledger is a part that remembers which device's configuration it has.
type ledger struct {
	device          inventory.DeviceID
	refuse, fail    error
	applied, failed int
}

func (*ledger) Name() string                                    { return "ledger" }
func (l *ledger) Check(_ context.Context, _ render.Input) error { return l.refuse }
func (l *ledger) Apply(_ context.Context, in render.Input) error {
	if l.fail != nil && in.Config.Device != "" && len(in.Config.Circuits) == 1 {
		l.failed++
		return l.fail
	}
	l.applied++
	l.device = in.Config.Device
	return nil
}

func (l *ledger) Diff(_ context.Context, in render.Input) ([]string, error) {
	if l.device != in.Config.Device {
		return []string{fmt.Sprintf("%q instead of %q", l.device, in.Config.Device)}, nil
	}
	return nil, nil
}

// A part is one of the steps: asked before anything is changed, put after the
// rules, read back, and taken back with the rest.
func TestPart(t *testing.T) {
	if !hosttest.Enter(t, "out") {
		return
	}
	plug(t, hosttest.Space(""))
	l := &ledger{}
	h := open(t, t.TempDir())
	h.deps.Parts = []Part{l}
	names := []string{}
	for _, s := range h.steps() {
		names = append(names, s.name)
	}
	if i := slices.Index(names, "ledger"); i < 1 || names[i-1] != "rules" || names[i+1] != "routing" {
		t.Errorf("steps %v", names)
	}
	apply(t, h, ward())
	if l.device != "edge-1" {
		t.Errorf("the part has %q", l.device)
	}
	equal(t, h, ward())
	l.device = "another"
	if diff, err := h.Equal(t.Context(), ward(), keys()); err != nil || len(diff) != 1 || !strings.HasPrefix(diff[0], "ledger: ") {
		t.Errorf("a part that differs: %v, %v", diff, err)
	}
	apply(t, h, ward())

	l.refuse = errors.New("no")
	before := l.applied
	if err := h.Apply(t.Context(), otherWard(), keys()); !errors.Is(err, inventory.ErrInvalid) || l.applied != before {
		t.Errorf("a part refuses: %v, applied %d times", err, l.applied-before)
	}
	l.refuse, l.fail = nil, errors.New("broken")
	if err := h.Apply(t.Context(), otherWard(), keys()); !errors.Is(err, l.fail) || l.failed == 0 {
		t.Errorf("a part fails: %v", err)
	}
	equal(t, h, ward())
}

// The real parts on a real box: services and queues come with a configuration,
// change with it, and go with it.
func TestRealParts(t *testing.T) {
	if !hosttest.Enter(t, "out") {
		return
	}
	plug(t, hosttest.Space(""))
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	services, err := service.Open(service.Config{RunDir: dir + "/services", StateDir: dir + "/state", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	queues, err := shape.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, dir)
	h.deps.Parts, h.deps.Leases = []Part{services, queues}, services.Leases
	full := ward()
	full.Circuits[0].UpBPS, full.Circuits[1].UpBPS = 100*inventory.Mbps, 20*inventory.Mbps
	s := &full.Segments[0]
	s.DHCP.From, s.DHCP.To, s.DHCP.LeaseSeconds = addr("10.64.0.100"), addr("10.64.1.200"), 3600
	s.DNS, s.NTP = append(s.DNS, addr("10.0.0.53")), append(s.NTP, addr("10.0.0.53"))
	t.Logf("with services and queues: %s", apply(t, h, full))
	equal(t, h, full)
	t.Logf("again: %s", apply(t, h, full))
	differs(t, h, ward())
	for range 2 {
		apply(t, h, otherWard())
		equal(t, h, otherWard())
		apply(t, h, full)
		equal(t, h, full)
	}
	apply(t, h, ward())
	if out := hosttest.Run(t, "ip", "link", "show", "type", "ifb"); out != "" {
		t.Errorf("left behind: %s", out)
	}
}
