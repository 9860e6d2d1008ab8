package capacity

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/wardnet/wardnet/edge/agent"
)

const (
	trains = 12 // of a measurement
	// pause between an answer and the next train; the far end rests as long.
	pause = rest
	// window is how long a train takes at the contracted rate: the narrower the
	// circuit, the less a train holds up what else goes by it.
	window   = 10 * time.Millisecond
	smallest = 24 // train, packets
	// deaf is how many trains in a row may go unanswered.
	deaf = 2
	// bystanders may send this much beside the trains, as a ratio of what was
	// measured.
	bystanders = 0.1
	// alike are two measurements that differ by no more, as a ratio.
	alike      = 0.15
	recordFile = "capacity.json"
)

// length of a train on c, packets.
func (c circuit) length() int {
	n := int(float64(c.contracted) * window.Seconds() / c.packetBits())
	return min(max(n, smallest), longest)
}

// packetBits is what one packet of a train takes of the circuit.
func (c circuit) packetBits() float64 {
	const udp, ip = 8, 20
	return float64(8 * (payload + udp + ip + c.overhead))
}

// Outcomes of a measurement.
const (
	measured   = "measured"
	atLeast    = "at-least"
	unsteady   = "unsteady"   // trains contradict one another
	busy       = "busy"       // something else was sent meanwhile
	unanswered = "unanswered" // a hub of an older release, or nobody there
)

// measure measures c, twice where it seems to carry less than is used of it,
// and says whether that gave a result: a box that was short of time for some
// seconds must not slow a circuit for hours.
func (m *Meter) measure(ctx context.Context, c circuit, state func(context.Context) (agent.HostState, error)) bool {
	used := c.contracted
	if last, ok := m.Measured(c.name); ok {
		used = last.Upload
	}
	r, outcome := m.look(ctx, c, state)
	if good(outcome) && upload(c.contracted, used, r) < used && wait(ctx, m.cfg.Again) {
		var again Result
		if again, outcome = m.look(ctx, c, state); good(outcome) {
			r, outcome = agree(r, again, outcome)
		}
	}
	if ctx.Err() != nil {
		return false
	}
	m.metrics.measurements.WithLabelValues(outcome).Inc()
	if !good(outcome) {
		m.cfg.Log.InfoContext(ctx, "circuit could not be measured", "circuit", c.name, "outcome", outcome)
		return false
	}
	m.keep(ctx, c, used, r)
	return true
}

func good(outcome string) bool { return outcome == measured || outcome == atLeast }

// agree is what two looks at one circuit say together: the higher, where they
// are close, or where the second one takes the first one's fall back.
func agree(first, second Result, outcome string) (Result, string) {
	low, high := min(first.BPS, second.BPS), max(first.BPS, second.BPS)
	switch {
	case second.AtLeast:
		return second, outcome
	case float64(high-low) > alike*float64(high):
		return Result{}, unsteady
	}
	return Result{BPS: high}, outcome
}

// look sends the trains of one measurement.
func (m *Meter) look(ctx context.Context, c circuit, state func(context.Context) (agent.HostState, error)) (Result, string) {
	st, err := state(ctx)
	if err != nil {
		return Result{}, unanswered
	}
	var got []Train
	var took time.Duration
	for _, t := range c.tunnels {
		if !passes(st, t.name) {
			continue
		}
		start := time.Now()
		if got = m.trains(ctx, c, t); len(got) > 0 {
			took = time.Since(start)
			break
		}
	}
	if len(got) == 0 {
		return Result{}, unanswered
	}
	r, ok := Estimate(got)
	if !ok {
		return Result{}, unsteady
	}
	if after, err := state(ctx); err == nil {
		_, before := seen(st, c.name)
		_, now := seen(after, c.name)
		own := trains * float64(c.length()) * c.packetBits() / 8
		if other := float64(now-before) - own; now > before && other*8 > bystanders*float64(r.BPS)*took.Seconds() {
			return Result{}, busy
		}
	}
	if r.AtLeast {
		return r, atLeast
	}
	return r, measured
}

// keep stores what was measured of c, of which used was used so far, and tells
// the queues.
func (m *Meter) keep(ctx context.Context, c circuit, used uint64, r Result) {
	now := time.Now()
	m.mu.Lock()
	rec := Record{Result: r, Upload: upload(c.contracted, used, r), Contracted: c.contracted, At: now.UTC()}
	m.records[c.name] = rec
	err := save(filepath.Join(m.cfg.RunDir, recordFile), m.records)
	m.mu.Unlock()
	m.cfg.Log.InfoContext(ctx, "circuit measured", "circuit", c.name, "bps", r.BPS, "at_least", r.AtLeast, "contracted_bps", c.contracted, "upload_bps", rec.Upload)
	if err := errors.Join(err, m.adjust(ctx)); err != nil {
		m.cfg.Log.ErrorContext(ctx, "measured rate is not in force", "circuit", c.name, "err", err)
	}
}

// passes says whether a tunnel carries traffic now.
func passes(st agent.HostState, name string) bool {
	for _, t := range st.Tunnels {
		if t.Name == name {
			return t.Up && t.Probe.LossRatio < 0.5
		}
	}
	return false
}

// trains sends all trains of a measurement by t and returns how they arrived;
// those that were not answered are empty. None when nobody answers.
func (m *Meter) trains(ctx context.Context, c circuit, t tunnel) []Train {
	var out []Train
	answered := false
	for i := range trains {
		at, err := m.one(ctx, c, t)
		if err != nil {
			m.cfg.Log.DebugContext(ctx, "train went unanswered", "circuit", c.name, "tunnel", t.name, "err", err)
		}
		answered = answered || len(at) > 0
		if ctx.Err() != nil || !answered && i+1 >= deaf {
			return nil
		}
		out = append(out, Train{PacketBits: c.packetBits(), Arrivals: at})
		if !wait(ctx, pause) {
			return nil
		}
	}
	return out
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// one sends one train and waits for its answer.
func (m *Meter) one(ctx context.Context, c circuit, t tunnel) ([]time.Duration, error) {
	answers := make(chan []byte, 1)
	m.mu.Lock()
	m.train++
	h := head{session: m.session, train: m.train, count: c.length()}
	m.answers = answers
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.answers = nil
		m.mu.Unlock()
	}()
	if err := m.send(t, h); err != nil {
		return nil, err
	}
	limit := time.NewTimer(patience + time.Second)
	defer limit.Stop()
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-limit.C:
		return nil, errors.New("no answer")
	case b := <-answers:
		return arrivals(b), nil
	}
}

// load reads what an earlier agent measured; what cannot be read is measured
// again.
func load(path string, log *slog.Logger) map[string]Record {
	records := map[string]Record{}
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &records)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("measured rates cannot be read", "err", err)
		return map[string]Record{}
	}
	return records
}

func save(path string, records map[string]Record) error {
	b, err := json.Marshal(records)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

type metrics struct{ measurements *prometheus.CounterVec }

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{promauto.With(reg).NewCounterVec(prometheus.CounterOpts{Name: "host_circuit_measurements_total", Help: "Measurements of a circuit's upload, by outcome."}, []string{"outcome"})}
	for _, o := range []string{measured, atLeast, unsteady, busy, unanswered} {
		m.measurements.WithLabelValues(o)
	}
	return m
}
