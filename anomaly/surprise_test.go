package anomaly

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// On made series with one labelled step each, the scorer and the judge together
// find nearly all; the same score on any unit shows that no limit is built in.
func TestJudgeFindsLabelledSteps(t *testing.T) {
	for _, unit := range []float64{1, 1e6} {
		var corpus []Scored
		for seed := range uint64(12) {
			rng := rand.New(rand.NewPCG(seed, 3))
			l := Labelled{Windows: []Window{{2200, 2320}}}
			for i := range 3000 {
				at := start.Add(time.Duration(i) * 5 * time.Minute)
				v := 10 + 4*math.Sin(2*math.Pi*float64(i)/288) + rng.NormFloat64()
				if i >= 2210 && i < 2300 {
					v += 12
				}
				l.At, l.Values = append(l.At, at), append(l.Values, v*unit)
			}
			corpus = append(corpus, Judge(l))
		}
		got := Score(corpus, Profiles[0])
		t.Logf("unit %g: %+v", unit, got)
		if got.Score < 80 || got.Caught < 11 {
			t.Errorf("unit %g: %+v", unit, got)
		}
	}
}

// A score may only depend on the past: what comes later changes nothing.
func TestSurpriseIsCausal(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var a, b Surprise
	for i := range 1000 {
		at, v := start.Add(time.Duration(i)*time.Minute), rng.ExpFloat64()
		x := a.Observe(v, at)
		if i < 700 {
			if y := b.Observe(v, at); x != y || math.IsNaN(x) || x < 0 {
				t.Fatalf("row %d: %v and %v", i, x, y)
			}
		}
	}
	var still Surprise
	for i := range 500 {
		if x := still.Observe(7, start.Add(time.Duration(i)*time.Minute)); math.IsNaN(x) || math.IsInf(x, 0) {
			t.Fatalf("a constant series: row %d scores %v", i, x)
		}
	}
}
