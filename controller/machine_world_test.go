package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/fake"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// plant is a world that looks on: whatever a controller stores, pushes or
// records is held against what must never happen. It outlives the processes.
type plant struct {
	*world
	life *life     // the process now; dead, it is followed by another
	died time.Time // when it was seen dead; zero: it was not
	down time.Duration

	watch     sync.Mutex // guards all below; taken without world.mu
	bad       error      // the first thing that must not happen
	story     []string   // what was done, for a person
	newest    intent.Number
	asked     map[intent.Number]bool          // a person other than the author approved it
	returns   map[intent.Number]intent.Number // failed revision → the one that takes it back
	pushed    map[inventory.DeviceID]map[string]bool
	edited    map[inventory.DeviceID]time.Time // changed by hand; zero: a line says so
	told      map[inventory.DeviceID]string    // what was said of it since then
	drifts    []Drift                          // guarded by world.mu
	stood     map[intent.Number]time.Time      // when a rollout of it last let devices be pushed to
	full      time.Time                        // until then the disk is full
	murky     time.Time                        // until then what is written is kept and nobody is told
	blind     bool                             // and cannot be looked up while that lasts
	lines     map[string]bool                  // what the audit log says of drifts: id and state
	callsLeft int                              // to a device before the process dies; 0: it does not
	after     bool                             // it dies with that call carried out
	calls     int
}

func newPlant(w *world) *plant {
	p := &plant{
		world: w, asked: map[intent.Number]bool{}, returns: map[intent.Number]intent.Number{},
		pushed: map[inventory.DeviceID]map[string]bool{}, edited: map[inventory.DeviceID]time.Time{}, stood: map[intent.Number]time.Time{},
		told: map[inventory.DeviceID]string{}, lines: map[string]bool{},
	}
	for id := range w.devices {
		p.pushed[id] = map[string]bool{}
	}
	for n := range w.revisions {
		p.newest, p.asked[n] = max(p.newest, n), true
	}
	return p
}

func (p *plant) say(format string, args ...any) {
	p.watch.Lock()
	defer p.watch.Unlock()
	p.story = append(p.story, time.Now().UTC().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// wrong notes the first thing that must not happen.
func (p *plant) wrong(format string, args ...any) {
	p.watch.Lock()
	defer p.watch.Unlock()
	if p.bad == nil {
		p.bad = fmt.Errorf(format, args...)
		p.story = append(p.story, time.Now().UTC().Format("15:04:05.000 ")+"WRONG: "+p.bad.Error())
	}
}

// process is one life of the controller on a plant: its store, its hands.
type process struct {
	*life
	p *plant
}

// boot starts a process.
func (p *plant) boot() error {
	l := &life{w: p.world, done: make(chan struct{})}
	s := &process{l, p}
	c, err := New(Deps{
		Store: s, Revisions: l, Approvals: l, Signer: signer(), KeyID: "k", Keys: l.wireGuardKeys, Return: s.back,
		Dial: s.dial, Drifts: s, Audit: s.audit, Prover: &provers, Log: slog.New(slog.DiscardHandler),
	}, Config{})
	if err != nil {
		return err
	}
	l.Controller = c
	c.SetDevices(p.inventory)
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	p.mu.Lock()
	p.kill = func() { l.dead.Store(true); stop() }
	p.mu.Unlock()
	p.life, p.died = l, time.Time{}
	go func() {
		defer close(l.done)
		switch err := c.Run(ctx); {
		case errors.Is(err, context.Canceled), errors.Is(err, errDead):
		case errors.Is(err, errFull), errors.Is(err, errMurky): // as a supervisor sees it: it could not even begin
			l.dead.Store(true)
		default:
			p.wrong("Run() = %v", err)
		}
	}()
	return nil
}

// die is SIGKILL.
func (p *plant) die() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kill()
}

// pass lets time go by; a process that died is started again after a while.
func (p *plant) pass(d time.Duration) error {
	for end := time.Now().Add(d); ; time.Sleep(min(time.Second, time.Until(end))) {
		synctest.Wait()
		if p.life.dead.Load() {
			if p.died.IsZero() {
				p.died = time.Now()
				<-p.life.done
				p.say("the process is dead")
			}
			if time.Since(p.died) >= p.down {
				p.say("it is started again")
				if err := p.boot(); err != nil {
					return err
				}
				synctest.Wait()
			}
		}
		p.watch.Lock()
		bad := p.bad
		p.watch.Unlock()
		if bad != nil || !time.Now().Before(end) {
			return bad
		}
	}
}

// judge looks at what is about to be stored of a rollout.
func (p *plant) judge(r Rollout, assign []Assignment) {
	p.mu.Lock()
	var was Rollout
	for _, o := range p.rollouts {
		if o.ID == r.ID {
			was = o
		} else if o.Open() && r.Open() {
			defer p.wrong("rollouts of revisions %d and %d are open at once", o.Revision, r.Revision)
		}
	}
	for _, a := range assign {
		if have := p.rows[a.Device].Target.Revision; a.Target.Revision != 0 && a.Target.Revision < have {
			defer p.wrong("%s goes back from revision %d to %d", a.Device, have, a.Target.Revision)
		}
	}
	p.mu.Unlock()
	if !slices.Contains(moves[was.State], r.State) {
		p.wrong("rollout of revision %d goes from %q to %q", r.Revision, was.State, r.State)
	}
	if why := p.unknown(r.Revision); why != "" {
		p.wrong("rollout of revision %d, which %s", r.Revision, why)
	}
	if r.State != was.State {
		p.say("rollout of %d is %s: %s", r.Revision, r.State, r.Reason)
	}
}

// stands notes which revisions may be pushed now.
func (p *plant) stands() {
	p.mu.Lock()
	all := slices.Clone(p.rollouts)
	p.mu.Unlock()
	p.watch.Lock()
	defer p.watch.Unlock()
	for _, r := range all {
		if r.State == RolloutRunning || r.State == RolloutDone {
			p.stood[r.Revision] = time.Time{} // now
		} else if t, ok := p.stood[r.Revision]; ok && t.IsZero() {
			p.stood[r.Revision] = time.Now()
		}
	}
}

// unknown says why a device must not run revision n; empty: it may.
func (p *plant) unknown(n intent.Number) string {
	p.watch.Lock()
	defer p.watch.Unlock()
	for _, back := range p.returns {
		if back == n {
			return ""
		}
	}
	switch {
	case n == 0 || n > p.newest:
		return "nobody made"
	case !p.asked[n]:
		return "nobody approved"
	}
	return ""
}

// back makes the revision that returns failed, once.
func (s *process) back(_ context.Context, failed, to intent.Number, _ string) (n intent.Number, err error) {
	if err := s.p.room(); err != nil {
		return 0, err
	}
	err = s.life.write(func() { // world.mu is held
		s.p.watch.Lock()
		defer s.p.watch.Unlock()
		if n = s.p.returns[failed]; n == 0 {
			s.p.newest++
			n = s.p.newest
			s.p.returns[failed] = n
			s.p.revisions[n] = revisionOf(n, s.p.revisions[to].Content)
		}
	})
	return n, err
}

func (s *process) dial(ctx context.Context, id inventory.DeviceID) (Driver, error) {
	if s.dead.Load() {
		return nil, errDead
	}
	if _, err := s.p.devices[id].Pending(ctx); err != nil {
		return nil, err
	}
	return hand{s.p.devices[id], s, id}, nil
}

// hand is a process's session with a device.
type hand struct {
	*fake.Device
	s  *process
	id inventory.DeviceID
}

// call carries one call out, unless the process dies before it; or dies with it
// carried out and nobody told.
func (h hand) call(fn func() error) error {
	if h.s.dead.Load() {
		return errDead
	}
	p := h.s.p
	p.watch.Lock()
	p.calls++
	dies, after := p.callsLeft == 1, p.after
	p.callsLeft = max(p.callsLeft-1, 0)
	p.watch.Unlock()
	if dies && !after {
		p.die()
		return errDead
	}
	err := fn()
	if dies {
		p.die()
	}
	if h.s.dead.Load() {
		return errDead
	}
	return err
}

func (h hand) Confirm(ctx context.Context, id edge.CommitID) error {
	return h.call(func() error { return h.Device.Confirm(ctx, id) })
}

func (h hand) Apply(ctx context.Context, id edge.CommitID, want edge.Signed, revert time.Duration) error {
	return h.call(func() error {
		p, have := h.s.p, peek(h.Device)
		before, _ := h.Counts()
		err := h.Device.Apply(ctx, id, want, revert)
		if applies, _ := h.Counts(); applies > before {
			p.put(h.id, id, have, want)
		}
		return err
	})
}

// peek gives a device's config whatever is wrong with the device.
func peek(d *fake.Device) (c edge.Config) {
	d.Edit(func(have *edge.Config) { c = *have })
	return c
}

// put looks at a push that a device took.
func (p *plant) put(id inventory.DeviceID, commit edge.CommitID, have edge.Config, want edge.Signed) {
	n := intent.Number(want.Revision)
	p.say("%s takes %d %.8s in place of %.8s", id, n, want.Hash, have.Hash())
	if why := p.unknown(n); why != "" {
		p.wrong("%s is pushed revision %d, which %s", id, n, why)
	}
	p.mu.Lock()
	written := slices.ContainsFunc(p.journal, func(e Entry) bool {
		return e.Step == StepPush && e.Commit == commit && e.Device == id && e.Revision == n && e.Hash == want.Hash
	})
	row := p.rows[id]
	p.mu.Unlock()
	if !written {
		p.wrong("%s is pushed %s, which is not in the journal", id, commit)
	}
	if row.Want != want.Hash && row.Target.Revision == n {
		p.wrong("%s is pushed %.8s of revision %d; assigned is %.8s", id, want.Hash, n, row.Want)
	}
	p.watch.Lock()
	const pass = 31 * time.Second // what a pass read may be so old
	stood, ever := p.stood[n]
	edited, silent := p.edited[id]
	recent := silent && time.Since(edited) <= pass
	foreign := have.Device != "" && !p.pushed[id][have.Hash()]
	may, told := p.may(id), p.told[id]
	p.pushed[id][want.Hash] = true
	delete(p.edited, id)
	p.watch.Unlock()
	if row.Revision != n && (!ever || !stood.IsZero() && time.Since(stood) > pass) {
		p.wrong("%s is pushed revision %d, whose rollout has not stood since %s", id, n, stood)
	}
	if have.Hash() == want.Hash {
		p.wrong("%s is pushed what it runs already", id)
	}
	switch {
	case !foreign || recent:
	case silent:
		p.wrong("%s was changed by hand at %s, and that is overwritten without a line", id, edited.UTC().Format("15:04:05"))
	case !silent && !may:
		p.wrong("%s was changed by hand, which waits for a person (%q), and is overwritten", id, told)
	}
}
