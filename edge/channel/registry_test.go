package channel

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
)

// registryOf is a Server without sockets: sessions are made by hand.
func registryOf(t testing.TB, cfg Config, onUp, onDown func(inventory.DeviceID)) *Server {
	t.Helper()
	s := &Server{cfg: cfg.withDefaults(), metrics: newMetrics(nil, 0), slots: map[inventory.DeviceID]*slot{}}
	s.deps = Deps{
		Identify: func(st tls.ConnectionState) (inventory.DeviceID, error) {
			return inventory.DeviceID(st.ServerName), nil
		},
		OnUp: onUp, OnDown: onDown, Log: slog.New(slog.DiscardHandler),
	}
	return s
}

func bare(ctx context.Context, id inventory.DeviceID, serial string) *session {
	sess := &session{Session: Session{Device: id, Serial: serial}, state: tls.ConnectionState{ServerName: string(id)}}
	sess.ctx, sess.end = context.WithCancelCause(ctx)
	return sess
}

// Property: whatever comes and goes at the same time, the events of a device
// are up, down, up, down, … and end with down.
func TestEventsAlternate(t *testing.T) {
	seed := rand.Uint64()
	var mu sync.Mutex
	last := map[inventory.DeviceID]string{}
	note := func(what, before string) func(inventory.DeviceID) {
		return func(id inventory.DeviceID) {
			mu.Lock()
			defer mu.Unlock()
			if last[id] != before && (last[id] != "" || what != "up") {
				t.Errorf("seed %d: %s: %q after %q", seed, id, what, last[id])
			}
			last[id] = what
		}
	}
	s := registryOf(t, Config{Swaps: 1 << 30}, note("up", "down"), note("down", "up"))
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := range 200 {
				id := inventory.DeviceID(fmt.Sprintf("e-%d", r.IntN(3)))
				sess := bare(t.Context(), id, fmt.Sprint(w, i))
				if err := s.register(sess); err != nil {
					t.Errorf("seed %d: %v", seed, err)
					return
				}
				switch r.IntN(3) {
				case 0:
					s.CloseDevice(id, "test")
				case 1:
					s.CloseSerial(sess.Serial, "test")
				}
				sess.end(errGone)
				s.unregister(sess)
			}
		})
	}
	wg.Wait()
	for id, what := range last {
		if what != "down" {
			t.Errorf("seed %d: %s ends %q", seed, id, what)
		}
	}
	if left := s.Sessions(); len(left) != 0 {
		t.Errorf("seed %d: left %v", seed, left)
	}
}

// Property: in any run of claims on a live session, no minute sees more than
// Swaps of them succeed, and one claim an hour always does.
func TestDamping(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		k := rapid.IntRange(1, 5).Draw(rt, "swaps")
		s := registryOf(t, Config{Swaps: k}, nil, nil)
		sl := &slot{cur: bare(t.Context(), "e-1", "1")}
		now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
		var won []time.Time
		for _, gap := range rapid.SliceOfN(rapid.IntRange(0, 40), 1, 60).Draw(rt, "gaps in s") {
			now = now.Add(time.Duration(gap) * time.Second)
			if _, err := s.damp(sl, now); err == nil {
				won = append(won, now)
			}
		}
		for i := range won {
			if i >= k && won[i].Sub(won[i-k]) < time.Minute {
				rt.Fatalf("more than %d swaps within a minute: %v", k, won[i-k:i+1])
			}
		}
		if _, err := s.damp(sl, now.Add(time.Hour)); err != nil {
			rt.Fatalf("an hour later: %v", err)
		}
		sl.cur.end(errGone)
		if _, err := s.damp(sl, now); err != nil {
			rt.Fatalf("a dead session was defended: %v", err)
		}
	})
}
