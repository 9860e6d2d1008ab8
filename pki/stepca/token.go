package stepca

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
	"go.step.sm/crypto/jose"
)

// Times of a token. Whoever makes one has a clock that may be off by a minute.
const (
	TokenLife  = 10 * time.Minute
	tokenSkew  = time.Minute
	tokenSpare = time.Hour // a used id is kept this much longer than the token lives
)

// TokenRequest asks for a one-time token.
type TokenRequest struct {
	// Name is the common name: a host name, an address, or the short name of a
	// service, whose SPIFFE id is the certificate's only name then.
	Name string
	// Names are the names of the certificate; default Name alone.
	Names []string
	// CSRHash binds the token to one CSR: base64url SHA-256 of its DER; "": any
	// CSR with exactly these names.
	CSRHash string
	// Registrar makes it a token for a certificate whose holder may make tokens
	// himself, see [RegistrarProvisioner].
	Registrar bool
	By        string
}

// Token is a one-time token.
type Token struct {
	Text    string
	Names   []string // of the certificate
	Expires time.Time
}

// Token makes a one-time token for the step CLI ("step ca certificate NAME CRT
// KEY --token …"), good for 10 minutes and one certificate with exactly these
// names. It names the API and the root's fingerprint, so that the CLI needs
// nothing else. Names that we do not certify wrap [inventory.ErrInvalid].
func (s *Server) Token(ctx context.Context, q TokenRequest) (Token, error) {
	now := time.Now()
	names, err := s.askedFor(q, now)
	if err != nil {
		return Token{}, fmt.Errorf("make a token for %q: %w", q.Name, err)
	}
	id := uuid.NewString()
	if err := s.deps.Audit(ctx, pki.Event{
		At: now.UTC(), Actor: q.By, Action: "token", Object: "service " + q.Name, Outcome: "done", Reason: fmt.Sprintf("token %s for %.300s", id, strings.Join(names, ", ")),
	}); err != nil {
		return Token{}, fmt.Errorf("make a token for %q: record in the audit log: %w", q.Name, err)
	}
	expires := now.Add(TokenLife).Truncate(time.Second)
	extra := map[string]any{"sans": names, "sha": s.root}
	if q.CSRHash != "" {
		extra["cnf"] = map[string]string{"x5rt#S256": q.CSRHash}
	}
	text, err := jose.Signed(s.signer).Claims(jose.Claims{
		ID: id, Issuer: TokenProvisioner, Subject: q.Name, Audience: jose.Audience{s.cfg.URL + "/1.0/sign"},
		IssuedAt: jose.NewNumericDate(now), NotBefore: jose.NewNumericDate(now.Add(-tokenSkew)), Expiry: jose.NewNumericDate(expires),
	}).Claims(extra).CompactSerialize()
	if err != nil {
		return Token{}, fmt.Errorf("make a token for %q: %w", q.Name, err)
	}
	s.metrics.tokens.Inc()
	return Token{text, names, expires}, nil
}

// askedFor gives the names of a request, if we certify them.
func (s *Server) askedFor(q TokenRequest, now time.Time) ([]string, error) {
	kind, names := enrol.ServiceKind, q.Names
	if q.Registrar {
		if kind = pki.RegistrarKind; len(names) > 0 {
			return nil, fmt.Errorf("%w: a registrar has no other names", inventory.ErrInvalid)
		}
	}
	if len(names) == 0 {
		names = []string{q.Name}
		if q.Registrar || !strings.ContainsAny(q.Name, ".:") {
			id, err := enrol.SPIFFEID(s.cfg.TrustDomain, kind, q.Name)
			if err != nil {
				return nil, err
			}
			names = []string{id.String()}
		}
	}
	l := pki.ServiceLeaf{Key: &s.deps.Key.PublicKey, Subject: q.Name, NotAfter: now.Add(defaultLife)}
	for _, n := range names {
		switch ip := net.ParseIP(n); {
		case ip != nil:
			l.IPs = append(l.IPs, ip)
		case strings.Contains(n, "://"):
			u, err := url.Parse(n)
			if err != nil {
				return nil, fmt.Errorf("%w: %q is no URI", inventory.ErrInvalid, n)
			}
			if _, err := enrol.ParseSPIFFEID(u, s.cfg.TrustDomain, kind); err != nil {
				return nil, err // no registrar among services
			}
			l.URIs = append(l.URIs, u)
		default:
			l.DNSNames = append(l.DNSNames, n)
		}
	}
	return names, s.deps.Gate.CheckService(l, now)
}

// genuine says until when the id of a token must be kept, once it is sure that
// somebody who may make tokens made it: we, the holder of a registrar's
// certificate, or, for a renewal, the holder of the certificate itself.
func (s *Server) genuine(text string, now time.Time) (time.Time, error) {
	t, err := jose.ParseSigned(text)
	if err != nil || len(t.Headers) != 1 {
		return time.Time{}, errors.New("the token is not one signed JWT")
	}
	var claims jose.Claims
	var key any = &s.deps.Key.PublicKey
	switch h := t.Headers[0]; {
	case h.ExtraHeaders["x5cInsecure"] != nil:
		_, chains, err := jose.ParseX5cInsecure(text, []*x509.Certificate{s.deps.Root})
		if err != nil {
			return time.Time{}, fmt.Errorf("certificate in the token: %w", err)
		}
		key = chains[0][0].PublicKey
	case h.KeyID == s.keyID && h.ExtraHeaders["x5c"] == nil:
	default:
		leaf, err := s.registrar(h)
		if err != nil {
			return time.Time{}, err
		}
		key = leaf.PublicKey
	}
	if err := t.Claims(key, &claims); err != nil {
		return time.Time{}, fmt.Errorf("the token's signature is wrong: %w", err)
	}
	switch {
	case claims.Expiry == nil || claims.IssuedAt == nil:
		return time.Time{}, errors.New("the token does not say when it was made and when it ends")
	case claims.Expiry.Time().Sub(now) > TokenLife+tokenSkew:
		return time.Time{}, fmt.Errorf("the token lives longer than %s", TokenLife)
	case now.After(claims.Expiry.Time().Add(tokenSkew)):
		return time.Time{}, fmt.Errorf("the token expired at %s", claims.Expiry.Time().UTC().Format(time.RFC3339))
	case claims.IssuedAt.Time().Sub(now) > tokenSkew:
		return time.Time{}, errors.New("the token was made in the future; compare the clocks")
	}
	return claims.Expiry.Time().Add(tokenSpare), nil
}

// registrar gives the certificate a token was signed with: one of a registrar,
// not revoked. smallstep's X5C takes any certificate of the issuer and does not
// ask whether it is revoked.
func (s *Server) registrar(h jose.Header) (*x509.Certificate, error) {
	roots := x509.NewCertPool()
	for _, c := range s.deps.Gate.ServiceIssuers() {
		roots.AddCert(c)
	}
	chains, err := h.Certificates(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return nil, fmt.Errorf("the token is not signed by this controller, nor by a registrar: %w", err)
	}
	leaf := chains[0][0]
	if len(leaf.URIs) != 1 || len(namesOf(leaf)) != 1 {
		return nil, errors.New("the certificate in the token is not a registrar's")
	}
	if _, err := enrol.ParseSPIFFEID(leaf.URIs[0], s.cfg.TrustDomain, pki.RegistrarKind); err != nil {
		return nil, errors.New("the certificate in the token is not a registrar's")
	}
	if s.deps.CA.Revoked(enrol.SerialOf(leaf)) {
		return nil, fmt.Errorf("certificate %s in the token is revoked", enrol.SerialOf(leaf))
	}
	return leaf, nil
}

// commonName reads a subject of our own leaves.
func commonName(raw []byte) (string, error) {
	var seq pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &seq); err != nil || len(rest) > 0 {
		return "", errors.New("the subject of the certificate cannot be read")
	}
	var n pkix.Name
	n.FillFromRDNSequence(&seq)
	return n.CommonName, nil
}
