package anomaly

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	findings *prometheus.CounterVec
	open     *prometheus.GaugeVec
	refused  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, e *Engine) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		findings: f.NewCounterVec(prometheus.CounterOpts{Name: "anomaly_findings_total", Help: "Findings opened, by kind."}, []string{"kind"}),
		open:     f.NewGaugeVec(prometheus.GaugeOpts{Name: "anomaly_open_findings", Help: "Findings open now, by kind."}, []string{"kind"}),
		refused:  f.NewCounter(prometheus.CounterOpts{Name: "anomaly_refused_series_total", Help: "Samples of series beyond the bound on watched series."}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "anomaly_watched_series", Help: "Series that detectors watch."}, func() float64 {
		e.mu.Lock()
		defer e.mu.Unlock()
		return float64(len(e.series))
	})
	for _, k := range Kinds {
		m.findings.WithLabelValues(string(k))
		m.open.WithLabelValues(string(k))
	}
	return m
}
