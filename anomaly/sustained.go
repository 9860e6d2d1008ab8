package anomaly

import (
	"fmt"
	"math"
	"time"

	"github.com/wardnet/wardnet/telemetry"
)

// Sustained finds a value that stays over Limit for For. It clears only after
// it was under 0.8*Limit for For, so a value on the edge does not flap.
type Sustained struct {
	Kind     Kind
	Severity Severity
	Limit    float64 // in the metric's unit
	For      time.Duration

	over  time.Time // first sample over the limit in a row; zero: none
	under time.Time // first sample under the clearing limit in a row; zero: none
	open  bool
	claim Finding
}

// Observe implements [Detector].
func (d *Sustained) Observe(s telemetry.Sample) (Finding, bool) {
	if math.IsNaN(s.Value) {
		d.over, d.under = time.Time{}, time.Time{}
		return d.clear(s, "is no longer reported by the device")
	}
	switch {
	case s.Value > d.Limit:
		d.under = time.Time{}
		if d.over.IsZero() {
			d.over = s.At
		}
	case s.Value < 0.8*d.Limit:
		d.over = time.Time{}
		if d.under.IsZero() {
			d.under = s.At
		}
	default: // on the edge: neither row goes on
		d.under = time.Time{}
	}
	switch {
	case d.open && !d.under.IsZero() && s.At.Sub(d.under) >= d.For:
		s.At = d.under
		return d.clear(s, fmt.Sprintf("is under %g for %s", 0.8*d.Limit, d.For))
	case !d.open && !d.over.IsZero() && s.At.Sub(d.over) >= d.For:
		d.open = true
		d.claim = Finding{
			Device: s.Device, Object: s.Object, Metric: s.Metric, Kind: d.Kind, Severity: d.Severity,
			Score: s.Value / d.Limit, Expected: d.Limit, Actual: s.Value, From: d.over,
			Why: fmt.Sprintf("%s is over %g for %s, now %.3g", s.Metric, d.Limit, d.For, s.Value),
		}.Identify()
		return d.claim, true
	}
	return Finding{}, false
}

func (d *Sustained) clear(s telemetry.Sample, why string) (Finding, bool) {
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
func (d *Sustained) Advance(time.Time) (Finding, bool) { return Finding{}, false }

// Waiting implements [Detector].
func (d *Sustained) Waiting() bool { return false }

// Reopen implements [Detector].
func (d *Sustained) Reopen(f Finding) bool {
	if f.Kind != d.Kind || d.open {
		return false
	}
	d.open, d.claim, d.over = true, f, f.From
	return true
}
