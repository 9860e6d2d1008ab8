// Package authzen answers the OpenID AuthZEN Authorization API 1.0 for any
// application: POST /access/v1/evaluation.
package authzen

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/policy"
)

// Decider answers one request; [policy.Engine] is one.
type Decider interface {
	Decide(ctx context.Context, req policy.Request) policy.Decision
}

// maxBody bounds a request: an evaluation is a few hundred bytes.
const maxBody = 64 << 10

// Evaluation is the request of AuthZEN 1.0 §5: who, what, on what, in which
// context. Properties and unknown members are accepted and not believed: facts
// come from the controller, only context.device and context.segment from the PEP.
type Evaluation struct {
	Subject  *Entity `json:"subject"`
	Action   *Action `json:"action"`
	Resource *Entity `json:"resource"`
	Context  struct {
		Device  inventory.DeviceID    `json:"device"`
		Segment inventory.SegmentKind `json:"segment"`
	} `json:"context"`
}

// Entity is a subject or a resource.
type Entity struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// Action is what the subject wants to do.
type Action struct {
	Name string `json:"name"`
}

// Answer is the response: the decision, and in its context why.
type Answer struct {
	Decision bool          `json:"decision"`
	Context  AnswerContext `json:"context"`
}

// AnswerContext explains the decision; every denial names rule, attribute,
// value, revision and what would fix it.
type AnswerContext struct {
	ID             string          `json:"id"`
	Code           policy.Code     `json:"code"`
	Rule           string          `json:"rule"`
	Reasons        []policy.Reason `json:"reasons"`
	TTLSeconds     int64           `json:"ttl_seconds"`
	PolicyRevision string          `json:"policy_revision"`
	DataRevision   uint64          `json:"data_revision"`
}

// Handler serves the API to PEPs whose client certificate the listener has
// already verified; pep names the caller from it.
func Handler(d Decider, pep func(*http.Request) (string, error)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /access/v1/evaluation", func(w http.ResponseWriter, r *http.Request) {
		if id := r.Header.Get("X-Request-ID"); id != "" && len(id) <= 128 {
			w.Header().Set("X-Request-ID", id) // AuthZEN 1.0: echoed
		}
		name, err := pep(r)
		if err != nil {
			problem(w, http.StatusUnauthorized, fmt.Sprintf("the caller is not a known PEP: %v", err))
			return
		}
		req, err := Decode(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			problem(w, http.StatusBadRequest, err.Error())
			return
		}
		req.PEP, req.At = name, time.Now().UTC()
		ans := d.Decide(r.Context(), req)
		write(w, http.StatusOK, answer(ans))
	})
	return mux
}

func answer(d policy.Decision) Answer {
	return Answer{Decision: d.Allow, Context: AnswerContext{
		ID: d.ID, Code: d.Code, Rule: d.Rule, Reasons: d.Reasons, TTLSeconds: int64(d.TTL / time.Second),
		PolicyRevision: d.PolicyRev, DataRevision: d.DataRev,
	}}
}

// Decode reads an evaluation; all missing members are reported at once.
func Decode(body interface{ Read([]byte) (int, error) }) (policy.Request, error) {
	var e Evaluation
	dec := json.NewDecoder(body)
	if err := dec.Decode(&e); err != nil {
		return policy.Request{}, fmt.Errorf("%w: the body is not an AuthZEN evaluation: %w", inventory.ErrInvalid, err)
	}
	if dec.More() {
		return policy.Request{}, fmt.Errorf("%w: the body holds more than one JSON value", inventory.ErrInvalid)
	}
	var faults []error
	need := func(ok bool, what string) {
		if !ok {
			faults = append(faults, fmt.Errorf("%w: %s is missing", inventory.ErrInvalid, what))
		}
	}
	need(e.Subject != nil && e.Subject.ID != "", "subject.id")
	need(e.Subject != nil && e.Subject.Type != "", "subject.type")
	need(e.Action != nil && e.Action.Name != "", "action.name")
	need(e.Resource != nil && e.Resource.ID != "", "resource.id")
	need(e.Resource != nil && e.Resource.Type != "", "resource.type")
	if err := errors.Join(faults...); err != nil {
		return policy.Request{}, err
	}
	return policy.Request{
		Subject: e.Subject.ID, Action: e.Action.Name, Application: inventory.ApplicationID(e.Resource.ID),
		Device: e.Context.Device, Segment: e.Context.Segment,
	}, nil
}

func problem(w http.ResponseWriter, code int, text string) {
	write(w, code, map[string]any{"status": code, "error": text})
}

func write(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the client is gone when this fails
}
