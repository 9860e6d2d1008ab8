package stepca

import (
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/smallstep/certificates/api/render"
)

type metrics struct {
	issued *prometheus.CounterVec
	tokens prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		issued: f.NewCounterVec(prometheus.CounterOpts{Name: "pki_step_certificates_total", Help: "Certificates issued by the step API, by action."}, []string{"action"}),
		tokens: f.NewCounter(prometheus.CounterOpts{Name: "pki_step_tokens_created_total", Help: "One-time tokens made for the step CLI."}),
	}
	for _, a := range []string{"issue", "renew"} {
		m.issued.WithLabelValues(a)
	}
	return m
}

// statusOf is the status that smallstep's renderer gives an error.
func statusOf(err error) int {
	var coded render.StatusCodedError
	if errors.As(err, &coded) {
		return coded.StatusCode()
	}
	return http.StatusInternalServerError
}
