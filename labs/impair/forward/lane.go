package forward

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Shape is what a link does to frames, each way.
type Shape struct {
	Delay  time.Duration // one way
	Jitter time.Duration // added at random, uniform in ±Jitter; order is kept
	// Rate is the most that passes, counted over whole frames; 0: no limit.
	Rate inventory.BitRate
	// Queue is how much may wait for Rate, in time; default 50 ms.
	Queue time.Duration
	Loss  float64 // ratio in [0,1]
}

// Validate lists all faults of s; they wrap [inventory.ErrInvalid].
func (s Shape) Validate() error {
	switch {
	case s.Delay < 0 || s.Delay > time.Minute, s.Jitter < 0 || s.Jitter > max(s.Delay, time.Millisecond), s.Loss < 0 || s.Loss > 1, s.Queue < 0:
		return fmt.Errorf("%w: delay %s (0 to 1m), jitter %s (at most the delay), loss %v (0 to 1), queue %s", inventory.ErrInvalid, s.Delay, s.Jitter, s.Loss, s.Queue)
	}
	return nil
}

// zero says that s changes nothing.
func (s Shape) zero() bool { return s.Delay == 0 && s.Jitter == 0 && s.Rate == 0 && s.Loss == 0 }

// lane decides for one direction when each frame leaves. It has no clock.
type lane struct {
	shape Shape
	rng   *rand.Rand
	free  time.Time // when the link at Rate has sent all it took
	last  time.Time // when the last frame leaves: order is kept
}

func newLane(s Shape, seed uint64) *lane {
	if s.Queue == 0 {
		s.Queue = 50 * time.Millisecond
	}
	return &lane{shape: s, rng: rand.New(rand.NewPCG(seed, seed))}
}

// admit says when a frame of n bytes that came at now leaves; false: it is lost.
func (l *lane) admit(now time.Time, n int) (time.Time, bool) {
	if l.shape.Loss > 0 && l.rng.Float64() < l.shape.Loss {
		return time.Time{}, false
	}
	out := now
	if l.shape.Rate > 0 {
		if l.free.Before(now) {
			l.free = now
		}
		if l.free.Sub(now) > l.shape.Queue {
			return time.Time{}, false
		}
		l.free = l.free.Add(time.Duration(float64(n) * 8 / float64(l.shape.Rate) * float64(time.Second)))
		out = l.free
	}
	out = out.Add(l.shape.Delay)
	if l.shape.Jitter > 0 {
		out = out.Add(time.Duration((2*l.rng.Float64() - 1) * float64(l.shape.Jitter)))
	}
	if out.Before(l.last) {
		out = l.last
	}
	l.last = out
	return out, true
}
