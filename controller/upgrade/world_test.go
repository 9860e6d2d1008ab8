package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/release"
	"github.com/wardnet/wardnet/inventory"
)

const (
	oldVersion, newVersion = "1.0", "2.0"
	restart                = 2 * time.Second // an agent is away for so long when its process is replaced
)

// nature is what a version does to a device.
type nature string

const (
	good nature = "good"
	dies nature = "dies" // ends at once: the device is back with the old one
	deaf nature = "deaf" // never reaches the controller again
	sick nature = "sick" // reaches it, with a tunnel down
)

// box is a device: what its agent keeps on its disk, and its line.
type box struct {
	w    *world
	id   inventory.DeviceID
	hub  bool
	kind nature

	version   string
	installed bool
	received  int64
	try       edge.CommitID
	deadline  time.Time
	kept      edge.CommitID
	failed    edge.CommitID
	why       string
	line      bool      // the circuit works
	away      time.Time // until then the agent is being replaced
}

// world is what outlives a controller: the boxes and the store.
type world struct {
	t     *testing.T
	shelf *Shelf
	city  inventory.Inventory
	rng   *rand.Rand
	loss  float64 // of orders, answers and transfers, a ratio

	mu        sync.Mutex
	boxes     map[inventory.DeviceID]*box
	order     []inventory.DeviceID
	rollouts  map[string]Rollout
	rows      map[string]map[inventory.DeviceID]Device
	binaries  []Binary
	faults    []string
	transfers int
	audited   int // devices upgraded, as told under a context that still lived
	writes    int
	killAt    int
	kill      func()
	live      *Conductor
}

func newWorld(t *testing.T, seed uint64, wards, hubs int) *world {
	t.Helper()
	shelf, err := NewShelf(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, shelf: shelf, rng: rand.New(rand.NewPCG(seed, 1)), boxes: map[inventory.DeviceID]*box{},
		rollouts: map[string]Rollout{}, rows: map[string]map[inventory.DeviceID]Device{}, city: inventory.Inventory{Org: "hcmc"},
	}
	content := []byte("the new agent")
	if err := shelf.Put(content); err != nil {
		t.Fatal(err)
	}
	w.binaries = []Binary{{Release: release.Release{Version: newVersion, GOOS: "linux", GOARCH: "amd64", Size: int64(len(content)), SHA256: sumOf(content)}}}
	add := func(id string, role inventory.DeviceRole) {
		d := inventory.Device{ID: inventory.DeviceID("d-" + id), Site: inventory.SiteID(id), Role: role, Intended: inventory.InService, Platform: inventory.SimulatedEdge}
		w.city.Devices = append(w.city.Devices, d)
		w.city.Sites = append(w.city.Sites, inventory.Site{ID: d.Site})
		w.boxes[d.ID] = &box{w: w, id: d.ID, hub: role == inventory.RoleHub, kind: good, version: oldVersion, line: true}
		w.order = append(w.order, d.ID)
	}
	for i := range hubs {
		add(fmt.Sprintf("hub-%d", i+1), inventory.RoleHub)
	}
	for i := range wards {
		add(fmt.Sprintf("w%02d", i), inventory.RoleEdge)
	}
	return w
}

func (w *world) fault(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

// alone holds that no hub is touched while another is on trial; w.mu is held.
func (w *world) alone(b *box) {
	for _, o := range w.boxes {
		o.settle()
		if b.hub && o.hub && o != b && o.try != "" {
			w.fault("hub %s is touched while %s is on trial", b.id, o.id)
		}
	}
}

// settle lets time act on b; w.mu is held.
func (b *box) settle() {
	if b.try != "" && !time.Now().Before(b.deadline) {
		b.failed, b.why, b.try, b.version = b.try, "no Confirm arrived", "", oldVersion
		b.away = b.deadline.Add(restart)
	}
}

// reach is the session of b, or why there is none; w.mu is held.
func (b *box) reach() error {
	b.settle()
	if !b.line || time.Now().Before(b.away) || b.try != "" && b.kind == deaf {
		return fmt.Errorf("%s: %w", b.id, edge.ErrUnreachable)
	}
	return nil
}

// session is what one controller has of a box.
type session struct {
	*box
	l *life
}

// call carries fn out unless the order or its answer is lost.
func (s session) call(fn func() error) error {
	if s.l.dead.Load() {
		return errDead
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if err := s.reach(); err != nil {
		return err
	}
	if s.w.rng.Float64() < s.w.loss {
		return fmt.Errorf("%s: order lost: %w", s.id, edge.ErrUnreachable)
	}
	err := fn()
	if s.w.rng.Float64() < s.w.loss {
		return fmt.Errorf("%s: answer lost: %w", s.id, edge.ErrUnreachable)
	}
	return err
}

func (s session) Verify(context.Context) (r Report, err error) {
	err = s.call(func() error {
		r = Report{Version: s.version, GOARCH: "amd64", Confirmed: s.try == "", Pending: s.try, Failed: s.failed, Failure: s.why}
		return nil
	})
	return r, err
}

func (s session) Install(ctx context.Context, r release.Release, binary io.ReaderAt, sent func(int64)) error {
	s.w.mu.Lock()
	s.w.transfers++
	s.w.alone(s.box)
	if s.w.transfers > 2 {
		s.w.fault("%d transfers at once", s.w.transfers)
	}
	s.w.mu.Unlock()
	defer func() {
		s.w.mu.Lock()
		s.w.transfers--
		s.w.mu.Unlock()
	}()
	b := make([]byte, 1)
	for {
		whole := false
		err := s.call(func() error {
			if s.try != "" {
				return ErrBusy
			}
			if _, err := binary.ReadAt(b, s.received%r.Size); err != nil {
				return err
			}
			s.received = min(s.received+(r.Size+3)/4, r.Size)
			sent(s.received)
			whole = s.received == r.Size
			s.installed = whole
			return nil
		})
		if err != nil || whole {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

func (s session) Activate(_ context.Context, version string, id edge.CommitID, revert time.Duration) error {
	return s.call(func() error {
		switch {
		case s.try == id, s.kept == id:
			return nil
		case s.try != "":
			return ErrBusy
		case s.failed == id || !s.installed || version != newVersion:
			return fmt.Errorf("activate %s: %w", version, edge.ErrRejected)
		}
		s.w.alone(s.box)
		if !s.w.trying(s.id, id) {
			s.w.fault("%s tries under %s, which is not on record", s.id, id)
		}
		s.try, s.version, s.deadline, s.away = id, version, time.Now().Add(revert), time.Now().Add(restart)
		if s.kind == dies {
			s.deadline = time.Now().Add(time.Second)
		}
		return nil
	})
}

// trying says whether the store has id on trial under commit; w.mu is held.
func (w *world) trying(id inventory.DeviceID, commit edge.CommitID) bool {
	for _, rows := range w.rows {
		if d := rows[id]; d.Phase == Trying && d.Commit == commit {
			return true
		}
	}
	return false
}

func (s session) Confirm(_ context.Context, id edge.CommitID) error {
	return s.call(func() error {
		switch {
		case s.kept == id:
			return nil
		case s.try != id:
			return fmt.Errorf("confirm: %w", edge.ErrRejected)
		}
		if s.kind != good {
			s.w.fault("%s was confirmed at a version that is %s", s.id, s.kind)
		}
		s.kept, s.try, s.away = id, "", time.Now().Add(restart/2)
		return nil
	})
}

func (w *world) health(s session) (h Health, err error) {
	err = s.call(func() error {
		h = Health{InSync: true, Up: []string{"a", "b"}}
		if s.kind == sick && s.version == newVersion {
			h.Up = h.Up[:1]
		}
		return nil
	})
	return h, err
}

// life is one process of the controller; killed, nothing of it has any effect.
type life struct {
	*Conductor
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
		Store: l, Shelf: w.shelf,
		Dial: func(_ context.Context, id inventory.DeviceID) (Agent, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if err := w.boxes[id].reach(); err != nil {
				return nil, err
			}
			return session{w.boxes[id], l}, nil
		},
		Health: func(_ context.Context, id inventory.DeviceID) (Health, error) {
			return w.health(session{w.boxes[id], l})
		},
		City: func(context.Context) (inventory.Inventory, error) { return w.city, nil },
		Sign: func(r release.Release) (release.Release, error) { return r, nil },
		Audit: func(ctx context.Context, what, _, _ string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if what == "agent.upgraded" && ctx.Err() == nil {
				w.audited++
			}
		},
		Log: slog.New(slog.DiscardHandler),
	}, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	l.Conductor = c
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	w.mu.Lock()
	w.live = c
	w.kill = func() { l.dead.Store(true); stop() }
	w.mu.Unlock()
	go func() {
		defer close(l.done)
		_ = c.Run(ctx)
	}()
	return l
}

// end stops the process, as SIGKILL would.
func (l *life) end() {
	l.dead.Store(true)
	l.stop()
	<-l.done
}

// Save dies at the chosen write: then it is kept but nobody learns of it, or is
// lost.
func (l *life) Save(_ context.Context, r Rollout, rows ...Device) error {
	if l.dead.Load() {
		return errDead
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.w.writes++
	dies := l.w.killAt != 0 && l.w.writes >= l.w.killAt
	if !dies || l.w.writes%2 == 0 {
		l.w.rollouts[r.ID] = copied(r)
		if l.w.rows[r.ID] == nil {
			l.w.rows[r.ID] = map[inventory.DeviceID]Device{}
		}
		for _, d := range rows {
			l.w.rows[r.ID][d.Device] = copied(d)
		}
	}
	if dies {
		l.w.killAt = 0
		l.w.kill()
		return errDead
	}
	return nil
}

// copied goes through JSON, as the real store does.
func copied[T any](v T) (out T) {
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		panic(err)
	}
	return out
}

func (l *life) Rollouts(context.Context) (out []Rollout, rows map[string][]Device, err error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	rows = map[string][]Device{}
	for id, r := range l.w.rollouts {
		out = append(out, copied(r))
		for _, d := range l.w.rows[id] {
			rows[id] = append(rows[id], copied(d))
		}
	}
	slices.SortFunc(out, func(a, b Rollout) int { return a.Started.Compare(b.Started) })
	return out, rows, nil
}

func (l *life) Binaries(context.Context) ([]Binary, error) { return slices.Clone(l.w.binaries), nil }

func (l *life) AddBinary(_ context.Context, b Binary) error {
	l.w.binaries = append(l.w.binaries, b)
	return nil
}
