package sim

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// setFlap sets the ratio of the edges whose management connection is dropped
// per minute.
func (f *fleet) setFlap(ratio float64) error {
	if !(ratio >= 0 && ratio <= 1) {
		return fmt.Errorf("%w: flap: ratio %v is not in [0,1]", inventory.ErrInvalid, ratio)
	}
	f.flapping.Store(math.Float64bits(ratio))
	return nil
}

// flap drops management connections one by one, at random and spread over each
// minute, once all edges were connected; the agents dial again by themselves.
func (f *fleet) flap(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-f.whole:
	}
	rng := rand.New(rand.NewPCG(f.cfg.Seed, 1))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	due, last := 0.0, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			due += math.Float64frombits(f.flapping.Load()) * float64(len(f.cfg.Edges)) * now.Sub(last).Minutes()
			for last = now; due >= 1; due-- {
				f.dropped.Add(int64(f.under.Drop(f.cfg.Edges[rng.IntN(len(f.cfg.Edges))].Device)))
			}
		}
	}
}

// report tells the watcher how the edges are: once a second, and when all are
// connected.
func (f *fleet) report(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	whole := f.whole
	for {
		select {
		case <-ctx.Done():
			return
		case <-whole:
			whole = nil
		case <-tick.C:
		}
		s, err := f.stats()
		if err != nil {
			f.cfg.Log.WarnContext(ctx, "edges not counted", "err", err)
			continue
		}
		f.cfg.Watch(s)
	}
}
