package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/wardnet/wardnet/inventory"
)

// HistoryDeps is what the history needs.
type HistoryDeps struct {
	Dir    string // of the database; made when missing
	Labels Labels // nil: no site, no carrier
	Log    *slog.Logger
	Reg    prometheus.Registerer // nil: metrics work, nobody collects them
}

// HistoryConfig has the knobs; zero means default.
type HistoryConfig struct {
	Retention  time.Duration // default 15 d
	Commit     time.Duration // default 1 s
	Past       time.Duration // samples older than now by more are moved; default 30 min
	Future     time.Duration // samples newer than now by more are moved; default 30 s
	MaxPoints  int           // points per series of one answer; default 11,000
	MaxSamples int           // samples one query may load; default 5,000,000
	Timeout    time.Duration // of one query; default 10 s
	MaxSeries  int           // in the append cache; default 1,000,000
}

func (c HistoryConfig) withDefaults() HistoryConfig {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	defN := func(d *int, v int) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Retention, 15*24*time.Hour)
	def(&c.Commit, time.Second)
	def(&c.Past, 30*time.Minute)
	def(&c.Future, 30*time.Second)
	def(&c.Timeout, 10*time.Second)
	defN(&c.MaxPoints, 11_000)
	defN(&c.MaxSamples, 5_000_000)
	defN(&c.MaxSeries, 1_000_000)
	return c
}

type seriesKey struct {
	device         inventory.DeviceID
	metric, object string
}

type stored struct {
	ref    storage.SeriesRef
	labels labels.Labels
	last   int64 // ms of the newest sample; 0: none yet
	snap   bool  // measurements are kept on whole seconds: jitter costs half as much disk again
}

// History keeps every sample in an embedded Prometheus TSDB. A commit survives
// the end of the process; the last seconds before a power loss may be lost,
// for the TSDB syncs its log per segment.
type History struct {
	deps   HistoryDeps
	cfg    HistoryConfig
	m      *historyMetrics
	db     *tsdb.DB
	engine *promql.Engine
	parser parser.Parser

	mu      sync.Mutex
	app     storage.Appender // nil: nothing appended since the last commit
	pending int
	series  map[seriesKey]*stored

	total atomic.Uint64
}

// OpenHistory opens or makes the database in deps.Dir.
func OpenHistory(deps HistoryDeps, cfg HistoryConfig) (*History, error) {
	if deps.Dir == "" || deps.Log == nil {
		return nil, fmt.Errorf("%w: history: Dir and Log are required", inventory.ErrInvalid)
	}
	if deps.Labels == nil {
		deps.Labels = func(inventory.DeviceID, string) (inventory.SiteID, inventory.CarrierID) { return "", "" }
	}
	cfg = cfg.withDefaults()
	if err := os.MkdirAll(deps.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	opts := tsdb.DefaultOptions()
	opts.RetentionDuration = cfg.Retention.Milliseconds()
	opts.MaxBlockDuration = min(cfg.Retention/10, 31*24*time.Hour).Milliseconds() // the library's default never merges blocks
	opts.MaxBlockDuration = max(opts.MaxBlockDuration, opts.MinBlockDuration)
	opts.WALCompression = compression.Snappy
	db, err := tsdb.Open(deps.Dir, deps.Log, deps.Reg, opts, nil)
	if err != nil {
		return nil, fmt.Errorf("open history in %s: %w (check space and rights of the directory)", deps.Dir, err)
	}
	p := parser.NewParser(parser.Options{})
	h := &History{deps: deps, cfg: cfg, m: newHistoryMetrics(deps.Reg), db: db, parser: p, series: map[seriesKey]*stored{}}
	h.engine = promql.NewEngine(promql.EngineOpts{
		Logger: deps.Log, Reg: deps.Reg, MaxSamples: cfg.MaxSamples, Timeout: cfg.Timeout, LookbackDelta: 5 * time.Minute,
		EnableAtModifier: true, EnableNegativeOffset: true, Parser: p,
	})
	return h, nil
}

// Run commits once per tick until ctx ends; call [History.Close] after it.
func (h *History) Run(ctx context.Context) error {
	tick := time.NewTicker(h.cfg.Commit)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			h.Commit()
			return nil
		case <-tick.C:
			h.Commit()
		}
	}
}

// Close commits and closes the database.
func (h *History) Close() error {
	h.Commit()
	if err := h.db.Close(); err != nil {
		return fmt.Errorf("close history: %w", err)
	}
	return nil
}

// Stored counts the samples committed since the history was opened.
func (h *History) Stored() uint64 { return h.total.Load() }

// Relabel forgets the cached labels, after a change of the inventory.
func (h *History) Relabel() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.series)
}

// Append takes a sample; it is a sink of the collector. What the database
// refuses is counted by reason. Samples become visible at the next commit.
func (h *History) Append(s Sample) {
	m, ok := Lookup(s.Metric)
	if !ok {
		h.m.refused.WithLabelValues("other").Inc()
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.lookup(s, m)
	v := s.Value
	if math.IsNaN(v) {
		v = math.Float64frombits(value.StaleNaN) // the series ends here
	}
	at := h.clamp(s.At, st.snap)
	if at <= st.last { // the database would drop it at commit, silently
		why := "out_of_order"
		if at == st.last {
			why = "duplicate"
		}
		h.m.refused.WithLabelValues(why).Inc()
		return
	}
	if h.app == nil {
		h.app = h.db.Appender(context.Background())
	}
	ref, err := h.app.Append(st.ref, st.labels, at, v)
	if err != nil {
		h.m.refused.WithLabelValues(refusal(err)).Inc()
		return
	}
	st.ref, st.last = ref, at
	h.pending++
	if h.pending >= 5000 {
		h.commit()
	}
}

// lookup needs h.mu.
func (h *History) lookup(s Sample, m Metric) *stored {
	key := seriesKey{s.Device, s.Metric, s.Object}
	if st := h.series[key]; st != nil {
		return st
	}
	if len(h.series) >= h.cfg.MaxSeries {
		clear(h.series) // the references are found again by label
	}
	site, carrier := h.deps.Labels(s.Device, s.Object)
	b := labels.NewScratchBuilder(5)
	for _, l := range [][2]string{
		{model.MetricNameLabel, s.Metric},
		{"carrier", string(carrier)},
		{"device", string(s.Device)},
		{"object", s.Object},
		{"site", string(site)},
	} {
		if l[1] != "" {
			b.Add(l[0], l[1])
		}
	}
	b.Sort()
	st := &stored{labels: b.Labels(), snap: m.Kind != State}
	h.series[key] = st
	return st
}

// clamp keeps one bad clock from moving the database's head: a sample hours
// ahead on one series would make it refuse all others.
func (h *History) clamp(at time.Time, snap bool) int64 {
	now := time.Now()
	switch {
	case at.Before(now.Add(-h.cfg.Past)):
		at = now.Add(-h.cfg.Past)
		h.m.clamped.Inc()
	case at.After(now.Add(h.cfg.Future)):
		at = now.Add(h.cfg.Future)
		h.m.clamped.Inc()
	}
	if snap {
		at = at.Truncate(time.Second)
	}
	return at.UnixMilli()
}

func refusal(err error) string {
	switch {
	case errors.Is(err, storage.ErrOutOfOrderSample):
		return "out_of_order"
	case errors.Is(err, storage.ErrOutOfBounds):
		return "out_of_bounds"
	case errors.Is(err, storage.ErrTooOldSample):
		return "too_old"
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		return "duplicate"
	}
	return "other"
}

// Commit makes what was appended visible and proof against the process's end.
func (h *History) Commit() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.commit()
}

func (h *History) commit() {
	if h.app == nil {
		return
	}
	begun := time.Now()
	if err := h.app.Commit(); err != nil {
		h.m.refused.WithLabelValues("commit").Add(float64(h.pending))
		h.deps.Log.Error("history commit", "err", err)
	} else {
		h.total.Add(uint64(h.pending))
		h.m.stored.Add(float64(h.pending))
	}
	h.m.commits.Observe(time.Since(begun).Seconds())
	h.app, h.pending = nil, 0
}
