package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// ChannelProtocol is the ALPN name of the management channel.
const ChannelProtocol = "gnmi-rev/1"

// Peer is who a client certificate says it is, checked.
type Peer struct {
	Kind   string // [enrol.DeviceKind] or [enrol.ServiceKind]
	Name   string
	Serial string // of the certificate
}

// admission says whom a listener lets in.
type admission struct {
	issuer   Issuer
	kind     string
	required bool // a client certificate
}

var admissions = map[Listener]admission{
	ChannelListener: {Devices, enrol.DeviceKind, true},
	CAListener:      {Devices, enrol.DeviceKind, false},
	PEPListener:     {Services, enrol.ServiceKind, true},
}

// HubTLS is the server configuration of a listener: TLS 1.3, the controller's
// own certificate, which renews itself, and for listeners with client
// certificates the complete check of them, including revocation, at every
// handshake. Refusals are audited and counted here.
func (p *PKI) HubTLS(l Listener) *tls.Config {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return p.server.Load().pair, nil
		},
		// A ticket would carry an identity past its revocation.
		SessionTicketsDisabled: true,
	}
	if l == ChannelListener {
		cfg.NextProtos = []string{ChannelProtocol}
	}
	adm, mutual := admissions[l]
	if !mutual {
		return cfg
	}
	// Only asked for here: the library would refuse without telling us whom
	// and why. ClientCAs stays empty so that a client sends the certificate it
	// has, the wrong one too.
	cfg.ClientAuth = tls.RequestClientCert
	check := func(remote string) func(tls.ConnectionState) error {
		return func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 && !adm.required {
				return nil
			}
			if l == CAListener && p.services.Load() && p.serviceIssuer(cs.PeerCertificates[0]) != nil {
				return p.AdmitService(remote, cs.PeerCertificates) // the step API's
			}
			_, err := p.admit(l, remote, cs.PeerCertificates)
			return err
		}
	}
	cfg.VerifyConnection = check("")
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c := cfg.Clone()
		c.GetConfigForClient = nil
		c.VerifyConnection = check(hello.Conn.RemoteAddr().String())
		return c, nil
	}
	return cfg
}

// admit checks a peer's certificate and audits a refusal.
func (p *PKI) admit(l Listener, remote string, certs []*x509.Certificate) (Peer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	peer, reason, err := p.check(ctx, l, certs)
	if err != nil && reason != "" {
		return Peer{}, p.refuse(ctx, &Refusal{Listener: l, Reason: reason, Remote: remote, Device: claimed(peer), Err: err})
	}
	return peer, err
}

func claimed(peer Peer) inventory.DeviceID {
	if peer.Kind == enrol.DeviceKind {
		return inventory.DeviceID(peer.Name)
	}
	return ""
}

// check is the whole examination of a client certificate. An error without a
// reason means that the inventory could not be asked; it refuses all the same.
func (p *PKI) check(ctx context.Context, l Listener, certs []*x509.Certificate) (Peer, Reason, error) {
	return p.checkAt(ctx, l, certs, time.Now())
}

// checkAt is check of the certificate as it was at a time; revocation and
// inventory count as they are now.
func (p *PKI) checkAt(ctx context.Context, l Listener, certs []*x509.Certificate, at time.Time) (Peer, Reason, error) {
	adm, ok := admissions[l]
	if !ok {
		return Peer{}, "", fmt.Errorf("listener %q takes no client certificates", l)
	}
	peer, by, reason, err := p.issuers.Load().check(adm, p.cfg.TrustDomain, certs, at)
	if err != nil {
		return peer, reason, err
	}
	if !by.State.accepted() {
		if reason, err := p.outOfForce(ctx, l, by, peer, certs[0]); err != nil {
			return peer, reason, err
		}
	}
	if p.revoked.has(peer.Serial) {
		return peer, Revoked, fmt.Errorf("certificate %s of %s %s is revoked", peer.Serial, peer.Kind, peer.Name)
	}
	if adm.kind == enrol.DeviceKind {
		switch _, err := p.declared(ctx, inventory.DeviceID(peer.Name)); {
		case errors.Is(err, inventory.ErrNotFound):
			return peer, UnknownDevice, err
		case err != nil:
			return peer, "", err
		}
	}
	return peer, "", nil
}

// check examines all that can be seen in the certificate itself, with the
// issuing CAs as trust anchors; what a peer sends besides its leaf is not used.
// It gives the issuer too: whether that one is still good is another question.
func (a *issuerSet) check(adm admission, domain string, certs []*x509.Certificate, now time.Time) (Peer, *issuer, Reason, error) {
	if len(certs) == 0 {
		return Peer{}, nil, NoCertificate, errors.New("no client certificate was presented")
	}
	leaf := certs[0]
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: a.pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		var bad x509.CertificateInvalidError
		if errors.As(err, &bad) && bad.Reason == x509.Expired {
			return Peer{}, nil, ExpiredCertificate, fmt.Errorf("certificate %.40s: %w", enrol.SerialOf(leaf), err)
		}
		return Peer{}, nil, ForeignIssuer, fmt.Errorf("certificate %.40s: %w", enrol.SerialOf(leaf), err)
	}
	peer := Peer{Kind: adm.kind, Serial: enrol.SerialOf(leaf)}
	by := a.byRaw[string(chains[0][len(chains[0])-1].Raw)]
	if by.Issuer != adm.issuer {
		return Peer{Serial: peer.Serial}, nil, WrongIssuer, fmt.Errorf("certificate %s is of the %s CA, want the %s CA", peer.Serial, by.Issuer, adm.issuer)
	}
	if leaf.IsCA || !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return peer, nil, BadUsage, fmt.Errorf("certificate %s is not for TLS clients", peer.Serial)
	}
	if len(leaf.URIs) != 1 || len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) > 0 {
		return peer, nil, BadSPIFFEID, fmt.Errorf("certificate %s carries %d URIs and %d other names, want one SPIFFE id alone", peer.Serial,
			len(leaf.URIs), len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses))
	}
	if peer.Name, err = enrol.ParseSPIFFEID(leaf.URIs[0], domain, adm.kind); err != nil {
		return peer, nil, BadSPIFFEID, fmt.Errorf("certificate %s: %w", peer.Serial, err)
	}
	return peer, by, "", nil
}

// IdentifyDevice gives the device at the other end of a connection to the
// channel or the CA listener. It makes every check of the handshake again, so
// that a revocation since then counts. A [Refusal] has been audited.
func (p *PKI) IdentifyDevice(cs tls.ConnectionState) (inventory.DeviceID, error) {
	peer, err := p.identify(ChannelListener, "", cs)
	return inventory.DeviceID(peer.Name), err
}

// IdentifyService gives the service at the other end of a connection to the
// PEP listener, checked like [PKI.IdentifyDevice].
func (p *PKI) IdentifyService(cs tls.ConnectionState) (string, error) {
	peer, err := p.identify(PEPListener, "", cs)
	return peer.Name, err
}

func (p *PKI) identify(l Listener, remote string, cs tls.ConnectionState) (Peer, error) {
	if !cs.HandshakeComplete {
		return Peer{}, errors.New("identify peer: the TLS handshake is not complete")
	}
	return p.admit(l, remote, cs.PeerCertificates)
}
