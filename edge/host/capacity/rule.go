package capacity

import "time"

const (
	// Lifetime is how long a measurement holds.
	Lifetime = 24 * time.Hour

	hysteresis = 0.1     // a rate moves by more than this, a ratio
	leastShare = 0.1     // of the contracted rate is always used
	leastRate  = 256_000 // bit/s, always used where the contract has as much
	quiet      = 0.05    // of the rate may be in use while measuring
	quietRate  = 64_000  // bit/s, may be too: BFD and probes always are
)

// Record is what is known of one circuit.
type Record struct {
	Result
	Upload     uint64    `json:"upload_bps"`     // that queues use, bit/s
	Contracted uint64    `json:"contracted_bps"` // when it was measured
	At         time.Time `json:"at"`
}

// holds says whether r still says something about a circuit of that contract.
func (r Record) holds(contracted uint64, now time.Time) bool {
	age := now.Sub(r.At)
	return r.Contracted == contracted && age >= 0 && age < Lifetime
}

// upload is the rate to use of a circuit once r was measured, where used is
// what was used until then: what was measured, never more than the contract
// has nor less than a tenth of it or 256 kbit/s; and the old rate as long as
// that is not far from it.
func upload(contracted, used uint64, r Result) uint64 {
	want := contracted
	if !r.AtLeast {
		want = min(contracted, r.BPS)
	}
	least := min(contracted, max(uint64(float64(contracted)*leastShare), leastRate))
	want = max(want, least)
	used = max(min(used, contracted), least)
	change := float64(want) - float64(used)
	if change < 0 {
		change = -change
	}
	if change <= hysteresis*float64(used) {
		return used
	}
	return want
}

// watch is what the schedule remembers of one circuit.
type watch struct {
	since   time.Time // up without a break; zero: it is down
	fresh   bool      // measured since then
	tried   time.Time
	pause   time.Duration // from then on, before the next try
	share   time.Duration // that it waits longer than others
	octets  uint64        // sent in all, when it was looked at last
	looked  time.Time
	loadBPS float64 // between the last two looks, bit/s; negative: unknown
}

// look notes what the circuit is at now.
func (w *watch) look(up bool, octets uint64, now time.Time) {
	w.loadBPS = -1
	if d := now.Sub(w.looked); !w.looked.IsZero() && d > 0 && octets >= w.octets {
		w.loadBPS = float64(octets-w.octets) * 8 / d.Seconds()
	}
	w.octets, w.looked = octets, now
	switch {
	case !up:
		w.since, w.fresh = time.Time{}, false
	case w.since.IsZero():
		w.since = now
	}
}

// due says whether to measure at now: once after the circuit came up or its
// contract changed, then every so often, and only while it is quiet at rate.
func (w *watch) due(cfg Config, last Record, contracted, rate uint64, now time.Time) bool {
	switch {
	case w.since.IsZero() || now.Sub(w.since) < cfg.Settle+w.share:
		return false
	case !w.tried.IsZero() && now.Sub(w.tried) < max(w.pause, cfg.Retry):
		return false
	case w.loadBPS < 0 || w.loadBPS > max(quiet*float64(rate), quietRate):
		return false
	}
	return !w.fresh || !last.holds(contracted, now) || now.Sub(last.At) >= cfg.Every
}

// done notes that a measurement began at now, and whether it gave a result: one
// that gives none again and again is tried ever less often.
func (w *watch) done(cfg Config, now time.Time, ok bool) {
	w.tried = now
	if ok {
		w.fresh, w.pause = true, 0
		return
	}
	w.pause = min(max(2*w.pause, cfg.Retry), cfg.Every)
}
