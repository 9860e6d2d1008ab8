package process

import (
	"runtime"
	"sync/atomic"
)

// crowd is how many packets between two looks ask for more than one processor:
// about 1,000 a second. Below it a packet that wakes a second processor costs
// more than that one does for it.
const crowd = 1000 * uint64(lookEvery) / 1e9

// processors gives the process all processors while many packets pass, and one
// while few do. A nil value does nothing.
type processors struct {
	passed atomic.Uint64 // packets since the last look
	many   atomic.Bool
	set    func(many bool) // the runtime's, but in tests
}

// newProcessors starts with one processor. The operator's GOMAXPROCS holds when
// there is one: he gets nil.
func newProcessors(chosen bool) *processors {
	if chosen {
		return nil
	}
	p := &processors{set: func(many bool) {
		if many {
			runtime.SetDefaultGOMAXPROCS()
		} else {
			runtime.GOMAXPROCS(1)
		}
	}}
	p.set(false)
	return p
}

// count is told of n packets that passed.
func (p *processors) count(n int) {
	if p != nil && p.passed.Add(uint64(n)) > crowd && p.many.CompareAndSwap(false, true) {
		p.set(true)
	}
}

// look is called every lookEvery.
func (p *processors) look() {
	if p != nil && p.passed.Swap(0) <= crowd && p.many.CompareAndSwap(true, false) {
		p.set(false)
	}
}
