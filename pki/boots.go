package pki

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// BootStore keeps the timelines of the devices' first boots.
type BootStore interface {
	// AddSteps adds what is new to the device's timeline, in one durable step,
	// and gives what it was before and is now; see [enrol.Timeline.With] and
	// [enrol.Timeline.Holds].
	AddSteps(ctx context.Context, device inventory.DeviceID, steps []enrol.Step) (before, after enrol.Timeline, err error)
	// Timeline is the zero one for a device of which nothing is known.
	Timeline(ctx context.Context, device inventory.DeviceID) (enrol.Timeline, error)
	// OpenBoots lists the devices that are in the middle of a first boot.
	OpenBoots(ctx context.Context) ([]inventory.DeviceID, error)
}

// BootDeps are what [Boots] needs; all but Reg are required.
type BootDeps struct {
	Store BootStore
	Log   *slog.Logger
	Reg   prometheus.Registerer
}

// Boots follows every device from its first contact to its first confirmed
// configuration. What it cannot keep it logs: no device waits for it. It is
// safe for concurrent use.
type Boots struct {
	deps     BootDeps
	failures *prometheus.CounterVec
	seconds  prometheus.Histogram
	openN    prometheus.Gauge

	mu   sync.Mutex
	open map[inventory.DeviceID]bool
}

// bootsEvery is how often boots begun at another replica are looked for.
const bootsEvery = 5 * time.Second

// bootWait bounds one write.
const bootWait = 5 * time.Second

// NewBoots makes an empty Boots; Run fills it.
func NewBoots(deps BootDeps) (*Boots, error) {
	if deps.Store == nil || deps.Log == nil {
		return nil, errors.New("boots: a required dependency is missing")
	}
	f := promauto.With(deps.Reg)
	b := &Boots{
		deps: deps, open: map[inventory.DeviceID]bool{},
		failures: f.NewCounterVec(prometheus.CounterOpts{
			Name: "pki_boot_failures_total", Help: "Steps of first boots that failed, as devices told and the controller saw, by cause.",
		}, []string{"cause"}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "pki_boot_duration_seconds", Help: "From a device's certificate to its first confirmed configuration.", Buckets: prometheus.ExponentialBuckets(0.5, 2, 14),
		}),
		openN: f.NewGauge(prometheus.GaugeOpts{
			Name: "pki_boots_open", Help: "Devices that hold a certificate and have not confirmed a configuration since.",
		}),
	}
	for _, c := range enrol.Causes {
		b.failures.WithLabelValues(string(c))
	}
	return b, nil
}

// Run keeps in step with the store until ctx ends, and returns nil then.
func (b *Boots) Run(ctx context.Context) error {
	tick := time.NewTicker(bootsEvery)
	defer tick.Stop()
	said := ""
	for {
		switch err := b.load(ctx); {
		case err == nil:
			said = ""
		case ctx.Err() == nil && err.Error() != said:
			said = err.Error()
			b.deps.Log.ErrorContext(ctx, "open boots not read", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (b *Boots) load(ctx context.Context) error {
	list, err := b.deps.Store.OpenBoots(ctx)
	if err != nil {
		return fmt.Errorf("read open boots: %w", err)
	}
	open := make(map[inventory.DeviceID]bool, len(list))
	for _, id := range list {
		open[id] = true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = open
	b.openN.Set(float64(len(open)))
	return nil
}

// Timeline is what is known of the device's first boots.
func (b *Boots) Timeline(ctx context.Context, device inventory.DeviceID) (enrol.Timeline, error) {
	t, err := b.deps.Store.Timeline(ctx, device)
	if err != nil {
		return enrol.Timeline{}, fmt.Errorf("boot timeline of %s: %w", device, err)
	}
	return t, nil
}

// Add keeps steps of a device that is known.
func (b *Boots) Add(ctx context.Context, device inventory.DeviceID, steps ...enrol.Step) {
	if b == nil || len(steps) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bootWait)
	defer cancel()
	before, after, err := b.deps.Store.AddSteps(ctx, device, steps)
	if err != nil {
		b.deps.Log.ErrorContext(ctx, "steps of a first boot not kept", "device", device, "err", err)
		return
	}
	for _, s := range steps {
		if s.State == enrol.StepFailed && !before.Holds(s) {
			b.failures.WithLabelValues(string(s.Cause)).Inc()
		}
	}
	if before.Open() && !after.Open() {
		b.seconds.Observe(time.Since(before.Since()).Seconds())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if after.Open() {
		b.open[device] = true
	} else {
		delete(b.open, device)
	}
	b.openN.Set(float64(len(b.open)))
}

// Reached notes what the controller saw of a device that is in the middle of
// its first boot; of any other it does nothing, and is quick about it. An
// empty cause means that the step passed.
func (b *Boots) Reached(ctx context.Context, device inventory.DeviceID, step enrol.StepName, cause enrol.Cause, detail string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	open := b.open[device]
	b.mu.Unlock()
	if open {
		b.Add(ctx, device, Seen(step, cause, detail))
	}
}

// Seen is a step that the controller saw now.
func Seen(step enrol.StepName, cause enrol.Cause, detail string) enrol.Step {
	s := enrol.Step{Name: step, State: enrol.StepPassed, Detail: detail, By: enrol.ByController, At: time.Now().UTC(), Count: 1}
	if cause != "" {
		s.State, s.Cause = enrol.StepFailed, cause
	}
	return s
}
