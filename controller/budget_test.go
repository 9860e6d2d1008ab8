package controller

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
)

func TestFatesOfTheCity(t *testing.T) {
	b, err := Budget{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	inv := sample.City()
	of, most := b.fates(&inv)
	count := map[string]int{}
	for _, fates := range of {
		for _, f := range fates {
			count[f]++
		}
	}
	if len(most) < 3 || len(count) != len(most) {
		t.Fatalf("fates %v", most)
	}
	for f, n := range count {
		if m := most[f]; m < 1 || m > max(1, int(math.Ceil(0.34*float64(n)))) {
			t.Errorf("%s: at most %d of %d", f, m, n)
		}
	}
	for _, d := range inv.Devices {
		if d.Role == inventory.RoleHub && of[d.ID] != nil {
			t.Errorf("hub %s shares %v", d.ID, of[d.ID])
		}
	}
	for _, bad := range []Budget{{District: -1}, {Carrier: 1.5}, {Critical: math.NaN()}} {
		if _, err := bad.withDefaults(); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// However turns are taken and given, no bound is passed and none is lost.
func TestTurnsKeepTheirBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parallel := rapid.IntRange(1, 5).Draw(t, "parallel")
		turns := newTurns(parallel)
		of, most := map[inventory.DeviceID][]string{}, map[string]int{}
		var ids []inventory.DeviceID
		for i := range 12 {
			id := inventory.DeviceID(fmt.Sprint("d-", i))
			ids = append(ids, id)
			for _, f := range []string{"district a", "district b", "carrier x", "critical"} {
				if rapid.Bool().Draw(t, f) {
					of[id] = append(of[id], f)
				}
				most[f] = 1 + i%3
			}
		}
		turns.limit(of, most)
		out := map[inventory.DeviceID]bool{}
		used := map[string]int{}
		for range 60 {
			id := rapid.SampledFrom(ids).Draw(t, "device")
			if out[id] {
				turns.give(id)
				delete(out, id)
				for _, f := range of[id] {
					used[f]--
				}
				continue
			}
			fits := len(out) < parallel
			for _, f := range of[id] {
				fits = fits && used[f] < most[f]
			}
			if got := turns.try(id); got != fits {
				t.Fatalf("try(%s) = %v with %v out of %d and %v of %v", id, got, out, parallel, used, most)
			}
			if fits {
				out[id] = true
				for _, f := range of[id] {
					used[f]++
				}
			}
		}
		for id := range out {
			turns.give(id)
		}
		if turns.free != parallel || len(turns.used) != 0 || len(turns.held) != 0 {
			t.Fatalf("left over: %d free, %v used, %v held", turns.free, turns.used, turns.held)
		}
	})
}

// Whoever waits gets a turn, or none that is left behind when it gives up.
func TestTurnsAreHandedOn(t *testing.T) {
	const many, parallel, district = 400, 8, 3
	turns := newTurns(parallel)
	of := map[inventory.DeviceID][]string{}
	for i := range many {
		of[inventory.DeviceID(fmt.Sprint("d-", i))] = []string{fmt.Sprint("district ", i%4)}
	}
	turns.limit(of, map[string]int{"district 0": district, "district 1": district, "district 2": district, "district 3": district})
	var mu sync.Mutex
	out, had := map[string]int{}, 0
	var wg sync.WaitGroup
	for id, fates := range of {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			if rand.IntN(4) == 0 {
				time.AfterFunc(time.Duration(rand.IntN(20))*time.Millisecond, cancel)
			} else {
				defer cancel()
			}
			if err := turns.take(ctx, id); err != nil {
				return
			}
			mu.Lock()
			out[""]++
			out[fates[0]]++
			had++
			if out[""] > parallel || out[fates[0]] > district {
				t.Errorf("%d turns of %d, %d of %d in %s", out[""], parallel, out[fates[0]], district, fates[0])
			}
			mu.Unlock()
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
			mu.Lock()
			out[""]--
			out[fates[0]]--
			mu.Unlock()
			turns.give(id)
		})
	}
	wg.Wait()
	if turns.free != parallel || len(turns.used)+len(turns.held)+len(turns.line) != 0 || had < many/2 {
		t.Errorf("%d had a turn; left over: %d free, %v used, %v held, %d in line", had, turns.free, turns.used, turns.held, len(turns.line))
	}
}

func TestATurnIsWaitedFor(t *testing.T) {
	turns := newTurns(1)
	if err := turns.take(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() { got <- turns.take(t.Context(), "b") }()
	select {
	case err := <-got:
		t.Fatalf("two turns of one: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	turns.give("a")
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := turns.take(ctx, "c"); !errors.Is(err, context.Canceled) {
		t.Errorf("take() after the end = %v", err)
	}
}
