package pki_test

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// authority is a PKI with its listeners on loopback, as the controller runs it.
type authority struct {
	*pki.PKI
	t      *testing.T
	dir    string
	db     *store.DB
	reg    *prometheus.Registry
	boots  *pki.Boots
	closed closed
	urls   map[string]string // enrol, ca, status; channel and pep: host:port

	host    int // last loopback address used
	mu      sync.Mutex
	events  []pki.Event
	devices map[inventory.DeviceID]inventory.Device
}

// closed collects what a revocation closes.
type closed struct {
	mu      sync.Mutex
	serials []string
}

func (c *closed) CloseSerial(serial, _ string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serials = append(c.serials, serial)
	return 1
}

func (c *closed) has(serial string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.serials, serial)
}

func newAuthority(t *testing.T, cfg pki.Config) *authority {
	t.Helper()
	dir := t.TempDir()
	db, err := store.Open(t.Context(), "sqlite://"+filepath.Join(dir, "wardnet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	a := &authority{t: t, dir: dir, db: db, urls: map[string]string{}, devices: map[inventory.DeviceID]inventory.Device{}}
	listeners := map[string]net.Listener{}
	for _, name := range []string{"enrol", "ca", "status", "channel", "pep"} {
		if listeners[name], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		a.urls[name] = listeners[name].Addr().String()
	}
	for name, scheme := range map[string]string{"enrol": "https://", "ca": "https://", "status": "http://"} {
		a.urls[name] = scheme + a.urls[name]
	}
	cfg.EnrolURL, cfg.CAURL, cfg.StatusURL, cfg.Channel = a.urls["enrol"], a.urls["ca"], a.urls["status"], a.urls["channel"]
	a.open(cfg)
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello") //nolint:errcheck
	})
	a.serve(tls.NewListener(listeners["enrol"], a.HubTLS(pki.EnrolListener)), a.EnrolHandler())
	a.serve(tls.NewListener(listeners["ca"], a.HubTLS(pki.CAListener)), a.CAHandler())
	a.serve(listeners["status"], a.StatusHandler())
	a.serve(tls.NewListener(listeners["pep"], http1(a.HubTLS(pki.PEPListener))), hello)
	a.greet(tls.NewListener(listeners["channel"], a.HubTLS(pki.ChannelListener)))
	return a
}

// greet answers every admitted connection, as no HTTP server does under the
// channel's protocol name.
func (a *authority) greet(l net.Listener) {
	a.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.WriteString(conn, "hello") //nolint:errcheck // refused or gone
			}()
		}
	}()
}

// http1 keeps the test's servers on HTTP/1.1 where it only matters to get in.
func http1(c *tls.Config) *tls.Config {
	c.NextProtos = []string{"http/1.1"}
	return c
}

// open starts the PKI, again after a restart too.
func (a *authority) open(cfg pki.Config) {
	a.t.Helper()
	a.reg = prometheus.NewRegistry()
	var err error
	if a.boots, err = pki.NewBoots(pki.BootDeps{Store: store.NewBoots(a.db, "hcmc"), Log: slog.New(slog.DiscardHandler), Reg: a.reg}); err != nil {
		a.t.Fatal(err)
	}
	p, err := pki.Open(a.t.Context(), a.deps(), cfg)
	if err != nil {
		a.t.Fatal(err)
	}
	a.PKI = p
}

func (a *authority) deps() pki.Deps {
	return pki.Deps{
		Boots: a.boots, Store: store.NewPKI(a.db, "hcmc"), Dir: a.dir, Closer: &a.closed, Log: slog.New(slog.DiscardHandler), Reg: a.reg,
		Audit: func(_ context.Context, e pki.Event) error {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.events = append(a.events, e)
			return nil
		},
		Device: func(_ context.Context, id inventory.DeviceID) (inventory.Device, error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			d, ok := a.devices[id]
			if !ok {
				return d, inventory.ErrNotFound
			}
			return d, nil
		},
	}
}

func (a *authority) serve(l net.Listener, h http.Handler) {
	srv := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go srv.Serve(l) //nolint:errcheck // ends with Close
	a.t.Cleanup(func() { srv.Close() })
}

func (a *authority) declare(id inventory.DeviceID, state inventory.IntendedState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.devices[id] = inventory.Device{ID: id, Serial: "SN-" + string(id), Intended: state}
}

// bundle declares a device and makes its token.
func (a *authority) bundle(id inventory.DeviceID) enrol.Bundle {
	a.t.Helper()
	a.declare(id, inventory.InService)
	token, _, err := a.CreateToken(a.t.Context(), id, "SN-"+string(id), "an")
	if err != nil {
		a.t.Fatal(err)
	}
	return a.Bundle(id, "SN-"+string(id), token)
}

// enrolled is a device with its identity.
func (a *authority) enrolled(id inventory.DeviceID) *enrol.Identity {
	a.t.Helper()
	i, err := enrol.Enrol(a.t.Context(), a.bundle(id), a.t.TempDir())
	if err != nil {
		a.t.Fatal(err)
	}
	return i
}

// audited says whether a refusal with that reason is in the audit log.
func (a *authority) audited(reason pki.Reason) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.events, func(e pki.Event) bool {
		return e.Outcome == "refused" && len(e.Reason) >= len(reason) && e.Reason[:len(reason)] == string(reason)
	})
}

// forgetEvents empties the audit log.
func (a *authority) forgetEvents() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = nil
}

// refusals is the counter of one listener and reason.
func (a *authority) refusals(l pki.Listener, reason pki.Reason) float64 {
	a.t.Helper()
	families, err := a.reg.Gather()
	if err != nil {
		a.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "pki_refusals_total" && m.GetLabel()[0].GetValue() == string(l) && m.GetLabel()[1].GetValue() == string(reason) {
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

// wgKey makes a WireGuard public key.
func wgKey(t *testing.T) string {
	t.Helper()
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(k.PublicKey().Bytes())
}

// csrFor makes a CSR with these URIs.
func csrFor(t *testing.T, uris ...string) string {
	t.Helper()
	return csrOf(t, &x509.CertificateRequest{URIs: urls(t, uris...)})
}

func csrOf(t *testing.T, q *x509.CertificateRequest) string {
	t.Helper()
	key, err := enrol.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, q, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func urls(t *testing.T, list ...string) []*url.URL {
	t.Helper()
	var out []*url.URL
	for _, s := range list {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, u)
	}
	return out
}

// forge signs a client certificate with the key of one of our issuers, as a
// bug or a thief would, past all checks of the authority.
func (a *authority) forge(issuer string, leaf *x509.Certificate) *tls.Certificate {
	a.t.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(a.dir, "ca", name))
		if err != nil {
			a.t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		return block.Bytes
	}
	cert, err := x509.ParseCertificate(read(issuer + ".crt"))
	if err != nil {
		a.t.Fatal(err)
	}
	k, err := x509.ParsePKCS8PrivateKey(read(issuer + ".key"))
	if err != nil {
		a.t.Fatal(err)
	}
	key, err := enrol.NewKey()
	if err != nil {
		a.t.Fatal(err)
	}
	leaf.SerialNumber = big.NewInt(time.Now().UnixNano())
	if leaf.NotAfter.IsZero() {
		leaf.NotBefore, leaf.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, cert, &key.PublicKey, k.(*ecdsa.PrivateKey))
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, cert.Raw}, PrivateKey: key}
}

// connect tries a handshake with a listener and a byte both ways, as TLS 1.3
// tells a client of its refusal only then.
func (a *authority) connect(name string, cert *tls.Certificate, change func(*tls.Config)) error {
	a.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(a.RootPEM()))
	cfg := &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS13, NextProtos: []string{pki.ChannelProtocol}}
	if name != "channel" {
		cfg.NextProtos = nil
	}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	if change != nil {
		change(cfg)
	}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(a.urls[name], "https://"), cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	if conn.ConnectionState().DidResume {
		a.t.Errorf("the session was resumed")
	}
	if name != "channel" {
		if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			return err
		}
	}
	answer, err := io.ReadAll(conn)
	if err == nil && len(answer) == 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}
