package upgrade

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
)

// The decision alone: only a try of this very row is confirmed, and only while
// the rollout lets it and the device is as well as before.
func TestDecideConfirmsOnlyWhatHolds(t *testing.T) {
	lim := quick.limits()
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SampledFrom([]edge.CommitID{"", "c1", "c2"})
		now := time.Unix(1e6, 0)
		d := Device{
			Device: "d", Phase: rapid.SampledFrom(Phases).Draw(t, "phase"), Commit: ids.Draw(t, "commit"), Before: Health{InSync: true, Up: []string{"a", "b"}},
			Tried: now.Add(-time.Duration(rapid.IntRange(0, 600).Draw(t, "ago")) * time.Second),
		}
		s := Sight{
			Want: newVersion, Leave: rapid.SampledFrom([]Leave{Go, Finish, Stop}).Draw(t, "leave"), Installed: rapid.Bool().Draw(t, "installed"), Fresh: "fresh",
			Report: Report{
				Version: rapid.SampledFrom([]string{oldVersion, newVersion}).Draw(t, "version"), Confirmed: rapid.Bool().Draw(t, "confirmed"),
				Pending: ids.Draw(t, "pending"), Failed: ids.Draw(t, "failed"),
			},
			Health: Health{InSync: rapid.Bool().Draw(t, "sync"), Up: rapid.SampledFrom([][]string{nil, {"a"}, {"a", "b"}}).Draw(t, "up")},
		}
		next, act := d.Decide(now, s, lim)
		r := s.Report
		switch {
		case d.Phase.Final() && (act != Nothing || next.differs(d)):
			t.Fatal("what has ended moved")
		case act == Confirm && (d.Phase != Trying || s.Leave == Stop || r.Pending != d.Commit || d.Commit == "" || r.Version != s.Want || r.Failed == d.Commit || s.Health.worse(d.Before) != ""):
			t.Fatal("confirmed")
		case act == Activate && (s.Leave != Go || r.Pending != "" || next.Phase != Trying || next.Commit == "" || d.Phase == Trying && next.Commit != d.Commit):
			t.Fatal("activated")
		case act == Install && (s.Leave != Go || r.Pending != "" || d.Phase == Trying):
			t.Fatal("installed")
		case next.Phase == Done && !d.Phase.Final() && (r.Version != s.Want || r.Pending != "" || !r.Confirmed):
			t.Fatal("done")
		}
		if again, act2 := next.Decide(now, s, lim); next.Phase.Final() && (act2 != Nothing || again.differs(next)) {
			t.Fatal("not idempotent")
		}
	})
}
