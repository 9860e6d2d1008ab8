package scenario

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

const (
	beatEvery = 10 * time.Millisecond // of the metronome
	jiffy     = 10 * time.Millisecond // USER_HZ of proc(5) is 100 on all of Linux's architectures
)

// stolen is the time that a hypervisor has given to others, over all
// processors, since the machine started (proc(5), stat, field 8 of "cpu"); 0
// where nobody counts.
func stolen() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), "\n")
	var name string
	var n [8]int64
	if _, err := fmt.Sscan(first, &name, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &n[7]); err != nil {
		return 0
	}
	return time.Duration(n[7]) * jiffy
}

// metronome measures how long the machine lets a program wait that wants to run
// every 10 ms: the outages of a scenario are no shorter.
type metronome struct{ late atomic.Int64 }

// run beats until ctx ends.
func (m *metronome) run(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		m.late.Store(max(m.late.Load(), int64(now.Sub(last)-beatEvery)))
		last = now
	}
}

// latest is the longest that a beat came late.
func (m *metronome) latest() time.Duration { return time.Duration(m.late.Load()) }
