package forward

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
)

const ms = time.Millisecond

func TestLaneDelaysAndSlows(t *testing.T) {
	now := time.Unix(0, 0)
	l := newLane(Shape{Delay: 40 * ms}, 1)
	if at, ok := l.admit(now, 100); !ok || at.Sub(now) != 40*ms {
		t.Errorf("delayed by %s, %v", at.Sub(now), ok)
	}
	l = newLane(Shape{Rate: 8 * inventory.Mbps, Queue: 10 * ms}, 1) // 1000 bytes take 1 ms
	passed := 0
	var last time.Time
	for range 100 {
		if at, ok := l.admit(now, 1000); ok {
			passed, last = passed+1, at
		}
	}
	if passed != 11 || last.Sub(now) != 11*ms { // what waits and what is sent
		t.Errorf("%d of 100 frames passed, the last after %s", passed, last.Sub(now))
	}
	if at, ok := l.admit(now.Add(time.Second), 1000); !ok || at.Sub(now) != time.Second+ms {
		t.Errorf("an idle link delays by %s", at.Sub(now)-time.Second)
	}
}

func TestLaneLoses(t *testing.T) {
	l := newLane(Shape{Loss: 0.1}, 7)
	lost := 0
	for range 10000 {
		if _, ok := l.admit(time.Unix(0, 0), 100); !ok {
			lost++
		}
	}
	if lost < 850 || lost > 1150 {
		t.Errorf("%d of 10000 lost, want about 1000", lost)
	}
}

// Whatever the jitter, frames leave in the order they came, and none early.
func TestLaneKeepsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.IntRange(1, 100).Draw(t, "delay")) * ms
		j := time.Duration(rapid.IntRange(0, int(d/ms)).Draw(t, "jitter")) * ms
		rate := inventory.BitRate(rapid.Uint64Range(0, 1e9).Draw(t, "rate"))
		l := newLane(Shape{Delay: d, Jitter: j, Rate: rate}, rapid.Uint64().Draw(t, "seed"))
		now, last := time.Unix(0, 0), time.Time{}
		for range 50 {
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "pause")) * ms)
			at, ok := l.admit(now, rapid.IntRange(60, 1514).Draw(t, "size"))
			if !ok {
				continue
			}
			if at.Before(last) || at.Before(now.Add(d-j)) {
				t.Fatalf("came at %v, leaves at %v; the one before left at %v", now, at, last)
			}
			last = at
		}
	})
}

func TestShapeValidate(t *testing.T) {
	for name, s := range map[string]Shape{
		"negative delay": {Delay: -1}, "long delay": {Delay: time.Hour}, "jitter over delay": {Delay: ms, Jitter: 2 * ms},
		"loss over all": {Loss: 1.1}, "negative queue": {Queue: -1},
	} {
		if err := s.Validate(); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (Shape{Delay: 40 * ms, Jitter: 10 * ms, Rate: inventory.Mbps, Loss: 1}).Validate(); err != nil {
		t.Error(err)
	}
}
