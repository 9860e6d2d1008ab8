package probe

import (
	"math"
	"slices"
	"time"
)

// patience is how long an answer may take before its probe counts as lost; one
// that comes later still mends the count.
const patience = time.Second

// Sample is the quality of a tunnel over a span of time.
type Sample struct {
	Sent, Lost int     // probes old enough to be judged
	LatencyMS  float64 // mean round trip, milliseconds; 0 when all are lost
	// JitterMS is the packet delay variation of the round trip, milliseconds:
	// the 95th percentile less the minimum (RFC 5481 §4.2, §6.5), so that one
	// late answer among twenty is none. Of fewer it is peak to peak.
	JitterMS float64
	// LostSince is when the first of the lost was sent; of [Prober.Window], of
	// those of its last 70 %. Zero: none was lost.
	LostSince time.Time
}

// quantile of the delay variation.
const quantile = 0.95

// series are the last probes of one tunnel.
type series struct {
	ring []shot
	next uint32 // sequence number of the next probe
}

// shot is one probe.
type shot struct {
	seq  uint32
	sent time.Time // zero: never
	took time.Duration
	back bool
}

func newSeries(size int) series { return series{ring: make([]shot, size)} }

// send notes a probe sent at now and gives its number.
func (s *series) send(now time.Time) uint32 {
	seq := s.next
	s.next++
	s.ring[int(seq)%len(s.ring)] = shot{seq: seq, sent: now}
	return seq
}

// answer notes the answer to probe seq; a repeated one changes nothing.
func (s *series) answer(seq uint32, now time.Time) {
	shot := &s.ring[int(seq)%len(s.ring)]
	if shot.seq != seq || shot.sent.IsZero() || shot.back {
		return
	}
	shot.back, shot.took = true, max(now.Sub(shot.sent), 0)
}

// over judges the probes sent in the span that ended patience before now.
func (s *series) over(now time.Time, span time.Duration) Sample {
	var out Sample
	var sum time.Duration
	back := make([]time.Duration, 0, len(s.ring))
	to := now.Add(-patience)
	from := to.Add(-span)
	for _, shot := range s.ring {
		if shot.sent.IsZero() || !shot.sent.After(from) || shot.sent.After(to) {
			continue
		}
		out.Sent++
		if shot.back {
			back = append(back, shot.took)
			sum += shot.took
		} else if out.LostSince.IsZero() || shot.sent.Before(out.LostSince) {
			out.LostSince = shot.sent
		}
	}
	out.Lost = out.Sent - len(back)
	if n := len(back); n > 0 {
		slices.Sort(back)
		out.LatencyMS = ms(sum) / float64(n)
		out.JitterMS = ms(back[int(math.Ceil(quantile*float64(n)))-1] - back[0])
	}
	return out
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }
