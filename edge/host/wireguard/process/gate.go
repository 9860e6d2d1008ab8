package process

import (
	"sync/atomic"
	"time"
)

const (
	// inFlight is how many packets of one direction may be between their
	// arrival and their departure, over all devices. Each holds a buffer of
	// 64 KiB. The module would queue without limit; beyond ours the kernel's
	// own queues fill, and the kernel drops.
	inFlight = 256
	// patience is how long a full gate waits for progress before it takes the
	// packets in flight for dropped: a packet nobody can decrypt never departs.
	patience = time.Millisecond
)

// gate bounds the packets in flight of one direction.
type gate struct {
	limit int64
	n     atomic.Int64  // arrived and not departed, as far as we know
	left  atomic.Uint64 // departed ever
	freed chan struct{} // of size 1
	tell  *processors   // of what departs; nil: nobody
}

func newGate(limit int64) *gate { return &gate{limit: limit, freed: make(chan struct{}, 1)} }

// wait returns when there is room for more packets.
func (g *gate) wait() {
	if g.n.Load() < g.limit {
		return
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	for before := g.left.Load(); g.n.Load() >= g.limit; {
		select {
		case <-g.freed:
		case <-t.C:
			if now := g.left.Load(); now != before {
				before = now
				t.Reset(patience)
				continue
			}
			g.n.Store(0)
		}
	}
}

// arrived counts n packets in.
func (g *gate) arrived(n int) { g.n.Add(int64(n)) }

// departed counts n packets out. Packets the device made itself depart without
// having arrived, so the count stops at zero.
func (g *gate) departed(n int) {
	g.left.Add(uint64(n))
	g.tell.count(n)
	for {
		old := g.n.Load()
		if g.n.CompareAndSwap(old, max(0, old-int64(n))) {
			if old >= g.limit {
				select {
				case g.freed <- struct{}{}:
				default:
				}
			}
			return
		}
	}
}
