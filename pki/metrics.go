package pki

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	enrolments      *prometheus.CounterVec
	renewals        *prometheus.CounterVec
	refusals        *prometheus.CounterVec
	issued          *prometheus.CounterVec
	tokens          prometheus.Counter
	revocations     prometheus.Counter
	closed          prometheus.Counter
	auditFailures   prometheus.Counter
	auditSuppressed prometheus.Counter
	signing         prometheus.Histogram
	serverExpiry    prometheus.Gauge
}

// outcomes of an enrolment or a renewal that was granted.
var outcomes = []string{"new", "repeated"}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		enrolments:      vec("pki_enrolments_total", "Enrolments granted, by outcome; repeated is a retry that got the same certificate.", "outcome"),
		renewals:        vec("pki_renewals_total", "Renewals granted, by outcome.", "outcome"),
		refusals:        vec("pki_refusals_total", "Refused peers and requests, by listener and reason.", "listener", "reason"),
		issued:          vec("pki_certificates_issued_total", "Certificates issued, by issuer.", "issuer"),
		tokens:          counter("pki_tokens_created_total", "Enrolment tokens created."),
		revocations:     counter("pki_revocations_total", "Certificates that became revoked."),
		closed:          counter("pki_connections_closed_total", "Open connections closed by a revocation."),
		auditFailures:   counter("pki_audit_failures_total", "Events the audit log did not take."),
		auditSuppressed: counter("pki_audit_suppressed_total", "Refusals counted but not audited, because there were too many."),
		signing:         f.NewHistogram(prometheus.HistogramOpts{Name: "pki_signing_duration_seconds", Help: "Time to sign one certificate.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 12)}),
		serverExpiry:    f.NewGauge(prometheus.GaugeOpts{Name: "pki_server_certificate_expiry_seconds", Help: "End of the controller's own certificate, Unix time."}),
	}
	for _, o := range outcomes {
		m.enrolments.WithLabelValues(o)
		m.renewals.WithLabelValues(o)
	}
	for l, reasons := range reasonsOf {
		for _, r := range reasons {
			m.refusals.WithLabelValues(string(l), string(r))
		}
	}
	for _, i := range issuers {
		m.issued.WithLabelValues(string(i))
	}
	for _, p := range sshPurposes {
		m.issued.WithLabelValues(string(p))
	}
	return m
}
