package commit

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

var t0 = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

func doc(rev uint64) edge.Signed {
	return edge.Signed{Device: "e-1", Revision: rev, Hash: string(rune('a' + rev))}
}

func trial(id edge.CommitID, rev uint64) Trial {
	return Trial{ID: id, Want: doc(rev), Rollback: 45 * time.Second, Held: []string{"bfd/c1--hub-1"}}
}

// confirmed is a device that runs revision rev, confirmed under id.
func confirmed(t *testing.T, id edge.CommitID, rev uint64) State {
	t.Helper()
	st, err := State{}.Try(trial(id, rev), t0)
	if err != nil {
		t.Fatal(err)
	}
	st, err = st.Next.Confirm(id, nil, t0)
	if err != nil {
		t.Fatal(err)
	}
	return st.Next
}

func TestTry(t *testing.T) {
	running := confirmed(t, "one", 5)
	pending, err := running.Try(trial("two", 6), t0)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		state State
		trial Trial
		want  error // nil: accepted
		idle  bool
	}{
		"newer":                      {state: running, trial: trial("x", 6)},
		"equal":                      {state: running, trial: trial("x", 5)},
		"older":                      {state: running, trial: trial("x", 4), want: ErrRefused},
		"revision 0":                 {state: State{}, trial: trial("x", 0), want: inventory.ErrInvalid},
		"no id":                      {state: running, trial: trial("", 6), want: inventory.ErrInvalid},
		"too long":                   {state: running, trial: Trial{ID: "x", Want: doc(6), Rollback: 2 * time.Hour}, want: inventory.ErrInvalid},
		"default duration":           {state: running, trial: Trial{ID: "x", Want: doc(6)}},
		"another in flight":          {state: pending.Next, trial: trial("x", 7), want: ErrBusy},
		"repeated in flight":         {state: pending.Next, trial: trial("two", 6), idle: true},
		"repeated confirmed":         {state: running, trial: trial("one", 5), idle: true},
		"id reused in flight":        {state: pending.Next, trial: trial("two", 7), want: ErrRefused},
		"confirmed id, new revision": {state: running, trial: trial("one", 6), want: ErrRefused},
	} {
		t.Run(name, func(t *testing.T) {
			st, err := tt.state.Try(tt.trial, t0)
			if !errors.Is(err, tt.want) {
				t.Fatalf("err = %v, want %v", err, tt.want)
			}
			if err == nil && st.Idle() != tt.idle {
				t.Errorf("step = %+v, want idle %v", st, tt.idle)
			}
			if err == nil && !tt.idle && (st.Journal == nil || !st.Apply || st.Undo == nil) {
				t.Errorf("step = %+v, want journal, apply and undo", st)
			}
		})
	}
}

func TestConfirmKeeps(t *testing.T) {
	running := confirmed(t, "one", 5)
	st, _ := running.Try(trial("two", 6), t0)
	on := st.Next

	if _, err := on.Confirm("other", nil, t0); !errors.Is(err, ErrRefused) {
		t.Errorf("confirm of an unknown id: %v", err)
	}
	if _, err := on.Confirm("two", []string{"bfd/c1--hub-1"}, t0); !errors.Is(err, ErrNotYet) {
		t.Errorf("confirm with BFD down: %v", err)
	}
	if _, err := on.Confirm("two", nil, t0.Add(45*time.Second)); !errors.Is(err, ErrExpired) {
		t.Errorf("confirm at the deadline: %v", err)
	}
	st, err := on.Confirm("two", nil, t0.Add(44*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if got := st.Next; got.Running.Revision != 6 || got.Highest != 6 || got.Pending != nil {
		t.Errorf("after confirm: %+v", got.Record)
	}
	if again, err := st.Next.Confirm("two", nil, t0.Add(time.Hour)); err != nil || !again.Idle() {
		t.Errorf("repeated confirm: %+v, %v", again, err)
	}
	if len(running.Confirmed) != 1 {
		t.Errorf("the old state was written to: %v", running.Confirmed)
	}
}

func TestTickReverts(t *testing.T) {
	st, _ := confirmed(t, "one", 5).Try(trial("two", 6), t0)
	on := st.Next
	down := []string{"bfd/c1--hub-1"}
	for name, tt := range map[string]struct {
		failing []string
		after   time.Duration
		revert  bool
	}{
		"healthy":              {after: 44 * time.Second},
		"deadline":             {after: 45 * time.Second, revert: true},
		"deadline, unhealthy":  {failing: down, after: 45 * time.Second, revert: true},
		"unhealthy in grace":   {failing: down, after: 9 * time.Second},
		"unhealthy past grace": {failing: down, after: 10 * time.Second, revert: true},
	} {
		t.Run(name, func(t *testing.T) {
			st := on.Tick(tt.failing, t0.Add(tt.after))
			if got := st.Next.Pending == nil; got != tt.revert {
				t.Errorf("reverted = %v, want %v (%v)", got, tt.revert, st.Reverts)
			}
			if r := st.Next.LastRevert; tt.revert && (r == nil || r.Commit != "two" || r.Revision != 6 || !r.At.Equal(t0.Add(tt.after)) || !slices.Equal(r.Failed, tt.failing)) {
				t.Errorf("recorded %+v", r)
			}
			if tt.revert && (st.Next.Active().Revision != 5 || st.Settle == nil || !st.Apply) {
				t.Errorf("step = %+v", st)
			}
		})
	}
	// Healthy at 8 s: the grace starts over.
	on = on.Tick(nil, t0.Add(8*time.Second)).Next
	if st := on.Tick(down, t0.Add(17*time.Second)); st.Next.Pending == nil {
		t.Error("reverted 9 s after it was last healthy")
	}
	if st := on.Tick(down, t0.Add(18*time.Second)); st.Next.Pending != nil {
		t.Error("not reverted 10 s after it was last healthy")
	}
}

func TestFailedRevertCannotBeConfirmed(t *testing.T) {
	st, _ := confirmed(t, "one", 5).Try(trial("two", 6), t0)
	st, err := st.Next.Cancel("two", t0.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	stuck := st.Failed // the host refused to go back
	if _, err := stuck.Confirm("two", nil, t0.Add(2*time.Second)); !errors.Is(err, ErrExpired) {
		t.Errorf("confirm after cancel: %v", err)
	}
	st = stuck.Tick(nil, t0.Add(2*time.Second))
	if st.Next.Pending != nil || !st.Apply {
		t.Errorf("the next tick does not try again: %+v", st)
	}
	if r := st.Next.LastRevert; r == nil || r.Why != "the controller cancelled the commit" || !r.At.Equal(t0.Add(time.Second)) {
		t.Errorf("recorded %+v, want the first reason", r)
	}
}

func TestBootReverts(t *testing.T) {
	st, _ := confirmed(t, "one", 5).Try(trial("two", 6), t0)
	st = st.Next.Boot(t0)
	if st.Next.Active().Revision != 5 || st.Settle == nil || !st.Apply || !st.Failed.Stale || st.Settle.LastRevert.Commit != "two" {
		t.Errorf("boot with a commit pending: %+v", st)
	}
	if st := confirmed(t, "one", 5).Boot(t0); st.Settle != nil || !st.Apply || st.Next.LastRevert != nil {
		t.Errorf("boot: %+v", st)
	}
}

func TestExtend(t *testing.T) {
	st, _ := State{}.Try(trial("two", 6), t0)
	st, err := st.Next.Extend("two", time.Minute, t0.Add(40*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if st := st.Next.Tick(nil, t0.Add(99*time.Second)); st.Next.Pending == nil {
		t.Error("reverted before the new deadline")
	}
	if _, err := st.Next.Extend("two", -1, t0); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("negative duration: %v", err)
	}
}

func TestAdmit(t *testing.T) {
	set := func(epoch uint64, key string) edge.Credentials {
		return edge.Credentials{Epoch: epoch, Keys: map[inventory.DeviceID]string{"hub-1": key}}
	}
	have := State{Credentials: set(3, "k")}
	for name, tt := range map[string]struct {
		set  edge.Credentials
		want error
		idle bool
	}{
		"newer":            {set: set(4, "n")},
		"same":             {set: set(3, "k"), idle: true},
		"same epoch, else": {set: set(3, "n"), want: inventory.ErrInvalid},
		"same, said later": {set: edge.Credentials{Epoch: 3, At: t0, Keys: have.Credentials.Keys}},
		"older":            {set: set(2, "k"), want: inventory.ErrInvalid},
		"zero":             {set: set(0, "k"), want: inventory.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			st, err := have.Admit(tt.set)
			if !errors.Is(err, tt.want) || err == nil && st.Idle() != tt.idle {
				t.Errorf("%+v, %v", st, err)
			}
		})
	}
	st, _ := have.Admit(set(4, "n"))
	if st.Failed.Credentials.Epoch != 4 || !st.Failed.Stale {
		t.Error("a host that refused rolls the credentials back")
	}
	if st, err := st.Failed.Admit(set(4, "n")); err != nil || !st.Apply {
		t.Errorf("the same set is not tried again while the host is behind: %+v, %v", st, err)
	}
}

func TestHeldAndFailing(t *testing.T) {
	up := func(n string) bool { return n == "bfd/a" || n == "dns/10.0.0.1" || n == "channel" }
	held := Held(edge.Contract{BFD: []string{"a", "b"}, DNS: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}}, up)
	if !slices.Equal(held, []string{"bfd/a", "dns/10.0.0.1", "channel"}) {
		t.Errorf("held = %v", held)
	}
	p := &Pending{Held: []string{"bfd/a", "bfd/b"}}
	if got := p.Failing(up); !slices.Equal(got, []string{"bfd/b"}) || len(p.Held) != 2 {
		t.Errorf("failing = %v, held = %v", got, p.Held)
	}
}

// A record of the agent before contract items were named still loads, and its
// bare tunnel names are BFD sessions.
func TestOldRecordLoads(t *testing.T) {
	const old = `{"running":{"device":"e-1","revision":5,"hash":"f","config":{},"key_id":"","signature":null},"highest":5,` +
		`"pending":{"id":"two","want":{"device":"e-1","revision":6,"hash":"g","config":{},"key_id":"","signature":null},` +
		`"deadline":"2026-03-01T08:00:45Z","held":["c1--hub-1","c1--hub-2"],"good":"2026-03-01T08:00:00Z"},"confirmed":["one"]}`
	var r Record
	if err := json.Unmarshal([]byte(old), &r); err != nil {
		t.Fatal(err)
	}
	if got := r.Pending.Failing(func(n string) bool { return n == "bfd/c1--hub-1" }); !slices.Equal(got, []string{"bfd/c1--hub-2"}) {
		t.Errorf("failing = %v", got)
	}
	if st := (State{Record: r}).Boot(t0); st.Next.Active().Revision != 5 || st.Next.LastRevert.Revision != 6 {
		t.Errorf("boot: %+v", st.Next.Record)
	}
}
