package pki_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

func TestEnrolRefuses(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	other := newAuthority(t, pki.Config{})
	used := a.bundle("e-used")
	if _, err := enrol.Enrol(t.Context(), used, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	old := a.bundle("e-1") // ended by the next token of the same device
	good, stranger := a.bundle("e-1"), other.bundle("e-1")
	retired := a.bundle("e-retired")
	a.declare("e-retired", inventory.Retired)
	const mine = "spiffe://wardnet.hcmc/device/e-1"
	for name, tt := range map[string]struct {
		token, serial, csr, wg string
		want                   pki.Reason
	}{
		"used token, other CSR":   {token: used.Token, serial: used.Serial, csr: csrFor(t, "spiffe://wardnet.hcmc/device/e-used"), want: pki.UsedToken},
		"ended token":             {token: old.Token, want: pki.ExpiredToken},
		"another CA's token":      {token: stranger.Token, want: pki.UnknownToken},
		"garbage token":           {token: "x", want: pki.UnknownToken},
		"another serial":          {serial: "SN-e-2", want: pki.WrongSerial},
		"another device":          {csr: csrFor(t, "spiffe://wardnet.hcmc/device/e-2"), want: pki.WrongDevice},
		"retired device":          {token: retired.Token, serial: retired.Serial, csr: csrFor(t, "spiffe://wardnet.hcmc/device/e-retired"), want: pki.UnknownDevice},
		"two SPIFFE URIs":         {csr: csrFor(t, mine, "spiffe://wardnet.hcmc/device/e-2"), want: pki.BadCSR},
		"a service's id":          {csr: csrFor(t, "spiffe://wardnet.hcmc/service/e-1"), want: pki.BadCSR},
		"another domain":          {csr: csrFor(t, "spiffe://evil.example/device/e-1"), want: pki.BadCSR},
		"a path below":            {csr: csrFor(t, mine+"/x"), want: pki.BadCSR},
		"a DNS name too":          {csr: csrOf(t, &x509.CertificateRequest{URIs: urls(t, mine), DNSNames: []string{"hub"}}), want: pki.BadCSR},
		"an address too":          {csr: csrOf(t, &x509.CertificateRequest{URIs: urls(t, mine), IPAddresses: []net.IP{{127, 0, 0, 1}}}), want: pki.BadCSR},
		"no PEM":                  {csr: "hello", want: pki.BadCSR},
		"the zero WireGuard key":  {wg: strings.Repeat("A", 43) + "=", want: pki.Malformed},
		"no WireGuard key at all": {wg: "?", want: pki.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			q := enrol.Request{Token: good.Token, Serial: good.Serial, CSR: csrFor(t, mine), WireGuardPublicKey: wgKey(t)}
			for into, v := range map[*string]string{&q.Token: tt.token, &q.Serial: tt.serial, &q.CSR: tt.csr, &q.WireGuardPublicKey: tt.wg} {
				if v != "" {
					*into = v
				}
			}
			before := a.refusals(pki.EnrolListener, tt.want)
			_, err := a.Enrol(t.Context(), "192.0.2.7:1", q)
			var refused *pki.Refusal
			if !errors.As(err, &refused) || refused.Reason != tt.want {
				t.Fatalf("got %v, want reason %s", err, tt.want)
			}
			if strings.Contains(err.Error(), q.Token) && len(q.Token) > 10 {
				t.Errorf("the error holds the token: %v", err)
			}
			if !a.audited(tt.want) || a.refusals(pki.EnrolListener, tt.want) != before+1 {
				t.Errorf("not audited, or counted %v after %v", a.refusals(pki.EnrolListener, tt.want), before)
			}
		})
	}
	if _, err := enrol.Enrol(t.Context(), good, t.TempDir()); err != nil {
		t.Errorf("the refused presentations spent the token: %v", err)
	}
}

func TestExpiredTokenIsRefused(t *testing.T) {
	a := newAuthority(t, pki.Config{TokenTTL: time.Nanosecond})
	b := a.bundle("e-1")
	_, err := enrol.Enrol(t.Context(), b, t.TempDir())
	var refused *enrol.RefusedError
	if !errors.As(err, &refused) || refused.Body.Reason != string(pki.ExpiredToken) || refused.Status != http.StatusForbidden {
		t.Fatalf("got %v", err)
	}
}

// A device that crashed, or whose controller did, before the answer came asks
// again and gets the same certificate, even from a new controller process.
func TestRetryGetsTheSameCertificate(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	b := a.bundle("e-1")
	q := enrol.Request{Token: b.Token, Serial: b.Serial, CSR: csrFor(t, "spiffe://wardnet.hcmc/device/e-1"), WireGuardPublicKey: wgKey(t)}
	first, err := a.Enrol(t.Context(), "", q)
	if err != nil {
		t.Fatal(err)
	}
	a.open(pki.Config{})
	again, err := a.Enrol(t.Context(), "", q)
	if err != nil || again.Serial != first.Serial || again.Chain != first.Chain {
		t.Fatalf("got %s, %v, want %s again", again.Serial, err, first.Serial)
	}
	if err := a.Revoke(t.Context(), first.Serial, "key-compromise", "an"); err != nil {
		t.Fatal(err)
	}
	var refused *pki.Refusal
	if _, err := a.Enrol(t.Context(), "", q); !errors.As(err, &refused) || refused.Reason != pki.Revoked {
		t.Errorf("a revoked certificate was given out again: %v", err)
	}
}

func TestNewEnrolmentSupersedes(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	old, stolen := a.enrolled("e-1"), a.enrolled("e-2")
	now := a.enrolled("e-1")
	if !a.closed.has(enrol.SerialOf(old.Certificate())) {
		t.Error("the connections of the earlier enrolment stay open")
	}
	_, keys, err := a.WireGuardKeys(t.Context())
	if err != nil || len(keys) != 2 || keys["e-1"] != now.WireGuardPublicKey() {
		t.Errorf("peers %v, %v", keys, err)
	}
	b := a.bundle("e-3")
	_, err = a.Enrol(t.Context(), "", enrol.Request{Token: b.Token, Serial: b.Serial, CSR: csrFor(t, "spiffe://wardnet.hcmc/device/e-3"), WireGuardPublicKey: stolen.WireGuardPublicKey()})
	var refused *pki.Refusal
	if !errors.As(err, &refused) || refused.Reason != pki.KeyInUse {
		t.Errorf("another device's WireGuard key gave %v", err)
	}
}

// The city: every device enrols over TLS, 16 at a time.
func TestCityEnrolsAtOnce(t *testing.T) {
	const devices = 208
	a := newAuthority(t, pki.Config{})
	bundles := make(chan enrol.Bundle, devices)
	for i := range devices {
		bundles <- a.bundle(inventory.DeviceID(fmt.Sprintf("e-%d", i)))
	}
	close(bundles)
	dir, start := t.TempDir(), time.Now()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for b := range bundles {
				i, err := enrol.Enrol(t.Context(), b, dir+"/"+string(b.Device))
				if err != nil {
					t.Error(err)
				} else if i.Device() != b.Device || len(i.RevisionKeys()) != 1 {
					t.Errorf("%s got %s with keys %v", b.Device, i.Device(), i.RevisionKeys())
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	t.Logf("%d enrolments in %s", devices, took)
	if took > 30*time.Second {
		t.Errorf("%d enrolments took %s", devices, took)
	}
	_, keys, err := a.WireGuardKeys(t.Context())
	if err != nil || len(keys) != devices {
		t.Errorf("%d peers, %v", len(keys), err)
	}
}

func TestEnrolmentIsRateLimitedByFailures(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	post := func(from string, body []byte) int {
		r := httptest.NewRequest(http.MethodPost, enrol.EnrolPath, bytes.NewReader(body))
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		a.EnrolHandler().ServeHTTP(w, r)
		return w.Code
	}
	last := 0
	for range 30 {
		last = post("203.0.113.9:4000", []byte("{}"))
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("the 30th bad request in a row got %d", last)
	}
	b := a.bundle("e-1")
	body, err := json.Marshal(enrol.Request{Token: b.Token, Serial: b.Serial, CSR: csrFor(t, "spiffe://wardnet.hcmc/device/e-1"), WireGuardPublicKey: wgKey(t)})
	if err != nil {
		t.Fatal(err)
	}
	if got := post("203.0.113.10:4000", body); got != http.StatusOK {
		t.Errorf("a neighbour got %d", got)
	}
	if !a.audited(pki.RateLimited) {
		t.Error("the limit is not audited")
	}
}

// A flood from one address must neither keep another's refusal out of the audit
// log nor let its sender write much into it.
func TestOneAddressCannotHideAnother(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	good := a.bundle("e-1")
	q := enrol.Request{Token: good.Token, CSR: csrFor(t, "spiffe://wardnet.hcmc/device/e-1"), WireGuardPublicKey: wgKey(t), Serial: strings.Repeat("số ", 5000)}
	for range 400 {
		if _, err := a.Enrol(t.Context(), "203.0.113.9:4000", enrol.Request{}); err == nil {
			t.Fatal("an empty request was granted")
		}
	}
	if _, err := a.Enrol(t.Context(), "203.0.113.10:4000", q); err == nil {
		t.Fatal("another serial was granted")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	count, last := map[string]int{}, pki.Event{}
	for _, e := range a.events {
		count[e.Remote]++
		last = e
	}
	if n := count["203.0.113.9:4000"]; n == 0 || n > 100 {
		t.Errorf("the flood made %d entries", n)
	}
	if last.Remote != "203.0.113.10:4000" || len(last.Reason) > 520 || !utf8.ValidString(last.Reason) {
		t.Errorf("the newest entry is of %q with %d bytes of reason", last.Remote, len(last.Reason))
	}
}

func TestEnrolmentServerMustBeTheHub(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	// A service's certificate chains to the same root and may serve TLS.
	cert := a.forge("services", &x509.Certificate{DNSNames: []string{"localhost"}, IPAddresses: []net.IP{{127, 0, 0, 1}}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*cert}})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 1)
	a.serve(l, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }))
	b := a.bundle("e-1")
	b.EnrolURL = "https://" + l.Addr().String()
	i, dir := a.enrolled("e-2"), t.TempDir()
	for what, dial := range map[string]func() error{
		"first contact": func() error {
			ctx, cancel := deadline(t)
			defer cancel()
			_, err := enrol.Enrol(ctx, b, dir)
			return err
		},
		"identity": func() error {
			conn, err := tls.Dial("tcp", l.Addr().String(), i.TLS())
			if err == nil {
				conn.Close()
			}
			return err
		},
	} {
		if err := dial(); !errors.Is(err, enrol.ErrPin) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if len(asked) > 0 {
		t.Error("the token was sent to a false hub")
	}
}
