package channel

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Outcomes of one incoming connection.
const (
	accepted           = "accepted"
	refusedProtocol    = "refused_protocol"    // wrong or no ALPN
	refusedCertificate = "refused_certificate" // chain, issuer, revocation, or none sent
	refusedIdentity    = "refused_identity"    // the certificate names no device of ours
	refusedFlapping    = "refused_flapping"    // two claimants of one name
	refusedCrowded     = "refused_crowded"     // its address holds its share of the waiting connections
	refusedPaced       = "refused_paced"       // more come than handshakes may begin per second
	timedOut           = "timeout"             // no handshake in time
	failed             = "failed"              // not TLS, or gone before the end
)

var outcomes = []string{accepted, refusedProtocol, refusedCertificate, refusedIdentity, refusedFlapping, refusedCrowded, refusedPaced, timedOut, failed}

type metrics struct {
	sessions   prometheus.Gauge
	handshakes *prometheus.CounterVec
	begun      prometheus.Counter
	seconds    prometheus.Histogram
	swaps      prometheus.Counter
	flaps      prometheus.Counter
	untold     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, perSecond int) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		sessions:   f.NewGauge(prometheus.GaugeOpts{Name: "channel_sessions", Help: "Devices with a live management session."}),
		handshakes: f.NewCounterVec(prometheus.CounterOpts{Name: "channel_handshakes_total", Help: "Incoming connections, by outcome."}, []string{"outcome"}),
		begun:      f.NewCounter(prometheus.CounterOpts{Name: "channel_handshakes_begun_total", Help: "TLS handshakes begun; its rate is bounded by channel_handshakes_per_second_limit."}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "channel_handshake_seconds", Help: "Time from accept to a registered session.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		swaps:  f.NewCounter(prometheus.CounterOpts{Name: "channel_swaps_total", Help: "Live sessions superseded by a newer connection of the same device."}),
		untold: f.NewCounter(prometheus.CounterOpts{Name: "channel_refusals_untold_total", Help: "Refusals counted but neither logged nor audited, because there were too many."}),
		flaps:  f.NewCounter(prometheus.CounterOpts{Name: "channel_flaps_total", Help: "Alarms of two claimants of one device's name."}),
	}
	f.NewGauge(prometheus.GaugeOpts{Name: "channel_handshakes_per_second_limit", Help: "Handshakes that may begin within a second, by configuration; 0: no bound."}).Set(float64(perSecond))
	for _, o := range outcomes {
		m.handshakes.WithLabelValues(o)
	}
	return m
}
