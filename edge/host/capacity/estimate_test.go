package capacity

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// path is a circuit as a train sees it.
type path struct {
	rate      float64       // bit/s, of the narrowest link
	queue     time.Duration // that may wait there
	lossRatio float64       // behind it
	other     float64       // cross traffic, as a ratio of rate
	batch     int           // packets that the receiving box takes at once
	late      time.Duration // most that a batch waits for the receiving box to run
}

const packetBits = 8 * 1300

// send is a train of n packets that are sent at speed, bit/s.
func (p path) send(r *rand.Rand, n int, speed float64) Train {
	t := Train{PacketBits: packetBits}
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	var now, free, nextOther time.Duration
	var out []time.Duration
	for range n {
		now += seconds(packetBits / speed * (0.5 + r.Float64()))
		for p.other > 0 && nextOther < now { // packets of a fifth of the size
			free = max(free, nextOther) + seconds(packetBits/5/p.rate)
			nextOther += seconds(packetBits / 5 / (p.other * p.rate) * 2 * r.Float64())
		}
		if free = max(free, now); free-now > p.queue {
			continue
		}
		free += seconds(packetBits / p.rate)
		if r.Float64() >= p.lossRatio {
			out = append(out, free)
		}
	}
	for i := 0; i < len(out); i += p.batch {
		last := min(i+p.batch, len(out))
		at := out[last-1] + time.Duration(r.Float64()*float64(p.late))
		for j := i; j < last; j++ {
			out[j] = at
		}
	}
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	t.Arrivals = out
	return t
}

// A circuit's rate is found within 15 % through loss, little cross traffic,
// full queues, batches and late wake-ups at the receiver, and packets in any
// order.
func TestEstimateFindsTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		contracted := rapid.Float64Range(2e6, 200e6).Draw(t, "contracted")
		c := circuit{contracted: uint64(contracted), overhead: 72}
		p := path{
			rate:      contracted * rapid.Float64Range(0.1, 1).Draw(t, "share"),
			queue:     time.Duration(rapid.IntRange(40, 400).Draw(t, "queue")) * time.Millisecond,
			lossRatio: rapid.Float64Range(0, 0.03).Draw(t, "loss"),
			other:     rapid.SampledFrom([]float64{0, 0.02, 0.05}).Draw(t, "other"),
			batch:     rapid.IntRange(1, 3).Draw(t, "batch"),
			late:      time.Duration(rapid.IntRange(0, 400).Draw(t, "late")) * time.Microsecond,
		}
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var list []Train
		for range trains {
			list = append(list, p.send(r, c.length(), 10*contracted))
		}
		got, ok := Estimate(list)
		if p.rate < 3e6 && !ok {
			return // a queue of 40 ms holds too little of so slow a circuit
		}
		if !ok || got.AtLeast || math.Abs(float64(got.BPS)/p.rate-1) > 0.15 {
			t.Fatalf("%+v, %v for %+v", got, ok, p)
		}
	})
}

// Trains that come as fast as boxes work are no measure of a slow circuit.
func TestEstimateOfAFastCircuit(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var list []Train
	for range trains {
		list = append(list, path{rate: 5e9, queue: time.Second, batch: 4, late: 100 * time.Microsecond}.send(r, 48, 900e6))
	}
	if got, ok := Estimate(list); !ok || !got.AtLeast {
		t.Errorf("%+v, %v", got, ok)
	}
}

// Disturbed trains give nothing rather than a wrong rate: some were held up by
// other traffic, or most were lost.
func TestEstimateRefuses(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	p := path{rate: 20e6, queue: time.Second, batch: 1}
	var mixed, lost []Train
	for i := range trains {
		p.rate = []float64{20e6, 9e6, 4e6}[i%3]
		mixed = append(mixed, p.send(r, 48, 400e6))
		p.lossRatio = 0.9
		lost = append(lost, p.send(r, 48, 400e6))
		p.lossRatio = 0
	}
	for name, list := range map[string][]Train{"mixed": mixed, "lost": lost, "none": nil, "empty": make([]Train, trains)} {
		if got, ok := Estimate(list); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// A few wild trains change little.
func TestEstimateIsRobust(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		p := path{rate: 10e6, queue: time.Second, batch: 1}
		var list []Train
		for range trains {
			list = append(list, p.send(r, 48, 400e6))
		}
		for range rapid.IntRange(0, 2).Draw(t, "wild") {
			at := &list[r.IntN(trains)]
			for i := range at.Arrivals {
				at.Arrivals[i] = time.Duration(r.IntN(int(time.Second)))
			}
		}
		if got, ok := Estimate(list); !ok || math.Abs(float64(got.BPS)/p.rate-1) > 0.15 {
			t.Fatalf("%+v, %v", got, ok)
		}
	})
}
