package stepca

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/smallstep/certificates/acme"
	acmeapi "github.com/smallstep/certificates/acme/api"
	"github.com/smallstep/certificates/api"
	apilog "github.com/smallstep/certificates/api/log"
	"github.com/smallstep/certificates/api/render"
	"github.com/smallstep/certificates/authority"
	"github.com/smallstep/certificates/db"
	"github.com/smallstep/certificates/errs"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/acmeca"
)

// maxBody bounds a request: a CSR with 100 names, a token with a chain.
const maxBody = 64 << 10

// paths are the parts of step-ca's API that are served, below / and /1.0.
// What is left out is SSH, of which sshd's of ours take nothing from here.
var paths = []struct {
	method, path string
	handler      http.HandlerFunc
}{
	{"GET", "/version", api.Version},
	{"GET", "/health", api.Health},
	{"GET", "/root/{sha}", api.Root},
	{"POST", "/renew", api.Renew},
	{"POST", "/re-sign", api.Renew},
	{"POST", "/rekey", api.Rekey},
	{"POST", "/revoke", api.Revoke},
	{"GET", "/provisioners", api.Provisioners},
	{"GET", "/provisioners/{kid}/encrypted-key", api.ProvisionerKey},
	{"GET", "/roots", api.Roots},
	{"GET", "/roots.pem", api.RootsPEM},
	{"GET", "/intermediates", api.Intermediates},
	{"GET", "/intermediates.pem", api.IntermediatesPEM},
	{"GET", "/federation", api.Federation},
}

// Handler serves the step API and ACME; other requests go to next.
func (s *Server) Handler(next http.Handler) http.Handler {
	r := chi.NewRouter()
	serve := func(r chi.Router) {
		for _, p := range paths {
			r.Method(p.method, p.path, p.handler)
		}
		r.Get("/crl", s.serveCRL)
		r.Post("/sign", s.sign)
	}
	serve(r)
	r.Route("/1.0", serve)
	r.Route("/acme", func(r chi.Router) { acmeapi.Route(r) })
	r.NotFound(next.ServeHTTP)
	r.MethodNotAllowed(next.ServeHTTP)
	inner := s.guard(r)
	withACME := s.deps.ACME.Handler(inner)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, acmeca.Prefix) {
			withACME.ServeHTTP(w, r)
			return
		}
		inner.ServeHTTP(w, r)
	})
}

// guard gives smallstep's handlers what they look for in the context, bounds
// what they read, and keeps clients out whose certificate is not a service's.
func (s *Server) guard(routes *chi.Mux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !routes.Match(chi.NewRouteContext(), r.Method, r.URL.Path) {
			routes.ServeHTTP(w, r) // another handler's
			return
		}
		l := pki.StepListener
		if strings.HasPrefix(r.URL.Path, acmeca.Prefix) {
			l = pki.ACMEListener
		}
		ctx := apilog.WithErrorLogger(r.Context(), func(_ http.ResponseWriter, r *http.Request, err error) {
			s.refused(r.Context(), l, r, err)
		})
		r = r.WithContext(ctx)
		a, err := s.authority()
		if err != nil {
			s.deps.Log.ErrorContext(ctx, "step API not ready", "err", err)
			render.JSONStatus(w, r, errs.Error{Status: http.StatusServiceUnavailable, Msg: "the controller cannot issue certificates now; try again"}, http.StatusServiceUnavailable)
			return
		}
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			if err := s.deps.Gate.AdmitService(r.RemoteAddr, r.TLS.PeerCertificates); err != nil {
				w.Header().Set("Connection", "close")
				render.JSONStatus(w, r, errs.Forbidden("this client certificate may not be used here: %s", reasonOf(err)), http.StatusForbidden)
				return
			}
		}
		if r.Method == http.MethodPost {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
			if err == nil {
				err = tooCostly(body)
			}
			if err != nil {
				render.Error(w, r, errs.BadRequest("the request is over %d bytes, its key over 8192 bits, or it broke off", maxBody))
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		ctx = authority.NewContext(r.Context(), a)
		ctx = db.NewContext(ctx, a.GetDatabase())
		ctx = acme.NewContext(ctx, s.deps.ACME.DB(), s.deps.ACME.Client(), acme.NewLinker(s.cfg.Names[0], "acme"), nil)
		routes.ServeHTTP(w, r.WithContext(ctx))
	})
}

// reasonOf is the short reason in a refusal.
func reasonOf(err error) string {
	var refused *pki.Refusal
	if errors.As(err, &refused) {
		return string(refused.Reason)
	}
	return "it could not be checked"
}

// refused audits what smallstep's handlers turn down; faults of ours go to the
// log.
func (s *Server) refused(ctx context.Context, l pki.Listener, r *http.Request, err error) {
	if statusOf(err) >= http.StatusInternalServerError && ctx.Err() == nil {
		s.deps.Log.ErrorContext(ctx, "certificate request failed", "path", r.URL.Path, "remote", r.RemoteAddr, "err", err)
	}
	s.deps.Gate.RefuseService(ctx, l, r.RemoteAddr, fmt.Errorf("%s: %w", r.URL.Path, err))
}

// tooCostly refuses a CSR whose signature would take long to verify; the
// handlers verify before they look at the token.
func tooCostly(body []byte) error {
	var q struct {
		CSR string `json:"csr"`
	}
	if json.Unmarshal(body, &q) != nil || q.CSR == "" {
		return nil // the handler says what is wrong
	}
	block, _ := pem.Decode([]byte(q.CSR))
	if block == nil {
		return nil
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil
	}
	if k, ok := csr.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > 8192 {
		return fmt.Errorf("an RSA key of %d bits", k.N.BitLen())
	}
	return nil
}

func (s *Server) serveCRL(w http.ResponseWriter, r *http.Request) {
	der, err := s.deps.Gate.ServiceCRL(r.Context())
	if err != nil {
		render.Error(w, r, errs.InternalServerErr(err))
		return
	}
	w.Header().Set("Content-Type", "application/pkix-crl")
	w.Write(der) //nolint:errcheck // the client is gone
}
