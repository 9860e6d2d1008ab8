package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// refusals attacks a running controller over its real ports. Every attack must
// be refused, be found in the audit log with its reason and the attacker's
// address, and be counted. A token's ten minutes are not waited for here: a
// superseded token meets the same check, the clock is moved in package pki's
// own tests (TestExpiredTokenIsRefused).
func refusals(ctx context.Context, e *env) (string, error) {
	s, err := newSiege(ctx, e)
	if err != nil {
		return "", err
	}
	defer s.close()
	if len(s.devices) < 6 {
		return "", fmt.Errorf("the city has %d devices in service, want 6", len(s.devices))
	}
	held, err := s.enrolments(ctx)
	if err != nil {
		return "", fmt.Errorf("enrolment: %w", err)
	}
	took, err := s.certificates(ctx, held)
	if err != nil {
		return "", fmt.Errorf("certificates: %w", err)
	}
	if err := s.writes(ctx); err != nil {
		return "", fmt.Errorf("API: %w", err)
	}
	if len(s.failed) > 0 {
		return "", fmt.Errorf("%d of %d attacks: %s", len(s.failed), len(s.made), strings.Join(s.failed, "; "))
	}
	return fmt.Sprintf("%d attacks refused (%d of them in the audit log, %d counted in /metrics); revocation closed the open channel in %.2f s",
		len(s.made), s.audits, s.counts, took.Seconds()), nil
}

// enrolRefusal is the counter of a reason at the enrolment listener, whose
// name also begins the audit entry's reason.
func enrolRefusal(reason string) trace {
	return trace{reason + ":", fmt.Sprintf(`pki_refusals_total{listener="enrol",reason=%q}`, reason)}
}

// enrolments attacks the enrolment listener and gives the directory of the
// identity of the first device, which enrolled properly.
func (s *siege) enrolments(ctx context.Context) (*enrol.Identity, error) {
	a, b, c, d := s.devices[0], s.devices[1], s.devices[2], s.devices[3]
	ids := []inventory.DeviceID{a.ID, b.ID, c.ID}
	first, err := s.engineer.Enrol(ctx, append(ids, d.ID)...)
	if err != nil {
		return nil, err
	}
	second, err := s.engineer.Enrol(ctx, ids...) // supersedes the first ones of a, b and c
	if err != nil {
		return nil, err
	}
	token := map[inventory.DeviceID]string{}
	superseded := map[inventory.DeviceID]string{}
	for _, t := range first.Tokens {
		superseded[t.Device], token[t.Device] = t.Token, t.Token
	}
	for _, t := range second.Tokens {
		token[t.Device] = t.Token
	}
	held, err := enrol.Enrol(ctx, enrol.Bundle{
		EnrolURL: second.EnrolURL, Channel: second.Channel, CAURL: second.CAURL, RootPEM: second.RootPEM,
		Device: a.ID, Serial: a.Serial, Token: token[a.ID],
	}, filepath.Join(s.dir, "held"))
	if err != nil {
		return nil, err
	}
	bad := func(name, reason string, q enrol.Request) {
		s.attack(ctx, name, enrolRefusal(reason), func(ctx context.Context, from place) error {
			return s.enrolRefused(ctx, from, q, reason)
		})
	}
	bad("reused token", "used-token", s.request(token[a.ID], a, plain))
	bad("superseded token", "expired-token", s.request(superseded[b.ID], b, plain))
	bad("foreign token", "unknown-token", s.request(rand.Text()+rand.Text(), b, plain))
	bad("token of another device with the own serial", "wrong-serial", s.request(token[c.ID], b, plain))
	bad("token with another device's serial", "wrong-serial", with(s.request(token[c.ID], c, plain), func(q *enrol.Request) { q.Serial = b.Serial }))
	bad("token and serial right, CSR of another device", "wrong-device", with(s.request(token[c.ID], b, plain), func(q *enrol.Request) { q.Serial = c.Serial }))
	bad("CSR with an extra DNS name", "bad-csr", s.request(token[c.ID], c, func(t *x509.CertificateRequest) { t.DNSNames = []string{"localhost"} }))
	bad("CSR with the name of a second device", "bad-csr", s.request(token[c.ID], c, func(t *x509.CertificateRequest) { t.URIs = append(t.URIs, s.spiffe("device", string(b.ID))) }))
	bad("CSR for a service", "bad-csr", s.request(token[c.ID], c, func(t *x509.CertificateRequest) { t.URIs = []*url.URL{s.spiffe("service", "pep")} }))
	bad("CSR that asks to be a CA", "bad-csr", s.request(token[c.ID], c, func(t *x509.CertificateRequest) {
		t.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}
	}))
	bad("CSR with another name in its subject", "bad-csr", s.request(token[c.ID], c, func(t *x509.CertificateRequest) { t.Subject.CommonName = string(b.ID) }))
	bad("CSR with a key of another curve", "bad-csr", with(s.request(token[c.ID], c, plain), func(q *enrol.Request) { q.CSR = s.csr(newKey(elliptic.P384()), c.ID, plain) }))
	bad("another device's WireGuard key", "key-in-use", with(s.request(token[c.ID], c, plain), func(q *enrol.Request) { q.WireGuardPublicKey = held.WireGuardPublicKey() }))
	s.attack(ctx, "body over its bound", enrolRefusal("malformed"), func(ctx context.Context, from place) error {
		return s.enrolRefused(ctx, from, with(s.request(token[c.ID], c, plain), func(q *enrol.Request) { q.Serial = strings.Repeat("x", 64<<10) }), "malformed")
	})
	s.attack(ctx, "guessing tokens from one address", trace{Counter: `pki_refusals_total{listener="enrol",reason="rate-limited"}`}, func(ctx context.Context, from place) error {
		var said error
		for range 40 {
			if said = s.enrolRefused(ctx, from, s.request(rand.Text(), d, plain), "rate-limited"); said == nil {
				return nil
			}
		}
		return fmt.Errorf("40 guesses were looked at: %w", said)
	})
	// None of these attempts may have spent the token, and the guesser's limit
	// is nobody else's.
	if _, err := s.enrol(ctx, s.elsewhere(), s.request(token[c.ID], c, plain)); err != nil {
		return nil, fmt.Errorf("the rightful device was refused after the attacks: %w", err)
	}
	return held, nil
}

func plain(*x509.CertificateRequest) {}

func with(q enrol.Request, change func(*enrol.Request)) enrol.Request {
	change(&q)
	return q
}

func newKey(c elliptic.Curve) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		panic(err) // no randomness: nothing can be tested
	}
	return k
}

func (s *siege) spiffe(kind, name string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: s.domain, Path: "/" + kind + "/" + name}
}

// csr asks for the device's name, changed.
func (s *siege) csr(key *ecdsa.PrivateKey, device inventory.DeviceID, change func(*x509.CertificateRequest)) string {
	t := &x509.CertificateRequest{URIs: []*url.URL{s.spiffe("device", string(device))}}
	change(t)
	der, err := x509.CreateCertificateRequest(rand.Reader, t, key)
	if err != nil {
		panic(err) // the templates are constant
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func (s *siege) request(token string, d inventory.Device, change func(*x509.CertificateRequest)) enrol.Request {
	return enrol.Request{Token: token, Serial: d.Serial, CSR: s.csr(newKey(elliptic.P256()), d.ID, change), WireGuardPublicKey: wireGuardKey()}
}

// enrol presents q at the enrolment listener.
func (s *siege) enrol(ctx context.Context, from place, q enrol.Request) (enrol.Response, error) {
	var out enrol.Response
	err := s.post(ctx, from.http(&tls.Config{RootCAs: s.pool}), "https://"+s.serving.Enrol+enrol.EnrolPath, q, &out)
	return out, err
}

func (s *siege) enrolRefused(ctx context.Context, from place, q enrol.Request, reason string) error {
	_, err := s.enrol(ctx, from, q)
	return refusedWith(err, reason)
}

// refusedWith wants err to be a refusal for that reason.
func refusedWith(err error, reason string) error {
	var r *enrol.RefusedError
	switch {
	case err == nil:
		return errors.New("it was granted")
	case !errors.As(err, &r):
		return fmt.Errorf("want a refusal (%s): %w", reason, err)
	case r.Body.Reason != reason || r.Status < 400 || r.Status > 499:
		return fmt.Errorf("refused with %d %s, want %s: %s", r.Status, r.Body.Reason, reason, r.Body.Message)
	}
	return nil
}

// http is a client from this place that keeps no connection.
func (p place) http(cfg *tls.Config) *http.Client {
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	return &http.Client{
		Transport:     &http.Transport{DialContext: p.DialContext, TLSClientConfig: cfg, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// post sends JSON; a status of 400 or more is an [enrol.RefusedError].
func (s *siege) post(ctx context.Context, c *http.Client, target string, body, into any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode >= http.StatusBadRequest {
		r := &enrol.RefusedError{Status: res.StatusCode}
		if json.Unmarshal(text, &r.Body) != nil {
			r.Body.Message = string(text)
		}
		return r
	}
	return json.Unmarshal(text, into)
}

// plainHTTP speaks HTTP to a TLS port and wants nothing of worth back.
func plainHTTP(ctx context.Context, from place, addr string) error {
	conn, err := from.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if d, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(d); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(conn, "GET /api/v1/session HTTP/1.1\r\nHost: wardnet\r\n\r\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 4096))
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return errors.New("the port holds the connection and says nothing")
	}
	if text := string(answer); strings.HasPrefix(text, "HTTP/1.") && !strings.HasPrefix(text, "HTTP/1.0 400 ") {
		return fmt.Errorf("it answered %q", tail(text, 100))
	}
	return nil
}
