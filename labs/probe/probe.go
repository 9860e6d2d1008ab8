// Package probe sends real packets from every segment of every ward and
// compares what passed with what the inventory's permits say. The expectation
// is computed from the inventory document alone.
package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Config bounds a run; zero means default.
type Config struct {
	// Timeout is how long one attempt waits for an answer; default 700 ms.
	Timeout time.Duration
	// Attempts is how often a flow that must pass is tried; default 3. One that
	// must not pass is tried once: an answer to it is proof enough.
	Attempts int
	// Window is how many flows one namespace has under way at once; default 48.
	Window int
}

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, 700*time.Millisecond)
	c.Attempts = cmp.Or(c.Attempts, 3)
	c.Window = cmp.Or(c.Window, 48)
	return c
}

// Report is what came of a run. List holds the pairs that differ.
type Report struct {
	Pairs       int     `json:"pairs"`
	Differences int     `json:"differences"`
	Allowed     int     `json:"allowed"` // pairs that the inventory permits
	Seconds     float64 `json:"seconds"`
	List        []Pair  `json:"list"`
}

// Run probes all pairs, all namespaces at once, and fills in their Got. Each
// namespace has one thread that waits for all its flows together.
func Run(ctx context.Context, pairs []Pair, cfg Config) (Report, error) {
	cfg = cfg.withDefaults()
	begin := time.Now()
	sources := map[string][]*Pair{}
	for i := range pairs {
		sources[pairs[i].namespace] = append(sources[pairs[i].namespace], &pairs[i])
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for ns, list := range sources {
		wg.Go(func() {
			if err := shoot(ctx, ns, list, cfg); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("probe from namespace %s: %w", ns, err))
			}
		})
	}
	wg.Wait()
	r := Report{Pairs: len(pairs), Seconds: time.Since(begin).Seconds(), List: []Pair{}}
	for _, p := range pairs {
		if p.Want == Allow {
			r.Allowed++
		}
		if p.Want != p.Got {
			r.List = append(r.List, p)
		}
	}
	slices.SortStableFunc(r.List, func(a, b Pair) int { return cmp.Compare(a.Ward, b.Ward) })
	r.Differences = len(r.List)
	return r, errors.Join(errs...)
}
