package controller

import (
	"context"
	"errors"
	"fmt"
	"math"
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
			if got := turns.try(id) == nil; got != fits {
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
