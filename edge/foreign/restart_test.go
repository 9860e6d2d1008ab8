package foreign

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/edge"
)

// A caller that goes away does not break the change off.
func TestCallerGoesAway(t *testing.T) {
	each(t, func(b *bench) {
		b.keep(5)
		b.box.set(func(r *ramBox) { r.slow = 10 * time.Second })
		ctx, cancel := context.WithTimeout(b.t.Context(), 15*time.Second)
		defer cancel()
		if err := b.Apply(ctx, "c-6", b.doc(6), time.Minute); !errors.Is(err, edge.ErrUnreachable) {
			b.t.Fatalf("apply: %v", err)
		}
		b.pending("c-6")
		time.Sleep(10 * time.Second)
		b.holdsRev(6)
		b.box.set(func(r *ramBox) { r.slow = 0 })
		must(b.t, b.Confirm(b.t.Context(), "c-6"))
		b.holdsRev(6)
	})
}

// The device took it back before the deadline, for instance in a reboot, and
// says no to the confirmation, or yes.
func TestReturnedEarly(t *testing.T) {
	for _, yes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, "own return")
			b.keep(5)
			must(t, b.Apply(t.Context(), "c-6", b.doc(6), time.Minute))
			c := b.box.(*confirmBox)
			c.set(func(*ramBox) { c.trial, c.has, c.yes = "", c.old, yes })
			if err := b.Confirm(t.Context(), "c-6"); !errors.Is(err, edge.ErrRejected) || !strings.Contains(err.Error(), "took it back") {
				t.Fatalf("confirm: %v", err)
			}
			b.pending("")
			b.holdsRev(5)
		})
	}
}

// The device kept it, and the answer was lost: confirming again finds it kept.
func TestKeepAnswerLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "own return")
		b.keep(5)
		must(t, b.Apply(t.Context(), "c-6", b.doc(6), time.Minute))
		b.box.set(func(r *ramBox) { r.lose = 1 })
		if err := b.Confirm(t.Context(), "c-6"); !errors.Is(err, edge.ErrUnreachable) {
			t.Fatalf("confirm: %v", err)
		}
		must(t, b.Confirm(t.Context(), "c-6"))
		time.Sleep(time.Hour)
		b.holdsRev(6)
		if b.box.(*confirmBox).mixed {
			t.Error("a change was made while one was on trial")
		}
	})
}

func TestSaysWhatItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if !newBench(t, "emulated").Emulated() || newBench(t, "own return").Emulated() {
			t.Error("Emulated() is wrong")
		}
		b := newBench(t, "turns out to have none")
		b.keep(5)
		if !b.Emulated() {
			t.Error("a device that turned out not to return by itself is not told so")
		}
		c := variant(1)
		c.Classes = nil
		want := []edge.Kind{edge.KindTunnel, edge.KindRule, edge.KindContract}
		if got := b.Unheld(c); !slices.Equal(got, want) {
			t.Errorf("Unheld() = %v, want %v", got, want)
		}
		must(t, b.Close())
		must(t, b.Close())
		if _, err := b.Running(t.Context()); !errors.Is(err, edge.ErrUnreachable) {
			t.Errorf("running after Close: %v", err)
		}
	})
}
