package anomaly

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/wardnet/wardnet/telemetry"
)

const (
	shiftWindow = 6       // samples whose median is judged
	shiftWarm   = 90      // samples before the first claim
	shiftDays   = 3       // full days before the hourly profile counts
	shiftLimit  = 8.0     // least robust deviations from the expectation
	shiftMargin = 1.5     // times the worst deviation seen so far
	shiftFade   = 0.99992 // per sample: half of the worst is forgotten in about a day at 10 s
	shiftAlpha  = 0.03    // smoothing of the level
	shiftBeta   = 0.002   // smoothing of the trend
	shiftScale  = 0.02    // smoothing of the scale
	shiftLeast  = 0.05    // least scale, in log units: 5 % noise is never news
)

// Shift finds a level that moved away from what the series' own past and its
// daily rhythm lead to expect: the median of the last minute's residuals lies
// beyond both a fixed limit and the worst seen so far. It works on the
// logarithm, so a deviation is a ratio. After Adopt the new level is the
// normal one and the claim clears.
type Shift struct {
	Kind  Kind
	Floor float64 // in the metric's unit: what is added before the logarithm, so that idle series are quiet
	Adopt time.Duration

	n            int
	level, trend float64
	scale        float64
	worst        float64
	recent       [shiftWindow]float64
	profile      [24]float64 // mean per hour of the day, UTC
	hours        [24]int     // days that each hour was seen
	lastHour     int
	run, calm    int
	since        time.Time // first sample of the run
	open         bool
	claim        Finding
}

// Observe implements [Detector].
func (d *Shift) Observe(s telemetry.Sample) (Finding, bool) {
	if math.IsNaN(s.Value) {
		f, found := d.clear(s, "is no longer reported by the device")
		*d = Shift{Kind: d.Kind, Floor: d.Floor, Adopt: d.Adopt}
		return f, found
	}
	x := math.Log(max(s.Value, 0) + d.Floor)
	if d.n == 0 {
		d.level, d.scale, d.lastHour = x, 4*shiftLeast, -1
	}
	expected := d.expect(x, s.At.UTC().Hour())
	d.recent[d.n%shiftWindow] = (x - expected) / max(d.scale, shiftLeast)
	d.n++
	dev := d.deviation()
	limit := max(shiftLimit, shiftMargin*d.worst)
	over := d.n > shiftWarm && math.Abs(dev) > limit
	if !over && !d.open {
		d.learn(x, math.Abs(dev), s.At.UTC().Hour())
	}
	d.count(over, math.Abs(dev) < limit/2, s.At)
	switch {
	case d.open && (d.calm >= shiftWindow):
		return d.clear(s, "is back at its expected level")
	case d.open && s.At.Sub(d.claim.From) >= d.Adopt:
		f, found := d.clear(s, fmt.Sprintf("stayed at the new level for %s, which is now the normal one", d.Adopt))
		d.n, d.trend, d.worst, d.run, d.calm = 0, 0, 0, 0, 0
		return f, found
	case !d.open && d.run >= shiftWindow:
		d.open = true
		want := max(math.Exp(expected)-d.Floor, 0)
		d.claim = Finding{
			Device: s.Device, Object: s.Object, Metric: s.Metric, Kind: d.Kind, Severity: Info,
			Score: math.Abs(dev) / limit, Expected: want, Actual: s.Value, From: d.since,
			Why: fmt.Sprintf("%s is %.3g where its past leads to expect %.3g: %.1f robust deviations, limit %.1f", s.Metric, s.Value, want, dev, limit),
		}.Identify()
		return d.claim, true
	}
	return Finding{}, false
}

// expect is the closer of two experts: the level with its trend, and the same
// hour of the days before.
func (d *Shift) expect(x float64, hour int) float64 {
	e := d.level + d.trend
	if d.hours[hour] >= shiftDays && math.Abs(x-d.profile[hour]) < math.Abs(x-e) {
		return d.profile[hour]
	}
	return e
}

// deviation is the median of the recent residuals, in scales.
func (d *Shift) deviation() float64 {
	r := d.recent
	w := r[:min(d.n, shiftWindow)]
	slices.Sort(w)
	return (w[(len(w)-1)/2] + w[len(w)/2]) / 2
}

func (d *Shift) learn(x, dev float64, hour int) {
	resid := x - (d.level + d.trend)
	clipped := min(max(resid, -4*d.scale), 4*d.scale) // one outlier moves nothing far
	if d.n < shiftWarm/3 {
		clipped = resid
	}
	old := d.level
	d.level += d.trend + shiftAlpha*clipped
	d.trend += shiftBeta * (d.level - old - d.trend)
	d.scale = max(d.scale+shiftScale*(1.2533*math.Abs(clipped)-d.scale), shiftLeast) // mean deviation × √(π/2) is σ
	d.worst *= shiftFade
	if d.n > shiftWarm/2 {
		d.worst = max(d.worst, dev)
	}
	if hour != d.lastHour {
		d.hours[hour]++
		d.lastHour = hour
	}
	d.profile[hour] += (x - d.profile[hour]) / float64(min(60*d.hours[hour], 1000))
}

func (d *Shift) count(over, calm bool, at time.Time) {
	switch {
	case !over:
		d.run = 0
	case d.run == 0:
		d.run, d.since = 1, at
	default:
		d.run++
	}
	if calm {
		d.calm++
	} else {
		d.calm = 0
	}
}

func (d *Shift) clear(s telemetry.Sample, why string) (Finding, bool) {
	if !d.open {
		return Finding{}, false
	}
	d.open = false
	f := d.claim
	f.To, f.Why = s.At, fmt.Sprintf("%s %s", f.Metric, why)
	if !math.IsNaN(s.Value) {
		f.Actual = s.Value
	}
	return f, true
}

// Advance implements [Detector]: silence is no evidence here.
func (d *Shift) Advance(time.Time) (Finding, bool) { return Finding{}, false }

// Waiting implements [Detector].
func (d *Shift) Waiting() bool { return false }

// Reopen implements [Detector]. The past is gone, so the claim ends with Adopt
// at the latest.
func (d *Shift) Reopen(f Finding) bool {
	if f.Kind != d.Kind || d.open {
		return false
	}
	d.open, d.claim = true, f
	return true
}
