// Package telemetry collects what devices say of themselves: a gNMI collector
// over the management channel, the metric catalogue, the history (an embedded
// Prometheus TSDB with a PromQL API) and the exposition of the device series.
package telemetry

import (
	"context"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Sample is one value of one series.
type Sample struct {
	Device inventory.DeviceID
	Metric string // a name of [Catalogue]
	// Object is the thing measured on the device: a circuit, a tunnel, a BGP
	// neighbour's address; empty for the device itself.
	Object string
	// Value is in the metric's unit. NaN says that the object is gone: the
	// series has ended and is neither good nor bad.
	Value float64
	// At is the device's own time, clamped by the collector; UTC.
	At time.Time
}

// Source answers what a series was. [History] satisfies it.
type Source interface {
	// Range returns the series of metric between from and to, one point per
	// step; counters come as rates per second. An empty device or object
	// stands for all. Errors wrap [inventory.ErrInvalid] for a bad question.
	Range(ctx context.Context, q RangeQuery) ([]Series, error)
}

// RangeQuery is a question to a [Source].
type RangeQuery struct {
	Metric   string
	Device   inventory.DeviceID // empty: all
	Object   string             // empty: all
	From, To time.Time
	Step     time.Duration // at least 1 s; (To-From)/Step is bounded by the API's limit
}

// Series is one answer to a [RangeQuery].
type Series struct {
	Device inventory.DeviceID `json:"device"`
	Site   inventory.SiteID   `json:"site"`
	Object string             `json:"object"`
	Points []Point            `json:"points"`
}

// Point is one value in time.
type Point struct {
	At    time.Time `json:"at"`
	Value float64   `json:"value"`
}
