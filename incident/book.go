package incident

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wardnet/wardnet/anomaly"
	"github.com/wardnet/wardnet/inventory"
)

// Deps is what the book needs.
type Deps struct {
	Store    Store
	Topology func() *Topology // of the inventory in force
	// InService says that a device has a confirmed configuration and is not
	// being changed; findings about others wait. Nil: all are.
	InService func(inventory.DeviceID) bool
	Silences  func() []Silence // nil: none
	// Notify gets every incident that was saved; it must not call the book.
	Notify func(Incident)
	Log    *slog.Logger
	Reg    prometheus.Registerer // nil: metrics work, nobody collects them
}

// Config of the book; zero means default.
type Config struct {
	Wait        time.Duration // from a group's first finding to its incident; default 6 s
	Quiet       time.Duration // a group still growing waits for so long after its last finding; default 2 s
	MaxWait     time.Duration // but no longer than this; default 12 s
	Young       time.Duration // an incident's cause may be refined for so long; default 60 s
	Hold        time.Duration // all clear for so long resolves; default 10 s
	Reopen      time.Duration // the same cause reopens within; default 5 min
	Consequence time.Duration // what follows from a cause follows within; default 2 min
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Wait, 6*time.Second)
	def(&c.Quiet, 2*time.Second)
	def(&c.MaxWait, 12*time.Second)
	def(&c.Young, time.Minute)
	def(&c.Hold, 10*time.Second)
	def(&c.Reopen, 5*time.Minute)
	def(&c.Consequence, 2*time.Minute)
	return c
}

// tracked is one finding under watch: waiting, or part of an incident.
type tracked struct {
	f       anomaly.Finding
	arrived time.Time // when it began to count
	gated   bool
	counted bool
	in      *active // nil: waiting
	conseq  bool
}

// active is an incident in memory: open, or resolved lately.
type active struct {
	Incident
	symptoms map[string]*tracked // by finding id, cleared ones too
	dirty    map[string]bool     // finding ids to save
	written  int                 // timeline lines saved
	changed  bool
	quiet    time.Time // when the last symptom cleared; zero: some are open
}

// Book keeps the incidents. Its methods may be called from several goroutines.
type Book struct {
	deps Deps
	cfg  Config
	m    *metrics

	mu       sync.Mutex
	now      time.Time           // of the last Tick
	open     map[string]*tracked // by finding key
	active   []*active           // oldest first
	admitted uint64
}

// NewBook makes a book; call [Book.Load] before the first finding.
func NewBook(deps Deps, cfg Config) (*Book, error) {
	if deps.Store == nil || deps.Topology == nil || deps.Log == nil {
		return nil, fmt.Errorf("%w: incident book: Store, Topology and Log are required", inventory.ErrInvalid)
	}
	if deps.InService == nil {
		deps.InService = func(inventory.DeviceID) bool { return true }
	}
	if deps.Silences == nil {
		deps.Silences = func() []Silence { return nil }
	}
	if deps.Notify == nil {
		deps.Notify = func(Incident) {}
	}
	b := &Book{deps: deps, cfg: cfg.withDefaults(), open: map[string]*tracked{}}
	b.m = newMetrics(deps.Reg, b)
	return b, nil
}

// Load takes up the incidents that were open, or resolved within the reopen
// window, when the last process ended. It returns the findings that were open:
// seed the detectors with them.
func (b *Book) Load(ctx context.Context, now time.Time) ([]anomaly.Finding, error) {
	list, err := b.deps.Store.List(ctx, Filter{States: []State{Open, Acknowledged}})
	if err != nil {
		return nil, fmt.Errorf("load open incidents: %w", err)
	}
	late, err := b.deps.Store.List(ctx, Filter{States: []State{Resolved}, Limit: 100})
	if err != nil {
		return nil, fmt.Errorf("load resolved incidents: %w", err)
	}
	list = append(list, late...)
	slices.SortFunc(list, func(x, y Incident) int { return cmp.Or(x.Opened.Compare(y.Opened), cmp.Compare(x.ID, y.ID)) })
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = now
	var seeds []anomaly.Finding
	for _, head := range list {
		if head.State == Resolved && (now.Sub(head.Resolved) > b.cfg.Reopen && !head.ByHand || head.MergedInto != "") {
			continue
		}
		i, err := b.deps.Store.Get(ctx, head.ID)
		if err != nil {
			return nil, fmt.Errorf("load incident %s: %w", head.ID, err)
		}
		a := &active{Incident: i, symptoms: map[string]*tracked{}, dirty: map[string]bool{}, written: len(i.Timeline)}
		for _, s := range i.Symptoms {
			t := &tracked{f: s.Finding, arrived: s.From, counted: true, in: a, conseq: s.Consequence}
			a.symptoms[s.ID] = t
			if s.To.IsZero() {
				b.open[s.Key()] = t
				seeds = append(seeds, s.Finding)
			}
		}
		a.Symptoms = nil
		b.active = append(b.active, a)
	}
	return seeds, nil
}

// Observe takes a finding that opened or cleared. It is judged at the next
// Tick.
func (b *Book) Observe(f anomaly.Finding) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.open[f.Key()]
	switch {
	case f.To.IsZero() && t == nil:
		b.open[f.Key()] = &tracked{f: f, arrived: b.now}
	case f.To.IsZero(): // the same claim again, after a restart
		b.m.repeated.Inc()
	case t != nil:
		delete(b.open, f.Key())
		t.f.To, t.f.Why = f.To, f.Why
		if t.in != nil {
			t.in.touch(t)
		}
	}
}

// Tick says that it is now: findings are correlated, incidents opened, changed
// and resolved, and what changed is saved and told. Call it about once a
// second. An error means that something could not be saved; it is tried again
// at the next Tick.
func (b *Book) Tick(ctx context.Context, now time.Time) error {
	begun := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now.IsZero() {
		for _, t := range b.open {
			t.arrived = now
		}
	}
	b.now = now
	topo := b.deps.Topology()
	b.admit(topo)
	b.correlate(topo)
	b.attachInfo(topo)
	b.age(topo)
	err := b.save(ctx, topo)
	b.m.correlation.Observe(time.Since(begun).Seconds())
	return err
}

// admit lets findings through the gate.
func (b *Book) admit(topo *Topology) {
	silences := b.deps.Silences()
	gated := 0
	for _, t := range b.open {
		if t.in != nil {
			continue
		}
		shut := gate(topo, t.f, b.deps.InService, silences, b.now) != ""
		if t.gated && !shut {
			t.arrived = b.now // what just went into service gets the full wait
		}
		if t.gated = shut; shut {
			gated++
		} else if !t.counted {
			t.counted = true
			b.admitted++
		}
	}
	b.m.gated.Set(float64(gated))
}

// Admitted counts the findings that passed the gate since the process began.
func (b *Book) Admitted() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.admitted
}

// OpenCount is the number of incidents not resolved.
func (b *Book) OpenCount() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, a := range b.active {
		if a.State != Resolved {
			n++
		}
	}
	return n
}

// List returns incidents as saved, newest first, without symptoms and timeline.
func (b *Book) List(ctx context.Context, f Filter) ([]Incident, error) {
	return b.deps.Store.List(ctx, f)
}

// Get returns one incident as saved, whole.
func (b *Book) Get(ctx context.Context, id string) (Incident, error) {
	return b.deps.Store.Get(ctx, id)
}

// save writes what changed and tells it.
func (b *Book) save(ctx context.Context, topo *Topology) error {
	var (
		changes []Change
		saved   []*active
	)
	for _, a := range b.active {
		if !a.changed && len(a.dirty) == 0 {
			continue
		}
		c := Change{Incident: &a.Incident, Entries: a.Timeline[a.written:]}
		for id := range a.dirty {
			c.Symptoms = append(c.Symptoms, a.symptom(topo, a.symptoms[id]))
		}
		slices.SortFunc(c.Symptoms, func(x, y Symptom) int { return cmp.Or(x.From.Compare(y.From), cmp.Compare(x.ID, y.ID)) })
		changes, saved = append(changes, c), append(saved, a)
	}
	if len(changes) == 0 {
		return nil
	}
	if err := b.deps.Store.Save(ctx, changes); err != nil {
		b.m.saveErrors.Inc()
		return fmt.Errorf("save %d incidents: %w", len(changes), err)
	}
	for _, a := range saved {
		a.changed, a.written = false, len(a.Timeline)
		clear(a.dirty)
		b.deps.Notify(a.snapshot(topo))
	}
	return nil
}

func (a *active) symptom(topo *Topology, t *tracked) Symptom {
	s, _ := topo.subjectOf(t.f)
	return Symptom{Finding: t.f, Site: s.site, Consequence: t.conseq}
}

// snapshot is a copy that the receiver may keep.
func (a *active) snapshot(topo *Topology) Incident {
	i := a.Incident
	i.Members = slices.Clone(a.Members)
	i.Evidence, i.Suggested, i.Timeline = slices.Clone(a.Evidence), slices.Clone(a.Suggested), slices.Clone(a.Timeline)
	for _, t := range a.symptoms {
		i.Symptoms = append(i.Symptoms, a.symptom(topo, t))
	}
	slices.SortFunc(i.Symptoms, func(x, y Symptom) int { return cmp.Or(x.From.Compare(y.From), cmp.Compare(x.ID, y.ID)) })
	return i
}

// touch notes that a symptom changed.
func (a *active) touch(t *tracked) { a.dirty[t.f.ID] = true }
