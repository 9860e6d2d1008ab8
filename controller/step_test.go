package controller

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
)

// The state machine alone, under any observations in any order: waves run one
// after the other, none starts before the one before is through, a failure
// stops everything, and a step without news changes nothing.
func TestStepProperties(t *testing.T) {
	lim := Limits{Wave: 3 * time.Minute, Grace: 15 * time.Second, Pending: time.Hour}
	rapid.Check(t, func(t *rapid.T) {
		r := Rollout{ID: "r", Revision: 2, Base: 1, State: RolloutRunning, Started: time.Unix(0, 0).UTC()}
		n := 0
		for i := range rapid.IntRange(0, 5).Draw(t, "waves") {
			w := Wave{Name: string(rune('a' + i)), State: WaveWaiting}
			for range rapid.IntRange(1, 3).Draw(t, "size") {
				w.Devices = append(w.Devices, inventory.DeviceID(rune('A'+n)))
				n++
			}
			r.Waves = append(r.Waves, w)
		}
		now, phase := r.Started, map[inventory.DeviceID]Seen{}
		look := func(_ Target, id inventory.DeviceID) Seen { return phase[id] }
		for range 60 {
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "s")) * time.Second)
			if n > 0 {
				id := inventory.DeviceID(rune('A' + rapid.IntRange(0, n-1).Draw(t, "device")))
				s := Seen{Phase: rapid.SampledFrom([]Phase{PhaseDone, PhaseDone, PhaseDone, PhaseWaiting, PhaseOffline, PhaseFailed}).Draw(t, "phase")}
				if s.Phase == PhaseFailed {
					s.Reason = string(id) + ": broken"
				}
				phase[id] = s
			}
			next := r.Step(now, look, lim)
			checkStep(t, r, next, phase)
			if r.State != RolloutRunning && !reflect.DeepEqual(r, next) {
				t.Fatalf("a step moved a rollout that is %s", r.State)
			}
			r = next
		}
	})
}

func checkStep(t *rapid.T, before, after Rollout, phase map[inventory.DeviceID]Seen) {
	running, open := 0, false
	for i, w := range after.Waves {
		if w.State != WaveWaiting && open {
			t.Fatalf("wave %s is %s before the one before it is through", w.Name, w.State)
		}
		open = open || w.State != WaveDone
		if w.State == WaveRunning {
			running++
		}
		if w.State == WaveDone && before.Waves[i].State != WaveDone {
			for _, id := range w.Devices {
				if p := phase[id].Phase; p != PhaseDone && p != PhaseOffline {
					t.Fatalf("wave %s is through although %s is in phase %d", w.Name, id, p)
				}
			}
		}
	}
	if running > 1 {
		t.Fatalf("%d waves run at once", running)
	}
	if after.State == RolloutDone && open {
		t.Fatal("done with open waves")
	}
	if after.State == RolloutReturning && before.State == RolloutRunning && after.Reason == "" {
		t.Fatal("halted without a reason")
	}
}

func TestEstimate(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0).UTC() }
	r := Rollout{State: RolloutRunning, Waves: []Wave{
		{State: WaveDone, Started: at(0), Ended: at(4)},
		{State: WaveDone, Started: at(4), Ended: at(10)},
		{State: WaveRunning, Started: at(10)},
		{State: WaveWaiting},
	}}
	if got := r.estimate(at(12)); !got.Equal(at(22)) {
		t.Errorf("estimate = %s, want two waves of 5 s from now", got)
	}
}
