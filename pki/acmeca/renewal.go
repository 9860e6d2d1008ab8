package acmeca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/big"
	"net/http"
	"strings"
	"time"

	"github.com/smallstep/certificates/acme"
	"github.com/wardnet/wardnet/inventory"
)

// Advice about a renewal.
const (
	adviceRegular = "regular"
	adviceRevoked = "revoked" // at once
	adviceRotated = "rotated" // soon: its issuer is being replaced
)

// pollAfter is how long a client shall wait before it asks again (RFC 9773 §4.2).
const pollAfter = 6 * time.Hour

// window is when to renew (RFC 9773 §4.2).
type window struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// advise gives the window of a certificate: its last third but for a twelfth at
// the end; the past when it is revoked; the next day, spread over all
// certificates of the issuer, when the issuer is no longer in force.
func advise(notBefore, notAfter, now time.Time, serial string, revoked, rotated bool) (window, string) {
	life := notAfter.Sub(notBefore)
	w := window{notBefore.Add(life * 2 / 3), notAfter.Add(-life / 12)}
	switch {
	case revoked:
		return window{now.Add(-2 * time.Hour), now.Add(-time.Hour)}, adviceRevoked
	case rotated && now.Before(w.Start):
		h := fnv.New32a()
		h.Write([]byte(serial))
		start := now.Add(time.Duration(h.Sum32()%24) * 30 * time.Minute)
		if end := start.Add(12 * time.Hour); end.Before(w.Start) {
			return window{start, end}, adviceRotated
		}
		return window{now, w.End}, adviceRotated
	}
	return w, adviceRegular
}

// ParseCertID reads the identifier of a certificate (RFC 9773 §4.1): the key
// identifier of its issuer and its serial number in lower-case hex. A malformed
// one wraps [inventory.ErrInvalid].
func ParseCertID(id string) (issuerKey []byte, serial string, err error) {
	a, b, ok := strings.Cut(id, ".")
	if !ok || len(id) > 200 {
		return nil, "", fmt.Errorf("%w: %.60q is no certificate identifier of RFC 9773", inventory.ErrInvalid, id)
	}
	issuerKey, err = base64.RawURLEncoding.Strict().DecodeString(a)
	number, err2 := base64.RawURLEncoding.Strict().DecodeString(b)
	if err := errors.Join(err, err2); err != nil || len(issuerKey) == 0 || len(number) == 0 || number[0]&0x80 != 0 {
		return nil, "", fmt.Errorf("%w: %.60q is no certificate identifier of RFC 9773", inventory.ErrInvalid, id)
	}
	return issuerKey, new(big.Int).SetBytes(number).Text(16), nil
}

// CertID is the identifier of c (RFC 9773 §4.1).
func CertID(c *x509.Certificate) string {
	number := c.SerialNumber.Bytes()
	if len(number) == 0 || number[0]&0x80 != 0 {
		number = append([]byte{0}, number...)
	}
	return base64.RawURLEncoding.EncodeToString(c.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(number)
}

// certificate finds what an identifier names; it must be of ACME.
func (s *Server) certificate(ctx context.Context, id string) (Service, *x509.Certificate, error) {
	issuerKey, serial, err := ParseCertID(id)
	if err != nil {
		return Service{}, nil, acme.NewDetailedError(acme.ErrorMalformedType, "%.60q is no certificate identifier of RFC 9773", id)
	}
	none := acme.NewDetailedError(acme.ErrorMalformedType, "no certificate %.60q is known", id)
	none.Status = http.StatusNotFound
	c, err := s.deps.Store.Service(ctx, serial)
	if errors.Is(err, inventory.ErrNotFound) || (err == nil && c.Account == "") {
		return Service{}, nil, none
	}
	if err != nil {
		return Service{}, nil, err
	}
	chain, err := parseChain(c.Chain)
	if err != nil {
		return Service{}, nil, err
	}
	if !bytes.Equal(chain[0].AuthorityKeyId, issuerKey) {
		return Service{}, nil, none
	}
	return c, chain[0], nil
}

// RenewalInfo answers GET …/renewal-info/{id} (RFC 9773 §4).
func (s *Server) RenewalInfo(w http.ResponseWriter, r *http.Request) {
	c, leaf, err := s.certificate(r.Context(), r.PathValue("id"))
	if err != nil {
		problem(w, r, s, err)
		return
	}
	win, advice := advise(leaf.NotBefore, leaf.NotAfter, time.Now().UTC().Truncate(time.Second), c.Serial, s.deps.Revoked(c.Serial), c.IssuerKey != s.deps.Issuer())
	s.metrics.renewalInfo.WithLabelValues(advice).Inc()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Retry-After", fmt.Sprint(int(pollAfter.Seconds())))
	json.NewEncoder(w).Encode(map[string]window{"suggestedWindow": win}) //nolint:errcheck // the client is gone
}

// replaced checks what a new order says it replaces (RFC 9773 §5) and gives the
// serial number, "" when it says nothing.
func (s *Server) replaced(ctx context.Context, o *acme.Order, id string) (string, error) {
	if id == "" {
		return "", nil
	}
	c, _, err := s.certificate(ctx, id)
	if err != nil {
		return "", err
	}
	if c.Account != o.AccountID {
		return "", acme.NewDetailedError(acme.ErrorUnauthorizedType, "certificate %.60q is of another account", id)
	}
	for _, want := range o.Identifiers {
		for _, have := range c.Names {
			if want.Value == have {
				return c.Serial, nil
			}
		}
	}
	return "", acme.NewDetailedError(acme.ErrorMalformedType, "certificate %.60q has no name in common with the order", id)
}

// alreadyReplaced is the error type of RFC 9773 §7.4.
func alreadyReplaced(id string) *acme.Error {
	return &acme.Error{
		Type: "urn:ietf:params:acme:error:alreadyReplaced", Status: http.StatusConflict,
		Detail: fmt.Sprintf("certificate %.60q is replaced by another order", id), Err: errors.New("certificate is replaced by another order"),
	}
}
