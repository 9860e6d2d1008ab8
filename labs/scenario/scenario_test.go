package scenario

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
	"github.com/wardnet/wardnet/labs/impair"
	"github.com/wardnet/wardnet/labs/impair/forward"
	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/probe"
)

func TestEveryScenarioIsThere(t *testing.T) {
	for _, want := range []string{"failover-circuit", "failover-hub", "brownout", "bad-config", "autonomy", "revocation", "carrier-outage", "bulk", "ztp", "steadiness", "restart-wg", "restart-agent"} {
		s, err := Find(want)
		if err != nil || s.About == "" || len(s.Steps) == 0 {
			t.Errorf("%s: %+v, %v", want, s, err)
		}
	}
	names := Names()
	slices.Sort(names)
	if len(slices.Compact(names)) != len(All) {
		t.Error("two scenarios have one name")
	}
	if _, err := Find("none"); !errors.Is(err, inventory.ErrInvalid) {
		t.Error(err)
	}
}

func TestJudge(t *testing.T) {
	for name, tt := range map[string]struct {
		c    probe.Course
		want bool
	}{
		"kept":        {probe.Course{Sent: 100, Lost: 5, Outage: time.Second}, true},
		"too long":    {probe.Course{Sent: 100, Lost: 5, Outage: 2 * time.Second}, false},
		"nothing":     {probe.Course{Sent: 100, Lost: 100, Outage: time.Second}, false},
		"no packets":  {probe.Course{}, false},
		"to the edge": {probe.Course{Sent: 1, Outage: failover}, true},
	} {
		if e := judge(name, tt.c, failover); e.OK != tt.want || e.ExpectedMS != 1500 {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// world is the default lab as a value; nothing of it runs.
func world(t *testing.T) *World {
	t.Helper()
	city, top, err := netlab.City(sample.City(), netlab.Shape{})
	if err != nil {
		t.Fatal(err)
	}
	return &World{Lab: &netlab.Lab{Dir: t.TempDir(), City: city, Topology: top}}
}

// Every scenario finds its victims in the default lab.
func TestVictimsOfTheDefaultLab(t *testing.T) {
	w := world(t)
	if len(w.wards()) < 2 {
		t.Fatalf("%d wards", len(w.wards()))
	}
	for _, s := range w.wards() {
		f, err := w.flow(s)
		if err != nil || f.Namespace == "" || !f.To.IsValid() {
			t.Errorf("%s: %+v, %v", s.ID, f, err)
		}
		c := w.primary(s)
		if c.Role != inventory.Primary {
			t.Errorf("%s prefers %+v", s.ID, c)
		}
		if _, err := impair.Ports(w.Lab.Topology, impair.Target{Circuit: c.ID}); err != nil {
			t.Error(err)
		}
		if ports, err := impair.Ports(w.Lab.Topology, impair.Target{Hub: w.hubOf(s)}); err != nil || len(ports) < 2 {
			t.Errorf("the hub of %s: %v, %v", s.ID, ports, err)
		}
	}
	p := play{World: w}
	if carrier, members := p.busiest(); len(members) < carrierWards {
		t.Errorf("carrier %s serves %v", carrier, members)
	}
}

// A call and what is sent beside it are permitted, of different classes, and
// nobody answers the latter.
func TestCallAndLoadOfTheDefaultLab(t *testing.T) {
	w := world(t)
	p := &play{World: w}
	for _, s := range w.wards() {
		call, load, err := p.callAndLoad(s)
		if err != nil {
			t.Fatal(err)
		}
		classes := map[string]bool{}
		for _, a := range w.Lab.City.Applications {
			if a.Prefixes[0].Addr() == call.To || a.Prefixes[0].Addr() == load.to.Addr() {
				classes[a.Class.Name] = true
			}
		}
		if len(classes) != 2 || call.DSCP != expedited || call.Interval != callPace || call.Namespace == load.namespace {
			t.Errorf("%s: call %+v beside %+v, classes %v", s.ID, call, load, classes)
		}
		answered, listened := false, false
		for _, x := range w.Lab.Topology.Services {
			if x.Proto == inventory.UDP {
				answered = answered || x.Addr == netip.AddrPortFrom(call.To, call.Port)
				listened = listened || x.Addr == load.to
			}
		}
		if !answered || listened {
			t.Errorf("%s: the call is answered: %v, the load has a listener: %v", s.ID, answered, listened)
		}
	}
}

// A hub's uplinks are at the data centre, and no other hub's.
func TestUplinksOfAHub(t *testing.T) {
	w := world(t)
	p := &play{World: w}
	seen := map[forward.Port]bool{}
	for _, s := range w.Lab.Topology.Sites {
		ports := p.uplinks(s.ID)
		if want := s.Role == inventory.RoleHub; (len(ports) > 0) != want {
			t.Errorf("%s: uplinks %v", s.ID, ports)
		}
		for _, at := range ports {
			if at.Namespace != w.Lab.Topology.DC || seen[at] {
				t.Errorf("%s: %v is elsewhere, or another's", s.ID, at)
			}
			seen[at] = true
		}
	}
}

// The matrix of the default lab asks for everything and stays bounded.
func TestPairsOfTheDefaultLab(t *testing.T) {
	pairs, err := world(t).Pairs()
	if err != nil {
		t.Fatal(err)
	}
	type source struct {
		ward    inventory.SiteID
		segment inventory.SegmentKind
	}
	sources, allowed := map[source]int{}, 0
	for _, p := range pairs {
		sources[source{p.Ward, p.Segment}]++
		if p.Want == probe.Allow && p.Application != "gateway" {
			allowed++
		}
	}
	if len(sources) < 4*5 || allowed < len(sources) || len(pairs) < 2000 || len(pairs) > 30000 {
		t.Errorf("%d pairs from %d segments, %d allowed", len(pairs), len(sources), allowed)
	}
	t.Logf("%d pairs from %d segments, %d allowed beside gateways", len(pairs), len(sources), allowed)
}

func TestLoadIsRead(t *testing.T) {
	if _, err := os.Stat("/proc/loadavg"); err == nil && load() == "unknown" {
		t.Error("the load average is not read")
	}
}

// A metronome on a machine that is asleep for a while says for how long.
func TestMetronome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m metronome
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() { m.run(ctx); close(done) }()
		time.Sleep(time.Second)
		cancel()
		<-done
		if got := m.latest(); got != 0 {
			t.Errorf("late by %s with an exact clock", got)
		}
	})
	if _, err := os.Stat("/proc/stat"); err == nil && stolen() < 0 {
		t.Error("the hypervisor gave time back")
	}
}
