package people

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	logins *prometheus.CounterVec
	tokens *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		logins: f.NewCounterVec(prometheus.CounterOpts{Name: "people_logins_total", Help: "Attempts to sign in, by outcome."}, []string{"outcome"}),
		tokens: f.NewCounterVec(prometheus.CounterOpts{Name: "people_token_uses_total", Help: "Requests with an API token, by outcome."}, []string{"outcome"}),
	}
	for _, o := range []string{"ok", "refused", "throttled"} {
		m.logins.WithLabelValues(o)
	}
	for _, o := range []string{"ok", "refused"} {
		m.tokens.WithLabelValues(o)
	}
	return m
}
