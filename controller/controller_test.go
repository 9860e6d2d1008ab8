package controller

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/fake"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// changed is town(n) with something else on every device.
func changed(n int) inventory.Inventory {
	inv := town(n)
	inv.Circuits = slices.Clone(inv.Circuits)
	for i := range inv.Circuits {
		inv.Circuits[i].UpBPS += inventory.Mbps
	}
	return inv
}

func TestRolloutBringsAllInSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, town(20), changed(20))
		l := w.start(Config{})
		defer l.end()
		for n := intent.Number(1); n <= 2; n++ {
			if _, err := l.StartRollout(t.Context(), n, "lan"); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			r := l.wait(n, time.Minute, RolloutDone)
			t.Logf("revision %d took %s in %d waves", n, time.Since(start), len(r.Waves))
			if done, total := r.Progress(); done != 22 || total != 22 {
				t.Errorf("%d of %d pushes", done, total)
			}
			if err := w.inSync(n); err != nil {
				t.Error(err)
			}
		}
		for id, d := range w.devices {
			if applies, confirms := d.Counts(); applies != 2 || confirms != 2 {
				t.Errorf("%s: %d pushes, %d kept; want 2 and 2", id, applies, confirms)
			}
			if s, err := l.Status(id); err != nil || !s.InSync() || s.Revision != 2 || s.Error != "" {
				t.Errorf("Status(%s) = %+v, %v", id, s, err)
			}
		}
		entries, err := l.Journal(t.Context(), l.Controller.Rollouts()[0].ID)
		if err != nil || len(entries) != 2*22 {
			t.Errorf("%d journal entries, %v; want a push and a confirm each", len(entries), err)
		}
	})
}

// However large a wave is, no more devices than said are between push and
// confirm, and all come to their turn.
func TestParallelIsKept(t *testing.T) {
	for _, parallel := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, town(20))
			w.takes = 2 * time.Second
			l := w.start(Config{Parallel: parallel})
			defer l.end()
			if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
				t.Fatal(err)
			}
			l.wait(1, 2*time.Minute, RolloutDone)
			if err := w.inSync(1); err != nil {
				t.Error(err)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.most != parallel || w.open != 0 {
				t.Errorf("%d devices were between push and confirm at once, %d are; want %d and none", w.most, w.open, parallel)
			}
		})
	}
}

func TestFailedWaveReturnsOldContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, town(20), changed(20))
		l := w.start(Config{})
		defer l.end()
		if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
			t.Fatal(err)
		}
		l.wait(1, time.Minute, RolloutDone)
		p, err := l.Controller.Plan(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		bad := p.Waves[3].Devices[0] // in the second ward wave
		w.devices[bad].Break(fake.Faults{Reject: errors.New("no such interface")})
		if _, err := l.StartRollout(t.Context(), 2, "lan"); err != nil {
			t.Fatal(err)
		}
		failed := l.wait(2, 5*time.Minute, RolloutHalted)
		back := l.wait(3, time.Minute, RolloutDone)
		if back.Returns != failed.ID {
			t.Errorf("the return %+v does not name %s", back, failed.ID)
		}
		if err := w.inSync(1); err != nil {
			t.Error(err)
		}
		if last := p.Waves[len(p.Waves)-1].Devices[0]; true {
			if applies, _ := w.devices[last].Counts(); applies != 1 {
				t.Errorf("%s of the last wave was pushed %d times; want once, for revision 1", last, applies)
			}
		}
		if !slices.Contains(w.told(), "rollout.halted") || !slices.Contains(w.told(), "rollout.returned") {
			t.Errorf("audited: %v", w.told())
		}
		if l.InForce() != 3 {
			t.Errorf("in force is %d, want 3", l.InForce())
		}
	})
}

// A push whose tunnel stays down is not confirmed, and the device reverts.
func TestUnverifiedPushHalts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := town(3)
		w := newWorld(t, inv)
		l := w.start(Config{})
		defer l.end()
		ward := wardOf(t, inv)
		down := map[string]bool{}
		for _, tn := range mustCompile(t, 1, inv).Devices[ward].Config.Tunnels {
			down[tn.Name] = tn.Peer == "d-hub-1" // one hub cannot be reached at all
		}
		w.devices[ward].Break(fake.Faults{Down: down})
		if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
			t.Fatal(err)
		}
		r := l.wait(1, 5*time.Minute, RolloutHalted)
		time.Sleep(time.Minute)
		if got, err := w.devices[ward].Running(t.Context()); err != nil || got.Revision != 0 {
			t.Errorf("%s still runs revision %d, %v (%s)", ward, got.Revision, err, r.Reason)
		}
		s, err := l.Status(ward)
		if err != nil || s.Outcome != "held" || s.InSync() {
			t.Errorf("Status() = %+v, %v", s, err)
		}
	})
}

// A device that takes a push back because its health contract fails says which
// check did, within a minute, and so does the rollout.
func TestRevertNamesTheFailedCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := town(3)
		w := newWorld(t, inv)
		l := w.start(Config{})
		defer l.end()
		ward := wardOf(t, inv)
		tunnel := mustCompile(t, 1, inv).Devices[ward].Config.Tunnels[0].Name
		w.devices[ward].Break(fake.Faults{Down: map[string]bool{tunnel: true}, Unhealthy: []string{"dns/10.64.0.53"}})
		start := time.Now()
		if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
			t.Fatal(err)
		}
		r := l.wait(1, 5*time.Minute, RolloutHalted)
		if !strings.Contains(r.Reason, "dns/10.64.0.53") {
			t.Errorf("the rollout halted for %q, which does not name the failed check", r.Reason)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("known after %s", took)
		}
	})
}

// One dead circuit of several is no reason to halt the city.
func TestDeadCircuitIsTolerated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := town(3)
		w := newWorld(t, inv)
		l := w.start(Config{})
		defer l.end()
		ward := wardOf(t, inv)
		tunnels := mustCompile(t, 1, inv).Devices[ward].Config.Tunnels
		down := map[string]bool{}
		for _, tn := range tunnels {
			down[tn.Name] = tn.Circuit == tunnels[0].Circuit
		}
		w.devices[ward].Break(fake.Faults{Down: down})
		if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
			t.Fatal(err)
		}
		l.wait(1, time.Minute, RolloutDone)
	})
}

func TestOfflineDeviceIsPendingAndCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := town(20)
		w := newWorld(t, inv)
		l := w.start(Config{Pending: time.Hour})
		defer l.end()
		p, err := l.Controller.Plan(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		away := p.Waves[len(p.Waves)-1].Devices[0]
		w.devices[away].Break(fake.Faults{Unreachable: true})
		if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
			t.Fatal(err)
		}
		r := l.wait(1, time.Minute, RolloutDone)
		if last := r.Waves[len(r.Waves)-1]; last.Pending != 1 {
			t.Errorf("last wave: %+v, want one pending", last)
		}
		time.Sleep(90 * time.Minute)
		if !slices.Contains(w.told(), "rollout.overdue") {
			t.Errorf("audited: %v", w.told())
		}
		w.devices[away].Break(fake.Faults{})
		l.Wake(away)
		time.Sleep(2 * time.Second)
		if err := w.inSync(1); err != nil {
			t.Error(err)
		}
	})
}

func TestUnreachableWavePausesUntilResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := town(3)
		w := newWorld(t, inv)
		l := w.start(Config{})
		defer l.end()
		w.devices[hubOf(t, inv)].Break(fake.Faults{Unreachable: true})
		r, err := l.StartRollout(t.Context(), 1, "lan")
		if err != nil {
			t.Fatal(err)
		}
		l.wait(1, time.Minute, RolloutPaused)
		if _, err := l.Resume(t.Context(), r.ID, "lan"); err != nil {
			t.Fatal(err)
		}
		l.wait(1, time.Minute, RolloutDone)
	})
}

func TestDriftIsCountedAndReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := town(3)
		w := newWorld(t, inv)
		l := w.start(Config{})
		defer l.end()
		if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
			t.Fatal(err)
		}
		l.wait(1, time.Minute, RolloutDone)
		ward := wardOf(t, inv)
		w.devices[ward].Edit(func(c *edge.Config) { c.Rules = nil })
		time.Sleep(10*time.Minute + 5*time.Second) // the resync finds it
		if err := w.inSync(1); err != nil {
			t.Error(err)
		}
		s, err := l.Status(ward)
		if err != nil || s.Drifts != 1 || !s.InSync() || testutil.ToFloat64(l.metrics.drift) != 1 {
			t.Errorf("Status() = %+v, %v", s, err)
		}
	})
}

func TestApprovalIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, town(2))
		w.approvals[1] = []intent.Approval{{Revision: 1, Hash: w.revisions[1].Hash, Approver: "lan", Expires: time.Now().Add(time.Hour)}}
		l := w.start(Config{})
		defer l.end()
		if _, err := l.StartRollout(t.Context(), 1, "lan"); !errors.Is(err, ErrHeld) {
			t.Errorf("StartRollout() = %v, want ErrHeld: the author approved it himself", err)
		}
		w.approvals[1][0].Approver = "minh"
		r, err := l.StartRollout(t.Context(), 1, "lan")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Pause(t.Context(), r.ID, "lan"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour) // the approval expires
		if _, err := l.Resume(t.Context(), r.ID, "lan"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		r = l.wait(1, time.Minute, RolloutPaused)
		if _, err := l.Abort(t.Context(), r.ID, "lan"); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Resume(t.Context(), r.ID, "lan"); !errors.Is(err, inventory.ErrConflict) {
			t.Errorf("Resume() of an aborted rollout = %v, want ErrConflict", err)
		}
	})
}

func TestNewerRevisionSupersedes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, town(20), changed(20))
		for _, d := range w.devices {
			d.Break(fake.Faults{Delay: time.Second})
		}
		l := w.start(Config{})
		defer l.end()
		if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if _, err := l.StartRollout(t.Context(), 2, "lan"); err != nil {
			t.Fatal(err)
		}
		l.wait(1, time.Second, RolloutAborted)
		l.wait(2, 5*time.Minute, RolloutDone)
		if err := w.inSync(2); err != nil {
			t.Error(err)
		}
		if _, err := l.StartRollout(t.Context(), 1, "lan"); !errors.Is(err, inventory.ErrConflict) {
			t.Errorf("StartRollout(1) = %v, want ErrConflict", err)
		}
	})
}

// A burst of enrolments costs a hub one set of credentials a second, and a
// ward none; a revocation reaches the hubs at once, whatever else goes on.
func TestCredentialsAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := town(20)
		w := newWorld(t, inv)
		keys := w.keys
		w.keys = map[inventory.DeviceID]string{}
		l := w.start(Config{})
		defer l.end()
		time.Sleep(time.Second)
		for _, d := range inv.Devices {
			w.mu.Lock()
			w.epoch++
			w.keys[d.ID] = keys[d.ID]
			w.mu.Unlock()
			l.KeysChanged()
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		hub, ward := hubOf(t, inv), wardOf(t, inv)
		if n := len(w.devices[hub].Credentials().Keys); n != 21 {
			t.Errorf("hub has %d keys, want 21", n)
		}
		if n := len(w.devices[ward].Credentials().Keys); n != 2 {
			t.Errorf("ward has %d keys, want the two hubs'", n)
		}
		if n := testutil.ToFloat64(l.metrics.credentials); n > 22*4 {
			t.Errorf("%v sets for 22 enrolments in 2 s", n)
		}
		w.mu.Lock()
		w.epoch++
		delete(w.keys, ward)
		w.mu.Unlock()
		l.KeysChanged()
		time.Sleep(2 * time.Second)
		if _, admitted := w.devices[hub].Credentials().Keys[ward]; admitted {
			t.Error("the hub still admits a revoked device after 2 s")
		}
	})
}

func TestRepeatedAnswers(t *testing.T) {
	for n := 1; n < 8; n++ {
		if d := backoff(n, time.Minute); d < time.Second/2 || d > 90*time.Second {
			t.Errorf("backoff(%d) = %s", n, d)
		}
	}
	if _, err := New(Deps{}, Config{}); err == nil {
		t.Error("New without dependencies succeeds")
	}
	if _, err := (Config{Pass: time.Minute, Revert: time.Second}).WithDefaults(); !errors.Is(err, inventory.ErrInvalid) {
		t.Error("a revert time below the pass is accepted")
	}
	if s := fmt.Sprint(&StepError{"d", "push", edge.ErrRejected}); s != "d: push: device rejected the configuration" {
		t.Error(s)
	}
}
