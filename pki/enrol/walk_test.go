package enrol

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestClassify(t *testing.T) {
	op := func(err error) error {
		return &url.Error{Op: "Post", Err: &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)}}
	}
	refused := func(reason string) error {
		return fmt.Errorf("enrol: %w", &RefusedError{Status: 403, Body: Error{Reason: reason}})
	}
	for _, tt := range []struct {
		err  error
		want Cause
	}{
		{nil, ""},
		{op(syscall.ENETUNREACH), CauseNoRoute},
		{op(syscall.EHOSTUNREACH), CauseNoRoute},
		{op(syscall.ECONNREFUSED), CauseConnectionRefused},
		{op(syscall.ECONNRESET), CauseConnectionLost},
		{op(syscall.ETIMEDOUT), CauseTimeout},
		{op(syscall.EMSGSIZE), CauseMTU},
		{op(syscall.EADDRNOTAVAIL), CauseNoAddress},
		{context.DeadlineExceeded, CauseTimeout},
		{io.ErrUnexpectedEOF, CauseConnectionLost},
		{&net.DNSError{Err: "no such host", Name: "hub", IsNotFound: true}, CauseDNS},
		{&net.DNSError{Err: "i/o timeout", Name: "hub", IsTimeout: true}, CauseDNS},
		{&net.DNSError{Err: "dial udp 192.0.2.1:53: connect: network is unreachable", Name: "hub"}, CauseNoRoute},
		{errors.Join(errors.New("first"), op(syscall.ENETUNREACH)), CauseNoRoute},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, CauseCAUnknown},
		{&tls.CertificateVerificationError{Err: x509.HostnameError{Host: "hub", Certificate: &x509.Certificate{}}}, CauseCaptivePortal},
		{x509.CertificateInvalidError{Reason: x509.Expired}, CauseClockSkew},
		{x509.CertificateInvalidError{Reason: x509.TooManyIntermediates}, CauseCAUnknown},
		{fmt.Errorf("x: %w", ErrPin), CauseCAUnknown},
		{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, CauseCaptivePortal},
		{http.ErrSchemeMismatch, CauseCaptivePortal},
		{refused("wrong-serial"), CauseWrongSerial},
		{refused("used-token"), CauseTokenUsed},
		{refused("expired-token"), CauseTokenExpired},
		{refused("unknown-token"), CauseTokenUnknown},
		{refused("key-in-use"), CauseRefused},
		{fmt.Errorf("%w: later", errBusy), CauseBusy},
		{&causeError{CauseMTU, errors.New("x")}, CauseMTU},
		{errors.New("something"), CauseOther},
	} {
		if got := Classify(tt.err); got != tt.want {
			t.Errorf("%v is %q, want %q", tt.err, got, tt.want)
		}
	}
}

// caFor makes a CA and a server certificate of it for name.
func caFor(t *testing.T, name string, from, to time.Time) (root string, pair tls.Certificate) {
	t.Helper()
	caKey, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	domain, err := url.Parse("spiffe://wardnet.test")
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: from.Add(-time.Hour), NotAfter: to.Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, URIs: []*url.URL{domain},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: to, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if ip := net.ParseIP(name); ip != nil {
		leaf.IPAddresses = []net.IP{ip}
	} else {
		leaf.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// attemptOnce walks until the first failure is recorded.
func attemptOnce(t *testing.T, c Client, b Bundle) Step {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var found Step
	c.Log, c.Timeout = slog.New(slog.DiscardHandler), 2*time.Second
	c.Observe = func(s Step) {
		if s.State == StepFailed && found.Name == "" {
			found = s
			cancel()
		}
	}
	b.Device, b.Serial, b.Token = "e-1", "SN", "t"
	dir := t.TempDir()
	if id, err := c.Enrol(ctx, b, dir); err == nil {
		t.Fatalf("enrolled as %s", id.Device())
	}
	kept, err := ReadTimeline(dir)
	if err != nil {
		t.Fatal(err)
	}
	if last := kept.Steps[len(kept.Steps)-1]; last.Name != found.Name || last.Cause != found.Cause || last.By != ByDevice {
		t.Errorf("the file ends with %+v, observed was %+v", last, found)
	}
	return found
}

// Every cause a device can meet on its way, with real sockets.
func TestWalkNamesTheCause(t *testing.T) {
	now := time.Now()
	mine, minePair := caFor(t, "127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour))
	_, foreign := caFor(t, "127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour))
	_, portal := caFor(t, "login.portal.example", now.Add(-time.Hour), now.Add(time.Hour))
	serve := func(pair *tls.Certificate) string {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "<html>please sign in</html>")
		}))
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
		if pair == nil {
			s.Start()
		} else {
			s.TLS = &tls.Config{Certificates: []tls.Certificate{*pair}}
			s.StartTLS()
		}
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts by its queue and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	ours := serve(&minePair)
	_, oursPort, err := net.SplitHostPort(ours)
	if err != nil {
		t.Fatal(err)
	}
	local := func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	for name, tt := range map[string]struct {
		addr   string
		client Client
		step   StepName
		cause  Cause
	}{
		"another CA":              {addr: serve(&foreign), step: StepTLS, cause: CauseCAUnknown},
		"a portal's TLS":          {addr: serve(&portal), step: StepTLS, cause: CauseCaptivePortal},
		"a portal's plain HTTP":   {addr: serve(nil), step: StepTLS, cause: CauseCaptivePortal},
		"our CA, another service": {addr: ours, step: StepTLS, cause: CauseCAUnknown}, // no hub issuer
		"our CA, another name":    {addr: "hub.example:" + oursPort, client: Client{Resolve: local}, step: StepTLS, cause: CauseWrongName},
		"a clock far behind":      {addr: ours, client: Client{Now: func() time.Time { return now.AddDate(-30, 0, 0) }}, step: StepClock, cause: CauseClockSkew},
		"a clock far ahead":       {addr: ours, client: Client{Now: func() time.Time { return now.AddDate(3, 0, 0) }}, step: StepClock, cause: CauseClockSkew},
		"nobody listens":          {addr: closed.Addr().String(), step: StepTCP, cause: CauseConnectionRefused},
		"nothing is said":         {addr: silent.Addr().String(), step: StepTLS, cause: CauseTimeout},
		"no name server": {addr: "hub.example:1", client: Client{Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "hub.example", IsNotFound: true}
		}}, step: StepDNS, cause: CauseDNS},
		"no way out": {addr: "hub.example:1", client: Client{Resolve: local, Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
		}}, step: StepRoute, cause: CauseNoRoute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := attemptOnce(t, tt.client, Bundle{EnrolURL: "https://" + tt.addr, RootPEM: mine})
			if got.Name != tt.step || got.Cause != tt.cause {
				t.Errorf("stopped at %s by %s (%s), want %s by %s", got.Name, got.Cause, got.Detail, tt.step, tt.cause)
			}
		})
	}
}

// A portal that lets nothing through but answers plain HTTP is found out by
// where it sends one.
func TestPortalBehindAClosedPort(t *testing.T) {
	const host = "127.0.83.80"
	l, err := net.Listen("tcp", host+":80")
	switch {
	case errors.Is(err, fs.ErrPermission):
		t.Skipf("needs to listen on port 80 of %s, as root may: %v", host, err)
	case err != nil:
		t.Fatal(err)
	}
	to := "http://portal.example/login"
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, to, http.StatusFound)
	}), ReadHeaderTimeout: time.Second}
	go s.Serve(l) //nolint:errcheck // ends with Close
	defer s.Close()
	root, _ := caFor(t, host, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	b := Bundle{EnrolURL: "https://" + host + ":9", RootPEM: root}
	if got := attemptOnce(t, Client{}, b); got.Name != StepTCP || got.Cause != CauseCaptivePortal || !strings.Contains(got.Detail, "portal.example") {
		t.Errorf("%+v", got)
	}
	to = "https://" + host + "/" // the controller's own host is no portal
	if got := attemptOnce(t, Client{}, b); got.Cause != CauseConnectionRefused {
		t.Errorf("%+v", got)
	}
}
