package channel

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/wardnet/wardnet/inventory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const hubName = "controller.test"

var serials atomic.Int64

// authority is a one-level CA made for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &authority{cert, key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue makes a device certificate, or the controller's for hubName.
func (a *authority) issue(t testing.TB, name string, edits ...func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if name == hubName {
		tmpl.DNSNames = []string{name}
	} else {
		tmpl.URIs = []*url.URL{{Scheme: "spiffe", Host: "wardnet.test", Path: "/device/" + name}}
	}
	for _, edit := range edits {
		edit(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// bench is a server on loopback with everything it was told, in order.
type bench struct {
	*Server
	t            testing.TB
	addr         string
	devices, hub *authority

	mu      sync.Mutex
	events  map[inventory.DeviceID][]string
	refused []error
	revoked map[string]bool // serials
	flaps   int
}

func newBench(t testing.TB, cfg Config, edits ...func(*bench, *Deps)) *bench {
	t.Helper()
	b := &bench{
		t: t, devices: newAuthority(t, "devices"), hub: newAuthority(t, "hub"),
		events: map[inventory.DeviceID][]string{}, revoked: map[string]bool{},
	}
	deps := Deps{
		TLS:      &tls.Config{Certificates: []tls.Certificate{*b.hub.issue(t, hubName)}, ClientCAs: b.devices.pool()},
		Identify: b.identify,
		Refused:  func(_ string, err error) { b.mu.Lock(); b.refused = append(b.refused, err); b.mu.Unlock() },
		OnUp:     func(id inventory.DeviceID) { b.note(id, "up") },
		OnDown:   func(id inventory.DeviceID) { b.note(id, "down") },
		OnFlap:   func(inventory.DeviceID, int) { b.mu.Lock(); b.flaps++; b.mu.Unlock() },
		Log:      slog.New(slog.DiscardHandler),
	}
	for _, edit := range edits {
		edit(b, &deps)
	}
	var err error
	b.Server, err = NewServer(deps, cfg)
	must(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	b.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-done)
		if left := b.Sessions(); len(left) != 0 {
			t.Errorf("%d sessions are left after Serve", len(left))
		}
	})
	return b
}

// selfVerified is a TLS config that checks the client certificate itself, at
// each connection, as one does who wants to record whom and why it refused.
func selfVerified(b *bench, d *Deps) {
	d.TLS.ClientCAs, d.TLS.ClientAuth = nil, tls.RequestClientCert
	d.TLS.VerifyConnection = func(st tls.ConnectionState) error {
		if len(st.PeerCertificates) == 0 {
			return errors.New("no certificate")
		}
		_, err := st.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: b.devices.pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		return err
	}
	base := d.TLS.Clone()
	d.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return base.Clone(), nil }
}

func (b *bench) identify(st tls.ConnectionState) (inventory.DeviceID, error) {
	leaf := st.PeerCertificates[0]
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.revoked[leaf.SerialNumber.Text(16)] {
		return "", errors.New("revoked")
	}
	if len(leaf.URIs) != 1 {
		return "", fmt.Errorf("%d SPIFFE ids", len(leaf.URIs))
	}
	return inventory.DeviceID(strings.TrimPrefix(leaf.URIs[0].Path, "/device/")), nil
}

func (b *bench) note(id inventory.DeviceID, what string) {
	b.mu.Lock()
	b.events[id] = append(b.events[id], what)
	b.mu.Unlock()
}

func (b *bench) seen(id inventory.DeviceID, want ...string) func() bool {
	return func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return slices.Equal(b.events[id], want)
	}
}

func (b *bench) refusals() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.refused)
}

// clientTLS is what a device with cert would use.
func (b *bench) clientTLS(cert *tls.Certificate) *tls.Config {
	return &tls.Config{
		RootCAs: b.hub.pool(), ServerName: hubName,
		// Not Certificates: those are held back when the issuer is not one the
		// server asks for, and a bad peer would not hold back.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
	}
}

// edge is one running edge end.
type edgeEnd struct {
	stop  func() // ends it and waits
	conns chan net.Conn
	up    chan struct{}
}

// start runs an edge that serves the gRPC health service.
func (b *bench) start(conf func(*EdgeConfig)) *edgeEnd {
	e := &edgeEnd{conns: make(chan net.Conn, 64), up: make(chan struct{}, 64)}
	cfg := EdgeConfig{
		Dial: func(ctx context.Context) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", b.addr)
			if err == nil {
				e.conns <- c
			}
			return c, err
		},
		ServerName: hubName,
		Register:   func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, health.NewServer()) },
		Log:        slog.New(slog.DiscardHandler),
		OnUp:       func() { e.up <- struct{}{} },
		MinBackoff: 10 * time.Millisecond, MaxBackoff: 50 * time.Millisecond,
	}
	conf(&cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, cfg) }()
	e.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("Serve() = %v", err)
		}
	})
	b.t.Cleanup(e.stop)
	return e
}

// device starts an edge with a certificate of its own.
func (b *bench) device(id inventory.DeviceID) *edgeEnd {
	cert := b.devices.issue(b.t, string(id))
	return b.start(func(c *EdgeConfig) { c.TLS = func() *tls.Config { return b.clientTLS(cert) } })
}

// ping asks the device's health service.
func (b *bench) ping(id inventory.DeviceID) error {
	cc, err := b.Conn(id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err = grpc_health_v1.NewHealthClient(cc).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err
}

// eventually polls until ok, for a minute at most: the machine may be busy.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
