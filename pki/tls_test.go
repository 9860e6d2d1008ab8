package pki_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// deadline ends what retries for as long as it may.
func deadline(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), 2*time.Second)
}

// presented is the certificate an identity shows.
func presented(t *testing.T, i *enrol.Identity) *tls.Certificate {
	t.Helper()
	c, err := i.TLS().GetClientCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// service issues a PEP's certificate.
func service(t *testing.T, a *authority, name string) *tls.Certificate {
	t.Helper()
	key, err := enrol.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	id, err := enrol.SPIFFEID(a.TrustDomain(), enrol.ServiceKind, name)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := enrol.NewCSR(key, id)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.IssueService(t.Context(), pki.ServiceRequest{Name: name, CSR: csr, By: "an"})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(c.Chain))
	return &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
}

func client(t *testing.T, uris ...string) *x509.Certificate {
	t.Helper()
	return &x509.Certificate{URIs: urls(t, uris...), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

func TestHandshake(t *testing.T) {
	const e1, e2 = "spiffe://wardnet.hcmc/device/e-1", "spiffe://wardnet.hcmc/device/e-2"
	a, other := newAuthority(t, pki.Config{}), newAuthority(t, pki.Config{})
	device, pep := presented(t, a.enrolled("e-1")), service(t, a, "proxy")
	foreign := presented(t, other.enrolled("e-1"))
	a.declare("e-gone", inventory.Retired)
	expired := client(t, e1)
	expired.NotBefore, expired.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	named := client(t, e1)
	named.DNSNames = []string{"hub"}
	serverOnly := client(t, e1)
	serverOnly.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for name, tt := range map[string]struct {
		listener pki.Listener
		cert     *tls.Certificate
		want     pki.Reason // "" means admitted
	}{
		"device at the channel":           {pki.ChannelListener, device, ""},
		"PEP at its listener":             {pki.PEPListener, pep, ""},
		"nobody at the channel":           {pki.ChannelListener, nil, pki.NoCertificate},
		"nobody at the PEPs":              {pki.PEPListener, nil, pki.NoCertificate},
		"another CA's device":             {pki.ChannelListener, foreign, pki.ForeignIssuer},
		"PEP at the channel":              {pki.ChannelListener, pep, pki.WrongIssuer},
		"device at the PEPs":              {pki.PEPListener, device, pki.WrongIssuer},
		"device id of the wrong issuer":   {pki.ChannelListener, a.forge("services", client(t, e1)), pki.WrongIssuer},
		"two SPIFFE URIs":                 {pki.ChannelListener, a.forge("devices", client(t, e1, e2)), pki.BadSPIFFEID},
		"no SPIFFE URI":                   {pki.ChannelListener, a.forge("devices", client(t)), pki.BadSPIFFEID},
		"a service's id":                  {pki.ChannelListener, a.forge("devices", client(t, "spiffe://wardnet.hcmc/service/e-1")), pki.BadSPIFFEID},
		"a DNS name beside the id":        {pki.ChannelListener, a.forge("devices", named), pki.BadSPIFFEID},
		"another domain's id":             {pki.ChannelListener, a.forge("devices", client(t, "spiffe://evil.example/device/e-1")), pki.ForeignIssuer}, // name constraint
		"an expired certificate":          {pki.ChannelListener, a.forge("devices", expired), pki.ExpiredCertificate},
		"a server's certificate":          {pki.ChannelListener, a.forge("devices", serverOnly), pki.BadUsage},
		"a device not in the inventory":   {pki.ChannelListener, a.forge("devices", client(t, "spiffe://wardnet.hcmc/device/e-0")), pki.UnknownDevice},
		"a retired device":                {pki.ChannelListener, a.forge("devices", client(t, "spiffe://wardnet.hcmc/device/e-gone")), pki.UnknownDevice},
		"a certificate signed by the hub": {pki.ChannelListener, a.forge("hub", client(t, e1)), pki.WrongIssuer},
	} {
		t.Run(name, func(t *testing.T) {
			before := a.refusals(tt.listener, tt.want)
			err := a.connect(string(tt.listener), tt.cert, nil)
			if tt.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if err == nil {
				t.Fatal("admitted")
			}
			if got := a.refusals(tt.listener, tt.want); got != before+1 || !a.audited(tt.want) {
				t.Errorf("counted %v after %v, audited %v; the client saw: %v", got, before, a.audited(tt.want), err)
			}
		})
	}
	if err := a.connect("channel", device, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
}

func TestRevokedAtHandshakeAndOnOpenConnections(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	i := a.enrolled("e-1")
	if err := i.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	cert, serial := presented(t, i), enrol.SerialOf(i.Certificate())
	sessions := tls.NewLRUClientSessionCache(8)
	resume := func(c *tls.Config) { c.ClientSessionCache = sessions }
	if err := a.connect("channel", cert, resume); err != nil {
		t.Fatal(err)
	}
	open := dialChannel(t, a, i)
	epoch, _, err := a.WireGuardKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	changed := make(chan struct{}, 8)
	a.OnPeersChanged(func() { changed <- struct{}{} })
	if err := a.Revoke(t.Context(), serial, "key-compromise: stolen", "an"); err != nil {
		t.Fatal(err)
	}
	if err := a.connect("channel", cert, resume); err == nil || !a.audited(pki.Revoked) {
		t.Errorf("a revoked certificate got %v", err)
	}
	if !a.closed.has(serial) || len(changed) == 0 {
		t.Error("the closer or the controller was not told")
	}
	// Whoever holds the state of a connection made before must notice too.
	var refused *pki.Refusal
	if _, err := a.IdentifyDevice(open); !errors.As(err, &refused) || refused.Reason != pki.Revoked {
		t.Errorf("an open connection is still identified: %v", err)
	}
	after, keys, err := a.WireGuardKeys(t.Context())
	if err != nil || after <= epoch || len(keys) != 0 {
		t.Errorf("epoch %d after %d, peers %v, %v", after, epoch, keys, err)
	}
	ctx, cancel := deadline(t)
	defer cancel()
	if err := i.Renew(ctx); err == nil {
		t.Error("a revoked device renewed")
	}
	if err := a.Revoke(t.Context(), serial, "again", "an"); err != nil {
		t.Errorf("revoking twice: %v", err)
	}
	if err := a.Revoke(t.Context(), "abc", "x", "an"); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("revoking nothing gave %v", err)
	}
	if err := a.Revoke(t.Context(), serial, " ", "an"); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("revoking without a reason gave %v", err)
	}
}

// dialChannel gives the server's view of a connection by i.
func dialChannel(t *testing.T, a *authority, i *enrol.Identity) tls.ConnectionState {
	t.Helper()
	server, device := net.Pipe()
	defer server.Close()
	defer device.Close()
	cfg := i.TLS()
	cfg.ServerName, cfg.NextProtos = "localhost", []string{pki.ChannelProtocol}
	go func() {
		c := tls.Client(device, cfg)
		io.Copy(io.Discard, c) //nolint:errcheck // ends with the pipe
	}()
	c := tls.Server(server, a.HubTLS(pki.ChannelListener))
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	id, err := a.IdentifyDevice(c.ConnectionState())
	if err != nil || id != i.Device() {
		t.Fatalf("identified %q, %v", id, err)
	}
	return c.ConnectionState()
}
