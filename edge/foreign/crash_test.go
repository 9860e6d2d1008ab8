package foreign

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/edgetest"
)

// TestPowerLossAtEveryStep cuts the controller's power at each write of the
// journal and of the device in turn, three times each, for what happens of that
// write is by chance. Afterwards the device holds the old config or the new
// one, the new one for good only if it was confirmed, and the driver knows.
func TestPowerLossAtEveryStep(t *testing.T) {
	lives := map[string]struct {
		run  func(*bench) (acked bool)
		want map[bool][]uint64 // by whether it was acknowledged: revisions the device may hold
	}{
		"not confirmed": {func(b *bench) bool {
			err := b.Apply(b.t.Context(), "c-6", b.doc(6), time.Minute)
			time.Sleep(2 * time.Minute)
			return err == nil
		}, map[bool][]uint64{false: {5}, true: {5}}},
		"confirmed": {func(b *bench) bool {
			return b.Apply(b.t.Context(), "c-6", b.doc(6), time.Minute) == nil && b.Confirm(b.t.Context(), "c-6") == nil
		}, map[bool][]uint64{false: {5, 6}, true: {6}}},
		"refused": {func(b *bench) bool {
			b.box.set(func(r *ramBox) { r.no = errors.New("no") })
			defer b.box.set(func(r *ramBox) { r.no = nil })
			return b.Apply(b.t.Context(), "c-6", b.doc(6), time.Minute) == nil
		}, map[bool][]uint64{false: {5}}},
		"half-written": {func(b *bench) bool {
			b.box.set(func(r *ramBox) { r.half = 2 })
			err := b.Apply(b.t.Context(), "c-6", b.doc(6), time.Minute)
			b.box.set(func(r *ramBox) { r.half = 0 })
			time.Sleep(2 * time.Minute)
			return err == nil
		}, map[bool][]uint64{false: {5}, true: {5}}},
	}
	for kind := range kinds {
		for name, life := range lives {
			t.Run(kind+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cuts := 0
					for cut := 1; ; cut++ {
						over := false
						for seed := range uint64(9) {
							b := newBench(t, kind)
							b.power.rand = newPower(seed).rand
							b.keep(5)
							b.power.cutAfter(cut)
							acked := life.run(b)
							over = !b.power.off()
							b.restart(time.Second)
							time.Sleep(2 * time.Minute)
							synctest.Wait()
							b.ends(life.want[acked], fmt.Sprintf("cut %d, seed %d, acknowledged %v", cut, seed, acked))
							must(t, b.Close())
						}
						if over {
							t.Logf("%d cuts", cuts)
							return
						}
						cuts++
					}
				})
			})
		}
	}
}

// ends fails unless nothing is pending, the device holds one of revs, and the
// driver says so.
func (b *bench) ends(revs []uint64, when string) {
	b.t.Helper()
	run, err := b.Running(b.t.Context())
	must(b.t, err)
	for _, rev := range revs {
		if !edge.Diff(b.box.holds(), held(edge.Config{}, variant(int(rev)))).Empty() {
			continue
		}
		if run.Revision != rev || run.Hash != variant(int(rev)).Hash() {
			b.t.Fatalf("%s: the device holds revision %d, the driver says %d, %.8s", when, rev, run.Revision, run.Hash)
		}
		if c, ok := b.box.(*confirmBox); ok && (c.mixed || c.trial != "") {
			b.t.Fatalf("%s: trial %q left, or changed while on trial (%v)", when, c.trial, c.mixed)
		}
		b.pending("")
		return
	}
	b.t.Fatalf("%s: the device holds none of revisions %v:\n%s", when, revs, edge.Diff(b.box.holds(), held(edge.Config{}, variant(int(revs[0])))))
}

// world is one device through a random life, and what must be so.
type world struct {
	*bench
	n int

	base    edge.Config     // what the device holds when nothing is on trial
	rev     uint64          // confirmed, acknowledged
	maybe   []uint64        // confirmations that were not acknowledged
	trial   uint64          // acknowledged as on trial; 0: none
	id      edge.CommitID   // of the trial
	ends    time.Time       // its deadline, at the latest
	confirm []edge.CommitID // acknowledged
}

// quiet heals everything and waits until whatever is on trial is over, and then
// compares.
func (w *world) quiet(r *rapid.T) {
	w.box.set(func(b *ramBox) { b.faults = faults{} })
	if w.power.off() {
		w.restart(time.Second)
	}
	w.power.cutAfter(-1)
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	if id, err := w.Pending(w.t.Context()); err != nil || id != "" {
		r.Fatalf("commit %q survived its deadline, %v", id, err)
	}
	w.trial = 0
	has := w.box.holds()
	if !edge.Diff(has, w.base).Empty() {
		i := slices.IndexFunc(w.maybe, func(rev uint64) bool { return edge.Diff(has, held(edge.Config{}, variant(int(rev)))).Empty() })
		if i < 0 {
			r.Fatalf("the device holds neither the old nor the new config:\n%s", edge.Diff(w.base, has))
		}
		w.rev, w.base = w.maybe[i], has
	}
	w.maybe = nil
	run, err := w.Running(w.t.Context())
	if err != nil || run.Revision != w.rev || !edge.Diff(held(edge.Config{}, run.Config), has).Empty() {
		r.Fatalf("running revision %d (%v), want %d", run.Revision, err, w.rev)
	}
	if c, ok := w.box.(*confirmBox); ok && c.mixed {
		r.Fatal("a change was made while one was on trial")
	}
}

// check holds at every moment when the device can be reached.
func (w *world) check(r *rapid.T) {
	if w.trial != 0 && time.Now().Before(w.ends) && !w.power.off() && w.maybe == nil {
		if has := w.box.holds(); !edge.Diff(has, held(edge.Config{}, variant(int(w.trial)))).Empty() {
			r.Fatalf("on trial is revision %d, the device holds:\n%s", w.trial, edge.Diff(variant(int(w.trial)), has))
		}
	}
}

func (w *world) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"":      w.check,
		"quiet": w.quiet,
		"cutSoon": func(r *rapid.T) {
			if !w.power.off() {
				w.power.cutAfter(rapid.IntRange(1, 6).Draw(r, "operations"))
			}
		},
		"fault": func(r *rapid.T) {
			f := faults{}
			switch rapid.IntRange(0, 5).Draw(r, "fault") {
			case 0:
				f.away = true
			case 1:
				f.garb = true
			case 2:
				f.half = rapid.IntRange(1, 2).Draw(r, "times")
			case 3:
				f.lose = rapid.IntRange(1, 2).Draw(r, "times")
			case 4:
				f.no = errors.New("not today")
			}
			w.box.set(func(b *ramBox) { b.faults = f })
		},
		"wait": func(r *rapid.T) {
			time.Sleep(time.Duration(rapid.IntRange(1, 30).Draw(r, "seconds")) * time.Second)
			synctest.Wait()
			if w.trial != 0 && !time.Now().Before(w.ends) {
				w.trial = 0
			}
		},
		"restart": func(r *rapid.T) {
			w.restart(time.Duration(rapid.IntRange(1, 60).Draw(r, "seconds")) * time.Second)
			synctest.Wait()
			if w.trial != 0 && !time.Now().Before(w.ends) {
				w.trial = 0
			}
		},
		"drift": func(r *rapid.T) {
			if id, _ := w.Pending(w.t.Context()); id != "" || w.power.off() || w.maybe != nil {
				return // a change by hand in the middle of ours ends with ours
			}
			if c, ok := w.box.(*confirmBox); ok && c.trial != "" {
				return
			}
			asn := uint32(rapid.IntRange(64512, 64520).Draw(r, "asn"))
			w.box.set(func(b *ramBox) { b.has.BGP.ASN = asn })
			w.base = w.box.holds()
		},
		"apply": func(r *rapid.T) {
			w.n++
			id, rev := edge.CommitID(fmt.Sprint("c-", w.n)), rapid.Uint64Range(1, 6).Draw(r, "revision")
			err := w.Apply(w.t.Context(), id, w.doc(rev), time.Minute)
			switch {
			case err == nil && w.trial != 0 && w.maybe == nil:
				r.Fatalf("commit %q was taken with %q on trial", id, w.id)
			case err == nil && rev < w.rev:
				r.Fatalf("revision %d was taken after %d", rev, w.rev)
			case err == nil:
				w.trial, w.id, w.ends = rev, id, time.Now().Add(time.Minute)
			}
		},
		"confirm": func(r *rapid.T) {
			if w.trial == 0 {
				return
			}
			err := w.Confirm(w.t.Context(), w.id)
			switch {
			case err == nil && !time.Now().Before(w.ends):
				r.Fatalf("commit %q was confirmed past its deadline", w.id)
			case err == nil:
				w.rev, w.base, w.trial, w.maybe = w.trial, held(edge.Config{}, variant(int(w.trial))), 0, nil
				w.confirm = append(w.confirm, w.id)
			case errors.Is(err, edge.ErrRejected):
				r.Fatalf("confirm in time was refused: %v", err)
			default:
				w.maybe = append(w.maybe, w.trial)
			}
		},
		"repeat": func(r *rapid.T) {
			if len(w.confirm) == 0 || w.power.off() {
				return
			}
			if err := w.Confirm(w.t.Context(), w.confirm[len(w.confirm)-1]); err != nil {
				r.Fatalf("repeated confirm: %v", err)
			}
		},
	}
}

// TestAnyLife: whatever happens to the controller and to the device, it ends
// with the old config or the new one, never a mix; what was confirmed is never
// taken back, and what was not never survives its deadline.
func TestAnyLife(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rapid.Check(struct{ testing.TB }{t}, func(r *rapid.T) { // hides t.Deadline, which a bubble forbids
					p := newPower(rapid.Uint64().Draw(r, "seed"))
					b := &bench{t: t, key: edgetest.NewKey(t), power: p, box: kinds[kind](p), journal: &ramJournal{power: p}}
					b.start()
					w := &world{bench: b}
					defer func() { must(t, w.Close()) }()
					r.Repeat(w.actions())
					w.quiet(r)
				})
			})
		})
	}
}
