package acmeca

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/smallstep/certificates/acme"
	"golang.org/x/time/rate"
)

// maxBody bounds a request: a CSR with 100 names fits.
const maxBody = 128 << 10

// Prefix is the path that ACME is served under; the directory is at
// /acme/acme/directory, as with step-ca.
const Prefix = "/acme/acme/"

// Handler wraps smallstep's handlers, which expect the authority and the ACME
// parts in the context: it bounds bodies and the making of rows, writes orders
// whole, and adds renewal information.
func (s *Server) Handler(next http.Handler) http.Handler {
	rows := rate.NewLimiter(200, 2000)
	mux := http.NewServeMux()
	if len(s.cfg.Allow) == 0 {
		mux.HandleFunc(Prefix, func(w http.ResponseWriter, r *http.Request) {
			e := acme.NewDetailedError(acme.ErrorUnauthorizedType, "ACME is off; name what may be certified in acme.allow of the configuration")
			e.Status = http.StatusForbidden
			problem(w, r, s, e)
		})
		return mux
	}
	mux.HandleFunc("GET "+Prefix+"renewal-info/{id}", s.RenewalInfo)
	mux.HandleFunc("GET "+Prefix+"directory", func(w http.ResponseWriter, r *http.Request) { directory(w, r, next) })
	mux.HandleFunc("POST "+Prefix, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			problem(w, r, s, acme.NewDetailedError(acme.ErrorMalformedType, "the request has over %d bytes, or broke off", maxBody))
			return
		}
		switch r.URL.Path {
		case Prefix + "new-order", Prefix + "new-account":
			if !rows.Allow() {
				w.Header().Set("Retry-After", "2")
				e := acme.NewDetailedError(acme.ErrorRateLimitedType, "too many orders at once; try again")
				e.Status = http.StatusTooManyRequests
				problem(w, r, s, e)
				return
			}
			r = r.WithContext(context.WithValue(r.Context(), draftKey{}, &draft{replaces: replacesOf(body)}))
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
	mux.Handle(Prefix, next)
	return mux
}

// replacesOf reads the field of a new order that smallstep's handler does not
// know (RFC 9773 §5). The handler verifies the signature over all of it before
// the order is kept.
func replacesOf(body []byte) string {
	var jws struct {
		Payload string `json:"payload"`
	}
	if json.Unmarshal(body, &jws) != nil {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(jws.Payload, "="))
	var order struct {
		Replaces string `json:"replaces"`
	}
	if err != nil || json.Unmarshal(payload, &order) != nil {
		return ""
	}
	return order.Replaces
}

// page keeps an answer of another handler.
type page struct {
	header http.Header
	status int
	bytes.Buffer
}

func (p *page) Header() http.Header    { return p.header }
func (p *page) WriteHeader(status int) { p.status = status }

// directory adds the resource of RFC 9773 to smallstep's directory.
func directory(w http.ResponseWriter, r *http.Request, next http.Handler) {
	p := &page{header: w.Header(), status: http.StatusOK}
	next.ServeHTTP(p, r)
	var dir map[string]any
	if p.status == http.StatusOK && json.Unmarshal(p.Bytes(), &dir) == nil {
		if nonce, ok := dir["newNonce"].(string); ok {
			dir["renewalInfo"] = strings.TrimSuffix(nonce, "new-nonce") + "renewal-info"
			if body, err := json.Marshal(dir); err == nil {
				p.Buffer = *bytes.NewBuffer(append(body, '\n'))
			}
		}
	}
	p.header.Del("Content-Length")
	w.WriteHeader(p.status)
	w.Write(p.Bytes()) //nolint:errcheck // the client is gone
}

// problem answers with a problem document (RFC 7807, RFC 8555 §6.7). The text of
// an unknown error goes to the log, never to the caller.
func problem(w http.ResponseWriter, r *http.Request, s *Server, err error) {
	e := &acme.Error{}
	if !errors.As(err, &e) {
		s.deps.Log.ErrorContext(r.Context(), "ACME request failed", "path", r.URL.Path, "remote", r.RemoteAddr, "err", err)
		e = acme.NewErrorISE("internal error")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(e.Status)
	json.NewEncoder(w).Encode(e) //nolint:errcheck // the client is gone
}
