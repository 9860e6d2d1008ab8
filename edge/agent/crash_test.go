package agent

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/commit"
)

// life drives one agent through a random life with power cuts at any disk
// operation, and remembers what was acknowledged.
type life struct {
	t     *testing.T
	s     signer
	docs  []edge.Signed
	files *power
	host  *ram
	agent *Agent

	n         int
	confirmed uint64 // acknowledged
	maybe     uint64 // power was lost while this one was being confirmed
	epoch     uint64 // acknowledged
	maybeE    uint64 // an unacknowledged set, which may be stored
	pending   edge.CommitID
	pendRev   uint64
	reverted  edge.CommitID // latest commit known to have been taken back
	doubtful  edge.CommitID // may have been, for power was lost while it was set or confirmed
}

func (l *life) boot() {
	l.files.restart()
	l.host = &ram{}
	l.agent = newAgent(l.t, l.s, l.host, l.files, "/state")
	if l.pending != "" {
		l.reverted = l.pending
	}
	l.pending = ""
}

// settle looks at the agent after a boot: what was acknowledged is there.
func (l *life) settle(r *rapid.T) {
	run := l.agent.Running().Revision
	if run != l.confirmed && (l.maybe == 0 || run != l.maybe) {
		r.Fatalf("revision %d in force after the restart, acknowledged %d, uncertain %d", run, l.confirmed, l.maybe)
	}
	st := l.agent.look().state
	if e := st.Credentials.Epoch; e != l.epoch && e != l.maybeE {
		r.Fatalf("epoch %d after the restart, acknowledged %d, uncertain %d", e, l.epoch, l.maybeE)
	}
	if st.Pending != nil {
		r.Fatal("a commit survived the restart")
	}
	l.confirmed, l.maybe, l.epoch, l.maybeE = run, 0, st.Credentials.Epoch, 0
	if got := lastRevert(st); got != l.reverted && (l.doubtful == "" || got != l.doubtful) {
		r.Fatalf("commit %q is recorded as taken back, want %q or %q", got, l.reverted, l.doubtful)
	}
	l.reverted, l.doubtful = lastRevert(st), ""
}

func lastRevert(st commit.State) edge.CommitID {
	if st.LastRevert == nil {
		return ""
	}
	return st.LastRevert.Commit
}

// check holds at every quiet moment.
func (l *life) check(r *rapid.T) {
	st := l.agent.look().state
	run := st.Active()
	switch {
	case !st.Stale && l.host.config.Hash() != run.Config.Hash():
		r.Fatalf("the host runs %.8s, the agent says %.8s", l.host.config.Hash(), run.Config.Hash())
	case !st.Stale && l.host.creds.Epoch != st.Credentials.Epoch:
		r.Fatalf("the host admits epoch %d, the agent says %d", l.host.creds.Epoch, st.Credentials.Epoch)
	case st.Highest < l.confirmed:
		r.Fatalf("highest revision %d, acknowledged %d", st.Highest, l.confirmed)
	case st.Running.Revision != l.confirmed:
		r.Fatalf("confirmed revision %d, acknowledged %d", st.Running.Revision, l.confirmed)
	case lastRevert(st) != l.reverted:
		r.Fatalf("commit %q is recorded as taken back, want %q", lastRevert(st), l.reverted)
	}
}

// crashed says whether power was lost in the last call, and restarts if so.
func (l *life) crashed(r *rapid.T, err error) bool {
	if l.files.left != 0 {
		if errors.Is(err, errPower) {
			r.Fatalf("power error with power on: %v", err)
		}
		return false
	}
	l.boot()
	l.settle(r)
	return true
}

func (l *life) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"": l.check,
		"cutSoon": func(r *rapid.T) {
			l.files.left = rapid.IntRange(1, 12).Draw(r, "operations")
		},
		"restart": func(r *rapid.T) {
			l.boot()
			l.settle(r)
		},
		"set": func(r *rapid.T) {
			l.n++
			d := rapid.SampledFrom(l.docs).Draw(r, "doc")
			id := edge.CommitID(fmt.Sprint("c", l.n))
			highest := l.agent.look().state.Highest
			if l.pending == "" {
				l.doubtful = id
			}
			err := l.agent.Try(l.t.Context(), id, d, 30*time.Second)
			if l.crashed(r, err) {
				return
			}
			l.doubtful = ""
			switch {
			case l.pending != "" && !errors.Is(err, commit.ErrBusy):
				r.Fatalf("set with %s in flight: %v", l.pending, err)
			case l.pending == "" && d.Revision < highest && !errors.Is(err, commit.ErrRefused):
				r.Fatalf("set of revision %d under %d: %v", d.Revision, highest, err)
			case err == nil:
				l.pending, l.pendRev = id, d.Revision
			}
		},
		"confirm": func(r *rapid.T) {
			if l.pending == "" {
				return
			}
			l.maybe = l.pendRev
			id := l.pending
			l.pending, l.doubtful = "", id
			err := l.agent.Confirm(l.t.Context(), id)
			if err == nil {
				l.confirmed, l.maybe, l.doubtful = l.pendRev, 0, ""
			}
			if l.crashed(r, err) {
				return
			}
			if err != nil {
				r.Fatalf("confirm: %v", err)
			}
		},
		"cancel": func(r *rapid.T) {
			if l.pending == "" {
				return
			}
			err := l.agent.Cancel(l.t.Context(), l.pending)
			if l.crashed(r, err) {
				return
			}
			if err != nil {
				r.Fatalf("cancel: %v", err)
			}
			l.reverted, l.pending = l.pending, ""
		},
		"deadline": func(r *rapid.T) {
			time.Sleep(31 * time.Second)
			l.agent.tick(l.t.Context())
			if !l.crashed(r, nil) && l.pending != "" {
				l.reverted, l.pending = l.pending, ""
			}
		},
		"credentials": func(r *rapid.T) {
			e := l.epoch + rapid.Uint64Range(1, 3).Draw(r, "rise")
			l.maybeE = e
			err := l.agent.Admit(l.t.Context(), edge.Credentials{Epoch: e})
			if err == nil {
				l.epoch, l.maybeE = e, 0
			}
			if !l.crashed(r, err) && err != nil {
				r.Fatalf("admit: %v", err)
			}
		},
	}
}

// TestPowerLossAtEveryStep cuts the power at each disk operation of one life in
// turn: a change is tried and taken back because its contract fails. At every
// cut the device comes back with the confirmed revision, and from the moment
// the change was acknowledged it says which commit it took back.
func TestPowerLossAtEveryStep(t *testing.T) {
	s := newSigner(t)
	one, two := s.doc(t, 1, rich), s.doc(t, 2, rich)
	synctest.Test(t, func(t *testing.T) {
		for cut := 0; ; cut++ {
			l := &life{t: t, s: s, files: newPower(uint64(cut))}
			l.boot()
			keep(t, l.agent, "one", one)
			l.files.left = cut
			tried := l.agent.Try(t.Context(), "two", two, time.Minute) == nil
			l.host.setLost("dns/10.64.0.53")
			l.agent.tick(t.Context())
			time.Sleep(11 * time.Second)
			l.agent.tick(t.Context())
			over := l.files.left > 0 // the cut is behind the last step
			if over {
				if r := l.agent.look().state.LastRevert; r == nil || fmt.Sprint(r.Failed) != "[dns/10.64.0.53]" {
					t.Fatalf("without a cut the last revert is %+v", r)
				}
			}
			l.boot()
			st := l.agent.look().state
			if st.Active().Revision != 1 || st.Pending != nil || l.host.config.Hash() != one.Hash {
				t.Fatalf("cut %d: revision %d in force, pending %v", cut, st.Active().Revision, st.Pending)
			}
			if got := lastRevert(st); tried && got != "two" || got != "" && got != "two" {
				t.Fatalf("cut %d: commit %q is recorded as taken back, acknowledged %v", cut, got, tried)
			}
			if over {
				t.Logf("%d cuts", cut)
				return
			}
		}
	})
}

// TestPowerLossAnywhere: whatever is cut, the device comes back with what was
// acknowledged, never with a commit on trial and never with half a file.
func TestPowerLossAnywhere(t *testing.T) {
	s := newSigner(t)
	var docs []edge.Signed
	for rev := range uint64(8) {
		docs = append(docs, s.doc(t, rev+1))
	}
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(r *rapid.T) { // hides t.Deadline, which a bubble forbids
			l := &life{t: t, s: s, docs: docs, files: newPower(rapid.Uint64().Draw(r, "seed"))}
			l.boot()
			r.Repeat(l.actions())
		})
	})
}
