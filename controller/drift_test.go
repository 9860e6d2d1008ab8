package controller

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// byHand is a device that people can change past us.
type byHand struct{ driver }

func (byHand) Editable() bool                    { return true }
func (byHand) LastEditor(context.Context) string { return "an on vty0" }

// driftedTown rolls revision 1 out, changes a ward by hand and lets the
// controller see it.
func driftedTown(t *testing.T, l *life, w *world, inv inventory.Inventory) (inventory.DeviceID, Drift) {
	t.Helper()
	ward := wardOf(t, inv)
	w.mu.Lock()
	w.hand[ward] = true
	w.mu.Unlock()
	if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
		t.Fatal(err)
	}
	l.wait(1, time.Minute, RolloutDone)
	w.devices[ward].Edit(func(c *edge.Config) {
		c.Circuits = slices.Clone(c.Circuits)
		c.Circuits[0].UpBPS = byHandRate
	})
	l.Look(ward)
	time.Sleep(time.Second)
	all, err := l.Drifts(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("Drifts() = %+v, %v", all, err)
	}
	return ward, all[0]
}

// byHandRate is what somebody sets a circuit's rate to.
const byHandRate = 123 * inventory.Kbps

// runs is the rate of the ward's first circuit as it runs.
func runs(t *testing.T, w *world, ward inventory.DeviceID) inventory.BitRate {
	t.Helper()
	doc, err := w.devices[ward].Running(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return doc.Config.Circuits[0].UpBPS
}

func TestDriftOnAForeignDeviceWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := town(3)
		w := newWorld(t, inv)
		l := w.start(Config{})
		defer l.end()
		ward, d := driftedTown(t, l, w, inv)
		if d.State != DriftOpen || d.Device != ward || d.Who != "an on vty0" || len(d.Changes) != 1 || !strings.Contains(d.Changes[0], "circuit") {
			t.Fatalf("drift %+v", d)
		}
		time.Sleep(time.Hour)
		if runs(t, w, ward) != byHandRate {
			t.Fatal("it was written over without a decision")
		}
		s, err := l.Status(ward)
		if err != nil || s.Outcome != "held" || s.Drifts != 1 || s.InSync() {
			t.Errorf("status %+v, %v", s, err)
		}
		// A waiver ends by itself.
		if _, err := l.WaiveDrift(t.Context(), d.ID, "minh", "", time.Now().Add(time.Hour)); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("a waiver without a reason: %v", err)
		}
		if _, err := l.WaiveDrift(t.Context(), d.ID, "minh", "fault 88", time.Now().Add(MaxDriftWaiver+time.Hour)); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("a waiver for ever: %v", err)
		}
		if d, err = l.WaiveDrift(t.Context(), d.ID, "minh", "fault 88", time.Now().Add(time.Hour)); err != nil || d.State != DriftWaived {
			t.Fatalf("WaiveDrift() = %+v, %v", d, err)
		}
		time.Sleep(time.Hour + 10*time.Second)
		if all, err := l.Drifts(t.Context()); err != nil || all[0].State != DriftOpen {
			t.Errorf("after the waiver: %+v, %v", all, err)
		}
		if _, err := l.RevertDrift(t.Context(), d.ID, "minh", "nobody ordered it"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		all, err := l.Drifts(t.Context())
		if err != nil || all[0].State != DriftReturned || all[0].By != "minh" || runs(t, w, ward) == byHandRate {
			t.Errorf("after the revert: %+v, %v", all, err)
		}
		if _, err := l.RevertDrift(t.Context(), d.ID, "minh", "again"); !errors.Is(err, inventory.ErrConflict) {
			t.Errorf("a decision about what is over: %v", err)
		}
	})
}

func TestAnAdoptedDriftIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := town(3)
		w := newWorld(t, inv)
		l := w.start(Config{})
		defer l.end()
		ward, d := driftedTown(t, l, w, inv)
		doc, err := w.devices[ward].Running(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, want, err := l.Adrift(d.ID)
		if err != nil {
			t.Fatal(err)
		}
		text, err := OverrideOf(want.Config, doc.Config)
		if err != nil {
			t.Fatal(err)
		}
		next := inv
		next.Devices = append([]inventory.Device{}, inv.Devices...)
		for i := range next.Devices {
			if next.Devices[i].ID == ward {
				next.Devices[i].Override, next.Devices[i].OverrideReason = text, "the carrier moved it"
			}
		}
		w.revise(2, next)
		if _, err := l.AdoptDrift(t.Context(), d.ID, "lan", "the carrier moved it", 2); err != nil {
			t.Fatal(err)
		}
		if _, err := l.StartRollout(t.Context(), 2, "lan"); err != nil {
			t.Fatal(err)
		}
		l.wait(2, 5*time.Minute, RolloutDone)
		all, err := l.Drifts(t.Context())
		if err != nil || all[0].State != DriftAdopted || runs(t, w, ward) != byHandRate {
			t.Errorf("after the rollout: %+v, %v", all, err)
		}
	})
}

func TestADriftIsNamedBeforeItIsWrittenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := town(3)
		w := newWorld(t, inv)
		l := w.start(Config{})
		defer l.end()
		ward, d := driftedTown(t, l, w, inv)
		next := inv
		next.Sites = append([]inventory.Site{}, inv.Sites...)
		for i := range next.Sites {
			if next.Sites[i].Kind != inventory.Hub {
				next.Sites[i].BFDIntervalMS = 700
			}
		}
		w.revise(2, next)
		p, err := l.Plan(t.Context(), 2)
		if err != nil || len(p.Drifts) != 1 || p.Drifts[0].ID != d.ID {
			t.Fatalf("the plan names %+v, %v", p.Drifts, err)
		}
		if _, err := l.StartRollout(t.Context(), 2, "lan"); err != nil {
			t.Fatal(err)
		}
		l.wait(2, 5*time.Minute, RolloutDone)
		all, err := l.Drifts(t.Context())
		if err != nil || all[0].State != DriftOverwritten || runs(t, w, ward) == byHandRate {
			t.Errorf("after the rollout: %+v, %v", all, err)
		}
	})
}

// Whatever is observed and decided, a drift that a person must decide about is
// never put back without a decision, and every one that is over says how.
func TestDriftLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hashes := []string{"a", "b", "c"}
		var d *Drift
		now := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
		decided := false
		for range 30 {
			now = now.Add(time.Minute)
			want, have := rapid.SampledFrom(hashes[:2]).Draw(t, "want"), rapid.SampledFrom(hashes).Draw(t, "have")
			next, stored := d.next(want, have, rapid.Bool().Draw(t, "confirmed"), true, rapid.Bool().Draw(t, "over"), now)
			if stored {
				if d != nil && d.Want == want && have != want && d.Held() != nil && next.Held() == nil {
					t.Fatalf("%+v became %+v by itself", *d, next)
				}
				d = &next
			}
			if d != nil && !d.Active() {
				if d.State == DriftReturned && !decided {
					t.Fatalf("returned without a decision: %+v", *d)
				}
				d, decided = nil, false
			}
			if d == nil {
				continue
			}
			switch rapid.IntRange(0, 5).Draw(t, "decision") {
			case 0:
				d.State, decided = DriftReturning, true
			case 1:
				d.State, d.Until = DriftWaived, now.Add(3*time.Minute)
			case 2:
				d.State = DriftAdopting
			}
		}
	})
}

// A change by hand that nobody saw before a newer revision came is not lost: by
// people's hand it stops the push, elsewhere it is told.
func TestAChangeSeenOnlyWithTheNextRevision(t *testing.T) {
	for _, byPeople := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			inv := town(3)
			w := newWorld(t, inv)
			ward := wardOf(t, inv)
			w.hand[ward] = byPeople
			l := w.start(Config{})
			defer l.end()
			if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
				t.Fatal(err)
			}
			l.wait(1, time.Minute, RolloutDone)
			w.devices[ward].Edit(func(c *edge.Config) {
				c.Circuits = slices.Clone(c.Circuits)
				c.Circuits[0].UpBPS = byHandRate
			})
			next := inv
			next.Sites = slices.Clone(inv.Sites)
			for i := range next.Sites {
				if next.Sites[i].Kind != inventory.Hub {
					next.Sites[i].BFDIntervalMS = 700
				}
			}
			w.revise(2, next)
			if _, err := l.StartRollout(t.Context(), 2, "lan"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			all, err := l.Drifts(t.Context())
			if err != nil || len(all) != 1 || all[0].Device != ward {
				t.Fatalf("by people %v: Drifts() = %+v, %v", byPeople, all, err)
			}
			if kept := runs(t, w, ward) == byHandRate; kept != byPeople {
				t.Errorf("by people %v: kept %v, drift %+v", byPeople, kept, all[0])
			}
		})
	}
}
