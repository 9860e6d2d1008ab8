package capacity

import (
	"math"
	"slices"
	"time"
)

// Train is one packet train as it arrived at the far end.
type Train struct {
	// PacketBits is what one packet takes of the circuit, bits, with all that
	// the tunnel and the frame add.
	PacketBits float64
	// Arrivals are the times at which packets came, since any start, in any
	// order; those that were lost are missing.
	Arrivals []time.Duration
}

// Result is what a measurement found.
type Result struct {
	BPS uint64 `json:"bps"` // bit/s on the circuit, frames counted whole
	// AtLeast says that the circuit carries BPS or more: it is faster than a
	// train of this length can tell from the speed of the boxes.
	AtLeast bool `json:"at_least,omitempty"`
}

const (
	// fewest packets of a train must have come for it to count.
	fewest = 12
	// quorum of the trains must count, a ratio.
	quorum = 0.5
	// steady is the most that the middle half of the trains may differ, as a
	// ratio of their median; what differs more was disturbed.
	steady = 0.35
	// shortest is the least time that half a train must take to be told from
	// the delays of schedulers and batches.
	shortest = 2500 * time.Microsecond
)

// Estimate is the rate of the narrowest link on the way of trains that were
// sent faster than it: the median of the trains' dispersion rates (Dovrolis,
// Ramanathan, Moore: Packet-dispersion techniques and a capacity-estimation
// methodology, IEEE/ACM ToN 12(6), 2004). Cross traffic lowers a train's rate
// and waiting at the receiver moves single packets; so the caller measures a
// quiet circuit, a train is judged by the median over all spans of at least half
// its length, and trains that contradict one another give no result.
func Estimate(trains []Train) (Result, bool) {
	var rates []float64
	for _, t := range trains {
		if r, ok := t.rate(); ok {
			rates = append(rates, r)
		}
	}
	if len(rates) == 0 || float64(len(rates)) < quorum*float64(len(trains)) {
		return Result{}, false
	}
	slices.Sort(rates)
	n := len(rates)
	middle, low, high := rates[n/2], rates[n/4], rates[n-1-n/4]
	if math.IsInf(middle, 1) {
		// The fastest that can be told; the slower trains were held up.
		return Result{BPS: uint64(trains[0].fastest()), AtLeast: true}, true
	}
	if high-low > steady*middle {
		return Result{}, false
	}
	return Result{BPS: uint64(middle)}, true
}

// rate is the train's dispersion rate, bit/s, +Inf where it is too fast to be
// told; false: too little of it came.
func (t Train) rate() (float64, bool) {
	n := len(t.Arrivals)
	if n < fewest {
		return 0, false
	}
	at := slices.Sorted(slices.Values(t.Arrivals))
	var each []float64 // seconds a packet
	for i := range at {
		for j := i + n/2; j < n; j++ {
			each = append(each, (at[j]-at[i]).Seconds()/float64(j-i))
		}
	}
	slices.Sort(each)
	median := each[len(each)/2]
	if median*float64(n/2) < shortest.Seconds() {
		return math.Inf(1), true
	}
	return t.PacketBits / median, true
}

// fastest is the highest rate that a train of this length tells, bit/s.
func (t Train) fastest() float64 {
	return float64(len(t.Arrivals)/2) * t.PacketBits / shortest.Seconds()
}
