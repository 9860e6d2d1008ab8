package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/wardnet/wardnet/inventory"
)

// Deps are what an Engine cannot work without.
type Deps struct {
	Bundle *Bundle
	Log    Log
	Slog   *slog.Logger
	Reg    prometheus.Registerer // nil: metrics work, nobody collects them
}

// Config are the knobs; zero means default.
type Config struct {
	Deadline time.Duration // for one evaluation; default 100 ms, past it the answer is Deny
}

// Engine answers requests from one bundle and one view of the facts. Facts are
// swapped whole; a request sees the old ones or the new ones, never a mixture.
type Engine struct {
	deps    Deps
	cfg     Config
	metrics *metrics
	store   storage.Store
	allow   rego.PreparedEvalQuery
	grant   rego.PreparedEvalQuery
	reasons rego.PreparedEvalQuery

	mu    sync.RWMutex // guards facts and the store's content against a swap in mid-request
	facts Facts
}

// New prepares the bundle's queries. The engine denies everything with
// [CodeFactsNotAvailable] until the first SetFacts.
func New(ctx context.Context, deps Deps, cfg Config) (*Engine, error) {
	if cfg.Deadline == 0 {
		cfg.Deadline = 100 * time.Millisecond
	}
	data := map[string]any{"facts": map[string]any{}}
	for k, v := range deps.Bundle.data {
		data[k] = v
	}
	e := &Engine{deps: deps, cfg: cfg, metrics: newMetrics(deps.Reg), store: inmem.NewFromObjectWithOpts(data, inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true))}
	for query, into := range map[string]*rego.PreparedEvalQuery{"allow": &e.allow, "grant": &e.grant, "reasons": &e.reasons} {
		pq, err := rego.New(rego.Query("x = data.wardnet.zerotrust."+query), rego.Compiler(deps.Bundle.compiler), rego.Store(e.store), rego.StrictBuiltinErrors(true)).PrepareForEval(ctx)
		if err != nil {
			return nil, fmt.Errorf("%w: the bundle lacks data.wardnet.zerotrust.%s: %w", inventory.ErrInvalid, query, err)
		}
		*into = pq
	}
	return e, nil
}

// Revision is the bundle in force.
func (e *Engine) Revision() string { return e.deps.Bundle.Revision }

// SetFacts puts f in force for every request after it returns.
func (e *Engine) SetFacts(ctx context.Context, f Facts) error {
	raw, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode facts %d: %w", f.Revision, err)
	}
	v, err := ast.ValueFromReader(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("load facts %d: %w", f.Revision, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := storage.WriteOne(ctx, e.store, storage.ReplaceOp, storage.MustParsePath("/facts"), v); err != nil {
		return fmt.Errorf("put facts %d in force: %w", f.Revision, err)
	}
	e.facts = f
	e.metrics.factsRevision.Set(float64(f.Revision))
	return nil
}

// Decide answers req. The answer is logged before it is returned; if it cannot
// be logged the answer is Deny, for an unrecorded Allow cannot be reviewed.
func (e *Engine) Decide(ctx context.Context, req Request) Decision {
	start := time.Now()
	d := e.Eval(ctx, req)
	id, err := uuid.NewV7()
	if err == nil {
		d.ID = id.String()
		err = e.deps.Log.Append(ctx, req, d)
	}
	if err != nil {
		e.deps.Slog.ErrorContext(ctx, "decision not logged, denied", "err", err)
		d = denial(d, CodeLogUnavailable, "the decision log is not available: "+err.Error())
	}
	e.metrics.observe(d, time.Since(start))
	return d
}

// Eval is Decide without id and log: pure for given facts, for tests, replay
// and what-if. Undefined, error and deadline are denials with their own codes.
func (e *Engine) Eval(ctx context.Context, req Request) Decision {
	e.mu.RLock() // held by a swap of the facts for microseconds only
	defer e.mu.RUnlock()
	ctx, cancel := context.WithTimeoutCause(ctx, e.cfg.Deadline, fmt.Errorf("evaluation took over %s", e.cfg.Deadline))
	defer cancel()
	d := Decision{PolicyRev: e.Revision(), DataRev: e.facts.Revision, Rule: "default-deny", Facts: e.used(req)}
	if e.facts.Revision == 0 {
		return denial(d, CodeFactsNotAvailable, "no facts have been loaded yet")
	}
	in, err := ast.InterfaceToValue(map[string]any{
		"subject": req.Subject, "device": string(req.Device), "segment": string(req.Segment),
		"application": string(req.Application), "action": req.Action, "at_ns": json.Number(fmt.Sprint(req.At.UnixNano())),
	})
	if err != nil {
		return denial(d, CodeEvaluationError, err.Error())
	}
	var allow bool
	if err := one(ctx, e.allow, in, &allow); err != nil {
		return denial(d, failure(ctx, err), err.Error())
	}
	if ctx.Err() != nil { // a late allow is no allow
		return denial(d, CodeDeadline, context.Cause(ctx).Error())
	}
	if allow {
		var g struct {
			Rule       string `json:"rule"`
			TTLSeconds int64  `json:"ttl_seconds"`
		}
		if err := one(ctx, e.grant, in, &g); err != nil {
			return denial(d, failure(ctx, err), err.Error())
		}
		d.Allow, d.Code, d.Rule, d.TTL = true, CodeAllowed, g.Rule, time.Duration(g.TTLSeconds)*time.Second
		return d
	}
	var found []ranked
	if err := one(ctx, e.reasons, in, &found); err != nil {
		return denial(d, failure(ctx, err), err.Error())
	}
	if len(found) == 0 {
		return denial(d, CodeUndefined, "the policy denies without a reason")
	}
	slices.SortFunc(found, func(a, b ranked) int { return a.Rank - b.Rank })
	for _, r := range found {
		r.Remedy, r.RemedyVI = remedy(r.Code)
		d.Reasons = append(d.Reasons, r.Reason)
	}
	d.Code, d.Rule = d.Reasons[0].Code, d.Reasons[0].Rule
	return d
}

type ranked struct {
	Rank int `json:"rank"`
	Reason
}

// used are the resolved facts of one request, kept with the decision.
func (e *Engine) used(req Request) any {
	out := map[string]any{}
	if s, ok := e.facts.Subjects[req.Subject]; ok {
		out["subject"] = s
	}
	if d, ok := e.facts.Devices[req.Device]; ok {
		out["device"] = d
	}
	if a, ok := e.facts.Applications[req.Application]; ok {
		out["application"] = a
	}
	return out
}

var errUndefined = errors.New("the policy gives no answer")

func one(ctx context.Context, q rego.PreparedEvalQuery, in ast.Value, into any) error {
	rs, err := q.Eval(ctx, rego.EvalParsedInput(in))
	if err != nil {
		return err
	}
	if len(rs) != 1 {
		return errUndefined
	}
	raw, err := json.Marshal(rs[0].Bindings["x"])
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

func failure(ctx context.Context, err error) Code {
	switch {
	case errors.Is(err, errUndefined):
		return CodeUndefined
	case ctx.Err() != nil:
		return CodeDeadline
	}
	return CodeEvaluationError
}

func denial(d Decision, code Code, detail string) Decision {
	en, vi := remedy(code)
	d.Allow, d.TTL, d.Code, d.Rule, d.Detail = false, 0, code, "fail-closed", detail
	d.Reasons = []Reason{{Code: code, Rule: "fail-closed", Attribute: "engine", Value: string(code), Want: "an answer", Remedy: en, RemedyVI: vi}}
	return d
}
