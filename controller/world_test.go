package controller

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/controller/proof"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/fake"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

var signer = sync.OnceValue(func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

// provers is shared by all controllers: the same towns are proven again and again.
var provers proof.Prover

// world is what outlives a controller: the devices, the store, the revisions.
type world struct {
	t         *testing.T
	devices   map[inventory.DeviceID]*fake.Device
	inventory []inventory.Device

	mu        sync.Mutex
	rows      map[inventory.DeviceID]Status
	rollouts  []Rollout
	journal   []Entry
	revisions map[intent.Number]intent.Revision
	approvals map[intent.Number][]intent.Approval
	audited   []string
	epoch     uint64
	keys      map[inventory.DeviceID]string
	writes    int
	cuts      inventory.DeviceID // a push to it cuts its session for a while
	killAt    int                // the write that kills the controller; 0: none
	kill      func()
	takes     time.Duration               // for a push
	hand      map[inventory.DeviceID]bool // people can change it past us
	open      int                         // pushed to and not confirmed
	most      int                         // ever open at once
	routers   *routing                    // what its routers tell; nil: there are none
}

func newWorld(t *testing.T, revs ...inventory.Inventory) *world {
	w := &world{
		t: t, devices: map[inventory.DeviceID]*fake.Device{}, inventory: revs[0].Devices,
		rows: map[inventory.DeviceID]Status{}, revisions: map[intent.Number]intent.Revision{}, approvals: map[intent.Number][]intent.Approval{},
		epoch: 1, keys: map[inventory.DeviceID]string{}, hand: map[inventory.DeviceID]bool{},
	}
	for _, d := range revs[0].Devices {
		w.devices[d.ID] = fake.New(d.ID, map[string]crypto.PublicKey{"k": signer().Public()})
		w.keys[d.ID] = "key of " + string(d.ID)
	}
	for i, inv := range revs {
		w.revise(intent.Number(i+1), inv)
	}
	return w
}

func (w *world) revise(n intent.Number, inv inventory.Inventory) {
	r := revisionOf(n, inv)
	w.revisions[n] = r
	w.approvals[n] = []intent.Approval{{Revision: n, Hash: r.Hash, Approver: "minh", Expires: time.Now().Add(1000 * time.Hour)}}
}

// told is what the audit log holds now.
func (w *world) told() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.audited)
}

// life is one process of the controller; killed, nothing of it has any effect.
type life struct {
	*Controller
	w    *world
	dead atomic.Bool
	stop context.CancelFunc
	done chan struct{}
}

var errDead = errors.New("the process is dead")

func (w *world) start(cfg Config) *life {
	w.t.Helper()
	l := &life{w: w, done: make(chan struct{})}
	c, err := New(Deps{
		Store: l, Revisions: l, Approvals: l, Signer: signer(), KeyID: "k", Keys: l.wireGuardKeys, Return: l.back,
		Dial: func(ctx context.Context, id inventory.DeviceID) (Driver, error) {
			if _, err := w.devices[id].Pending(ctx); err != nil {
				return nil, err
			}
			w.mu.Lock()
			byPeople := w.hand[id]
			w.mu.Unlock()
			if w.routers != nil && id == routerID {
				return routed{byHand{driver{w.devices[id], l}}, w.routers}, nil
			}
			if byPeople {
				return byHand{driver{w.devices[id], l}}, nil
			}
			return driver{w.devices[id], l}, nil
		},
		Audit: func(_ context.Context, what, object, reason string) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.audited = append(w.audited, what)
			return nil
		},
		Prover: &provers, Log: slog.New(slog.DiscardHandler),
	}, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	l.Controller = c
	c.SetDevices(w.inventory)
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	w.mu.Lock()
	w.kill = func() { l.dead.Store(true); stop() }
	w.mu.Unlock()
	go func() {
		defer close(l.done)
		if err := c.Run(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, errDead) {
			w.t.Errorf("Run() = %v", err)
		}
	}()
	return l
}

// end stops the process, as SIGTERM would.
func (l *life) end() {
	l.stop()
	<-l.done
}

// write carries out one durable write, unless the process dies at it: then
// the write is kept (it was on disk) but nobody learns of it, or is lost.
func (l *life) write(fn func()) error {
	if l.dead.Load() {
		return errDead
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.w.writes++
	if l.w.killAt != 0 && l.w.writes >= l.w.killAt {
		kept := l.w.writes%2 == 0
		l.w.killAt = 0
		l.w.kill()
		if kept {
			fn()
		}
		return errDead
	}
	fn()
	return nil
}

func (l *life) Statuses(context.Context) ([]Status, error) {
	if l.dead.Load() {
		return nil, errDead
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	var out []Status
	for _, s := range l.w.rows {
		out = append(out, Status{
			Device: s.Device, Target: s.Target, Want: s.Want, Revision: s.Revision, Hash: s.Hash, Commit: s.Commit, Pushed: s.Pushed,
			Outcome: s.Outcome, Error: s.Error, Drifts: s.Drifts, At: s.At,
		})
	}
	return out, nil
}

func (l *life) Save(_ context.Context, s Status, entries ...Entry) error {
	return l.write(func() { l.observed(s, entries) })
}

// observed writes what is observed of a device; l.w.mu is held.
func (l *life) observed(s Status, entries []Entry) {
	s.Target, s.Want = l.w.rows[s.Device].Target, l.w.rows[s.Device].Want
	l.w.rows[s.Device] = s
	l.w.journal = append(l.w.journal, entries...)
}

func (l *life) Entries(_ context.Context, rollout string) ([]Entry, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.w.journal), func(e Entry) bool { return e.Rollout != rollout }), nil
}

func (l *life) SaveRollout(_ context.Context, r Rollout, assign []Assignment) error {
	return l.write(func() {
		r = copyRollout(r)
		i := slices.IndexFunc(l.w.rollouts, func(o Rollout) bool { return o.ID == r.ID })
		if i < 0 {
			l.w.rollouts = append(l.w.rollouts, r)
		} else {
			l.w.rollouts[i] = r
		}
		for _, a := range assign {
			s := l.w.rows[a.Device]
			s.Device, s.Target, s.Want = a.Device, a.Target, a.Want
			l.w.rows[a.Device] = s
		}
	})
}

func copyRollout(r Rollout) (out Rollout) {
	b, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		panic(err)
	}
	return out
}

func (l *life) Rollouts(context.Context) ([]Rollout, error) {
	if l.dead.Load() {
		return nil, errDead
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return slices.Clone(l.w.rollouts), nil
}

func (l *life) Get(_ context.Context, n intent.Number) (intent.Revision, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	r, ok := l.w.revisions[n]
	if !ok {
		return r, fmt.Errorf("revision %d: %w", n, inventory.ErrNotFound)
	}
	return r, nil
}

func (l *life) ApprovalsOf(_ context.Context, n intent.Number) ([]intent.Approval, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.approvals[n], nil
}

func (l *life) wireGuardKeys(context.Context) (uint64, map[inventory.DeviceID]string, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	out := map[inventory.DeviceID]string{}
	for id, k := range l.w.keys {
		out[id] = k
	}
	return l.w.epoch, out, nil
}

// back makes the revision that returns failed to the content of to.
func (l *life) back(_ context.Context, failed, to intent.Number, _ string) (n intent.Number, err error) {
	err = l.write(func() {
		n = failed + 1
		l.w.revisions[n] = revisionOf(n, l.w.revisions[to].Content)
	})
	return n, err
}

// driver is a session: it ends with the process.
type driver struct {
	*fake.Device
	l *life
}

func (d driver) Apply(ctx context.Context, id edge.CommitID, want edge.Signed, revert time.Duration) error {
	if d.l.dead.Load() {
		return errDead
	}
	if want.Device == d.l.w.cuts {
		defer func() {
			d.Device.Break(fake.Faults{Unreachable: true})
			time.AfterFunc(revert+time.Second, func() { // it reverts, then dials again
				d.Device.Break(fake.Faults{})
				d.l.Wake(want.Device)
			})
		}()
	}
	d.l.w.opened(1)
	time.Sleep(d.l.w.takes)
	return d.Device.Apply(ctx, id, want, revert)
}

func (w *world) opened(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open += n
	w.most = max(w.most, w.open)
}

func (d driver) Confirm(ctx context.Context, id edge.CommitID) error {
	if d.l.dead.Load() {
		return errDead
	}
	d.l.w.opened(-1)
	return d.Device.Confirm(ctx, id)
}

// wait sleeps until the rollout of n is in one of the states.
func (l *life) wait(n intent.Number, most time.Duration, states ...RolloutState) Rollout {
	l.w.t.Helper()
	var last Rollout
	for range int(most / time.Second) {
		synctest.Wait()
		for _, r := range l.Controller.Rollouts() {
			if r.Revision == n {
				last = r
				if slices.Contains(states, r.State) {
					return r
				}
				break
			}
		}
		time.Sleep(time.Second)
	}
	l.w.t.Fatalf("after %s the rollout of %d is %+v", most, n, last)
	return last
}

// inSync checks the devices themselves, not what the controller says of them.
func (w *world) inSync(n intent.Number) error {
	want, err := CompileAll(w.revisions[n])
	if err != nil {
		return err
	}
	for id, d := range w.devices {
		got, err := d.Running(context.Background())
		if err != nil {
			return err
		}
		pending, err := d.Pending(context.Background())
		if err != nil || pending != "" || got.Config.Hash() != want.Devices[id].Hash {
			return fmt.Errorf("%s runs %.12s (pending %q), wanted is %.12s, %v", id, got.Config.Hash(), pending, want.Devices[id].Hash, err)
		}
	}
	return nil
}
