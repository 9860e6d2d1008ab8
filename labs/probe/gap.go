package probe

import (
	"slices"
	"time"
)

// Beat is one packet of a [Pinger]: when it was sent, since the start, and how
// long its answer took; negative: none came.
type Beat struct {
	Sent time.Duration
	RTT  time.Duration
}

// Course is what a pinger saw.
type Course struct {
	Sent         int
	Lost         int           // without any answer
	Outage       time.Duration // the longest time without an answered packet, beyond the sending interval
	LastLost     time.Duration // when the last packet without an answer was sent; 0: none
	LastAnswered time.Duration // when the last answered packet was sent; 0: none
	Median       time.Duration // of the round trips
	Jitter       time.Duration // 99th percentile of the round trips less the median
	// Variation is the mean difference between the round trips of successive
	// answered packets: what a telephone calls jitter (RFC 3550 §6.4.1), without
	// its smoothing.
	Variation time.Duration
}

// course sums up beats, which are in the order of sending. The outage is
// measured between the sendings of answered packets, so that it counts what a
// user could not send, and to the ends of the series.
func course(beats []Beat, interval time.Duration) Course {
	c := Course{Sent: len(beats)}
	if len(beats) == 0 {
		return c
	}
	var trips []time.Duration
	last := beats[0].Sent - interval // as if one had been answered just before
	for _, b := range beats {
		if b.RTT < 0 {
			c.Lost++
			c.LastLost = b.Sent
			continue
		}
		// What the sender itself was late is not the network's fault only when
		// nothing was lost in between; it is counted all the same, as a bound.
		c.Outage = max(c.Outage, b.Sent-last-interval)
		last, c.LastAnswered = b.Sent, b.Sent
		trips = append(trips, b.RTT)
	}
	c.Outage = max(c.Outage, beats[len(beats)-1].Sent-last)
	if len(trips) > 1 {
		var sum time.Duration
		for i := range len(trips) - 1 {
			sum += (trips[i+1] - trips[i]).Abs()
		}
		c.Variation = sum / time.Duration(len(trips)-1)
	}
	if len(trips) > 0 {
		slices.Sort(trips)
		c.Median = trips[len(trips)/2]
		c.Jitter = trips[len(trips)*99/100] - c.Median
	}
	return c
}
