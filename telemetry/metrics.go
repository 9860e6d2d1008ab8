package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	queues      = []string{"state", "measurement"}
	directions  = []string{"past", "future"}
	streamEnds  = []string{"dial", "stream", "stalled", "closed"}
	ignoredWhys = []string{"path", "value", "full"}
	refusals    = []string{"out_of_order", "out_of_bounds", "too_old", "duplicate", "commit", "other"}
)

type collectorMetrics struct {
	updates    prometheus.Counter
	dropped    *prometheus.CounterVec
	clamped    *prometheus.CounterVec
	ignored    *prometheus.CounterVec
	streamEnds *prometheus.CounterVec
	sinkLag    prometheus.Gauge
}

func newCollectorMetrics(reg prometheus.Registerer, c *Collector) *collectorMetrics {
	f := promauto.With(reg)
	m := &collectorMetrics{
		updates:    f.NewCounter(prometheus.CounterOpts{Name: "telemetry_updates_total", Help: "Updates received from devices that carry a metric of the catalogue."}),
		dropped:    f.NewCounterVec(prometheus.CounterOpts{Name: "telemetry_dropped_samples_total", Help: "Samples dropped because the queue to the sinks was full, oldest first."}, []string{"queue"}),
		clamped:    f.NewCounterVec(prometheus.CounterOpts{Name: "telemetry_clamped_samples_total", Help: "Samples whose device time was moved into the accepted window."}, []string{"direction"}),
		ignored:    f.NewCounterVec(prometheus.CounterOpts{Name: "telemetry_ignored_updates_total", Help: "Updates ignored: unknown path, unusable value, or too many series on one device."}, []string{"why"}),
		streamEnds: f.NewCounterVec(prometheus.CounterOpts{Name: "telemetry_stream_ends_total", Help: "Ends of telemetry streams, by reason."}, []string{"why"}),
		sinkLag:    f.NewGauge(prometheus.GaugeOpts{Name: "telemetry_sink_lag_seconds", Help: "Age of the sample last handed to the sinks, by its device time."}),
	}
	zero(m.dropped, queues)
	zero(m.clamped, directions)
	zero(m.ignored, ignoredWhys)
	zero(m.streamEnds, streamEnds)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "telemetry_queued_samples", Help: "Samples waiting for the sinks."}, func() float64 {
		return float64(c.states.len() + c.measures.len())
	})
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "telemetry_targets", Help: "Devices the collector knows."}, func() float64 { n, _ := c.count(); return float64(n) })
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "telemetry_targets_up", Help: "Devices whose telemetry stream is alive."}, func() float64 { _, n := c.count(); return float64(n) })
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "telemetry_exposed_series", Help: "Device series on the federation endpoint."}, func() float64 { return float64(c.expo.len()) })
	return m
}

type historyMetrics struct {
	stored, clamped prometheus.Counter
	refused         *prometheus.CounterVec
	commits         prometheus.Histogram
}

func newHistoryMetrics(reg prometheus.Registerer) *historyMetrics {
	f := promauto.With(reg)
	m := &historyMetrics{
		stored:  f.NewCounter(prometheus.CounterOpts{Name: "telemetry_stored_samples_total", Help: "Samples committed to the history."}),
		clamped: f.NewCounter(prometheus.CounterOpts{Name: "telemetry_history_clamped_samples_total", Help: "Samples whose time the history moved into its accepted window."}),
		refused: f.NewCounterVec(prometheus.CounterOpts{Name: "telemetry_refused_samples_total", Help: "Samples the history refused, by reason."}, []string{"reason"}),
		commits: f.NewHistogram(prometheus.HistogramOpts{Name: "telemetry_commit_seconds", Help: "Time to commit one batch to the history.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 7)}),
	}
	zero(m.refused, refusals)
	return m
}

func zero(v *prometheus.CounterVec, labels []string) {
	for _, l := range labels {
		v.WithLabelValues(l)
	}
}
