package telemetry

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql"

	"github.com/wardnet/wardnet/inventory"
)

// Range implements [Source].
func (h *History) Range(ctx context.Context, q RangeQuery) ([]Series, error) {
	m, ok := Lookup(q.Metric)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: no metric %q in the catalogue", inventory.ErrInvalid, q.Metric)
	case q.Step < time.Second:
		return nil, fmt.Errorf("%w: step %s is under 1 s", inventory.ErrInvalid, q.Step)
	case q.To.Before(q.From):
		return nil, fmt.Errorf("%w: the range ends at %s, before it begins", inventory.ErrInvalid, q.To.UTC().Format(time.RFC3339))
	case int(q.To.Sub(q.From)/q.Step) > h.cfg.MaxPoints:
		return nil, fmt.Errorf("%w: over %d points; ask for a longer step", inventory.ErrInvalid, h.cfg.MaxPoints)
	}
	query, err := h.engine.NewRangeQuery(ctx, h.db, nil, rangeExpr(m, q), q.From, q.To, q.Step)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", q.Metric, err)
	}
	defer query.Close() // the points belong to the engine's pool until then
	res := query.Exec(ctx)
	if res.Err != nil {
		return nil, fmt.Errorf("query %s: %w", q.Metric, res.Err)
	}
	matrix, ok := res.Value.(promql.Matrix)
	if !ok {
		return nil, fmt.Errorf("query %s: unexpected result %s", q.Metric, res.Value.Type())
	}
	out := make([]Series, 0, len(matrix))
	for _, s := range matrix {
		one := Series{
			Device: inventory.DeviceID(s.Metric.Get("device")), Site: inventory.SiteID(s.Metric.Get("site")),
			Object: s.Metric.Get("object"), Points: make([]Point, 0, len(s.Floats)),
		}
		for _, p := range s.Floats {
			if !math.IsNaN(p.F) && !math.IsInf(p.F, 0) { // JSON has neither
				one.Points = append(one.Points, Point{At: time.UnixMilli(p.T).UTC(), Value: p.F})
			}
		}
		out = append(out, one)
	}
	return out, nil
}

// rangeExpr is the PromQL of q: the value itself, or a counter's rate over at
// least four sampling intervals.
func rangeExpr(m Metric, q RangeQuery) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s{", m.Name)
	sep := ""
	for _, l := range [][2]string{{"device", string(q.Device)}, {"object", q.Object}} {
		if l[1] != "" {
			fmt.Fprintf(&b, "%s%s=%q", sep, l[0], l[1])
			sep = ","
		}
	}
	b.WriteString("}")
	if m.Kind == Counter {
		return fmt.Sprintf("rate(%s[%ds])", b.String(), int(max(q.Step, 40*time.Second).Seconds()))
	}
	return b.String()
}
