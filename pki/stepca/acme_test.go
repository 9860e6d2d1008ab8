package stepca_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/wardnet/wardnet/pki/acmeca"
	"github.com/wardnet/wardnet/pki/enrol"
)

// onLoopback lets proofs be fetched from a port of the test.
func onLoopback(port int) func(*acmeca.Config) {
	return func(c *acmeca.Config) {
		c.Networks, c.HTTPPort = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, port
	}
}

// proofs serves http-01 challenges.
type proofs struct {
	*httptest.Server
	mu   sync.Mutex
	said map[string]string
}

func newProofs(t *testing.T) *proofs {
	p := &proofs{said: map[string]string{}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		text, ok := p.said[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, text) //nolint:errcheck // the client is gone
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *proofs) port() int { return p.Listener.Addr().(*net.TCPAddr).Port }

// newACME is a rig with a DNS server and a place for proofs.
func newACME(t *testing.T, opts ...func(*acmeca.Config)) (*rig, *proofs) {
	p := newProofs(t)
	placeholder := &rig{zone: map[string][]string{}}
	at := placeholder.resolver(t)
	opts = append([]func(*acmeca.Config){allow("*.hcmc.example", "hcmc.example"), onLoopback(p.port()), func(c *acmeca.Config) { c.Resolver = at }}, opts...)
	r := newRig(t, opts...)
	r.names = placeholder
	return r, p
}

func (r *rig) acmeClient(t *testing.T) *acme.Client {
	return &acme.Client{Key: newKey(t), HTTPClient: r.http(nil), DirectoryURL: r.url + "/acme/acme/directory"}
}

func (r *rig) registered(t *testing.T) *acme.Client {
	c := r.acmeClient(t)
	if _, err := c.Register(t.Context(), &acme.Account{Contact: []string{"mailto:an@hcmc.example"}}, acme.AcceptTOS); err != nil {
		t.Fatal(err)
	}
	return c
}

// prove answers the challenges of an order by http-01, or dns-01 for wildcards.
func (r *rig) prove(ctx context.Context, c *acme.Client, p *proofs, o *acme.Order) error {
	for _, u := range o.AuthzURLs {
		a, err := c.GetAuthorization(ctx, u)
		if err != nil {
			return err
		}
		for _, ch := range a.Challenges {
			switch {
			case ch.Type == "http-01" && !a.Wildcard:
				text, err := c.HTTP01ChallengeResponse(ch.Token)
				if err != nil {
					return err
				}
				p.mu.Lock()
				p.said[c.HTTP01ChallengePath(ch.Token)] = text
				p.mu.Unlock()
			case ch.Type == "dns-01" && a.Wildcard:
				text, err := c.DNS01ChallengeRecord(ch.Token)
				if err != nil {
					return err
				}
				r.names.mu.Lock()
				r.names.zone["_acme-challenge."+a.Identifier.Value] = []string{text}
				r.names.mu.Unlock()
			default:
				continue
			}
			if _, err := c.Accept(ctx, ch); err != nil {
				return err
			}
			if _, err := c.WaitAuthorization(ctx, u); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// obtain runs an order to its certificate.
func (r *rig) obtain(ctx context.Context, c *acme.Client, p *proofs, key *ecdsa.PrivateKey, names ...string) (*x509.Certificate, error) {
	o, err := c.AuthorizeOrder(ctx, acme.DomainIDs(names...))
	if err != nil {
		return nil, err
	}
	if err := r.prove(ctx, c, p, o); err != nil {
		return nil, err
	}
	if o, err = c.WaitOrder(ctx, o.URI); err != nil {
		return nil, err
	}
	chain, _, err := c.CreateOrderCert(ctx, o.FinalizeURL, csr(r.t, key, names[0], names...).Raw, true)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(chain[0])
}

// The life of an ACME certificate: http-01, dns-01 for a wildcard, revocation
// by the account; the names are the order's.
func TestACME(t *testing.T) {
	r, p := newACME(t, func(c *acmeca.Config) { c.Wildcards = true })
	c := r.registered(t)
	leaf, err := r.obtain(t.Context(), c, p, newKey(t), "app.hcmc.example", "api.hcmc.example")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(leaf.DNSNames, []string{"api.hcmc.example", "app.hcmc.example"}) && !slices.Equal(leaf.DNSNames, []string{"app.hcmc.example", "api.hcmc.example"}) {
		t.Errorf("names %v", leaf.DNSNames)
	}
	if life := time.Until(leaf.NotAfter); life > 7*24*time.Hour || life < 6*24*time.Hour || len(leaf.OCSPServer) != 1 {
		t.Errorf("lives %s, OCSP at %v", life, leaf.OCSPServer)
	}
	if wild, err := r.obtain(t.Context(), c, p, newKey(t), "*.hcmc.example"); err != nil || !slices.Equal(wild.DNSNames, []string{"*.hcmc.example"}) {
		t.Errorf("wildcard: %v", err)
	}
	if err := c.RevokeCert(t.Context(), nil, leaf.Raw, acme.CRLReasonSuperseded); err != nil {
		t.Fatal(err)
	}
	if !r.pki.Revoked(enrol.SerialOf(leaf)) {
		t.Error("not revoked")
	}
	if log, err := r.pki.Revocations(t.Context()); err != nil || len(log) != 1 || log[0].Reason != "superseded" || log[0].NotAfter.IsZero() {
		t.Errorf("revocation log %+v, %v", log, err)
	}
	if !r.audited("issue", "app.hcmc.example") {
		t.Error("not audited")
	}
	// Key of the certificate alone revokes too (RFC 8555 §7.6); another account's does not.
	key := newKey(t)
	second, err := r.obtain(t.Context(), c, p, key, "app.hcmc.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.registered(t).RevokeCert(t.Context(), nil, second.Raw, acme.CRLReasonUnspecified); err == nil || r.pki.Revoked(enrol.SerialOf(second)) {
		t.Error("another account revoked it")
	}
	if err := (&acme.Client{Key: key, HTTPClient: r.http(nil), DirectoryURL: c.DirectoryURL}).RevokeCert(t.Context(), key, second.Raw, acme.CRLReasonKeyCompromise); err != nil || !r.pki.Revoked(enrol.SerialOf(second)) {
		t.Errorf("its own key did not revoke it: %v", err)
	}
}

// No certificate for a name that the operator has not allowed, nor for the
// controller's own, nor without the proof.
func TestACMENames(t *testing.T) {
	r, p := newACME(t)
	c := r.registered(t)
	for _, name := range []string{"evil.example", "a.b.hcmc.example", "hcmc.example.evil.example", "*.hcmc.example", "localhost"} {
		_, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs(name))
		var e *acme.Error
		if !errors.As(err, &e) || !strings.HasSuffix(e.ProblemType, ":rejectedIdentifier") {
			t.Errorf("%s: %v, want rejectedIdentifier", name, err)
		}
	}
	if _, err := c.AuthorizeOrder(t.Context(), acme.IPIDs("10.0.0.1")); err == nil {
		t.Error("an address was allowed")
	}
	if _, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs(slices.Repeat([]string{"app.hcmc.example"}, 101)...)); err == nil {
		t.Error("101 names in an order")
	}
	if n := r.rows("acme_orders") + r.rows("acme_authorizations") + r.rows("acme_challenges"); n != 0 {
		t.Errorf("%d rows of refused orders", n)
	}
	// Without the proof, or with another order's.
	o, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs("app.hcmc.example"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.CreateOrderCert(t.Context(), o.FinalizeURL, csr(t, newKey(t), "", "app.hcmc.example").Raw, true); err == nil {
		t.Error("finalized without proof")
	}
	if err := r.prove(t.Context(), c, p, o); err != nil {
		t.Fatal(err)
	}
	for what, q := range map[string]*x509.CertificateRequest{
		"another name": csr(t, newKey(t), "", "api.hcmc.example"), "one more": csr(t, newKey(t), "", "app.hcmc.example", "api.hcmc.example"),
		"a SPIFFE id": csr(t, newKey(t), "", "app.hcmc.example", r.spiffe("device", "d-1")),
	} {
		if _, _, err := c.CreateOrderCert(t.Context(), o.FinalizeURL, q.Raw, true); err == nil {
			t.Errorf("CSR with %s: a certificate", what)
		}
	}
	if n := r.rows("pki_services"); n != 0 {
		t.Errorf("%d certificates", n)
	}
}

// Two finalize one order at once, on two controllers: one certificate.
func TestACMEOrderIsFinishedOnce(t *testing.T) {
	r, p := newACME(t)
	c := r.registered(t)
	for range 3 {
		o, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs("app.hcmc.example"))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.prove(t.Context(), c, p, o); err != nil {
			t.Fatal(err)
		}
		before := r.rows("pki_services")
		var wg sync.WaitGroup
		var got atomic.Int32
		for range 8 {
			q := csr(t, newKey(t), "", "app.hcmc.example")
			wg.Go(func() {
				if _, _, err := c.CreateOrderCert(t.Context(), o.FinalizeURL, q.Raw, true); err == nil {
					got.Add(1)
				}
			})
		}
		wg.Wait()
		if n := r.rows("pki_services") - before; n != 1 || got.Load() < 1 {
			t.Errorf("%d certificates of one order, %d clients served", n, got.Load())
		}
	}
}

// An external key binds one account, whoever races for it; an account without
// one gets nothing.
func TestACMEExternalAccountBinding(t *testing.T) {
	r, p := newACME(t, func(c *acmeca.Config) { c.RequireEAB = true })
	if _, err := r.acmeClient(t).Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err == nil {
		t.Error("an account without a key")
	}
	k, err := r.acme.NewExternalKey(t.Context(), "web team")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var bound []*acme.Client
	clients := make([]*acme.Client, 8)
	for i := range clients {
		clients[i] = r.acmeClient(t)
		wg.Go(func() {
			_, err := clients[i].Register(t.Context(), &acme.Account{ExternalAccountBinding: &acme.ExternalAccountBinding{KID: k.ID, Key: k.HmacKey}}, acme.AcceptTOS)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				bound = append(bound, clients[i])
			}
		})
	}
	wg.Wait()
	if len(bound) != 1 {
		t.Fatalf("%d accounts by one key", len(bound))
	}
	for _, c := range clients {
		_, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs("app.hcmc.example"))
		if (err == nil) != (c == bound[0]) {
			t.Errorf("bound %v: order %v", c == bound[0], err)
		}
	}
	if _, err := r.obtain(t.Context(), bound[0], p, newKey(t), "app.hcmc.example"); err != nil {
		t.Error(err)
	}
	if _, err := r.acme.NewExternalKey(t.Context(), " "); err == nil {
		t.Error("a key for nobody")
	}
}

// RFC 9773: when to renew; at once after a revocation; an order says what it
// replaces, once.
// Whoever may order a certificate steers no request of ours into our networks.
// A redirect leads neither inside nor to another port, and a long answer is cut.
// Every request that ACME's parsers read is answered, with a problem document
// or better, and nothing is kept of it.
