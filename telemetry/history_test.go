package telemetry

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/wardnet/wardnet/inventory"
)

func openHistory(t *testing.T, dir string) *History {
	t.Helper()
	h, err := OpenHistory(HistoryDeps{
		Dir: dir, Log: slog.New(slog.DiscardHandler), Reg: prometheus.NewPedanticRegistry(),
		Labels: func(d inventory.DeviceID, object string) (inventory.SiteID, inventory.CarrierID) {
			if object == "" {
				return "s-1", ""
			}
			return "s-1", "vnpt"
		},
	}, HistoryConfig{MaxPoints: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func fill(h *History, now time.Time) {
	for i := range 60 {
		at := now.Add(time.Duration(i-60) * 10 * time.Second)
		h.Append(Sample{Device: "d-1", Metric: InOctets, Object: "c-1", Value: float64(1000 * i), At: at})
		h.Append(Sample{Device: "d-1", Metric: CircuitUp, Object: "c-1", Value: 1, At: at})
		h.Append(Sample{Device: "d-2", Metric: DeviceUp, Value: 1, At: at})
	}
}

func TestHistoryKeepsAndAnswers(t *testing.T) {
	dir, now := t.TempDir(), time.Now().UTC().Truncate(time.Second)
	h := openHistory(t, dir)
	fill(h, now)
	h.Commit()
	if h.Stored() != 180 {
		t.Fatalf("stored %d of 180", h.Stored())
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h = openHistory(t, dir) // what was committed is still there
	defer h.Close()         //nolint:errcheck // the test is over
	got, err := h.Range(t.Context(), RangeQuery{Metric: InOctets, Device: "d-1", From: now.Add(-5 * time.Minute), To: now, Step: 10 * time.Second})
	if err != nil || len(got) != 1 || got[0].Object != "c-1" || got[0].Site != "s-1" || len(got[0].Points) < 30 {
		t.Fatalf("range %+v, %v", got, err)
	}
	if v := got[0].Points[10].Value; math.Abs(v-100) > 1 {
		t.Errorf("rate %v, want 100/s", v)
	}
	if got, err := h.Range(t.Context(), RangeQuery{Metric: CircuitUp, Object: "c-1", From: now.Add(-time.Minute), To: now, Step: time.Second}); err != nil || len(got) != 1 || got[0].Points[0].Value != 1 {
		t.Errorf("range %+v, %v", got, err)
	}
	for name, q := range map[string]RangeQuery{
		"unknown metric": {Metric: "up", From: now, To: now, Step: time.Second},
		"short step":     {Metric: DeviceUp, From: now, To: now, Step: time.Millisecond},
		"backwards":      {Metric: DeviceUp, From: now, To: now.Add(-time.Hour), Step: time.Second},
		"too much":       {Metric: DeviceUp, From: now.Add(-time.Hour), To: now, Step: time.Second},
	} {
		if _, err := h.Range(t.Context(), q); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// One sample hours ahead on one series would make the database refuse every
// other series until the clock catches up.
func TestOneBadClockHurtsNobodyElse(t *testing.T) {
	h := openHistory(t, t.TempDir())
	defer h.Close() //nolint:errcheck // the test is over
	now := time.Now()
	h.Append(Sample{Device: "bad", Metric: DeviceUp, Value: 1, At: now.Add(3 * time.Hour)})
	h.Append(Sample{Device: "bad", Metric: CircuitUp, Object: "c", Value: 1, At: now.Add(-300 * time.Hour)})
	h.Commit()
	h.Append(Sample{Device: "good", Metric: DeviceUp, Value: 1, At: now})
	h.Append(Sample{Device: "good", Metric: DeviceUp, Value: 1, At: now.Add(-time.Minute)}) // out of order
	h.Append(Sample{Device: "good", Metric: DeviceUp, Value: 0, At: now})                   // another value for the same time
	h.Append(Sample{Device: "good", Metric: "no_such_metric", Value: 0, At: now})
	h.Commit()
	if h.Stored() != 3 || testutil.ToFloat64(h.m.clamped) != 2 {
		t.Errorf("stored %d, clamped %v", h.Stored(), testutil.ToFloat64(h.m.clamped))
	}
	for reason, want := range map[string]float64{"out_of_order": 1, "duplicate": 1, "other": 1, "out_of_bounds": 0} {
		if n := testutil.ToFloat64(h.m.refused.WithLabelValues(reason)); n != want {
			t.Errorf("refused %s: %v, want %v", reason, n, want)
		}
	}
}

func TestPromQLAPI(t *testing.T) {
	h := openHistory(t, t.TempDir())
	defer h.Close() //nolint:errcheck // the test is over
	now := time.Now().UTC().Truncate(time.Second)
	fill(h, now)
	h.Append(Sample{Device: "d-2", Metric: DeviceUp, Value: math.NaN(), At: now}) // retired
	h.Commit()
	srv := httptest.NewServer(h.API())
	defer srv.Close()
	unix := func(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }
	for name, tt := range map[string]struct {
		path string
		form url.Values
		code int
		want string // in the body
	}{
		"instant":     {"query", url.Values{"query": {`circuit_up`}, "time": {unix(-10 * time.Second)}}, 200, `"result":[{"metric":{"__name__":"circuit_up","carrier":"vnpt","device":"d-1","object":"c-1","site":"s-1"},"value":[` + unix(-10*time.Second) + `,"1"]}]`},
		"ended":       {"query", url.Values{"query": {`device_up{device="d-2"}`}, "time": {unix(0)}}, 200, `"result":[]`},
		"scalar":      {"query", url.Values{"query": {`1/0`}, "time": {"1.5"}}, 200, `"result":[1.5,"+Inf"]`},
		"string":      {"query", url.Values{"query": {`"x\"y"`}, "time": {"1"}}, 200, `"result":[1,"x\"y"]`},
		"range":       {"query_range", url.Values{"query": {`sum by (carrier) (rate(interface_in_octets_total[1m]))`}, "start": {unix(-3 * time.Minute)}, "end": {unix(-2 * time.Minute)}, "step": {"1m"}}, 200, `"result":[{"metric":{"carrier":"vnpt"},"values":[[` + unix(-3*time.Minute) + `,"100"],[`},
		"series":      {"series", url.Values{"match[]": {`{device="d-1"}`, `circuit_up`}}, 200, `{"__name__":"interface_in_octets_total"`},
		"labels":      {"labels", nil, 200, `["__name__","carrier","device","object","site"]`},
		"values":      {"label/device/values", nil, 200, `["d-1","d-2"]`},
		"metadata":    {"metadata", nil, 200, `"tunnel_loss_ratio":[{`},
		"build":       {"status/buildinfo", nil, 200, `"version"`},
		"bad query":   {"query", url.Values{"query": {`sum(`}}, 400, `"errorType":"bad_data"`},
		"bad time":    {"query", url.Values{"query": {`1`}, "time": {"yesterday"}}, 400, `neither Unix seconds`},
		"too many":    {"query_range", url.Values{"query": {`1`}, "start": {"0"}, "end": {"100000"}, "step": {"1"}}, 400, `longer step`},
		"no step":     {"query_range", url.Values{"query": {`1`}, "start": {"0"}, "end": {"1"}}, 400, `step`},
		"no selector": {"series", nil, 400, `match[]`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{"GET", "POST"} {
				target, body := srv.URL+"/api/v1/"+tt.path, strings.NewReader("")
				if method == "GET" {
					target += "?" + tt.form.Encode()
				} else {
					body = strings.NewReader(tt.form.Encode())
				}
				req, err := http.NewRequestWithContext(t.Context(), method, target, body)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				var raw json.RawMessage
				err = json.NewDecoder(resp.Body).Decode(&raw)
				resp.Body.Close() //nolint:errcheck // read to its end
				if err != nil || resp.StatusCode != tt.code || !strings.Contains(string(raw), tt.want) {
					t.Errorf("%s %s: %d %s, %v; want %d with %s", method, tt.path, resp.StatusCode, raw, err, tt.code, tt.want)
				}
			}
		})
	}
}

func BenchmarkExposition(b *testing.B) {
	e := newExposition(func(inventory.DeviceID, string) (inventory.SiteID, inventory.CarrierID) { return "s-26740", "vnpt" }, time.Hour)
	now := time.Now()
	for i := range 100_000 {
		e.add(InOctets, inventory.DeviceID(fmt.Sprintf("d-%d", i/10)), "c-1").set(float64(i), now)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := e.write(discardWriter{}, now); err != nil {
			b.Fatal(err)
		}
	}
}

type discardWriter struct{}

func (discardWriter) Write(p []byte) (int, error) { return len(p), nil }
