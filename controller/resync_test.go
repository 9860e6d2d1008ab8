package controller

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/edge/fake"
	"github.com/wardnet/wardnet/inventory"
)

// Each is read back at least as often as configured, and those that came at one
// moment do not stay together.
func TestResyncIsSpread(t *testing.T) {
	const many, rounds = 10000, 5
	c := &Controller{cfg: Config{Resync: 10 * time.Minute}}
	at := make([]time.Duration, many)
	for round := range rounds {
		perSecond := map[time.Duration]int{}
		for i := range at {
			next := c.resync()
			if next > c.cfg.Resync || next < c.cfg.Resync*4/5 {
				t.Fatalf("looked at again after %s, configured is %s", next, c.cfg.Resync)
			}
			at[i] += next
			perSecond[at[i].Truncate(time.Second)]++
		}
		most := 0
		for _, n := range perSecond {
			most = max(most, n)
		}
		if limit := many / 50; most > limit { // a lockstep is all of them in one second
			t.Errorf("round %d: %d of %d are read back in one second, want at most %d", round+1, most, many, limit)
		}
	}
}

// The gauge tells of the one device that is not read back, however many are.
func TestOldestReadback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := town(3)
		w := newWorld(t, inv)
		l := w.start(Config{})
		defer l.end()
		if got := l.oldestReadback(); got != 0 {
			t.Errorf("before anything is assigned: %s", got)
		}
		if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
			t.Fatal(err)
		}
		l.wait(1, time.Minute, RolloutDone)
		for range 60 { // an hour of passes
			time.Sleep(time.Minute)
			if got := l.oldestReadback(); got > 10*time.Minute {
				t.Fatalf("a device was read back %s ago", got)
			}
		}
		ward := wardOf(t, inv)
		w.devices[ward].Break(fake.Faults{Delay: 20 * time.Second}) // two calls take longer than a pass may
		time.Sleep(time.Hour)
		if got := l.oldestReadback(); got < 50*time.Minute {
			t.Errorf("a device does not answer for an hour, and the oldest read-back was %s ago", got)
		}
		var others []inventory.DeviceID
		for _, d := range inv.Devices {
			if d.ID != ward {
				others = append(others, d.ID)
			}
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, id := range others {
			if ago := time.Since(l.devices[id].readAt); ago > 10*time.Minute {
				t.Errorf("%s was read back %s ago", id, ago)
			}
		}
	})
}
