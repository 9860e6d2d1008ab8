package acmeca

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	accounts, orders, certificates, purged prometheus.Counter
	validations                            *prometheus.CounterVec
	renewalInfo                            *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		accounts:     counter("pki_acme_accounts_created_total", "ACME accounts created."),
		orders:       counter("pki_acme_orders_created_total", "ACME orders created."),
		certificates: counter("pki_acme_certificates_total", "Certificates issued by ACME."),
		purged:       counter("pki_acme_purged_rows_total", "Rows of ended ACME orders and nonces that were forgotten."),
		validations:  f.NewCounterVec(prometheus.CounterOpts{Name: "pki_acme_validations_total", Help: "Proofs of control over a name, by challenge and outcome."}, []string{"challenge", "outcome"}),
		renewalInfo:  f.NewCounterVec(prometheus.CounterOpts{Name: "pki_acme_renewal_info_total", Help: "Answers about when to renew, by advice."}, []string{"advice"}),
	}
	for _, c := range []string{"http-01", "dns-01"} {
		for _, o := range []string{"valid", "refused"} {
			m.validations.WithLabelValues(c, o)
		}
	}
	for _, a := range []string{adviceRegular, adviceRevoked, adviceRotated} {
		m.renewalInfo.WithLabelValues(a)
	}
	return m
}
