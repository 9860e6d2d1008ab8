package incident_test

import (
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/anomaly"
	"github.com/wardnet/wardnet/incident"
	"github.com/wardnet/wardnet/inventory"
)

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestCitySizedCarrierOutages(t *testing.T) {
	w := newWorld(rand.New(rand.NewPCG(1, 2)), 206)
	n := newNOC(t, w)
	a := n.cutCarrier("vnpt", n.wardsWith("vnpt", 12))
	n.run(40 * time.Second)
	b := n.cutCarrier("viettel", n.wardsWith("viettel", 12))
	n.run(40 * time.Second)
	n.check(a, b)
	a.heal()
	n.run(60 * time.Second)
	b.heal()
	n.run(75 * time.Second)
	n.check(a, b)
	n.checkResolved()
}

func TestRestartKeepsIncidents(t *testing.T) {
	for _, after := range []time.Duration{2 * time.Second, 7 * time.Second, 15 * time.Second, 50 * time.Second} {
		n := newNOC(t, newWorld(rand.New(rand.NewPCG(uint64(after), 3)), 40))
		f := n.cutCarrier("vnpt", n.wardsWith("vnpt", 7))
		n.run(after)
		for _, b := range n.w.boxes { // the controller is killed: every session ends, memory is gone
			b.session, b.changeAt = false, time.Time{}
		}
		n.start()
		n.run(60 * time.Second)
		f.at = f.at.Add(20 * time.Second) // found late when it began just before the restart
		if len(n.store.docs) != 1 || n.store.docs[0].Cause != f.cause {
			t.Fatalf("restart after %s: %s", after, join(n.summary()))
		}
		f.heal()
		n.run(90 * time.Second)
		if len(n.store.docs) != 1 {
			t.Fatalf("restart after %s: %s", after, join(n.summary()))
		}
		n.checkResolved()
	}
}

func TestReopenInsteadOfAnother(t *testing.T) {
	n := newNOC(t, newWorld(rand.New(rand.NewPCG(4, 4)), 40))
	wards := n.wardsWith("fpt", 6)
	f := n.cutCarrier("fpt", wards)
	n.run(60 * time.Second)
	f.heal()
	n.run(60 * time.Second)
	n.checkResolved()
	f = n.cutCarrier("fpt", wards)
	n.run(40 * time.Second)
	if len(n.store.docs) != 1 || n.store.docs[0].Reopened != 1 || n.store.docs[0].State != incident.Open {
		t.Fatal(join(n.summary()))
	}
	f.heal()
	n.run(8 * time.Minute)
	other := slices.DeleteFunc(n.wardsWith("fpt", 30), func(s inventory.SiteID) bool { return slices.Contains(wards, s) })
	n.cutCarrier("fpt", other[:4])
	n.run(40 * time.Second)
	if len(n.store.docs) != 2 {
		t.Fatalf("another part of the city is another incident: %s", join(n.summary()))
	}
}

// down is a finding as the detectors make it.
func down(kind anomaly.Kind, device inventory.DeviceID, object string, at time.Time) anomaly.Finding {
	return anomaly.Finding{Device: device, Object: object, Kind: kind, Severity: anomaly.Major, Score: 1, Expected: 1, From: at}.Identify()
}

func TestWhatIsBeingBuiltIsNotBroken(t *testing.T) {
	w := newWorld(rand.New(rand.NewPCG(5, 5)), 5)
	topo := incident.NewTopology(w.inv)
	serving := map[inventory.DeviceID]bool{"d-hub-1": true}
	store := &memory{}
	silences := []incident.Silence{}
	b, err := incident.NewBook(incident.Deps{
		Store: store, Topology: func() *incident.Topology { return topo }, Log: discard(),
		InService: func(d inventory.DeviceID) bool { return serving[d] },
		Silences:  func() []incident.Silence { return silences },
	}, incident.Config{})
	if err != nil {
		t.Fatal(err)
	}
	now := w.now
	pass := func(d time.Duration) {
		t.Helper()
		for range int(d / time.Second) {
			now = now.Add(time.Second)
			if err := b.Tick(t.Context(), now); err != nil {
				t.Fatal(err)
			}
		}
	}
	pass(time.Second)
	c := w.circuitsAt("s-002")[0]
	name := string(c) + "--d-hub-1"
	b.Observe(down(anomaly.TunnelDown, "d-hub-1", name, now)) // the hub is ready, the ward is not
	pass(time.Minute)
	if len(store.docs) != 0 || b.Admitted() != 0 {
		t.Fatalf("a tunnel to a device that is not in service: %v", store.docs)
	}
	serving["d-s-002"] = true
	silences = append(silences, incident.Silence{Site: "s-002", From: now, To: now.Add(2 * time.Minute), Reason: "work on the mast"})
	pass(time.Minute)
	if len(store.docs) != 0 {
		t.Fatalf("silenced: %v", store.docs)
	}
	pass(90 * time.Second)
	if len(store.docs) != 1 || store.docs[0].Cause.Kind != incident.CauseTunnel || b.Admitted() != 1 {
		t.Fatalf("after the silence: %+v", store.docs)
	}

	// By hand: take note, give away, close; what is open stays quiet.
	id := store.docs[0].ID
	if i, err := b.Ack(t.Context(), id, "lan"); err != nil || i.State != incident.Acknowledged || i.Owner != "lan" {
		t.Fatal(i, err)
	}
	if _, err := b.Ack(t.Context(), id, "lan"); !errors.Is(err, inventory.ErrConflict) {
		t.Fatal(err)
	}
	if i, err := b.Assign(t.Context(), id, "minh", "lan"); err != nil || i.Owner != "minh" {
		t.Fatal(i, err)
	}
	store.fail = errors.New("disk full")
	if _, err := b.Resolve(t.Context(), id, "minh", "hub port replaced"); err == nil || b.OpenCount() != 1 {
		t.Fatalf("resolved though it could not be saved: %v", err)
	}
	store.fail = nil
	if i, err := b.Resolve(t.Context(), id, "minh", "hub port replaced"); err != nil || i.State != incident.Resolved {
		t.Fatal(i, err)
	}
	if _, err := b.Resolve(t.Context(), "INC-2026-999999", "minh", ""); !errors.Is(err, inventory.ErrNotFound) {
		t.Fatal(err)
	}
	pass(20 * time.Minute)
	if len(store.docs) != 1 || b.OpenCount() != 0 {
		t.Fatalf("closed by hand, yet: %+v", store.docs)
	}
	if got := store.docs[0].Timeline; !strings.Contains(got[len(got)-1].Text, "replaced") {
		t.Fatalf("timeline %v", got)
	}
}

func TestSaveIsTriedAgain(t *testing.T) {
	w := newWorld(rand.New(rand.NewPCG(6, 6)), 5)
	topo := incident.NewTopology(w.inv)
	store := &memory{fail: errors.New("disk full")}
	var told []incident.Incident
	b, err := incident.NewBook(incident.Deps{
		Store: store, Topology: func() *incident.Topology { return topo }, Log: discard(), Notify: func(i incident.Incident) { told = append(told, i) },
	}, incident.Config{})
	if err != nil {
		t.Fatal(err)
	}
	b.Observe(down(anomaly.DeviceDown, "d-s-001", "", w.now))
	failed := 0
	for i := range 30 {
		if err := b.Tick(t.Context(), w.now.Add(time.Duration(i)*time.Second)); err != nil {
			failed++
		}
	}
	if failed == 0 || len(told) != 0 {
		t.Fatalf("%d failures, told %v", failed, told)
	}
	store.fail = nil
	if err := b.Tick(t.Context(), w.now.Add(31*time.Second)); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || told[0].ID != "INC-2026-000001" || told[0].Cause != (incident.Cause{Kind: incident.CauseDevice, ID: "d-s-001"}) || len(told[0].Symptoms) != 1 {
		t.Fatalf("told %+v", told)
	}
}
