package openconfig

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/foreign"
	"github.com/wardnet/wardnet/labs/gnmibox"
)

// Against a device that returns by itself, without the core.
func TestCommitConfirmed(t *testing.T) {
	t.Parallel()
	r := open(t, zoo["by the book"])
	c, ok := r.box.(foreign.Confirmer)
	if !ok {
		t.Fatal("no Confirmer")
	}
	none, want := edge.Config{Device: "e-1"}, full() // its eth1 has an MTU that is not ours
	before := r.Text()
	if err := c.Keep(t.Context(), "c-1"); !errors.Is(err, edge.ErrRejected) {
		t.Errorf("kept what is not there: %v", err)
	}
	must(t, c.Try(t.Context(), "c-1", none, want, time.Minute))
	r.holds(t, want)
	if err := c.Try(t.Context(), "c-2", want, none, time.Minute); !errors.Is(err, foreign.ErrBusy) || errors.Is(err, edge.ErrRejected) {
		t.Errorf("two at once: %v, want ErrBusy", err)
	}
	if err := c.Keep(t.Context(), "c-2"); !errors.Is(err, edge.ErrRejected) {
		t.Errorf("kept another's: %v", err)
	}
	must(t, c.Cancel(t.Context(), "c-1"))
	if r.Text() != before {
		t.Error("the cancelled commit left something behind")
	}
	must(t, c.Try(t.Context(), "c-3", none, want, time.Minute))
	// A controller that restarts finds the extension while a commit is on trial.
	box, err := r.open(t, Config{})
	must(t, err)
	c, ok = box.(foreign.Confirmer)
	if !ok {
		t.Fatal("the extension was not found while a commit was on trial")
	}
	must(t, c.Keep(t.Context(), "c-3"))
	r.holds(t, want)
	// What changes nothing is still a commit of its own.
	must(t, c.Try(t.Context(), "c-4", want, want, time.Minute))
	must(t, c.Keep(t.Context(), "c-4"))
	// By itself, exactly as it was.
	kept, next := r.Text(), want
	next.Loopback = netip.MustParseAddr("172.16.0.9")
	must(t, c.Try(t.Context(), "c-5", want, next, 50*time.Millisecond))
	for end := time.Now().Add(10 * time.Second); r.Text() != kept; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not back by itself")
		}
	}
}

// A reply that is lost on trial must not pass for success: the device may have
// done it without the deadline.
func TestTryWithoutAnswer(t *testing.T) {
	t.Parallel()
	r := open(t, zoo["by the book"])
	r.Fail(func(when string, _ *gnmibox.Store) error {
		if when == "after" {
			return status.Error(codes.Unavailable, "connection reset")
		}
		return nil
	})
	err := r.box.(foreign.Confirmer).Try(t.Context(), "c-1", edge.Config{}, writable(), time.Minute)
	if !errors.Is(err, edge.ErrUnreachable) || errors.Is(err, edge.ErrRejected) {
		t.Errorf("%v, want that the outcome is open", err)
	}
}
