package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
)

const maxBody = 1 << 20 // bytes of a form

// API serves Prometheus' HTTP API under /api/v1, read only: query,
// query_range, series, labels, label values, metadata and build information.
func (h *History) API() http.Handler {
	mux := http.NewServeMux()
	both := func(path string, fn http.HandlerFunc) {
		guarded := func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			if err := r.ParseForm(); err != nil {
				fail(w, http.StatusBadRequest, "bad_data", err)
				return
			}
			fn(w, r)
		}
		mux.HandleFunc("GET /api/v1/"+path, guarded)
		mux.HandleFunc("POST /api/v1/"+path, guarded)
	}
	both("query", h.query)
	both("query_range", h.queryRange)
	both("series", h.seriesOf)
	both("labels", h.labelNames)
	both("label/{name}/values", h.labelValues)
	both("metadata", func(w http.ResponseWriter, _ *http.Request) {
		out := map[string][]map[string]string{}
		for _, m := range Catalogue {
			typ := "gauge"
			if m.Kind == Counter {
				typ = "counter"
			}
			out[m.Name] = []map[string]string{{"type": typ, "help": m.Help, "unit": m.Unit}}
		}
		succeed(w, out)
	})
	both("status/buildinfo", func(w http.ResponseWriter, _ *http.Request) {
		succeed(w, map[string]string{"version": "2.55.0", "application": "wardnet"}) // the API level clients look for
	})
	return mux
}

func (h *History) query(w http.ResponseWriter, r *http.Request) {
	at, err := formTime(r, "time", time.Now())
	if err != nil {
		fail(w, http.StatusBadRequest, "bad_data", err)
		return
	}
	h.exec(w, r, func(ctx context.Context) (promql.Query, error) {
		return h.engine.NewInstantQuery(ctx, h.db, nil, r.Form.Get("query"), at)
	})
}

func (h *History) queryRange(w http.ResponseWriter, r *http.Request) {
	from, err1 := formTime(r, "start", time.Time{})
	to, err2 := formTime(r, "end", time.Time{})
	step, err3 := formDuration(r.Form.Get("step"))
	err := errors.Join(err1, err2, err3)
	switch {
	case err != nil:
	case from.IsZero() || to.IsZero():
		err = errors.New("start and end are required")
	case to.Before(from):
		err = errors.New("end is before start")
	case step <= 0:
		err = errors.New("step must be positive")
	case int64(to.Sub(from)/step) > int64(h.cfg.MaxPoints):
		err = fmt.Errorf("over %d points per series; use a longer step", h.cfg.MaxPoints)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "bad_data", err)
		return
	}
	h.exec(w, r, func(ctx context.Context) (promql.Query, error) {
		return h.engine.NewRangeQuery(ctx, h.db, nil, r.Form.Get("query"), from, to, step)
	})
}

func (h *History) exec(w http.ResponseWriter, r *http.Request, mk func(context.Context) (promql.Query, error)) {
	ctx, cancel := context.WithTimeoutCause(r.Context(), h.cfg.Timeout, fmt.Errorf("query took over %s", h.cfg.Timeout))
	defer cancel()
	q, err := mk(ctx)
	if err != nil {
		fail(w, http.StatusBadRequest, "bad_data", err)
		return
	}
	defer q.Close() // the result belongs to the engine's pool until then
	res := q.Exec(ctx)
	if res.Err != nil {
		code, kind := queryFault(res.Err)
		fail(w, code, kind, res.Err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(render(res.Value)) //nolint:errcheck // the client went away; nobody is left to tell
}

func queryFault(err error) (int, string) {
	var (
		canceled promql.ErrQueryCanceled
		timeout  promql.ErrQueryTimeout
		storage  promql.ErrStorage
	)
	switch {
	case errors.As(err, &canceled):
		return 499, "canceled"
	case errors.As(err, &timeout):
		return http.StatusServiceUnavailable, "timeout"
	case errors.As(err, &storage):
		return http.StatusInternalServerError, "internal"
	}
	return http.StatusUnprocessableEntity, "execution"
}

// selectors parses match[] and the time range of a metadata request. A range
// of zeroes would find nothing in blocks, so it defaults to everything.
func (h *History) selectors(r *http.Request) (sets [][]*labels.Matcher, mint, maxt int64, err error) {
	from, err1 := formTime(r, "start", time.Unix(0, 0))
	to, err2 := formTime(r, "end", time.Now().Add(h.cfg.Future))
	sets, err3 := h.parser.ParseMetricSelectors(r.Form["match[]"])
	return sets, from.UnixMilli(), to.UnixMilli(), errors.Join(err1, err2, err3)
}

func (h *History) seriesOf(w http.ResponseWriter, r *http.Request) {
	sets, mint, maxt, err := h.selectors(r)
	if err == nil && len(sets) == 0 {
		err = errors.New("no match[] parameter")
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "bad_data", err)
		return
	}
	q, err := h.db.Querier(mint, maxt)
	if err != nil {
		fail(w, http.StatusInternalServerError, "internal", err)
		return
	}
	defer q.Close() //nolint:errcheck // a reader's close loses nothing
	limit := formLimit(r)
	out, seen := []map[string]string{}, map[uint64]bool{}
	hints := &storage.SelectHints{Start: mint, End: maxt, Func: "series"}
	for _, set := range sets {
		found := q.Select(r.Context(), true, hints, set...)
		for found.Next() && len(out) < limit {
			if l := found.At().Labels(); !seen[l.Hash()] {
				seen[l.Hash()] = true
				out = append(out, l.Map())
			}
		}
		if err := found.Err(); err != nil {
			fail(w, http.StatusUnprocessableEntity, "execution", err)
			return
		}
	}
	succeed(w, out)
}

func (h *History) labelNames(w http.ResponseWriter, r *http.Request) {
	h.union(w, r, func(q storage.Querier, set []*labels.Matcher) ([]string, error) {
		names, _, err := q.LabelNames(r.Context(), nil, set...)
		return names, err
	})
}

func (h *History) labelValues(w http.ResponseWriter, r *http.Request) {
	h.union(w, r, func(q storage.Querier, set []*labels.Matcher) ([]string, error) {
		values, _, err := q.LabelValues(r.Context(), r.PathValue("name"), nil, set...)
		return values, err
	})
}

// union answers with the sorted union over all match[].
func (h *History) union(w http.ResponseWriter, r *http.Request, of func(storage.Querier, []*labels.Matcher) ([]string, error)) {
	sets, mint, maxt, err := h.selectors(r)
	if err != nil {
		fail(w, http.StatusBadRequest, "bad_data", err)
		return
	}
	q, err := h.db.Querier(mint, maxt)
	if err != nil {
		fail(w, http.StatusInternalServerError, "internal", err)
		return
	}
	defer q.Close() //nolint:errcheck // a reader's close loses nothing
	if len(sets) == 0 {
		sets = [][]*labels.Matcher{nil}
	}
	out := []string{}
	for _, set := range sets {
		values, err := of(q, set)
		if err != nil {
			fail(w, http.StatusUnprocessableEntity, "execution", err)
			return
		}
		out = append(out, values...)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	succeed(w, slices.Clone(out[:min(len(out), formLimit(r))]))
}

func formLimit(r *http.Request) int {
	n, err := strconv.Atoi(r.Form.Get("limit"))
	if err != nil || n <= 0 || n > 100_000 {
		return 100_000
	}
	return n
}

// formTime reads Unix seconds, with a fraction, or RFC 3339.
func formTime(r *http.Request, name string, absent time.Time) (time.Time, error) {
	v := r.Form.Get(name)
	if v == "" {
		return absent, nil
	}
	if f, err := strconv.ParseFloat(v, 64); err == nil && math.Abs(f) < 1e11 {
		s, frac := math.Modf(f)
		return time.Unix(int64(s), int64(math.Round(frac*1000))*1e6).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %q is neither Unix seconds nor RFC 3339", name, v)
	}
	return t, nil
}

// formDuration reads seconds, with a fraction, or a duration such as 5m or 1d.
func formDuration(v string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(v, 64); err == nil && math.Abs(f) < 1e9 {
		return time.Duration(f * float64(time.Second)), nil
	}
	if days, ok := strings.CutSuffix(v, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		return 0, fmt.Errorf("step: %q is neither seconds nor a duration such as 30s", v)
	}
	return d, nil
}

func fail(w http.ResponseWriter, code int, kind string, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": kind, "error": err.Error()}) //nolint:errcheck // the client went away
}

func succeed(w http.ResponseWriter, data any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data}) //nolint:errcheck // the client went away
}
