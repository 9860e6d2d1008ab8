package upgrade

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	devices  *prometheus.GaugeVec   // by state, of the newest rollout
	outcomes *prometheus.CounterVec // of devices
	rollouts *prometheus.CounterVec // by state reached
	sent     prometheus.Counter
	tries    prometheus.Histogram
}

// outcomes is the closed set of the ends of one device's upgrade.
var outcomes = []Phase{Done, Failed, Returned, Expired, Skipped, Superseded}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg) // reg may be nil: metrics work, nobody collects them
	m := &metrics{
		devices: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "agent_upgrade_devices", Help: "Devices of the newest agent rollout, by state.",
		}, []string{"state"}),
		outcomes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "agent_upgrades_total", Help: "Ends of agent upgrades of one device, by outcome.",
		}, []string{"outcome"}),
		rollouts: f.NewCounterVec(prometheus.CounterOpts{
			Name: "agent_upgrade_rollouts_total", Help: "Agent rollouts, by state reached.",
		}, []string{"state"}),
		sent: f.NewCounter(prometheus.CounterOpts{
			Name: "agent_upgrade_sent_bytes_total", Help: "Bytes of agent binaries that devices have stored.",
		}),
		tries: f.NewHistogram(prometheus.HistogramOpts{
			Name: "agent_upgrade_try_seconds", Help: "Time from the order to try an agent to its confirmation.", Buckets: prometheus.ExponentialBuckets(.5, 2, 11),
		}),
	}
	for _, p := range Phases {
		m.devices.WithLabelValues(string(p)) // exists at zero from the first scrape
	}
	for _, p := range outcomes {
		m.outcomes.WithLabelValues(string(p))
	}
	for _, s := range States {
		m.rollouts.WithLabelValues(string(s))
	}
	return m
}
