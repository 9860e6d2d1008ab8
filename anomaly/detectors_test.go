package anomaly

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/telemetry"
)

var start = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

func at(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }

func TestStateDown(t *testing.T) {
	type step struct {
		at    float64
		value float64 // -1: only time passes; NaN: gone
		want  string  // "", "open", "clear"
		since float64 // From or To of the finding
	}
	for name, steps := range map[string][]step{
		"down and up":         {{0, 1, "", 0}, {10, 0, "", 0}, {12.9, -1, "", 0}, {13, -1, "open", 10}, {60, 0, "", 0}, {70, 1, "", 0}, {72, -1, "", 0}, {73, -1, "clear", 70}},
		"flap down":           {{0, 1, "", 0}, {10, 0, "", 0}, {12, 1, "", 0}, {30, -1, "", 0}},
		"flap up":             {{0, 1, "", 0}, {10, 0, "", 0}, {13, -1, "open", 10}, {20, 1, "", 0}, {21, 0, "", 0}, {40, -1, "", 0}},
		"never up":            {{0, 0, "", 0}, {10, -1, "", 0}, {20, -1, "open", 0}},
		"gone":                {{0, 1, "", 0}, {10, 0, "", 0}, {14, -1, "open", 10}, {20, math.NaN(), "clear", 20}, {25, 0, "", 0}},
		"one late sample":     {{0, 1, "", 0}, {10, 0, "", 0}, {50, 0, "open", 10}},
		"gone while all well": {{0, 1, "", 0}, {10, math.NaN(), "", 0}},
	} {
		t.Run(name, func(t *testing.T) {
			d := &StateDown{Kind: CircuitDown, Severity: Major, Hold: 3 * time.Second, NeverUp: 20 * time.Second}
			for _, s := range steps {
				var f Finding
				var found bool
				if s.value == -1 {
					f, found = d.Advance(at(s.at))
				} else {
					f, found = d.Observe(telemetry.Sample{Device: "d", Metric: telemetry.CircuitUp, Object: "c", Value: s.value, At: at(s.at)})
				}
				got := ""
				since := f.From
				switch {
				case found && f.To.IsZero():
					got = "open"
				case found:
					got, since = "clear", f.To
				}
				if got != s.want || found && !since.Equal(at(s.since)) {
					t.Fatalf("at %v: %q since %v, want %q since %v (%+v)", s.at, got, since, s.want, at(s.since), f)
				}
				if found && (f.Why == "" || f.ID == "" || f.Device != "d" || f.Object != "c") {
					t.Fatalf("incomplete finding %+v", f)
				}
			}
		})
	}
}

// Whatever the samples: findings open and clear in turn, opened ones lasted the
// hold, and a reopened detector clears as the first would have.
func TestStateDownTurns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &StateDown{Kind: BFDDown, Hold: 3 * time.Second, NeverUp: 20 * time.Second}
		now, open := 0.0, false
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.Float64Range(0.1, 6).Draw(t, "dt")
			var f Finding
			var found bool
			if rapid.Bool().Draw(t, "sample") {
				f, found = d.Observe(telemetry.Sample{Metric: telemetry.BFDUp, Value: float64(rapid.IntRange(0, 1).Draw(t, "v")), At: at(now)})
			} else {
				f, found = d.Advance(at(now))
			}
			if !found {
				continue
			}
			if f.To.IsZero() == open {
				t.Fatalf("open twice or clear twice: %+v", f)
			}
			open = f.To.IsZero()
			if open && at(now).Sub(f.From) < d.Hold || !open && (at(now).Sub(f.To) < d.Hold || f.To.Before(f.From)) {
				t.Fatalf("hold: %+v at %v", f, at(now))
			}
			if open {
				again := &StateDown{Kind: BFDDown, Hold: d.Hold, NeverUp: d.NeverUp}
				if !again.Reopen(f) {
					t.Fatal("not reopened")
				}
				again.Observe(telemetry.Sample{Metric: telemetry.BFDUp, Value: 1, At: at(now)})
				if g, ok := again.Advance(at(now + 4)); !ok || g.ID != f.ID || g.To.IsZero() {
					t.Fatalf("reopened: %+v %v", g, ok)
				}
			}
		}
	})
}

func TestSustained(t *testing.T) {
	d := &Sustained{Kind: TunnelLoss, Severity: Minor, Limit: 0.05, For: 30 * time.Second}
	var got []string
	for i, v := range []float64{0, 0.2, 0, 0.1, 0.1, 0.1, 0.1, 0.045, 0.06, 0.01, 0.045, 0.01, 0.01, 0.01, 0.01} {
		f, found := d.Observe(telemetry.Sample{Metric: telemetry.TunnelLoss, Value: v, At: at(float64(10 * i))})
		if found && f.To.IsZero() {
			got = append(got, "open")
			if !f.From.Equal(at(30)) || i != 6 || f.Score < 1 {
				t.Errorf("opened at %d: %+v", i, f)
			}
		} else if found {
			got = append(got, "clear")
			if !f.To.Equal(at(110)) || i != 14 {
				t.Errorf("cleared at %d: %+v", i, f)
			}
		}
	}
	if len(got) != 2 {
		t.Fatalf("findings %v", got)
	}
}

// traffic is a healthy rate: daily rhythm, noise that grows with the level, and
// now and then a burst.
func traffic(rng *rand.Rand, t time.Time, day time.Duration) float64 {
	phase := 2 * math.Pi * float64(t.Sub(start)%day) / float64(day)
	level := 2e6 * (1 - 0.7*math.Cos(phase))
	v := level * math.Exp(0.15*rng.NormFloat64())
	if rng.IntN(400) == 0 {
		v *= 2.5
	}
	return v
}

func TestShiftIsQuietOnHealthyTraffic(t *testing.T) {
	findings := 0
	for seed := range uint64(8) {
		for _, day := range []time.Duration{24 * time.Hour, 2 * time.Hour} {
			rng := rand.New(rand.NewPCG(seed, 1))
			d := &Shift{Kind: TrafficShift, Floor: 20_000, Adopt: 30 * time.Minute}
			for i := range 2 * 8640 {
				now := start.Add(time.Duration(i) * 10 * time.Second)
				if f, found := d.Observe(telemetry.Sample{Value: traffic(rng, now, day), At: now}); found {
					findings++
					t.Logf("seed %d day %s: %+v", seed, day, f)
				}
			}
		}
	}
	if findings > 0 {
		t.Fatalf("%d findings in 32 healthy series-days", findings)
	}
}

func TestShiftFindsWhatMoved(t *testing.T) {
	for name, factor := range map[string]float64{"stopped": 0, "a tenth": 0.1, "eightfold": 8} {
		found := 0
		for seed := range uint64(20) {
			rng := rand.New(rand.NewPCG(seed, 9))
			d := &Shift{Kind: TrafficShift, Floor: 20_000, Adopt: 30 * time.Minute}
			opened, cleared := false, false
			for i := range 3 * 3600 / 10 {
				now := start.Add(time.Duration(i) * 10 * time.Second)
				v := traffic(rng, now, 24*time.Hour)
				if i >= 720 && i < 780 { // 10 minutes
					v *= factor
				}
				f, ok := d.Observe(telemetry.Sample{Metric: telemetry.InOctets, Value: v, At: now})
				switch {
				case !ok:
				case f.To.IsZero() && i >= 720 && i < 780:
					opened = true
				case !f.To.IsZero() && i >= 780:
					cleared = true
				default:
					t.Errorf("%s seed %d: at %d %+v", name, seed, i, f)
				}
			}
			if opened && cleared {
				found++
			}
		}
		t.Logf("%s: %d of 20 found and cleared", name, found)
		if found < 18 {
			t.Errorf("%s: only %d of 20 found", name, found)
		}
	}
}
