package pki_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// losing serves h over TLS and loses the first answers: the request is carried
// out, the connection dies before the client hears of it.
func (a *authority) losing(l pki.Listener, h http.Handler, answers int32) string {
	a.t.Helper()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		a.t.Fatal(err)
	}
	var n atomic.Int32
	a.serve(tls.NewListener(raw, http1(a.HubTLS(l))), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > answers {
			h.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}))
	return "https://" + raw.Addr().String()
}

func (a *authority) deviceCertificates() (n int) {
	a.t.Helper()
	all, err := a.List(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	for _, c := range all {
		if c.Issuer == pki.Devices {
			n++
		}
	}
	return n
}

func TestLostAnswersMakeNoSecondCertificate(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	b, dir := a.bundle("e-1"), t.TempDir()
	b.EnrolURL = a.losing(pki.EnrolListener, a.EnrolHandler(), 2)
	i, err := enrol.Enrol(t.Context(), b, dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := a.deviceCertificates(); n != 1 {
		t.Errorf("%d certificates after lost answers", n)
	}
	again, err := enrol.Enrol(t.Context(), b, dir)
	if err != nil || !again.Certificate().Equal(i.Certificate()) {
		t.Errorf("an enrolled directory gave another identity: %v", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 || files[0].Name() != "current.json" || files[1].Name() != "ztp.json" {
		t.Fatalf("left in the directory: %v, %v", files, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
}

// The device dies after its request was carried out. What it finds on disk
// when it starts leads to the same certificate.
func TestDeviceCrashInEnrolment(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	b, dir := a.bundle("e-1"), t.TempDir()
	good := b.EnrolURL
	b.EnrolURL = a.losing(pki.EnrolListener, a.EnrolHandler(), 1<<30)
	ctx, cancel := deadline(t)
	defer cancel()
	if _, err := enrol.Enrol(ctx, b, dir); err == nil {
		t.Fatal("enrolled without an answer")
	}
	b.EnrolURL = good
	if _, err := enrol.Enrol(t.Context(), b, dir); err != nil {
		t.Fatal(err)
	}
	if n := a.deviceCertificates(); n != 1 {
		t.Errorf("%d certificates", n)
	}
}

func TestDeviceCrashInRenewal(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	dir := t.TempDir()
	b := a.bundle("e-1")
	if _, err := enrol.Enrol(t.Context(), b, dir); err != nil {
		t.Fatal(err)
	}
	// Renewal goes where the identity says; send it to a server that answers nothing.
	lossy := a.losing(pki.CAListener, a.CAHandler(), 1<<30)
	point(t, dir, a.urls["ca"], lossy)
	i, err := enrol.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	first := i.Certificate()
	ctx, cancel := deadline(t)
	defer cancel()
	if err := i.Renew(ctx); err == nil {
		t.Fatal("renewed without an answer")
	}
	point(t, dir, lossy, a.urls["ca"])
	if i, err = enrol.Load(dir); err != nil || !i.Certificate().Equal(first) {
		t.Fatalf("the identity after the crash: %v", err)
	}
	if err := i.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := a.deviceCertificates(); n != 2 {
		t.Errorf("%d certificates, want the first and one renewal", n)
	}
	if j, err := enrol.Load(dir); err != nil || j.Certificate().Equal(first) || !j.Certificate().Equal(i.Certificate()) {
		t.Errorf("kept on disk: %v", err)
	}
}

// point changes the CA's address in an identity on disk.
func point(t *testing.T, dir, from, to string) {
	t.Helper()
	path := filepath.Join(dir, "current.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), from, to)), 0o600); err != nil {
		t.Fatal(err)
	}
}
