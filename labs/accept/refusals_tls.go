package main

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

const channelProtocol = "gnmi-rev/1"

func wireGuardKey() string {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // no randomness: nothing can be tested
	}
	return base64.StdEncoding.EncodeToString(k.PublicKey().Bytes())
}

// papers are the certificates an attacker may hold.
type papers struct {
	device    *tls.Certificate // ours, of devices[0], valid
	service   *tls.Certificate // ours, of a PEP, valid
	foreign   *tls.Certificate // device's name, of another CA
	lookNear  *tls.Certificate // the same, from a CA named as ours
	offspring *tls.Certificate // device's name, issued with the device's own key
}

func (s *siege) papers(ctx context.Context, held *enrol.Identity) (papers, error) {
	pair, err := held.TLS().GetClientCertificate(nil)
	if err != nil {
		return papers{}, err
	}
	p := papers{device: pair}
	if p.service, err = s.service(ctx, "pep-1"); err != nil {
		return p, err
	}
	issuer, err := x509.ParseCertificate(pair.Certificate[1])
	if err != nil {
		return p, err
	}
	key := newKey(elliptic.P256())
	stranger := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)}
	near := *stranger
	near.RawSubject, near.SubjectKeyId = issuer.RawSubject, issuer.SubjectKeyId
	device := s.devices[0].ID
	return p, errors.Join(
		s.forge(&p.foreign, device, stranger, key),
		s.forge(&p.lookNear, device, &near, key),
		s.forge(&p.offspring, s.devices[1].ID, pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)),
	)
}

// forge makes a certificate with a device's name.
func (s *siege) forge(into **tls.Certificate, device inventory.DeviceID, parent *x509.Certificate, signer *ecdsa.PrivateKey) error {
	key := newKey(elliptic.P256())
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		URIs:     []*url.URL{s.spiffe("device", string(device))},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, &key.PublicKey, signer)
	if err != nil {
		return fmt.Errorf("forge a certificate: %w", err)
	}
	*into = &tls.Certificate{Certificate: [][]byte{der, parent.Raw}, PrivateKey: key}
	if parent.Raw == nil {
		(*into).Certificate = [][]byte{der}
	}
	return nil
}

// service has a policy enforcement point's certificate issued.
func (s *siege) service(ctx context.Context, name string) (*tls.Certificate, error) {
	key := newKey(elliptic.P256())
	csr, err := enrol.NewCSR(key, s.spiffe("service", name))
	if err != nil {
		return nil, err
	}
	c, err := s.security.IssueServiceCertificate(ctx, client.NewServiceCertificate{Name: name, CSR: csr})
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair([]byte(c.ChainPEM), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return &pair, err
}

// show is a client configuration that presents c whatever is asked for.
func (s *siege) show(c *tls.Certificate, protocols ...string) *tls.Config {
	cfg := &tls.Config{RootCAs: s.pool, NextProtos: protocols, MinVersion: tls.VersionTLS12}
	if c != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
	}
	return cfg
}

func tlsRefusal(listener, reason string) trace {
	return trace{reason + ":", fmt.Sprintf("pki_refusals_total{listener=%q,reason=%q}", listener, reason)}
}

// certificates attacks the listeners with client certificates and says how long
// a revocation took to close an open channel.
func (s *siege) certificates(ctx context.Context, held *enrol.Identity) (time.Duration, error) {
	p, err := s.papers(ctx, held)
	if err != nil {
		return 0, err
	}
	for _, x := range []struct {
		name   string
		cert   *tls.Certificate
		reason string
	}{
		{"no certificate", nil, "no-certificate"},
		{"certificate of another CA", p.foreign, "foreign-issuer"},
		{"certificate of a CA that bears our CA's name", p.lookNear, "foreign-issuer"},
		{"certificate issued with a device's key", p.offspring, "foreign-issuer"},
		{"service certificate", p.service, "wrong-issuer"},
	} {
		s.onChannel(ctx, x.name, x.cert, x.reason)
		if x.cert != nil {
			s.onCA(ctx, x.name, x.cert, tlsRefusal("ca", x.reason), s.devices[0].ID)
		}
		if x.cert != p.service {
			s.onPEP(ctx, x.name, x.cert, x.reason)
		}
	}
	s.onPEP(ctx, "device certificate", p.device, "wrong-issuer")
	s.onCA(ctx, "no certificate", nil, trace{"", `pki_refusals_total{listener="ca",reason="no-certificate"}`}, s.devices[0].ID)
	s.onCA(ctx, "renewal in another device's name", p.device, tlsRefusal("ca", "wrong-device"), s.devices[1].ID)
	s.wrongProtocol(ctx, p)
	for name, addr := range map[string]string{
		"console": s.serving.Console, "PEP": s.serving.PEP, "channel": s.serving.Devices, "CA": s.serving.CA, "enrolment": s.serving.Enrol,
	} {
		s.attack(ctx, "plain HTTP to the "+name+" port", trace{}, func(ctx context.Context, from place) error { return plainHTTP(ctx, from, addr) })
	}
	if err := errors.Join(s.revokedService(ctx), s.retiredDevice(ctx)); err != nil {
		return 0, err
	}
	s.silentFlood(ctx, p)
	return s.revokedDevice(ctx, p)
}

func (s *siege) onChannel(ctx context.Context, name string, c *tls.Certificate, reason string) {
	s.attack(ctx, "channel: "+name, tlsRefusal("channel", reason), func(ctx context.Context, from place) error {
		return s.notAdmitted(ctx, from, s.show(c, channelProtocol))
	})
}

// notAdmitted connects to the channel and wants to be cut before the
// controller's first word. In TLS 1.3 the client's handshake ends before the
// server has looked at its certificate, so the read decides.
func (s *siege) notAdmitted(ctx context.Context, from place, cfg *tls.Config) error {
	cfg.ServerName = "localhost"
	conn, err := (&tls.Dialer{NetDialer: &from.Dialer, Config: cfg}).DialContext(ctx, "tcp", s.serving.Devices)
	if err != nil {
		if _, ok := errors.AsType[*net.OpError](err); ok {
			return nil // the counter tells a refusal from a dead port
		}
		return err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	n, err := conn.Read(make([]byte, 64))
	var ne net.Error
	switch {
	case n > 0:
		return errors.New("it was admitted")
	case errors.As(err, &ne) && ne.Timeout():
		return errors.New("it was neither admitted nor cut within 5 s")
	}
	return nil
}

func (s *siege) onCA(ctx context.Context, name string, c *tls.Certificate, want trace, device inventory.DeviceID) {
	s.attack(ctx, "CA: "+name, want, func(ctx context.Context, from place) error {
		q := enrol.RenewRequest{CSR: s.csr(newKey(elliptic.P256()), device, plain), WireGuardPublicKey: wireGuardKey()}
		return notGranted(s.post(ctx, from.http(s.show(c)), "https://"+s.serving.CA+enrol.RenewPath, q, &enrol.Response{}))
	})
}

func (s *siege) onPEP(ctx context.Context, name string, c *tls.Certificate, reason string) {
	s.attack(ctx, "PEP: "+name, tlsRefusal("pep", reason), func(ctx context.Context, from place) error {
		return notGranted(s.ask(ctx, from.http(s.show(c))))
	})
}

// notGranted wants a cut connection or HTTP 401 or 403.
func notGranted(err error) error {
	var r *enrol.RefusedError
	switch {
	case err == nil:
		return errors.New("it was granted")
	case errors.As(err, &r) && r.Status != http.StatusUnauthorized && r.Status != http.StatusForbidden:
		return fmt.Errorf("answered with %d: %s", r.Status, r.Body.Message)
	}
	return nil
}

// ask asks for a decision; any answer but a decision is an error.
func (s *siege) ask(ctx context.Context, c *http.Client) error {
	var out struct {
		Decision *bool `json:"decision"`
	}
	q := map[string]any{
		"subject": map[string]string{"type": "user", "id": "lan.nguyen"}, "action": map[string]string{"name": "connect"},
		"resource": map[string]string{"type": "application", "id": "ho-tich"},
		"context":  map[string]any{"device": s.devices[0].ID, "segment": "staff"},
	}
	if err := s.post(ctx, c, "https://"+s.serving.PEP+"/access/v1/evaluation", q, &out); err != nil {
		return err
	}
	if out.Decision == nil {
		return errors.New("the answer holds no decision")
	}
	return nil
}

// wrongProtocol shows a good certificate in the wrong way.
func (s *siege) wrongProtocol(ctx context.Context, p papers) {
	want := trace{channelProtocol, `channel_handshakes_total{outcome="refused_protocol"}`}
	for name, protocols := range map[string][]string{"ALPN h2": {"h2"}, "no ALPN": nil} {
		s.attack(ctx, "channel: "+name, want, func(ctx context.Context, from place) error {
			return s.notAdmitted(ctx, from, s.show(p.device, protocols...))
		})
	}
	s.attack(ctx, "channel: TLS 1.2", want, func(ctx context.Context, from place) error {
		cfg := s.show(p.device, channelProtocol)
		cfg.MaxVersion = tls.VersionTLS12
		return s.notAdmitted(ctx, from, cfg)
	})
}

// revokedService asks on one connection before and after the revocation.
func (s *siege) revokedService(ctx context.Context) error {
	cert, err := s.service(ctx, "pep-2")
	if err != nil {
		return err
	}
	var dials atomic.Int32
	here := s.elsewhere()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: s.show(cert), DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return here.DialContext(ctx, network, addr)
	}}}
	defer c.CloseIdleConnections()
	if err := s.ask(ctx, c); err != nil {
		return fmt.Errorf("a good PEP was refused: %w", err)
	}
	if _, err := s.security.Revoke(ctx, enrol.SerialOf(cert.Leaf), "key-compromise: acceptance"); err != nil {
		return err
	}
	s.attack(ctx, "PEP: revoked, on its open connection", trace{Counter: `pki_refusals_total{listener="pep",reason="revoked"}`}, func(ctx context.Context, _ place) error {
		if err := notGranted(s.ask(ctx, c)); err != nil {
			return err
		}
		if dials.Load() != 1 {
			return errors.New("the open connection was not used")
		}
		return nil
	})
	s.onPEP(ctx, "revoked", cert, "revoked")
	return nil
}
