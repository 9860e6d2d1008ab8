package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

func (a *authority) router(t *testing.T, q pki.RouterRequest) (pki.Certificate, tls.ConnectionState) {
	t.Helper()
	c, err := a.IssueRouter(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return c, shown(t, c.Chain)
}

// shown is a connection to a server that shows a chain.
func shown(t *testing.T, chain string) (cs tls.ConnectionState) {
	t.Helper()
	for rest := []byte(chain); ; {
		block, more := pem.Decode(rest)
		if block == nil {
			return cs
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		cs.PeerCertificates, rest = append(cs.PeerCertificates, cert), more
	}
}

func TestRouterCertificate(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	a.declare("r-1", inventory.InService)
	for host, q := range map[string]*x509.CertificateRequest{
		"10.63.1.2":     {IPAddresses: []net.IP{net.IPv4(10, 63, 1, 2)}},
		"2001:db8::1":   {IPAddresses: []net.IP{net.ParseIP("2001:db8::1")}, Subject: pkix.Name{CommonName: "r-1"}},
		"leaf.dc.local": {DNSNames: []string{"leaf.dc.local"}},
	} {
		c, cs := a.router(t, pki.RouterRequest{Device: "r-1", Host: host, CSR: csrOf(t, q), By: "an"})
		leaf := cs.PeerCertificates[0]
		if err := leaf.VerifyHostname(host); err != nil {
			t.Error(err)
		}
		if leaf.Subject.CommonName != "r-1" || len(leaf.URIs) > 0 || time.Until(leaf.NotAfter) > 90*24*time.Hour+time.Minute {
			t.Errorf("%s: certificate of %s, URIs %v, until %s", host, leaf.Subject, leaf.URIs, leaf.NotAfter)
		}
		if err := a.CheckRouter(cs); err != nil {
			t.Error(err)
		}
		if err := a.Revoke(t.Context(), c.Serial, "box stolen", "an"); err != nil {
			t.Fatal(err)
		}
		if err := a.CheckRouter(cs); err == nil || !strings.Contains(err.Error(), "is revoked") {
			t.Errorf("revoked: %v", err)
		}
	}
	ours := a.forge("devices", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(10, 63, 1, 2)}})
	for what, want := range map[string]string{"of the devices' CA": "is not of the services CA", "none": "showed no certificate"} {
		var cs tls.ConnectionState
		if what != "none" {
			leaf, err := x509.ParseCertificate(ours.Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			cs.PeerCertificates = []*x509.Certificate{leaf}
		}
		if err := a.CheckRouter(cs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
}

// A router's certificate lets nobody into a listener of ours.
func TestRouterIsNoClient(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	a.declare("r-1", inventory.InService)
	_, cs := a.router(t, pki.RouterRequest{Device: "r-1", Host: "localhost", CSR: csrOf(t, &x509.CertificateRequest{DNSNames: []string{"localhost"}})})
	cs.HandshakeComplete = true
	if name, err := a.IdentifyService(cs); err == nil {
		t.Errorf("taken for service %q", name)
	}
	if id, err := a.IdentifyDevice(cs); err == nil {
		t.Errorf("taken for device %q", id)
	}
}

// Whatever a CSR names, the certificate names the host of the inventory alone,
// or there is none.
func TestRouterCertificateNamesItsHostAlone(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	a.declare("r-1", inventory.InService)
	a.declare("r-old", inventory.Retired)
	rapid.Check(t, func(r *rapid.T) {
		q := &x509.CertificateRequest{
			DNSNames:    rapid.SliceOfN(rapid.SampledFrom([]string{"hub.example", "r.example", "R.example"}), 0, 2).Draw(r, "names"),
			IPAddresses: rapid.SliceOfN(rapid.SampledFrom([]net.IP{net.IPv4(10, 63, 1, 2), net.IPv4(10, 63, 1, 3)}), 0, 2).Draw(r, "addresses"),
			Subject:     pkix.Name{CommonName: rapid.SampledFrom([]string{"", "r-1", "r-2"}).Draw(r, "cn")},
		}
		if rapid.IntRange(0, 4).Draw(r, "uri") == 0 {
			q.URIs = urls(t, "spiffe://wardnet.test/service/pep")
		}
		host := rapid.SampledFrom([]string{"r.example", "10.63.1.2"}).Draw(r, "host")
		id := rapid.SampledFrom([]inventory.DeviceID{"r-1", "r-1", "r-1", "r-old", "r-none"}).Draw(r, "router")
		c, err := a.IssueRouter(t.Context(), pki.RouterRequest{Device: id, Host: host, CSR: csrOf(t, q)})
		if err != nil {
			if !errors.Is(err, inventory.ErrInvalid) && !errors.Is(err, inventory.ErrNotFound) {
				r.Fatal(err)
			}
			return
		}
		leaf := shown(t, c.Chain).PeerCertificates[0]
		if id != "r-1" || leaf.VerifyHostname(host) != nil || len(leaf.DNSNames)+len(leaf.IPAddresses) != 1 || len(leaf.URIs)+len(leaf.EmailAddresses) > 0 {
			r.Fatalf("for %s at %s: %v %v %v", id, host, leaf.DNSNames, leaf.IPAddresses, leaf.URIs)
		}
	})
}
