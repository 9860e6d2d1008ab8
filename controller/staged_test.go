package controller

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// A revision that brings one ward and takes another: the hubs get the new one
// first, keep the old one until the wards are through, and then let it go.
func TestHubIsPushedInTwoStages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		both := town(6)
		swap := func(in, out int) inventory.Inventory {
			inv := town(6)
			n := 0
			for i := range inv.Devices {
				if inv.Devices[i].Role == inventory.RoleHub {
					continue
				}
				if n == out {
					inv.Devices[i].Intended = inventory.Retired
				}
				n++
			}
			return inv
		}
		w := newWorld(t, swap(0, 1), swap(1, 0))
		w.inventory = both.Devices
		l := w.start(Config{})
		defer l.end()
		if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
			t.Fatal(err)
		}
		l.wait(1, time.Minute, RolloutDone)
		hub := hubOf(t, both)
		before, _ := w.devices[hub].Running(t.Context())
		var mu sync.Mutex // events come from several goroutines
		var most int
		l.Subscribe(func(Event) {
			got, err := w.devices[hub].Running(t.Context())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			most = max(most, len(got.Config.Tunnels))
		})
		if _, err := l.StartRollout(t.Context(), 2, "lan"); err != nil {
			t.Fatal(err)
		}
		r := l.wait(2, time.Minute, RolloutDone)
		var names []string
		for _, wave := range r.Waves {
			names = append(names, wave.Name)
		}
		if want := []string{"hub-1", "hub-2", "wards-1", "hub-1-removals", "hub-2-removals"}; !slices.Equal(names, want) {
			t.Errorf("waves %v, want %v", names, want)
		}
		after, _ := w.devices[hub].Running(t.Context())
		mu.Lock()
		defer mu.Unlock()
		if most <= len(before.Config.Tunnels) || most <= len(after.Config.Tunnels) {
			t.Errorf("the hub had %d, then at most %d, then %d tunnels; want more in between", len(before.Config.Tunnels), most, len(after.Config.Tunnels))
		}
		if want := mustCompile(t, 2, swap(1, 0)).Devices[hub]; after.Config.Hash() != want.Hash {
			t.Error("the hub does not run revision 2")
		}
	})
}

// A push that cuts the management channel is a failure, not an offline device.
func TestPushThatCutsTheChannelHalts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := town(3)
		w := newWorld(t, inv)
		w.cuts = wardOf(t, inv)
		l := w.start(Config{})
		defer l.end()
		if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
			t.Fatal(err)
		}
		r := l.wait(1, 10*time.Minute, RolloutHalted)
		t.Log(r.Reason)
		time.Sleep(2 * time.Minute)
		if got, err := w.devices[w.cuts].Running(t.Context()); err != nil || got.Revision != 0 {
			t.Errorf("%s runs revision %d, %v", w.cuts, got.Revision, err)
		}
	})
}

// A program that compiles a stored revision to other bytes must not push the
// difference on its own.
func TestOtherCompilerPushesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := town(3)
		w := newWorld(t, inv)
		l := w.start(Config{})
		if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
			t.Fatal(err)
		}
		l.wait(1, time.Minute, RolloutDone)
		l.end()
		w.revisions[1] = revisionOf(1, changed(3)) // the same number, other configs
		l = w.start(Config{})
		defer l.end()
		time.Sleep(30 * time.Minute)
		if err := w.inSync(1); err == nil {
			t.Error("the devices were pushed without a rollout")
		}
		for id, d := range w.devices {
			if applies, _ := d.Counts(); applies != 1 {
				t.Errorf("%s was pushed %d times", id, applies)
			}
		}
	})
}
