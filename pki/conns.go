package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/wardnet/wardnet/pki/enrol"
)

// openConns are the connections on which a client certificate was shown, of
// the listeners made with [PKI.Listen]. It is a [Closer].
type openConns struct {
	mu sync.Mutex
	by map[string]map[*openConn]bool // by serial number
}

func newOpenConns() *openConns { return &openConns{by: map[string]map[*openConn]bool{}} }

// CloseSerial implements [Closer].
func (o *openConns) CloseSerial(serial, _ string) int {
	o.mu.Lock()
	var list []*openConn
	for c := range o.by[serial] {
		list = append(list, c)
	}
	o.mu.Unlock()
	for _, c := range list {
		c.Close() //nolint:errcheck // it may be closed already
	}
	return len(list)
}

// openConn is one accepted connection; TLS is above it.
type openConn struct {
	net.Conn
	all    *openConns
	serial string      // guarded by all.mu; "" until a certificate was shown
	end    *time.Timer // of the certificate
	closed bool
}

// belongs ties the connection to a certificate: it ends with it.
func (c *openConn) belongs(leaf *x509.Certificate) {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if c.closed {
		return
	}
	c.serial = enrol.SerialOf(leaf)
	if c.all.by[c.serial] == nil {
		c.all.by[c.serial] = map[*openConn]bool{}
	}
	c.all.by[c.serial][c] = true
	c.end = time.AfterFunc(time.Until(leaf.NotAfter), func() { c.Close() }) //nolint:errcheck // it may be closed already
}

// Close implements [net.Conn].
func (c *openConn) Close() error {
	c.all.mu.Lock()
	c.closed = true
	if c.serial != "" {
		delete(c.all.by[c.serial], c)
		if len(c.all.by[c.serial]) == 0 {
			delete(c.all.by, c.serial)
		}
		c.end.Stop()
		c.serial = ""
	}
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// openListener accepts connections that can be closed by certificate.
type openListener struct {
	net.Listener
	all *openConns
}

// Accept implements [net.Listener].
func (l openListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &openConn{Conn: c, all: l.all}, nil
}

// Listen is [PKI.HubTLS] of l on ln, with these application protocols. A
// connection on which a client certificate was shown ends with it: at its
// expiry and at its revocation, whatever is under way on it.
func (p *PKI) Listen(ln net.Listener, l Listener, protocols ...string) net.Listener {
	cfg := p.HubTLS(l)
	cfg.NextProtos = protocols
	choose := cfg.GetConfigForClient
	if choose == nil {
		return tls.NewListener(ln, cfg) // it asks for no certificates
	}
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c, err := choose(hello)
		if err != nil || c == nil {
			return c, err
		}
		conn, ours := hello.Conn.(*openConn)
		verify := c.VerifyConnection
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			if err := verify(cs); err != nil || len(cs.PeerCertificates) == 0 {
				return err
			}
			if !ours {
				return errors.New("the connection cannot be watched")
			}
			conn.belongs(cs.PeerCertificates[0])
			if p.revoked.has(enrol.SerialOf(cs.PeerCertificates[0])) { // since verify; the closer was told before
				return errors.New("the certificate was revoked a moment ago")
			}
			return nil
		}
		return c, nil
	}
	return tls.NewListener(openListener{ln, p.conns}, cfg)
}
