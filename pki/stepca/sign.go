package stepca

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"sync"
	"time"

	"github.com/smallstep/certificates/api"
	"github.com/smallstep/certificates/api/read"
	"github.com/smallstep/certificates/api/render"
	"github.com/smallstep/certificates/authority"
	"github.com/smallstep/certificates/authority/provisioner"
	"github.com/smallstep/certificates/errs"
	"github.com/wardnet/wardnet/pki/acmeca"
	"go.step.sm/crypto/jose"
)

// sign is [api.Sign] with one transaction for the token and the certificate, as
// at an enrolment: of any number of presentations on any number of replicas one
// commits, and what the others had signed is shown to nobody.
func (s *Server) sign(w http.ResponseWriter, r *http.Request) {
	var q api.SignRequest
	if err := read.JSON(r.Body, &q); err != nil {
		render.Error(w, r, errs.BadRequestErr(err, "error reading request body"))
		return
	}
	if err := q.Validate(); err != nil {
		render.Error(w, r, err)
		return
	}
	until, err := s.genuine(q.OTT, time.Now())
	if err != nil {
		render.Error(w, r, errs.UnauthorizedErr(err))
		return
	}
	id := tokenKeyOf(q.OTT)
	if s.spent.has(id) { // a replay costs no signature
		render.Error(w, r, errs.Unauthorized("token already used"))
		return
	}
	a := authority.MustFromContext(r.Context())
	ctx := provisioner.NewContextWithMethod(r.Context(), provisioner.SignMethod)
	opts, err := a.Authorize(authority.NewContextWithSkipTokenReuse(ctx), q.OTT)
	if err != nil {
		render.Error(w, r, errs.UnauthorizedErr(err))
		return
	}
	chain, err := a.SignWithContext(ctx, q.CsrPEM.CertificateRequest, provisioner.SignOptions{NotBefore: q.NotBefore, NotAfter: q.NotAfter, TemplateData: q.TemplateData}, opts...)
	if err != nil {
		render.Error(w, r, errs.ForbiddenErr(err, "error signing certificate"))
		return
	}
	c := acmeca.Service{}
	for _, o := range opts {
		if p, ok := o.(provisioner.Interface); ok {
			c.Provisioner = p.GetID()
		}
	}
	first, err := s.recordOnce(ctx, id, until, c, chain)
	if err != nil {
		render.Error(w, r, errs.InternalServerErr(err))
		return
	}
	s.spent.add(id, until)
	if !first {
		render.Error(w, r, errs.Unauthorized("token already used"))
		return
	}
	answer := api.SignResponse{TLSOptions: a.GetTLSOptions()}
	for _, x := range chain {
		answer.CertChainPEM = append(answer.CertChainPEM, api.Certificate{Certificate: x})
	}
	answer.ServerPEM, answer.CaPEM = answer.CertChainPEM[0], answer.CertChainPEM[1]
	render.JSONStatus(w, r, answer, http.StatusCreated)
}

// tokenKeyOf names a token in the table of used ones as the authority does: by
// its id, or by its hash when it has none.
func tokenKeyOf(text string) string {
	var c jose.Claims
	if t, err := jose.ParseSigned(text); err == nil && t.UnsafeClaimsWithoutVerification(&c) == nil && c.ID != "" {
		return c.ID
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// maxSpent bounds what is remembered of used tokens; the table knows all.
const maxSpent = 10_000

// spentTokens are ids this process has seen used, so that presenting one again
// has nothing signed.
type spentTokens struct {
	mu  sync.Mutex
	ids map[string]time.Time
}

func (s *spentTokens) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.ids[id]
	return ok
}

func (s *spentTokens) add(id string, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids == nil || len(s.ids) >= maxSpent {
		now, old := time.Now(), s.ids
		s.ids = make(map[string]time.Time, len(old))
		for k, end := range old {
			if now.Before(end) && len(s.ids) < maxSpent/2 {
				s.ids[k] = end
			}
		}
	}
	s.ids[id] = until
}
