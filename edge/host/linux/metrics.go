package linux

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Outcomes of one transaction on the box.
const (
	done     = "done"
	refused  = "refused"  // by a check; nothing was changed
	restored = "restored" // a step failed, the old box runs
	stuck    = "stuck"    // a step failed, and so did the way back
)

type metrics struct {
	applies *prometheus.CounterVec
	seconds prometheus.Histogram
	heals   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		applies: f.NewCounterVec(prometheus.CounterOpts{Name: "host_applies_total", Help: "Configurations put in force on this box, by outcome."}, []string{"outcome"}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "host_apply_seconds", Help: "Time of one transaction on this box.",
			Buckets: []float64{.1, .2, .5, 1, 2, 5, 10, 20},
		}),
		heals: f.NewCounter(prometheus.CounterOpts{Name: "host_heals_total", Help: "Times something on this box had to be set again that nobody asked to change."}),
	}
	for _, o := range []string{done, refused, restored, stuck} {
		m.applies.WithLabelValues(o)
	}
	return m
}
