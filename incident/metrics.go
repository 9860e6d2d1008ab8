package incident

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var resolvers = []string{"clear", "hand"}

type metrics struct {
	opened, resolved                       *prometheus.CounterVec
	reopened, merged, repeated, saveErrors prometheus.Counter
	gated                                  prometheus.Gauge
	detection, correlation                 prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, b *Book) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		opened:      f.NewCounterVec(prometheus.CounterOpts{Name: "incident_opened_total", Help: "Incidents opened, by kind of the first cause."}, []string{"cause"}),
		resolved:    f.NewCounterVec(prometheus.CounterOpts{Name: "incident_resolved_total", Help: "Incidents resolved: all clear, or by hand."}, []string{"by"}),
		reopened:    f.NewCounter(prometheus.CounterOpts{Name: "incident_reopened_total", Help: "Incidents reopened instead of made again."}),
		merged:      f.NewCounter(prometheus.CounterOpts{Name: "incident_merged_total", Help: "Incidents merged into another of the same cause."}),
		repeated:    f.NewCounter(prometheus.CounterOpts{Name: "incident_repeated_findings_total", Help: "Findings made again while open, such as after a restart."}),
		saveErrors:  f.NewCounter(prometheus.CounterOpts{Name: "incident_save_errors_total", Help: "Saves that failed and are tried again."}),
		gated:       f.NewGauge(prometheus.GaugeOpts{Name: "incident_gated_findings", Help: "Findings held back: not in service, being changed, or silenced."}),
		detection:   f.NewHistogram(prometheus.HistogramOpts{Name: "incident_detection_seconds", Help: "From the first symptom to the incident.", Buckets: []float64{5, 10, 15, 20, 30, 60, 120}}),
		correlation: f.NewHistogram(prometheus.HistogramOpts{Name: "incident_correlation_seconds", Help: "Time of one correlation pass with its save.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 7)}),
	}
	for _, k := range CauseKinds {
		m.opened.WithLabelValues(string(k))
	}
	for _, r := range resolvers {
		m.resolved.WithLabelValues(r)
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "incident_open_incidents", Help: "Incidents not resolved."}, func() float64 { return float64(b.OpenCount()) })
	return m
}
