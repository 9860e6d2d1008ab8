package pki_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// lasting serves a listener as the controller does and gives its address.
func (a *authority) lasting(l pki.Listener) string {
	a.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		a.t.Fatal(err)
	}
	a.serve(a.Listen(ln, l, "http/1.1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello") //nolint:errcheck
	}))
	return ln.Addr().String()
}

// ask makes a request on an open connection.
func ask(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(5 * time.Second)) //nolint:errcheck
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	_, err = io.ReadAll(resp.Body)
	return err
}

// ended waits until the other side has closed the connection.
func ended(conn net.Conn, within time.Duration) bool {
	conn.SetReadDeadline(time.Now().Add(within)) //nolint:errcheck
	_, err := conn.Read(make([]byte, 1))
	timeout, is := err.(net.Error) //nolint:errorlint // as it comes from the connection
	return err != nil && (!is || !timeout.Timeout())
}

// Open connections of every listener with client certificates end with the
// certificate: when it is revoked and when it expires, used or silent; and
// nobody resumes a session.
func TestOpenConnectionsEndWithTheCertificate(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	a.enrolled("e-1")
	dial := func(addr string, cert *tls.Certificate) *tls.Conn {
		t.Helper()
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(a.RootPEM()))
		conn, err := tls.Dial("tcp", addr, &tls.Config{
			RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{*cert}, NextProtos: []string{"http/1.1"}, ClientSessionCache: sessions,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if conn.ConnectionState().DidResume {
			t.Error("a session was resumed")
		}
		return conn
	}
	short := func(issuer, uri string) *tls.Certificate {
		leaf := client(t, uri)
		leaf.NotBefore, leaf.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(1500*time.Millisecond).Truncate(time.Second).Add(time.Second)
		return a.forge(issuer, leaf)
	}
	device := a.enrolled("e-2")
	pep := service(t, a, "proxy")
	leaf, err := x509.ParseCertificate(pep.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		listener pki.Listener
		issuer   string
		uri      string
		long     *tls.Certificate
		serial   string
	}{
		"CA":  {pki.CAListener, "devices", "spiffe://wardnet.hcmc/device/e-1", presented(t, device), enrol.SerialOf(device.Certificate())},
		"PEP": {pki.PEPListener, "services", "spiffe://wardnet.hcmc/service/proxy", pep, enrol.SerialOf(leaf)},
	} {
		addr := a.lasting(tt.listener)
		brief := short(tt.issuer, tt.uri)
		used, silent := dial(addr, brief), dial(addr, brief)
		if err := ask(used); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !ended(used, 4*time.Second) || !ended(silent, time.Second) {
			t.Errorf("%s: a connection outlives its certificate", name)
		}
		used, silent = dial(addr, tt.long), dial(addr, tt.long)
		if err := ask(used); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		start := time.Now()
		if err := a.Revoke(context.Background(), tt.serial, "key-compromise", "an"); err != nil {
			t.Fatal(err)
		}
		if !ended(used, time.Second) || !ended(silent, time.Second) {
			t.Errorf("%s: a connection outlives the revocation", name)
		}
		t.Logf("%s: both connections ended %s after the revocation began", name, time.Since(start).Round(time.Millisecond))
		if again, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*tt.long}, ClientSessionCache: sessions}); err == nil && ask(again) == nil {
			t.Errorf("%s: admitted after the revocation", name)
		}
	}
}

var sessions = tls.NewLRUClientSessionCache(8)
