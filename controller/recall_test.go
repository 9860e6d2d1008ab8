package controller

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// An error of the store's says nothing of what it holds: a rollout that was kept
// all the same goes on, in this process, and one that was not is told as failed
// and may be started again.
func TestRolloutWhoseCommitWasNotAnswered(t *testing.T) {
	for name, tt := range map[string]struct {
		fault func(p *plant, until time.Time)
		first error // what the person is told
		again error // and who tries again once the fault is over
	}{
		"kept, and seen at once":    {func(p *plant, until time.Time) { p.murky = until }, nil, inventory.ErrConflict},
		"kept, and seen afterwards": {func(p *plant, until time.Time) { p.murky, p.blind = until, true }, errMurky, inventory.ErrConflict},
		"not kept":                  {func(p *plant, until time.Time) { p.full = until }, errFull, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlant(newWorld(t, town(3), changed(3)))
				check := func(err error) {
					t.Helper()
					if err != nil {
						t.Fatal(err)
					}
				}
				check(p.boot())
				defer func() {
					p.die()
					<-p.life.done
				}()
				_, err := p.life.StartRollout(t.Context(), 1, "lan")
				check(err)
				check(p.pass(2 * time.Minute))
				p.watch.Lock()
				tt.fault(p, time.Now().Add(5*time.Second))
				p.watch.Unlock()
				if _, err := p.life.StartRollout(t.Context(), 2, "lan"); !errors.Is(err, tt.first) || tt.first == nil && err != nil {
					t.Fatalf("StartRollout() = %v, want %v", err, tt.first)
				}
				check(p.pass(7 * time.Second)) // the conductor has looked
				if _, err := p.life.StartRollout(t.Context(), 2, "lan"); !errors.Is(err, tt.again) || tt.again == nil && err != nil {
					t.Fatalf("once more: %v, want %v", err, tt.again)
				}
				check(p.pass(2 * time.Minute))
				if n := len(p.rollouts); n != 2 || p.rollouts[1].State != RolloutDone {
					t.Fatalf("%d rollouts are stored, the newest is %+v", n, p.newestRollout())
				}
				if r, err := p.life.Rollout(p.rollouts[1].ID); err != nil || r.State != RolloutDone {
					t.Errorf("memory says %+v, %v", r, err)
				}
				check(p.inSync(2))
				if p.life.dead.Load() {
					t.Error("the process died")
				}
			})
		})
	}
}

// A rollout that goes on in another process is bounded as it was.
func TestBudgetHoldsAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, town(8))
		l := w.start(Config{})
		if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
			t.Fatal(err)
		}
		l.turns.mu.Lock()
		want := len(l.turns.most)
		l.turns.mu.Unlock()
		l.end()
		l = w.start(Config{})
		defer l.end()
		if err := l.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.turns.mu.Lock()
		defer l.turns.mu.Unlock()
		if got := len(l.turns.most); want == 0 || got != want {
			t.Errorf("%d shared fates are bounded after the restart, %d before", got, want)
		}
	})
}
