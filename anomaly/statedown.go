package anomaly

import (
	"fmt"
	"math"
	"time"

	"github.com/wardnet/wardnet/telemetry"
)

// StateDown finds a state that is 0 for Hold and clears after it was 1 for
// Hold, so a short flap is neither an alarm nor an all-clear.
type StateDown struct {
	Kind     Kind
	Severity Severity
	Hold     time.Duration
	// NeverUp is the hold of a state that has not been 1 yet: something that is
	// being built is given time to come up.
	NeverUp time.Duration

	was      bool // 1 at least once
	down     bool
	since    time.Time // of the present state; zero: no sample yet
	open     bool
	claim    Finding
	openedBy telemetry.Sample
}

// Observe implements [Detector].
func (d *StateDown) Observe(s telemetry.Sample) (Finding, bool) {
	if math.IsNaN(s.Value) {
		f, found := d.claim, d.open
		*d = StateDown{Kind: d.Kind, Severity: d.Severity, Hold: d.Hold, NeverUp: d.NeverUp}
		f.To, f.Why = s.At, fmt.Sprintf("%s is no longer reported by the device", s.Metric)
		return f, found
	}
	if down := s.Value < 0.5; d.since.IsZero() || down != d.down {
		d.down, d.since, d.openedBy = down, s.At, s
	}
	d.was = d.was || !d.down
	return d.Advance(s.At)
}

// Advance implements [Detector].
func (d *StateDown) Advance(now time.Time) (Finding, bool) {
	lasted := now.Sub(d.since)
	switch {
	case !d.Waiting():
	case d.down && lasted >= d.hold():
		d.open = true
		d.claim = Finding{
			Device: d.openedBy.Device, Object: d.openedBy.Object, Metric: d.openedBy.Metric, Kind: d.Kind, Severity: d.Severity,
			Score: 1, Expected: 1, Actual: 0, From: d.since,
			Why: fmt.Sprintf("%s is 0 since %s, longer than the hold of %s", d.openedBy.Metric, d.since.UTC().Format(time.RFC3339), d.hold()),
		}.Identify()
		return d.claim, true
	case !d.down && lasted >= d.Hold:
		d.open = false
		f := d.claim
		f.To, f.Actual = d.since, 1
		f.Why = fmt.Sprintf("%s is 1 since %s, longer than the hold of %s", f.Metric, d.since.UTC().Format(time.RFC3339), d.Hold)
		return f, true
	}
	return Finding{}, false
}

func (d *StateDown) hold() time.Duration {
	if d.was {
		return d.Hold
	}
	return max(d.Hold, d.NeverUp)
}

// Waiting implements [Detector].
func (d *StateDown) Waiting() bool { return !d.since.IsZero() && d.down != d.open }

// Reopen implements [Detector].
func (d *StateDown) Reopen(f Finding) bool {
	if f.Kind != d.Kind || d.open {
		return false
	}
	d.open, d.was, d.claim = true, true, f
	if d.since.IsZero() {
		d.down, d.since = true, f.From
		d.openedBy = telemetry.Sample{Device: f.Device, Metric: f.Metric, Object: f.Object, At: f.From}
	}
	return true
}
