package anomaly

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/telemetry"
)

// Deps is what the engine needs.
type Deps struct {
	// Emit gets every finding, opened and cleared, in order and one at a time.
	// It must not call the engine.
	Emit func(Finding)
	Reg  prometheus.Registerer // nil: metrics work, nobody collects them
}

// Config of the engine; zero means default.
type Config struct {
	Hold       time.Duration // of circuit, tunnel, BGP and BFD states; default 3 s
	DeviceHold time.Duration // of device_up; default 5 s
	NeverUp    time.Duration // hold of a state that was never up; default 20 s
	Loss       float64       // tunnel loss limit, a ratio; default 0.05
	Latency    float64       // tunnel round trip limit, ms; default 300
	For        time.Duration // of the limits; default 30 s
	Adopt      time.Duration // a shifted level becomes normal after this; default 30 min
	MaxSeries  int           // series watched; default 500,000
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Hold, 3*time.Second)
	def(&c.DeviceHold, 5*time.Second)
	def(&c.NeverUp, 20*time.Second)
	def(&c.For, 30*time.Second)
	def(&c.Adopt, 30*time.Minute)
	if c.Loss == 0 {
		c.Loss = 0.05
	}
	if c.Latency == 0 {
		c.Latency = 300
	}
	if c.MaxSeries == 0 {
		c.MaxSeries = 500_000
	}
	return c
}

// detectors returns fresh detectors for one series; none for a metric that
// nobody watches.
func (c Config) detectors(metric, object string) []Detector {
	state := func(k Kind, sev Severity, hold time.Duration) []Detector {
		return []Detector{&StateDown{Kind: k, Severity: sev, Hold: hold, NeverUp: c.NeverUp}}
	}
	switch metric {
	case telemetry.CircuitUp:
		return state(CircuitDown, Major, c.Hold)
	case telemetry.TunnelUp:
		return state(TunnelDown, Major, c.Hold)
	case telemetry.BGPUp:
		return state(BGPDown, Major, c.Hold)
	case telemetry.BFDUp:
		return state(BFDDown, Major, c.Hold)
	case telemetry.DeviceUp:
		return state(DeviceDown, Critical, c.DeviceHold)
	case telemetry.TunnelLoss:
		return []Detector{&Sustained{Kind: TunnelLoss, Severity: Minor, Limit: c.Loss, For: c.For}}
	case telemetry.TunnelLatency:
		return []Detector{
			&Sustained{Kind: TunnelLatency, Severity: Minor, Limit: c.Latency, For: c.For},
			&Shift{Kind: LatencyShift, Floor: 5, Adopt: c.Adopt},
		}
	case telemetry.InOctets, telemetry.OutOctets:
		if strings.Contains(object, "--") {
			return nil // a tunnel's traffic is its circuit's
		}
		return []Detector{&Shift{Kind: TrafficShift, Floor: 20_000, Adopt: c.Adopt}}
	}
	return nil
}

type seriesKey struct {
	device         inventory.DeviceID
	metric, object string
}

// watched is one series with its detectors.
type watched struct {
	detectors []Detector
	counter   bool
	last      telemetry.Sample // of a counter, for the rate
}

// Engine routes each sample to its series' detectors. Its methods may be
// called from several goroutines.
type Engine struct {
	deps Deps
	cfg  Config
	m    *metrics

	mu      sync.Mutex
	now     time.Time // of the last Tick
	series  map[seriesKey]*watched
	waiting map[*watched]struct{} // time alone may change their claims
}

// NewEngine makes an engine without series.
func NewEngine(deps Deps, cfg Config) (*Engine, error) {
	if deps.Emit == nil {
		return nil, fmt.Errorf("%w: anomaly engine: Emit is required", inventory.ErrInvalid)
	}
	e := &Engine{deps: deps, cfg: cfg.withDefaults(), series: map[seriesKey]*watched{}, waiting: map[*watched]struct{}{}}
	e.m = newMetrics(deps.Reg, e)
	return e, nil
}

// Observe takes a sample; it is a sink of the collector.
func (e *Engine) Observe(s telemetry.Sample) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.now.IsZero() && s.At.After(e.now.Add(time.Second)) {
		s.At = e.now // a device ahead of us must not delay its own holds
	}
	w := e.watch(s.Device, s.Metric, s.Object)
	if w == nil {
		return
	}
	if w.counter && !math.IsNaN(s.Value) {
		last := w.last
		w.last = s
		dt := s.At.Sub(last.At).Seconds()
		if last.At.IsZero() || dt <= 0 || dt > 120 || s.Value < last.Value {
			return // first one, a gap, or a counter that began again
		}
		s.Value = (s.Value - last.Value) / dt
	}
	for _, d := range w.detectors {
		e.emit(d.Observe(s))
	}
	e.note(w)
	if math.IsNaN(s.Value) {
		delete(e.series, seriesKey{s.Device, s.Metric, s.Object})
		delete(e.waiting, w)
	}
}

// Tick says that it is now; holds pass by it. Call it about once a second.
func (e *Engine) Tick(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now = now
	for w := range e.waiting {
		for _, d := range w.detectors {
			e.emit(d.Advance(now))
		}
		e.note(w)
	}
}

// Seed reopens claims that were open before a restart, so that they clear when
// the series is well again and are not made twice.
func (e *Engine) Seed(open []Finding) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range open {
		w := e.watch(f.Device, f.Metric, f.Object)
		if w == nil {
			continue
		}
		for _, d := range w.detectors {
			if d.Reopen(f) {
				e.m.open.WithLabelValues(string(f.Kind)).Inc()
			}
		}
	}
}

// watch needs e.mu; nil: the series is not watched.
func (e *Engine) watch(device inventory.DeviceID, metric, object string) *watched {
	key := seriesKey{device, metric, object}
	if w, ok := e.series[key]; ok {
		return w
	}
	detectors := e.cfg.detectors(metric, object)
	if len(detectors) == 0 {
		return nil
	}
	if len(e.series) >= e.cfg.MaxSeries {
		e.m.refused.Inc()
		return nil
	}
	m, _ := telemetry.Lookup(metric)
	w := &watched{detectors: detectors, counter: m.Kind == telemetry.Counter}
	e.series[key] = w
	return w
}

func (e *Engine) note(w *watched) {
	for _, d := range w.detectors {
		if d.Waiting() {
			e.waiting[w] = struct{}{}
			return
		}
	}
	delete(e.waiting, w)
}

func (e *Engine) emit(f Finding, found bool) {
	if !found {
		return
	}
	kind := string(f.Kind)
	if f.To.IsZero() {
		e.m.findings.WithLabelValues(kind).Inc()
		e.m.open.WithLabelValues(kind).Inc()
	} else {
		e.m.open.WithLabelValues(kind).Dec()
	}
	e.deps.Emit(f)
}
