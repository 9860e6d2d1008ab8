package policy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	decisions     *prometheus.CounterVec // by result and code
	seconds       prometheus.Histogram
	factsRevision prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg) // reg may be nil: metrics work, nobody collects them
	m := &metrics{
		decisions: f.NewCounterVec(prometheus.CounterOpts{
			Name: "policy_decisions_total", Help: "Answered access requests, by reason code.",
		}, []string{"code"}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "policy_decision_seconds", Help: "Time of one decision, its durable log record included.", Buckets: prometheus.ExponentialBuckets(.0001, 2, 14),
		}),
		factsRevision: f.NewGauge(prometheus.GaugeOpts{Name: "policy_facts_revision", Help: "Revision of the facts in force; 0: none, everything is denied."}),
	}
	m.decisions.WithLabelValues(string(CodeAllowed))
	for c := range remedies {
		m.decisions.WithLabelValues(string(c))
	}
	return m
}

func (m *metrics) observe(d Decision, took time.Duration) {
	m.decisions.WithLabelValues(string(d.Code)).Inc()
	m.seconds.Observe(took.Seconds())
}
