package stepca_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/acmeca"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/ocsp"
	"github.com/wardnet/wardnet/pki/stepca"
)

// rig is a controller's CA with its listeners, on loopback.
type rig struct {
	t      *testing.T
	db     *store.DB
	pki    *pki.PKI
	step   *stepca.Server
	acme   *acmeca.Server
	url    string // step API and ACME
	status string // CRL and OCSP
	root   *x509.Certificate

	names *rig // whose zone the resolver serves

	mu     sync.Mutex
	events []pki.Event
	zone   map[string][]string // TXT records by name
}

// allow is what ACME may certify in a rig.
func allow(names ...string) func(*acmeca.Config) {
	return func(c *acmeca.Config) { c.Allow = names }
}

func newRig(t *testing.T, opts ...func(*acmeca.Config)) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "rig-") // t.TempDir of a fuzzer's seed holds a '#', which no DSN does
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	db, err := store.Open(t.Context(), "sqlite://"+filepath.Join(dir, "wardnet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return newRigOn(t, db, dir, opts...)
}

// newRigOn is one controller on a database and a directory that others may use
// too.
func newRigOn(t *testing.T, db *store.DB, dir string, opts ...func(*acmeca.Config)) *rig {
	t.Helper()
	r := &rig{t: t, db: db, zone: map[string][]string{}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	status := httptest.NewUnstartedServer(nil)
	log := slog.New(slog.DiscardHandler)
	audit := func(_ context.Context, e pki.Event) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, e)
		return nil
	}
	r.url, r.status = "https://"+ln.Addr().String(), "http://"+status.Listener.Addr().String()
	if r.pki, err = pki.Open(t.Context(), pki.Deps{Store: store.NewPKI(db, "hcmc"), Dir: dir, Audit: audit, Log: log}, pki.Config{CAURL: r.url, StatusURL: r.status}); err != nil {
		t.Fatal(err)
	}
	var cfg acmeca.Config
	for _, o := range opts {
		o(&cfg)
	}
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	rows := store.NewACME(db, "hcmc")
	if r.acme, err = acmeca.Open(t.Context(), acmeca.Deps{Store: rows, Row: r.pki.ServiceRow, Issued: r.pki.ServiceIssued, Revoked: r.pki.Revoked, Issuer: r.pki.ServiceIssuerKey, Log: log}, cfg); err != nil {
		t.Fatal(err)
	}
	if r.root, err = r.pki.RootCertificate(); err != nil {
		t.Fatal(err)
	}
	key, err := r.pki.TokenKey()
	if err != nil {
		t.Fatal(err)
	}
	r.pki.OpenToServices()
	if r.step, err = stepca.New(stepca.Deps{Store: rows.PKI, CA: r.pki, Gate: r.pki, ACME: r.acme, Root: r.root, Key: key, Audit: audit, Log: log},
		stepca.Config{TrustDomain: r.pki.TrustDomain(), Names: []string{"localhost", "127.0.0.1"}, URL: r.url}); err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: r.step.Handler(r.pki.CAHandler()), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	go web.Serve(r.pki.Listen(ln, pki.CAListener, "h2", "http/1.1")) //nolint:errcheck // ends with Close
	t.Cleanup(func() { web.Close() })
	status.Config.Handler = ocsp.New(ocsp.Deps{Source: r.pki.OCSPSource(rows.PKI), Log: log}).Handler(pki.OCSPPath, r.pki.StatusHandler())
	status.Start()
	t.Cleanup(status.Close)
	return r
}

// resolver is a DNS server that knows every name of the rig as 127.0.0.1.
func (r *rig) resolver(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		name := q.Question[0].Name
		switch q.Question[0].Qtype {
		case dns.TypeA:
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1)})
		case dns.TypeTXT:
			r.mu.Lock()
			for _, text := range r.zone[strings.TrimSuffix(name, ".")] {
				m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{text}})
			}
			r.mu.Unlock()
		}
		w.WriteMsg(m) //nolint:errcheck // the asker is gone
	})}
	go srv.ActivateAndServe()            //nolint:errcheck // ends with Shutdown
	t.Cleanup(func() { srv.Shutdown() }) //nolint:errcheck // it ends with the test
	return conn.LocalAddr().String()
}

// audited says whether an entry with this action holds the text.
func (r *rig) audited(action, text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Action == action && strings.Contains(e.Reason+" "+e.Object, text) {
			return true
		}
	}
	return false
}

// http is a client that trusts the root, with or without a certificate.
func (r *rig) http(cert *tls.Certificate) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(r.root)
	cfg := &tls.Config{RootCAs: pool}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}, Timeout: 20 * time.Second}
}

// post sends a JSON body and gives status and answer.
func (r *rig) post(cert *tls.Certificate, path string, body any) (int, string) {
	r.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := r.http(cert).Post(r.url+path, "application/json", bytes.NewReader(raw))
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(out)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// csr asks for names the way step does: the first is the common name.
func csr(t testing.TB, key crypto.Signer, cn string, names ...string) *x509.CertificateRequest {
	t.Helper()
	q := &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}
	for _, n := range names {
		switch ip := net.ParseIP(n); {
		case ip != nil:
			q.IPAddresses = append(q.IPAddresses, ip)
		case strings.Contains(n, "://"):
			u, err := url.Parse(n)
			if err != nil {
				t.Fatal(err)
			}
			q.URIs = append(q.URIs, u)
		default:
			q.DNSNames = append(q.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, q, key)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func csrPEM(q *x509.CertificateRequest) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: q.Raw}))
}

// token makes a one-time token.
func (r *rig) token(q stepca.TokenRequest) string {
	r.t.Helper()
	if q.By == "" {
		q.By = "an"
	}
	tok, err := r.step.Token(r.t.Context(), q)
	if err != nil {
		r.t.Fatal(err)
	}
	return tok.Text
}

// sign presents a token.
func (r *rig) sign(token string, q *x509.CertificateRequest, extra ...map[string]any) (int, string) {
	r.t.Helper()
	body := map[string]any{"csr": csrPEM(q), "ott": token}
	for _, m := range extra {
		for k, v := range m {
			body[k] = v
		}
	}
	return r.post(nil, "/1.0/sign", body)
}

// chainOf reads an answer of the step API.
func chainOf(t testing.TB, answer string, key crypto.Signer) *tls.Certificate {
	t.Helper()
	var a struct {
		Chain []string `json:"certChain"`
	}
	if err := json.Unmarshal([]byte(answer), &a); err != nil || len(a.Chain) != 2 {
		t.Fatalf("answer %s: %v", answer, err)
	}
	c := &tls.Certificate{PrivateKey: key}
	for _, text := range a.Chain {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			t.Fatalf("no PEM: %s", text)
		}
		c.Certificate = append(c.Certificate, block.Bytes)
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	c.Leaf = leaf
	return c
}

// issue gets a certificate by token.
func (r *rig) issue(q stepca.TokenRequest, names ...string) *tls.Certificate {
	r.t.Helper()
	key := newKey(r.t)
	status, answer := r.sign(r.token(q), csr(r.t, key, q.Name, names...))
	if status != http.StatusCreated {
		r.t.Fatalf("sign for %s: %d %s", q.Name, status, answer)
	}
	return chainOf(r.t, answer, key)
}

// spiffe is an id of the rig's trust domain.
func (r *rig) spiffe(kind, name string) string {
	r.t.Helper()
	u, err := enrol.SPIFFEID(r.pki.TrustDomain(), kind, name)
	if err != nil {
		r.t.Fatal(err)
	}
	return u.String()
}

// device enrols one and gives its certificate.
func (r *rig) device(name string) *tls.Certificate {
	r.t.Helper()
	token, _, err := r.pki.CreateToken(r.t.Context(), "d-1", "SN-1", "lan")
	if err != nil {
		r.t.Fatal(err)
	}
	key := newKey(r.t)
	q := csr(r.t, key, "", r.spiffe(enrol.DeviceKind, name))
	c, err := r.pki.Enrol(r.t.Context(), "127.0.0.1:1", enrol.Request{Token: token, Serial: "SN-1", CSR: csrPEM(q), WireGuardPublicKey: wireGuard(r.t)})
	if err != nil {
		r.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair([]byte(c.Chain), keyPEM(r.t, key))
	if err != nil {
		r.t.Fatal(err)
	}
	return &pair
}
