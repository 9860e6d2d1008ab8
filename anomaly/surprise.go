package anomaly

import (
	"math"
	"time"
)

const (
	surpriseNorm = 5.5    // of the norm over channels: near the greatest
	surpriseFade = 0.9945 // per row: what was shown is forgotten in about 180 rows
	surpriseTop  = 8.0    // most evidence of one channel, in decades
)

// tail learns what values of one channel are rare: the 95 % quantile, and how
// slowly values beyond it thin out (Hill's estimator, streaming).
type tail struct {
	q, excess float64
	n         int
}

// rarity is -log10 of the chance of a value as great as x, by the past alone.
func (t *tail) rarity(x float64) float64 {
	t.n++
	if t.n == 1 || t.q <= 0 {
		t.q, t.excess = max(x, 1e-12), 0.5
		return 0
	}
	rate := max(0.01, math.Pow(float64(t.n), -0.7))
	r := 1.3 * x / t.q
	if x > t.q {
		over := math.Log(x / t.q)
		r = 1.3 + over/max(t.excess, 0.05)/math.Ln10
		t.excess += max(0.02, 1/(1+0.05*float64(t.n))) * (min(over, 4*t.excess) - t.excess)
		t.q *= math.Exp(0.95 * rate)
	} else {
		t.q *= math.Exp(-0.05 * rate)
	}
	return min(r, surpriseTop) * float64(t.n) / float64(t.n+100)
}

// mean is an exponentially weighted mean and variance.
type mean struct{ m, v float64 }

func (e *mean) add(x float64, n int, alpha float64) {
	a := max(alpha, 1/float64(n))
	d := x - e.m
	e.m += a * d
	e.v += a * ((1-a)*d*d - e.v)
}

func (e *mean) std() float64 { return math.Sqrt(max(e.v, 0)) }

// Surprise scores how unusual a series is now, without knowing its unit, its
// range or its length: several cheap views of it (range, step, level, spread,
// time of day), each turned into the rarity of what it shows by its own past.
// What was shown lately must be exceeded to count again, so that one event is
// told once. The zero value is ready.
type Surprise struct {
	n                 int
	low, high         float64
	last              float64
	brief, mid, long  mean
	slow              mean
	day               [96]float64
	days              [96]int
	lastSlot          int
	step, level, far  tail
	spread, dayResid  tail
	stillRun, stillOf float64
	still             tail
	shown             float64
}

// Observe takes the next value and returns its score, in decades of rarity; 0
// when nothing new is to be said.
func (s *Surprise) Observe(x float64, at time.Time) float64 {
	s.n++
	if s.n == 1 {
		s.low, s.high, s.last, s.lastSlot = x, x, x, -1
	}
	noise := 1e-3*s.slow.std() + 1e-9
	channels := [...]float64{
		s.novelty(x),
		s.step.rarity(math.Abs(x-s.last) + noise),
		s.level.rarity(math.Abs(s.brief.m-s.long.m)/(s.long.std()+noise) + 1e-3),
		s.far.rarity(math.Abs(s.mid.m-s.slow.m)/(s.slow.std()+noise) + 1e-3),
		s.spread.rarity(math.Abs(math.Log((s.brief.std()+noise)/(s.long.std()+noise))) + 1e-3),
		s.rhythm(x, at, noise),
		s.flat(x),
	}
	s.brief.add(x, s.n, 0.15)
	s.mid.add(x, s.n, 0.03)
	s.long.add(x, s.n, 0.015)
	s.slow.add(x, s.n, 0.003)
	s.last = x
	sum := 0.0
	for _, c := range channels {
		sum += math.Pow(max(c, 0), surpriseNorm)
	}
	total := math.Pow(sum/float64(len(channels)), 1/surpriseNorm)
	s.shown *= surpriseFade
	if total <= s.shown {
		return 0
	}
	said := total - s.shown/2
	s.shown = total
	return said
}

// novelty is the cheapest strong sign: a value beyond all before it.
func (s *Surprise) novelty(x float64) float64 {
	width := s.high - s.low
	beyond := max(s.low-x, x-s.high, 0)
	s.low, s.high = min(s.low, x), max(s.high, x)
	if beyond == 0 || width == 0 {
		return 0
	}
	return min(3+2*math.Log10(1+20*beyond/width), surpriseTop) * float64(s.n) / float64(s.n+200)
}

// rhythm is the distance from the usual value of this quarter of an hour.
func (s *Surprise) rhythm(x float64, at time.Time, noise float64) float64 {
	slot := (at.Hour()*60 + at.Minute()) / 15
	r := 0.0
	if s.days[slot] >= 2 {
		r = s.dayResid.rarity(math.Abs(s.brief.m-s.day[slot]) + noise)
	}
	if slot != s.lastSlot {
		s.days[slot]++
		s.lastSlot = slot
	}
	s.day[slot] += (x - s.day[slot]) / float64(min(3*s.days[slot], 15))
	return r
}

// flat is the length of a run of one value: a counter that froze.
func (s *Surprise) flat(x float64) float64 {
	if x != s.stillOf {
		s.stillOf, s.stillRun = x, 0
	}
	s.stillRun++
	return 0.5 * s.still.rarity(s.stillRun)
}

// Judge scores every row of l in one pass that knows only the past.
func Judge(l Labelled) Scored {
	var s Surprise
	out := Scored{Name: l.Name, Scores: make([]float64, len(l.Values)), Windows: l.Windows}
	for i, v := range l.Values {
		out.Scores[i] = s.Observe(v, l.At[i])
	}
	return out
}
