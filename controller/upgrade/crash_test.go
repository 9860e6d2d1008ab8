package upgrade

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
)

// quick keeps the stories short; the order of the times is that of the defaults.
var quick = Config{Transfers: 2, Revert: 20 * time.Second, Grace: 15 * time.Second, Slow: 10 * time.Minute, Pending: 2 * time.Hour, Poll: time.Second}

// story is one generated upgrade.
type story struct {
	seed        uint64
	wards, hubs int
	loss        float64
	kinds       map[int]nature
	cuts        []cut
	kills       []int // after so many further durable writes the process dies
	dead        time.Duration
	command     string // given in the middle
	at          time.Duration
}

type cut struct {
	device   int
	from, to time.Duration
}

func drawStory(t *rapid.T) story {
	s := story{
		seed: rapid.Uint64().Draw(t, "seed"), wards: rapid.IntRange(1, 8).Draw(t, "wards"), hubs: rapid.IntRange(0, 3).Draw(t, "hubs"),
		loss: rapid.SampledFrom([]float64{0, 0, 0.05, 0.3}).Draw(t, "loss"), kinds: map[int]nature{},
		kills:   rapid.SliceOfN(rapid.IntRange(1, 25), 0, 5).Draw(t, "kills"),
		dead:    time.Duration(rapid.IntRange(0, 60).Draw(t, "dead")) * time.Second,
		command: rapid.SampledFrom([]string{"", "", "pause", "abort"}).Draw(t, "command"),
		at:      time.Duration(rapid.IntRange(0, 120).Draw(t, "at")) * time.Second,
	}
	n := s.wards + s.hubs
	for i := range rapid.IntRange(0, 2).Draw(t, "odd") {
		d := rapid.IntRange(0, n-1).Draw(t, fmt.Sprint("device", i))
		s.kinds[d] = rapid.SampledFrom([]nature{dies, deaf, sick}).Draw(t, fmt.Sprint("nature", i))
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "cuts") {
		c := cut{device: rapid.IntRange(0, n-1).Draw(t, fmt.Sprint("cut", i)), from: time.Duration(rapid.IntRange(0, 200).Draw(t, fmt.Sprint("from", i))) * time.Second}
		c.to = c.from + time.Duration(rapid.SampledFrom([]int{1, 5, 60, 1000, 9000}).Draw(t, fmt.Sprint("long", i)))*time.Second
		s.cuts = append(s.cuts, c)
	}
	return s
}

// Whatever is lost, cut off, refused, or killed at any durable write: no device
// is confirmed at a version it is worse with, no two hubs are on trial at once,
// no try begins that is not on record, and the rollout ends in a state that is
// true of every device.
func TestUpgradeSurvivesAnything(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawStory(rt)
		var verdict error
		synctest.Test(t, func(t *testing.T) { verdict = s.play(t) })
		if verdict != nil {
			rt.Fatal(verdict)
		}
	})
}

func (s story) play(t *testing.T) error {
	w := newWorld(t, s.seed, s.wards, s.hubs)
	for n, kind := range s.kinds {
		w.boxes[w.order[n]].kind = kind
	}
	l := w.start(quick)
	defer func() { l.end() }()
	r, err := l.Start(t.Context(), Order{Version: newVersion}, "lan")
	if err != nil {
		return err
	}
	begin := time.Now()
	w.mu.Lock()
	w.loss = s.loss
	w.mu.Unlock()
	kills := slices.Clone(s.kills)
	arm := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.killAt = 0
		if len(kills) > 0 {
			w.killAt, kills = w.writes+kills[0], kills[1:]
		}
	}
	arm()
	told := s.command == ""
	for time.Since(begin) < quick.Pending+10*time.Minute {
		time.Sleep(time.Second)
		since := time.Since(begin)
		for _, c := range s.cuts {
			if second := since.Truncate(time.Second); second == c.from || second == c.to {
				w.cut(w.order[c.device], second == c.to)
			}
		}
		if l.dead.Load() {
			l.end()
			time.Sleep(s.dead)
			l = w.start(quick)
			arm()
		}
		if !told && since >= s.at {
			told = s.tell(t, l, r.ID)
		}
		if s.over(w, l, r.ID) {
			break
		}
	}
	l.end()
	return s.judge(w, r.ID)
}

// tell gives the command; a rollout that has ended refuses it.
func (s story) tell(t *testing.T, l *life, id string) bool {
	act := l.Pause
	if s.command == "abort" {
		act = l.Abort
	}
	_, _ = act(t.Context(), id, "lan")
	return !l.dead.Load()
}

// over resumes what is paused, and says whether nothing is left to happen.
func (s story) over(w *world, l *life, id string) bool {
	v, err := l.Rollout(id)
	if err != nil || l.dead.Load() {
		return false
	}
	if v.State == Paused && time.Now().Unix()%60 == 0 {
		_, _ = l.Resume(w.t.Context(), id, "lan")
	}
	return !v.Open() && !slices.ContainsFunc(v.Devices, func(d DeviceView) bool { return d.Phase == Trying })
}

func (s story) judge(w *world, id string) error {
	time.Sleep(quick.Revert + restart) // what was left on trial goes back
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.faults) > 0 {
		return fmt.Errorf("%s", w.faults[0])
	}
	r := w.rollouts[id]
	if r.Open() || r.State == Halted && r.Reason == "" {
		return fmt.Errorf("it ends as %s, %q", r.State, r.Reason)
	}
	for _, d := range w.order {
		b, row := w.boxes[d], w.rows[id][d]
		b.settle()
		runs := b.version == newVersion && b.try == ""
		switch {
		case !row.Phase.Final():
			return fmt.Errorf("%s is %s in a rollout that is %s", d, row.Phase, r.State)
		case row.Phase == Done && !runs:
			return fmt.Errorf("%s is done and runs %s", d, b.version)
		case row.Phase == Failed && r.State != Halted && r.State != Aborted:
			return fmt.Errorf("%s failed (%s) and the rollout is %s", d, row.Error, r.State)
		case (row.Phase == Skipped || row.Phase == Expired) && runs:
			return fmt.Errorf("%s is %s and runs the new version", d, row.Phase)
		case r.State == Complete && row.Phase == Skipped:
			return fmt.Errorf("%s was skipped by a rollout that is done", d)
		}
	}
	return nil
}

// A fleet where nothing goes wrong is upgraded whole: wards first, hubs last and
// one after the other.
func TestUpgradeInWaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 30, 2)
		l := w.start(quick)
		defer l.end()
		r, err := l.Start(t.Context(), Order{Version: newVersion, Purpose: "faster"}, "lan")
		if err != nil {
			t.Fatal(err)
		}
		for range 600 {
			time.Sleep(time.Second)
			if v, _ := l.Rollout(r.ID); !v.Open() {
				break
			}
		}
		v, err := l.Rollout(r.ID)
		if done, total := v.Progress(); err != nil || v.State != Complete || done != 32 || total != 32 {
			t.Fatalf("%s %q: %d of %d, %v", v.State, v.Reason, done, total, err)
		}
		names := []string{"wards-1", "wards-5", "wards-10", "wards-rest", "hub-1", "hub-2"}
		var last time.Time
		for i, wave := range v.Waves {
			if wave.Name != names[i] || wave.Started.Before(last) {
				t.Errorf("wave %d is %s from %s on, the one before ended at %s", i, wave.Name, wave.Started, last)
			}
			last = wave.Ended
		}
		if len(w.faults) > 0 || w.audited != 32 {
			t.Error(w.faults, w.audited)
		}
		again, err := l.Start(t.Context(), Order{Version: newVersion}, "lan")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		if v, _ := l.Rollout(again.ID); v.State != Complete || v.Devices[0].Commit != "" {
			t.Errorf("what runs the version already was tried again: %+v", v.Devices[0])
		}
	})
}

// Every way a version can be bad halts the rollout with its reason, and no
// further device begins; the old version is back.
func TestBadVersionHalts(t *testing.T) {
	for _, kind := range []nature{dies, deaf, sick} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, 5, 1)
				for _, b := range w.boxes {
					b.kind = kind
				}
				l := w.start(quick)
				defer l.end()
				r, err := l.Start(t.Context(), Order{Version: newVersion}, "lan")
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(quick.Revert + back + time.Minute)
				v, _ := l.Rollout(r.ID)
				if v.State != Halted || !strings.Contains(v.Reason, "was taken back by the device: no Confirm arrived") || v.Waves[0].State != WaveHalted || v.Waves[1].State != WaveWaiting {
					t.Fatalf("%+v", v.Rollout)
				}
				tried := 0
				for _, d := range v.Devices {
					if d.Phase == Failed {
						tried++
					}
				}
				if tried != 1 || len(w.faults) > 0 {
					t.Errorf("%d devices were tried: %v", tried, w.faults)
				}
			})
		})
	}
}

// A hub that was away and comes back does not begin while another is on trial.
func TestHubsComeOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 0, 2)
		first, second := w.order[0], w.order[1]
		w.boxes[second].kind = sick // on trial for long
		l := w.start(quick)
		defer l.end()
		w.cut(first, false)
		r, err := l.Start(t.Context(), Order{Version: newVersion}, "lan")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(quick.Grace + 10*time.Second)
		if v, _ := l.Rollout(r.ID); v.State != Paused || !strings.Contains(v.Reason, string(first)) {
			t.Fatalf("without its first hub the rollout is %s: %s", v.State, v.Reason)
		}
		if _, err := l.Resume(t.Context(), r.ID, "lan"); err != nil {
			t.Fatal(err)
		}
		for range 60 {
			time.Sleep(time.Second)
			if v, _ := l.Rollout(r.ID); v.Devices[1].Phase == Trying {
				w.cut(first, true)
				break
			}
		}
		time.Sleep(quick.Revert + 30*time.Second)
		v, _ := l.Rollout(r.ID)
		if v.State != Halted || v.Devices[0].Phase != Skipped || v.Devices[1].Phase != Failed || len(w.faults) > 0 {
			t.Errorf("%s: %s and %s, %v", v.State, v.Devices[0].Phase, v.Devices[1].Phase, w.faults)
		}
	})
}

// A device that is away is upgraded when it comes, days later, and holds up
// nobody; the rollout says so meanwhile, also after a restart.
func TestOfflineDeviceIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 4, 0)
		cfg := quick
		cfg.Pending = 14 * 24 * time.Hour
		l := w.start(cfg)
		last := w.order[3]
		w.cut(last, false)
		r, err := l.Start(t.Context(), Order{Version: newVersion}, "lan")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if v, _ := l.Rollout(r.ID); v.State == Paused { // it was alone in its wave
			if _, err := l.Resume(t.Context(), r.ID, "lan"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Minute)
		}
		if v, _ := l.Rollout(r.ID); v.State != Lingering || v.Reason == "" {
			t.Fatalf("%s: %s", v.State, v.Reason)
		}
		time.Sleep(24 * time.Hour)
		l.end()
		l = w.start(cfg)
		defer func() { l.end() }()
		time.Sleep(time.Hour)
		w.cut(last, true)
		time.Sleep(time.Minute)
		v, _ := l.Rollout(r.ID)
		if done, total := v.Progress(); v.State != Complete || done != total || w.boxes[last].version != newVersion {
			t.Errorf("%s %q: %d of %d", v.State, v.Reason, done, total)
		}
	})
}

// A newer rollout takes over the devices it names from one that only waits.
func TestNewerRolloutTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 3, 0)
		away := w.order[0]
		l := w.start(quick)
		defer l.end()
		w.cut(away, false)
		first, err := l.Start(t.Context(), Order{Version: newVersion, Devices: []inventory.DeviceID{away, w.order[1]}}, "lan")
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(2 * time.Minute)
			_, _ = l.Resume(t.Context(), first.ID, "lan")
		}
		second, err := l.Start(t.Context(), Order{Version: newVersion, Devices: []inventory.DeviceID{away}}, "lan")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		v, _ := l.Rollout(first.ID)
		if v.Devices[0].Phase != Superseded || v.State != Complete {
			t.Errorf("%s, %+v", v.State, v.Devices[0].Device)
		}
		w.cut(away, true)
		time.Sleep(time.Minute)
		if v, _ := l.Rollout(second.ID); v.State != Complete {
			t.Errorf("%s %s", v.State, v.Reason)
		}
	})
}

// cut takes a box's line away or gives it back.
func (w *world) cut(id inventory.DeviceID, line bool) {
	w.mu.Lock()
	w.boxes[id].line = line
	c := w.live
	w.mu.Unlock()
	if line {
		c.Wake(id)
	} else {
		c.Down(id)
	}
}
