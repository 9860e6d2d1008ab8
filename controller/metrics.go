package controller

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	passes      *prometheus.CounterVec // by outcome
	seconds     prometheus.Histogram   // one pass
	drift       prometheus.Counter
	driftOpen   prometheus.Gauge
	pushes      *prometheus.CounterVec // by result
	credentials prometheus.Counter
	rollouts    *prometheus.CounterVec // by state reached
	waves       prometheus.Histogram
	compile     prometheus.Histogram
	proofs      *prometheus.CounterVec // by outcome
	proof       prometheus.Histogram
	ended       prometheus.Counter
}

// outcomes is the closed set of label values; a device name is never a label.
var outcomes = []string{"idle", "same", "changed", "held", "offline", "retry", "terminal"}

var (
	pushResults = []string{"confirmed", "adopted", "failed"}
	proofEnds   = []string{proofHolds, proofFails, proofUnknown}
	endStates   = []RolloutState{RolloutRunning, RolloutPaused, RolloutDone, RolloutHalted, RolloutReturning, RolloutAborted}
)

// Outcomes of a proof.
const (
	proofHolds   = "holds"
	proofFails   = "fails"
	proofUnknown = "unknown" // something in the texts is not understood
)

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg) // reg may be nil: metrics work, nobody collects them
	m := &metrics{
		passes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "controller_passes_total", Help: "Passes over a device, by outcome.",
		}, []string{"outcome"}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "controller_pass_seconds", Help: "Time of one pass.", Buckets: prometheus.ExponentialBuckets(.01, 2, 13),
		}),
		driftOpen: f.NewGauge(prometheus.GaugeOpts{
			Name: "controller_drift_open", Help: "Devices changed by someone else that wait for a decision.",
		}),
		drift: f.NewCounter(prometheus.CounterOpts{
			Name: "controller_drift_total", Help: "Devices found changed by someone else.",
		}),
		pushes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "controller_pushes_total", Help: "Pushes, by result.",
		}, []string{"result"}),
		credentials: f.NewCounter(prometheus.CounterOpts{
			Name: "controller_credential_pushes_total", Help: "Credential sets stored on devices.",
		}),
		rollouts: f.NewCounterVec(prometheus.CounterOpts{
			Name: "controller_rollouts_total", Help: "Rollouts, by state reached.",
		}, []string{"state"}),
		waves: f.NewHistogram(prometheus.HistogramOpts{
			Name: "controller_wave_seconds", Help: "Time of one wave.", Buckets: prometheus.ExponentialBuckets(.25, 2, 12),
		}),
		compile: f.NewHistogram(prometheus.HistogramOpts{
			Name: "controller_compile_seconds", Help: "Time to compile one revision for all devices.", Buckets: prometheus.ExponentialBuckets(.005, 2, 12),
		}),
		proofs: f.NewCounterVec(prometheus.CounterOpts{
			Name: "controller_proofs_total", Help: "Proofs of revisions, by outcome.",
		}, []string{"outcome"}),
		proof: f.NewHistogram(prometheus.HistogramOpts{
			Name: "controller_proof_seconds", Help: "Time to prove one revision for all devices.", Buckets: prometheus.ExponentialBuckets(.01, 2, 14),
		}),
	}
	m.ended = f.NewCounter(prometheus.CounterOpts{
		Name: "controller_waivers_ended_total", Help: "Waivers of proofs that ended while their revision was in force.",
	})
	for _, o := range proofEnds {
		m.proofs.WithLabelValues(o)
	}
	for _, o := range outcomes {
		m.passes.WithLabelValues(o) // exists at zero from the first scrape
	}
	for _, r := range pushResults {
		m.pushes.WithLabelValues(r)
	}
	for _, s := range endStates {
		m.rollouts.WithLabelValues(string(s))
	}
	return m
}

// readbacks shows how long ago the read-back longest ago was.
func (m *metrics) readbacks(reg prometheus.Registerer, oldest func() time.Duration) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "controller_readback_oldest_seconds", Help: "Time since the connected device that was read back longest ago was found to run what it should, or connected.",
	}, func() float64 { return oldest().Seconds() })
}
