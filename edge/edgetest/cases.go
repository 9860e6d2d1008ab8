package edgetest

import (
	"context"
	"testing"
	"time"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// Cases lists the clauses, for a driver that wants to run each in its own way,
// for instance in fake time.
func Cases() []Case {
	return []Case{
		{"a new device runs nothing", func(t *testing.T, open Open) {
			newRig(t, open).runs(edge.Signed{}, "")
		}},
		{"applied and confirmed is kept", keptAfterConfirm},
		{"unconfirmed reverts by itself", reverts},
		{"confirm is idempotent", confirmTwice},
		{"an unknown or reverted commit cannot be confirmed", confirmUnknown},
		{"the same commit twice is a no-op", applyTwice},
		{"another commit in flight is refused", inFlight},
		{"a lower revision is refused", lowerRevision},
		{"a document that is not ours is refused", notOurs},
		{"credentials only rise and are never rolled back", credentials},
		{"an ended context does nothing", endedContext},
	}
}

func keptAfterConfirm(t *testing.T, open Open) {
	r := newRig(t, open)
	want := r.doc(7)
	must(t, r.Apply(t.Context(), "c-1", want, Revert))
	r.runs(want, "c-1")
	must(t, r.Confirm(t.Context(), "c-1"))
	r.runs(want, "")
	// A change that must not happen can only be waited out.
	<-time.After(Revert + 2*time.Second)
	r.runs(want, "")
}

func reverts(t *testing.T, open Open) {
	r := newRig(t, open)
	must(t, r.Apply(t.Context(), "c-1", r.doc(5), Revert))
	r.returnsTo(edge.Signed{})

	old := r.keep(6)
	want := r.doc(7)
	must(t, r.Apply(t.Context(), "c-2", want, Revert))
	r.runs(want, "c-2")
	r.returnsTo(old)

	// What reverted was not confirmed, so its revision is still free to try.
	must(t, r.Apply(t.Context(), "c-3", want, time.Minute))
	must(t, r.Confirm(t.Context(), "c-3"))
	r.runs(want, "")
}

func confirmTwice(t *testing.T, open Open) {
	r := newRig(t, open)
	want := r.doc(7)
	must(t, r.Apply(t.Context(), "c-1", want, time.Minute))
	must(t, r.Confirm(t.Context(), "c-1"))
	must(t, r.Confirm(t.Context(), "c-1"))
	r.runs(want, "")
	// The late repetition of an old Confirm must not confirm a newer commit.
	next := r.doc(8)
	must(t, r.Apply(t.Context(), "c-2", next, Revert))
	must(t, r.Confirm(t.Context(), "c-1"))
	r.runs(next, "c-2")
	r.returnsTo(want)
}

func confirmUnknown(t *testing.T, open Open) {
	r := newRig(t, open)
	r.refused("confirm with nothing pending", r.Confirm(t.Context(), "c-0"))
	want := r.doc(7)
	must(t, r.Apply(t.Context(), "c-1", want, Revert))
	r.refused("confirm of another id", r.Confirm(t.Context(), "c-0"))
	r.returnsTo(edge.Signed{})
	r.refused("confirm after the revert", r.Confirm(t.Context(), "c-1"))
	r.runs(edge.Signed{}, "")
}

func applyTwice(t *testing.T, open Open) {
	r := newRig(t, open)
	want := r.doc(7)
	must(t, r.Apply(t.Context(), "c-1", want, time.Minute))
	must(t, r.Apply(t.Context(), "c-1", want, time.Minute))
	r.runs(want, "c-1")
	r.refused("other content under a pending id", r.Apply(t.Context(), "c-1", r.doc(8), time.Minute))
	r.runs(want, "c-1")
	must(t, r.Confirm(t.Context(), "c-1"))
	must(t, r.Apply(t.Context(), "c-1", want, Revert))
	r.runs(want, "") // kept: nothing is on trial again
	r.refused("other content under a confirmed id", r.Apply(t.Context(), "c-1", r.doc(8), time.Minute))
	r.runs(want, "")
}

func inFlight(t *testing.T, open Open) {
	r := newRig(t, open)
	first := r.doc(7)
	must(t, r.Apply(t.Context(), "c-1", first, time.Minute))
	r.refused("a second commit", r.Apply(t.Context(), "c-2", r.doc(8), time.Minute))
	r.runs(first, "c-1")
	// A controller that restarted learns the id and can finish the work.
	id, err := r.Pending(t.Context())
	must(t, err)
	must(t, r.Confirm(t.Context(), id))
	must(t, r.Apply(t.Context(), "c-2", r.doc(8), time.Minute))
	r.runs(r.doc(8), "c-2")
}

func lowerRevision(t *testing.T, open Open) {
	r := newRig(t, open)
	want := r.keep(7)
	r.refused("revision 6 after 7", r.Apply(t.Context(), "c-1", r.doc(6), time.Minute))
	r.runs(want, "")
	// The same revision with the content it was compiled to again repairs drift.
	again := r.key.Sign(t, Config(70), 7)
	must(t, r.Apply(t.Context(), "c-2", again, time.Minute))
	must(t, r.Confirm(t.Context(), "c-2"))
	r.runs(again, "")
}

func notOurs(t *testing.T, open Open) {
	r := newRig(t, open)
	old := r.keep(6)
	other := Config(7)
	other.Device = "e-1"
	for what, edit := range map[string]func(*edge.Signed){
		"another key":       func(s *edge.Signed) { *s = NewKey(t).Sign(t, s.Config, s.Revision) },
		"an unknown key id": func(s *edge.Signed) { s.KeyID = "rev-9" },
		"no signature":      func(s *edge.Signed) { s.Signature = nil },
		"a raised revision": func(s *edge.Signed) { s.Revision++ },
		"a changed config":  func(s *edge.Signed) { s.Config.Rules[0].Permit = "p-all" },
		"config and hash":   func(s *edge.Signed) { s.Config.Rules[0].Permit = "p-all"; s.Hash = s.Config.Hash() },
		"another device":    func(s *edge.Signed) { *s = r.key.Sign(t, other, s.Revision) },
	} {
		bad := r.doc(7)
		edit(&bad)
		r.refused(what, r.Apply(t.Context(), "c-1", bad, time.Minute))
		r.runs(old, "")
	}
}

func credentials(t *testing.T, open Open) {
	r := newRig(t, open)
	c, ok := r.Driver.(controller.Credentialer)
	if !ok {
		t.Fatalf("%T takes no credentials", r.Driver)
	}
	set := func(epoch uint64, key string) error {
		return c.SetCredentials(t.Context(), edge.Credentials{
			Epoch: epoch, At: time.Now().UTC(), Keys: map[inventory.DeviceID]string{"hub-1": key},
		})
	}
	epoch := func(want uint64) {
		t.Helper()
		st, err := r.State(t.Context())
		must(t, err)
		if st.Epoch != want {
			t.Fatalf("state tells epoch %d, want %d", st.Epoch, want)
		}
	}
	const one, two = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="
	epoch(0)
	must(t, set(4, one))
	must(t, set(4, one))
	r.refused("other keys under the same epoch", set(4, two))
	r.refused("a lower epoch", set(3, two))
	epoch(4)

	must(t, r.Apply(t.Context(), "c-1", r.doc(7), Revert))
	must(t, set(5, two))
	r.returnsTo(edge.Signed{})
	epoch(5)
}

func endedContext(t *testing.T, open Open) {
	r := newRig(t, open)
	want := r.keep(6)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Apply(ctx, "c-1", r.doc(7), time.Minute); err == nil {
		t.Error("Apply() with an ended context succeeded")
	}
	if _, err := r.State(ctx); err == nil {
		t.Error("State() with an ended context succeeded")
	}
	r.runs(want, "")
}
