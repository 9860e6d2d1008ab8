package console

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	requests *prometheus.CounterVec
	refused  *prometheus.CounterVec
	audit    prometheus.Counter
	pending  prometheus.Gauge
	glass    prometheus.Counter
	streams  prometheus.Gauge
	dropped  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{Name: "console_requests_total", Help: "API requests, by class of status."}, []string{"class"}),
		refused:  f.NewCounterVec(prometheus.CounterOpts{Name: "console_refused_total", Help: "API requests refused before their operation ran, by reason."}, []string{"reason"}),
		audit:    f.NewCounter(prometheus.CounterOpts{Name: "console_audit_failures_total", Help: "Audit entries that could not be stored at the first attempt."}),
		pending:  f.NewGauge(prometheus.GaugeOpts{Name: "console_audit_pending_entries", Help: "Audit entries not stored yet; while there are any, writes are refused."}),
		glass:    f.NewCounter(prometheus.CounterOpts{Name: "console_break_glass_total", Help: "Connections root opened on the unix socket."}),
		streams:  f.NewGauge(prometheus.GaugeOpts{Name: "console_event_streams", Help: "Event streams open now."}),
		dropped:  f.NewCounter(prometheus.CounterOpts{Name: "console_event_streams_dropped_total", Help: "Event streams closed because their client read too slowly."}),
	}
	for _, class := range []string{"2xx", "3xx", "4xx", "5xx"} {
		m.requests.WithLabelValues(class)
	}
	for _, reason := range []string{"unauthenticated", "forbidden", "csrf", "cross_origin", "throttled", "audit"} {
		m.refused.WithLabelValues(reason)
	}
	return m
}
