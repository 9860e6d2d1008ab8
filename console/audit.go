package console

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/console/people"
)

// trail is what is known of one request for its audit entry.
type trail struct {
	id       string // request id, also in the answer's X-Request-ID
	op       string
	by       people.Principal // zero: nobody is known
	name     string           // who signs in, where by is not known yet
	from     string           // address or "unix"
	cookie   string           // session cookie as sent
	object   string
	before   any
	after    any
	recorded bool
}

type trailKey struct{}

// trailOf never returns nil.
func trailOf(ctx context.Context) *trail {
	if t, ok := ctx.Value(trailKey{}).(*trail); ok {
		return t
	}
	return &trail{}
}

// principal is who makes the request; the zero Principal when nobody is known.
func principal(ctx context.Context) people.Principal { return trailOf(ctx).by }

// about names the object a write is about.
func about(ctx context.Context, object string) { trailOf(ctx).object = object }

// changed notes what a write found and left; nil means nothing.
func changed(ctx context.Context, before, after any) {
	t := trailOf(ctx)
	t.before, t.after = before, after
}

// Outcomes of a write.
const (
	outcomeDone    = "done"
	outcomeRefused = "refused" // by rule or because the request was wrong
	outcomeFailed  = "failed"  // something broke; what was reached is unknown
)

func outcomeOf(status int) string {
	switch {
	case status >= http.StatusInternalServerError:
		return outcomeFailed
	case status >= http.StatusBadRequest:
		return outcomeRefused
	}
	return outcomeDone
}

// auditor stores entries. An entry that cannot be stored is kept and tried
// again before the next write, which is refused if that fails too: at most the
// writes under way at the moment the log broke are ever ahead of it.
type auditor struct {
	log     Audit
	slog    *slog.Logger
	metrics *metrics
	flood   *rate.Limiter // of entries about strangers

	mu      sync.Mutex
	pending []client.AuditEntry
}

// auditWait bounds one attempt; the entry outlives its request's context.
const auditWait = 10 * time.Second

func newAuditor(log Audit, l *slog.Logger, m *metrics) *auditor {
	return &auditor{log: log, slog: l, metrics: m, flood: rate.NewLimiter(5, 100)}
}

// ready stores what is pending, or says why writes must wait.
func (a *auditor) ready(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.flush(ctx)
}

func (a *auditor) flush(ctx context.Context) error {
	for len(a.pending) > 0 {
		if err := a.append(ctx, a.pending[0]); err != nil {
			return err
		}
		a.pending = a.pending[1:]
		a.metrics.pending.Set(float64(len(a.pending)))
	}
	return nil
}

func (a *auditor) append(ctx context.Context, e client.AuditEntry) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditWait)
	defer cancel()
	_, err := a.log.Append(ctx, e)
	return err
}

// record stores the entry of one write.
func (a *auditor) record(ctx context.Context, t *trail, outcome, reason string) {
	t.recorded = true
	if t.by.Via == "" && outcome == outcomeRefused && !a.flood.Allow() {
		return // strangers must not fill the log; they are counted and in the access metrics
	}
	e := client.AuditEntry{
		At: time.Now().UTC(), Who: cmp.Or(t.by.Name, t.name), From: t.from, What: t.op, Object: t.object,
		Before: document(t.before), After: document(t.after), Outcome: outcome, Reason: reason,
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.flush(ctx)
	if err == nil {
		err = a.append(ctx, e)
	}
	if err != nil {
		a.pending = append(a.pending, e)
		a.metrics.audit.Inc()
		a.metrics.pending.Set(float64(len(a.pending)))
		a.slog.ErrorContext(ctx, "audit entry not stored, writes are refused until it is", "operation", e.What, "object", e.Object, "user", e.Who, "outcome", outcome, "err", err)
	}
}

func document(v any) json.RawMessage {
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		b, _ = json.Marshal("not shown: " + err.Error())
	}
	return b
}
