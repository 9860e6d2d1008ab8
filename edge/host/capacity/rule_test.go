package capacity

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The rate in use never exceeds the contract, never falls under its floor,
// moves only by more than a tenth, and a second look at the same result moves
// it no more.
func TestUpload(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		contracted := rapid.Uint64Range(64_000, 10_000_000_000).Draw(t, "contracted")
		used := rapid.Uint64Range(0, 2*contracted).Draw(t, "used")
		r := Result{BPS: rapid.Uint64Range(0, 20_000_000_000).Draw(t, "measured"), AtLeast: rapid.Bool().Draw(t, "at least")}
		got := upload(contracted, used, r)
		least := min(contracted, max(contracted/10, leastRate))
		if got > contracted || got < least {
			t.Fatalf("%d is not in %d…%d", got, least, contracted)
		}
		if again := upload(contracted, got, r); again != got {
			t.Fatalf("%d, then %d", got, again)
		}
		if used >= least && used <= contracted && got != used && math.Abs(float64(got)-float64(used)) <= hysteresis*float64(used) {
			t.Fatalf("%d instead of %d is a small change", got, used)
		}
		if want := r.BPS; !r.AtLeast && want >= least && want <= contracted && math.Abs(float64(got)-float64(want)) > 0.12*float64(want) {
			t.Fatalf("measured %d, uses %d", want, got)
		}
	})
	for _, c := range []struct {
		contracted, used uint64
		r                Result
		want             uint64
	}{
		{50e6, 50e6, Result{BPS: 10e6}, 10e6},                // it fell
		{50e6, 10e6, Result{BPS: 30e6}, 30e6},                // it rose
		{50e6, 10e6, Result{BPS: 10.9e6}, 10e6},              // much the same
		{50e6, 10e6, Result{BPS: 80e6}, 50e6},                // no more than the contract
		{50e6, 50e6, Result{BPS: 1e6}, 5e6},                  // not under a tenth
		{1e6, 1e6, Result{BPS: 1e3}, 256e3},                  // nor under 256 kbit/s
		{128e3, 128e3, Result{BPS: 1e3}, 128e3},              // but the contract's where that is less
		{50e6, 10e6, Result{BPS: 40e6, AtLeast: true}, 50e6}, // too fast to tell
	} {
		if got := upload(c.contracted, c.used, c.r); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

func TestDue(t *testing.T) {
	cfg := Config{}.withDefaults()
	now := time.Unix(1e6, 0)
	const rate = 10_000_000
	fresh := Record{Contracted: rate, At: now}
	step := func(w *watch, up bool, load float64, d time.Duration) {
		now = now.Add(d)
		w.look(up, w.octets+uint64(load/8*d.Seconds()), now)
	}
	is := func(what string, w *watch, last Record, want bool) {
		t.Helper()
		if got := w.due(cfg, last, rate, rate, now); got != want {
			t.Errorf("%s: due %v", what, got)
		}
	}
	w := &watch{}
	step(w, true, 0, time.Second)
	is("just up", w, Record{}, false)
	step(w, true, 0, 5*time.Second)
	is("up for 5 s", w, Record{}, false)
	step(w, true, 0, 20*time.Second)
	is("up for 25 s", w, Record{}, true)
	is("up, measured by an earlier agent", w, fresh, true)
	step(w, true, 2e6, 5*time.Second)
	is("busy", w, Record{}, false)
	step(w, true, 1e5, 5*time.Second)
	is("quiet again", w, Record{}, true)
	w.done(cfg, now, true)
	step(w, true, 0, time.Minute)
	is("measured a minute ago", w, fresh, false)
	is("measured a minute ago, contract changed", w, Record{Contracted: 2 * rate, At: now}, false)
	step(w, true, 0, 6*time.Minute)
	is("contract changed", w, Record{Contracted: 2 * rate, At: now}, true)
	is("measured", w, Record{Contracted: rate, At: now}, false)
	step(w, true, 0, 6*time.Hour)
	is("6 h old", w, fresh, true)
	w.done(cfg, now, true)
	step(w, false, 0, time.Hour)
	is("down", w, fresh, false)
	step(w, true, 0, time.Second)
	step(w, true, 0, 30*time.Second)
	is("back", w, Record{Contracted: rate, At: now}, true)
	late := &watch{share: time.Minute}
	step(late, true, 0, time.Second)
	step(late, true, 0, time.Minute)
	is("up for 1 min, and waits its turn", late, Record{}, false)
	step(late, true, 0, 21*time.Second)
	is("its turn", late, Record{}, true)
	for i := range 12 { // it gives nothing, again and again
		w.done(cfg, now, false)
		pause := min(cfg.Retry<<i, cfg.Every)
		step(w, true, 0, pause-time.Second)
		is("too soon after a failure", w, Record{}, false)
		step(w, true, 0, time.Second)
		is("after a failure", w, Record{}, true)
	}
}

func TestAgree(t *testing.T) {
	for _, c := range []struct {
		first, second, want Result
		outcome             string
	}{
		{Result{BPS: 100}, Result{BPS: 110}, Result{BPS: 110}, measured},
		{Result{BPS: 110}, Result{BPS: 100}, Result{BPS: 110}, measured},
		{Result{BPS: 100}, Result{BPS: 300}, Result{}, unsteady},
		{Result{BPS: 300}, Result{BPS: 100}, Result{}, unsteady},
		{Result{BPS: 100}, Result{BPS: 300, AtLeast: true}, Result{BPS: 300, AtLeast: true}, atLeast},
	} {
		outcome := measured
		if c.second.AtLeast {
			outcome = atLeast
		}
		if got, outcome := agree(c.first, c.second, outcome); got != c.want || outcome != c.outcome {
			t.Errorf("%+v: %+v, %s", c, got, outcome)
		}
	}
}

func TestRecordHolds(t *testing.T) {
	at := time.Unix(1e6, 0)
	r := Record{Contracted: 5, At: at}
	for d, want := range map[time.Duration]bool{0: true, 23 * time.Hour: true, 24 * time.Hour: false, -time.Minute: false} {
		if r.holds(5, at.Add(d)) != want || r.holds(6, at.Add(d)) {
			t.Errorf("after %s", d)
		}
	}
}
