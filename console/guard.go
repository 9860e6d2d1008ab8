package console

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/console/people"
)

// CSRFHeader carries the session's token on every write made with the cookie.
const CSRFHeader = "X-CSRF-Token"

// guard runs before every operation: who is it, may they, is it really them.
func (c *Console) guard(hctx huma.Context, next func(huma.Context)) {
	op := hctx.Operation()
	r, w := humago.Unwrap(hctx)
	ctx := r.Context()
	t := trailOf(ctx)
	t.op, t.from = op.OperationID, fromOf(r)
	if ck, err := r.Cookie(people.SessionCookie); err == nil {
		t.cookie = ck.Value
	}
	write := isWrite(op)

	refuse := func(reason string, p *client.Problem) {
		c.metrics.refused.WithLabelValues(reason).Inc()
		if write {
			t.object = clip(r.Method + " " + r.URL.Path) // what it was about is its operation's to say
			c.auditor.record(ctx, t, outcomeRefused, p.Detail)
		}
		if p.Status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="wardnet"`)
		}
		writeProblem(w, p)
	}

	if !isPublic(op.OperationID) {
		p, err := c.identify(r)
		if err != nil {
			prob := problemOf(err)
			if prob == nil {
				c.deps.Log.ErrorContext(ctx, "caller not identified", "operation", t.op, "request", t.id, "err", err)
				writeProblem(w, internal(t.id))
				return
			}
			refuse("unauthenticated", prob)
			return
		}
		t.by = p
		if !may(p, op.OperationID) {
			refuse("forbidden", &client.Problem{
				Status: http.StatusForbidden, Detail: p.Name + " may not " + op.OperationID,
				Hint: "one of these roles is needed: " + roleNames(access[op.OperationID]) + "; ask an administrator",
			})
			return
		}
		if write && p.Via == people.ViaSession && !p.SameCSRF(r.Header.Get(CSRFHeader)) {
			refuse("csrf", &client.Problem{
				Status: http.StatusForbidden, Detail: "the " + CSRFHeader + " header is missing or is not this session's",
				Hint: "send the csrf value of GET " + Prefix + "/session",
			})
			return
		}
	}
	if write {
		if err := c.auditor.ready(ctx); err != nil {
			c.metrics.refused.WithLabelValues("audit").Inc()
			writeProblem(w, &client.Problem{Status: http.StatusServiceUnavailable, Detail: "the audit log cannot be written; nothing was changed", Hint: "look at the disk and the database of the controller"})
			return
		}
	}
	next(hctx)
	if write && !t.recorded { // the request did not reach its operation: it was malformed
		c.auditor.record(ctx, t, outcomeOf(hctx.Status()), "the request is malformed")
	}
}

// identify finds who sent r: a token before a cookie before the unix peer. A
// credential that is sent must be good; there is no falling back.
func (c *Console) identify(r *http.Request) (people.Principal, error) {
	ctx := r.Context()
	if auth := r.Header.Get("Authorization"); auth != "" {
		scheme, token, _ := strings.Cut(auth, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return people.Principal{}, people.ErrUnauthenticated
		}
		return c.deps.People.Bearer(ctx, strings.TrimSpace(token))
	}
	if ck, err := r.Cookie(people.SessionCookie); err == nil && ck.Value != "" {
		return c.deps.People.Session(ctx, ck.Value)
	}
	return people.PeerOf(ctx).BreakGlass(ctx, c.alarm)
}

// alarm records and reports that the glass was broken.
func (c *Console) alarm(ctx context.Context) error {
	at := time.Now().UTC()
	err := c.auditor.append(ctx, client.AuditEntry{
		At: at, Who: people.BreakGlassName, From: "unix", What: "break-glass", Object: "unix socket", Outcome: outcomeDone,
		Reason: "root connected to the unix socket",
	})
	if err != nil {
		return err
	}
	c.metrics.glass.Inc()
	c.deps.Log.WarnContext(ctx, "break-glass: root connected to the unix socket")
	if c.deps.BreakGlass != nil {
		c.deps.BreakGlass(ctx, at)
	}
	return nil
}

func fromOf(r *http.Request) string {
	if people.PeerOf(r.Context()) != nil {
		return "unix"
	}
	return r.RemoteAddr
}

// outermost gives every request its id, its security headers and its count, and
// turns a panic into a logged 500.
func (c *Console) outermost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := &trail{id: rand.Text()[:12]}
		secure(w.Header(), r)
		w.Header().Set("X-Request-ID", t.id)
		sw := &statusWriter{ResponseWriter: w, control: http.NewResponseController(w), wait: c.cfg.SendTimeout}
		if r.ContentLength != 0 {
			// Also for requests that are refused unread: the server reads the
			// rest of their body before it answers, and a stranger could hold
			// the connection with it.
			_ = sw.control.SetReadDeadline(time.Now().Add(c.cfg.BodyTimeout)) // a recorder in a test has none
		}
		defer func() {
			if v := recover(); v != nil {
				if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					panic(v) // a stream is cut on purpose
				}
				c.deps.Log.ErrorContext(r.Context(), "request panicked", "path", r.URL.Path, "request", t.id, "panic", v, "stack", string(debug.Stack()))
				if sw.status != 0 {
					panic(http.ErrAbortHandler) // the answer is under way: cut it
				}
				writeProblem(sw, internal(t.id))
			}
			if strings.HasPrefix(r.URL.Path, Prefix) {
				c.metrics.requests.WithLabelValues(classOf(sw.status)).Inc()
			}
		}()
		next.ServeHTTP(sw, r.WithContext(context.WithValue(r.Context(), trailKey{}, t)))
	})
}

func classOf(status int) string {
	switch {
	case status >= 500:
		return "5xx"
	case status >= 400:
		return "4xx"
	case status >= 300:
		return "3xx"
	}
	return "2xx"
}

// statusWriter remembers the status, and gives the client a while to take each
// piece of the answer: not a limit on the whole, for backups are large.
type statusWriter struct {
	http.ResponseWriter
	status  int
	control *http.ResponseController
	wait    time.Duration
}

func (w *statusWriter) WriteHeader(code int) {
	if w.status == 0 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	_ = w.control.SetWriteDeadline(time.Now().Add(w.wait)) // a recorder in a test has none
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach deadlines and Flush.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// secure sets what protects a browser; the API's answers are never cached.
func secure(h http.Header, r *http.Request) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	if r.TLS != nil {
		h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	}
	if strings.HasPrefix(r.URL.Path, Prefix) {
		h.Set("Cache-Control", "no-store")
	}
}
