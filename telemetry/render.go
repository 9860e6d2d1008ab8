package telemetry

import (
	"encoding/json"
	"math"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// render writes a query's result in the API's form, [seconds,"value"], without
// reflection over the points.
func render(v parser.Value) []byte {
	b := append([]byte(`{"status":"success","data":{"resultType":"`), v.Type()...)
	b = append(b, `","result":`...)
	switch t := v.(type) {
	case promql.Scalar:
		b = appendPoint(b, t.T, t.V)
	case promql.String:
		b = append(appendSeconds(append(b, '['), t.T), ',')
		b = append(appendJSON(b, t.V), ']')
	case promql.Vector:
		b = append(b, '[')
		for i, s := range t {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendLabels(b, s.Metric), `,"value":`...)
			b = append(appendPoint(b, s.T, s.F), '}')
		}
		b = append(b, ']')
	case promql.Matrix:
		b = append(b, '[')
		for i, s := range t {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendLabels(b, s.Metric), `,"values":[`...)
			for j, p := range s.Floats {
				if j > 0 {
					b = append(b, ',')
				}
				b = appendPoint(b, p.T, p.F)
			}
			b = append(b, ']', '}')
		}
		b = append(b, ']')
	default:
		b = append(b, `[]`...)
	}
	return append(b, '}', '}')
}

// appendLabels opens the object of one series.
func appendLabels(b []byte, l labels.Labels) []byte {
	b = append(b, `{"metric":{`...)
	first := true
	l.Range(func(l labels.Label) {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendJSON(b, l.Name), ':')
		b = appendJSON(b, l.Value)
	})
	return append(b, '}')
}

func appendPoint(b []byte, t int64, v float64) []byte {
	b = append(appendSeconds(append(b, '['), t), ',', '"')
	switch {
	case math.IsInf(v, 1):
		b = append(b, "+Inf"...)
	case math.IsInf(v, -1):
		b = append(b, "-Inf"...)
	default:
		b = strconv.AppendFloat(b, v, 'f', -1, 64)
	}
	return append(b, '"', ']')
}

// appendSeconds writes ms as seconds with up to three decimals.
func appendSeconds(b []byte, ms int64) []byte {
	return strconv.AppendFloat(b, float64(ms)/1000, 'f', -1, 64)
}

func appendJSON(b []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...) // a string always marshals
	}
	return append(b, q...)
}
