package pki

import (
	"math"
	"time"

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

	generation *prometheus.GaugeVec
	forged     prometheus.Counter
	rekeyed    prometheus.Counter

	issuance       *prometheus.HistogramVec
	expiring       *prometheus.GaugeVec
	returned       *prometheus.CounterVec
	returnsDelayed prometheus.Counter
	quarantines    prometheus.Counter
	clockWarnings  prometheus.Counter
	purged         *prometheus.CounterVec
}

// lives are the bounds of the expiry histogram, by label.
var lives = []struct {
	label string
	until time.Duration
}{{"ended", 0}, {"1h", time.Hour}, {"24h", 24 * time.Hour}, {"48h", 48 * time.Hour}, {"72h", 72 * time.Hour}, {"168h", 168 * time.Hour}, {"more", math.MaxInt64}}

// tellExpiry shows how long the devices' newest certificates still live.
func (m *metrics) tellExpiry(newest []Certificate, now time.Time) {
	counts := make([]int, len(lives))
	for _, c := range newest {
		left := c.NotAfter.Sub(now)
		i := 0
		for left > lives[i].until {
			i++
		}
		counts[i]++
	}
	for i, l := range lives {
		m.expiring.WithLabelValues(l.label).Set(float64(counts[i]))
	}
}

// generations shows where each issuer is in its rotation.
func (m *metrics) generations(set *issuerSet) {
	for _, i := range issuers {
		for _, s := range IssuerStates {
			n := 0
			for _, g := range set.rows {
				if g.Issuer == i && g.State == s {
					n++
				}
			}
			m.generation.WithLabelValues(string(i), string(s)).Set(float64(n))
		}
	}
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
	m.generation = f.NewGaugeVec(prometheus.GaugeOpts{Name: "pki_issuer_generations", Help: "Generations of the issuing CAs, by issuer and state."}, []string{"issuer", "state"})
	m.forged = counter("pki_forged_certificates_total", "Certificates of a distrusted issuer that were never issued here, shown at the CA listener.")
	m.rekeyed = counter("pki_rekeyed_certificates_total", "Renewals with a new key that were asked for under a distrusted issuer.")
	buckets := prometheus.ExponentialBuckets(0.001, 2, 14)
	m.issuance = f.NewHistogramVec(prometheus.HistogramOpts{Name: "pki_issuance_duration_seconds", Help: "From a device's request to its recorded certificate, by kind.", Buckets: buckets}, []string{"kind"})
	m.expiring = f.NewGaugeVec(prometheus.GaugeOpts{Name: "pki_device_certificates_expiring", Help: "Devices by what is left of the life of their newest certificate: at most so much, and more than the label before."}, []string{"within"})
	m.returned = vec("pki_returns_total", "Renewals after the certificate's end, by what became of the device.", "outcome")
	m.returnsDelayed = counter("pki_returns_delayed_total", "Renewals by signed request that were asked to come again, because there were too many at once.")
	m.quarantines = counter("pki_quarantines_total", "Devices put into quarantine because of their certificates.")
	m.clockWarnings = counter("pki_clock_warnings_total", "Certificates issued to devices whose clock is off, but not by too much.")
	m.purged = vec("pki_purged_rows_total", "Rows removed because nobody needs them any more, by table.", "table")
	for _, kind := range []string{"enrolment", "renewal"} {
		m.issuance.WithLabelValues(kind)
	}
	for _, l := range lives {
		m.expiring.WithLabelValues(l.label)
	}
	for _, o := range []string{"free", "quarantined"} {
		m.returned.WithLabelValues(o)
	}
	for _, table := range []string{"pki_certificates", "pki_tokens", "pki_pending", "pki_used_tokens", "pki_quarantine", "pki_uptime", "pki_wireguard_keys", "pki_lineages"} {
		m.purged.WithLabelValues(table)
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
