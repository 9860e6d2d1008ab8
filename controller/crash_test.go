package controller

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge/fake"
	"github.com/wardnet/wardnet/inventory"
)

// trouble is one generated story of a rollout of revision 2.
type trouble struct {
	kills   []int          // after so many further durable writes the process dies
	faults  map[int]string // device number → fault, from the start of the rollout
	heal    time.Duration  // when the faults end
	restart time.Duration  // how long the process stays dead
}

func drawTrouble(t *rapid.T, devices int) trouble {
	tr := trouble{
		kills:   rapid.SliceOfN(rapid.IntRange(1, 60), 0, 4).Draw(t, "kills"),
		faults:  map[int]string{},
		heal:    time.Duration(rapid.IntRange(1, 90).Draw(t, "heal")) * time.Second,
		restart: time.Duration(rapid.IntRange(0, 60).Draw(t, "restart")) * time.Second,
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "faults") {
		n := rapid.IntRange(0, devices-1).Draw(t, fmt.Sprint("device", i))
		tr.faults[n] = rapid.SampledFrom([]string{"unreachable", "reject", "lost", "slow", "down"}).Draw(t, fmt.Sprint("fault", i))
	}
	return tr
}

func faultOf(name string, c *Compiled, id inventory.DeviceID) fake.Faults {
	switch name {
	case "unreachable":
		return fake.Faults{Unreachable: true}
	case "reject":
		return fake.Faults{Reject: fmt.Errorf("out of memory")}
	case "lost":
		return fake.Faults{LoseReply: true}
	case "slow":
		return fake.Faults{Delay: 3 * time.Second}
	}
	down := map[string]bool{}
	for _, tn := range c.Devices[id].Config.Tunnels {
		down[tn.Name] = true
	}
	return fake.Faults{Down: down}
}

// Whatever is lost, refused, late or killed at any durable write: once the
// faults are over, the network stands at the new content or, the rollout having
// failed, at the old, on every device, with nothing open and nothing pending.
// Nobody edits a device here, so nothing may be taken for such an edit.
func TestRolloutSurvivesAnything(t *testing.T) {
	const sites = 8
	old, next := town(sites), changed(sites)
	rapid.Check(t, func(rt *rapid.T) {
		tr := drawTrouble(rt, len(old.Devices))
		var verdict error
		synctest.Test(t, func(t *testing.T) { verdict = tr.play(t, old, next) })
		if verdict != nil {
			rt.Fatal(verdict)
		}
	})
}

// A device confirms a push, its answer is lost, and the rollout fails at others:
// what it runs then is neither changed by hand nor a push that came to nothing.
// Turns are scarce, so a pass looks at it twice.
func TestLostConfirmThenReturn(t *testing.T) {
	old, next := town(8), changed(8)
	tr := trouble{heal: 90 * time.Second, restart: 14 * time.Second, faults: map[int]string{1: "unreachable", 4: "reject", 5: "lost"}}
	for first := 14; first <= 22; first++ {
		for _, kills := range [][]int{{first}, {first, 5, 34}} {
			tr.kills = kills
			synctest.Test(t, func(t *testing.T) {
				if err := tr.play(t, old, next); err != nil {
					t.Errorf("kills %v: %v", kills, err)
				}
			})
		}
	}
}

func (tr trouble) play(t *testing.T, old, next inventory.Inventory) error {
	w := newWorld(t, old, next)
	l := w.start(Config{})
	if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
		return err
	}
	l.wait(1, time.Minute, RolloutDone)
	c := mustCompile(t, 2, next)
	for n, fault := range tr.faults {
		id := old.Devices[n].ID
		w.devices[id].Break(faultOf(fault, c, id))
	}
	healed := time.AfterFunc(tr.heal, func() {
		for _, d := range w.devices {
			d.Break(fake.Faults{})
		}
	})
	defer healed.Stop()
	kills := tr.kills
	arm := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(kills) > 0 {
			w.killAt, kills = w.writes+kills[0], kills[1:]
		}
	}
	arm()
	_, err := l.StartRollout(t.Context(), 2, "lan")
	begun, quiet := time.Now(), 0
	for ; time.Since(begun) < 20*time.Minute && quiet < 60; time.Sleep(2 * time.Second) {
		if quiet++; time.Since(begun) < tr.heal || l.dead.Load() || l.busy() {
			quiet = 0
		}
		if l.dead.Load() {
			<-l.done
			time.Sleep(tr.restart)
			l = w.start(Config{})
			synctest.Wait()
			arm()
		}
		if time.Since(begun) > tr.heal {
			w.nudge(l)
		}
	}
	w.mu.Lock()
	w.killAt = 0
	w.mu.Unlock()
	defer func() { l.end() }()
	if drifts, derr := l.Controller.Drifts(t.Context()); derr != nil || len(drifts) != 0 {
		return fmt.Errorf("taken for changed by hand: %+v, %w", drifts, derr)
	}
	rollouts := l.Controller.Rollouts()
	if err != nil && len(rollouts) == 1 {
		return w.inSync(1) // it died before the rollout was stored, and said so
	}
	state := rollouts[0].State
	switch {
	case len(rollouts) == 2 && state == RolloutDone:
		return w.inSync(2)
	case len(rollouts) == 3 && state == RolloutDone && rollouts[1].State == RolloutHalted:
		return w.inSync(1)
	}
	return fmt.Errorf("%d rollouts; the newest is %+v", len(rollouts), rollouts[0])
}

// busy says whether a rollout is open or being returned.
func (l *life) busy() bool {
	return slices.ContainsFunc(l.Controller.Rollouts(), func(r Rollout) bool { return r.Open() || r.State == RolloutReturning })
}

// nudge does what people and sessions do: resume what waits for a person, wake
// what came back.
func (w *world) nudge(l *life) {
	for _, r := range l.Controller.Rollouts() {
		if r.State == RolloutPaused {
			_, _ = l.Resume(w.t.Context(), r.ID, "lan") // dead or not: the end is what counts
		}
	}
	for _, s := range l.Controller.Statuses() {
		if !s.Online {
			l.Wake(s.Device)
		}
	}
}
