package store

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics of one database.
type metrics struct {
	writes    *prometheus.CounterVec
	seconds   prometheus.Histogram
	conflicts prometheus.Counter
	commits   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		writes:    f.NewCounterVec(prometheus.CounterOpts{Name: "store_writes_total", Help: "Writes, by outcome: done is durable, undone left nothing."}, []string{"outcome"}),
		seconds:   f.NewHistogram(prometheus.HistogramOpts{Name: "store_write_seconds", Help: "Time of a write from call to durable commit or refusal.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}),
		conflicts: f.NewCounter(prometheus.CounterOpts{Name: "store_conflicts_total", Help: "Transactions PostgreSQL undid for the sake of another one; they are retried."}),
		commits:   f.NewCounter(prometheus.CounterOpts{Name: "store_commits_total", Help: "Durable commits; several writes may share one."}),
	}
	for _, outcome := range []string{"done", "undone"} {
		m.writes.WithLabelValues(outcome)
	}
	return m
}

// Instrument registers the database's metrics with reg; call it once, before
// the database is shared.
func (db *DB) Instrument(reg prometheus.Registerer) {
	db.metrics = newMetrics(reg)
	if db.group != nil {
		db.group.commits = db.metrics.commits
	}
}

func (m *metrics) wrote(start time.Time, err error) {
	outcome := "done"
	if err != nil {
		outcome = "undone"
	}
	m.writes.WithLabelValues(outcome).Inc()
	m.seconds.Observe(time.Since(start).Seconds())
}
