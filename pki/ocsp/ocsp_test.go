package ocsp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"
	"pgregory.net/rapid"
)

// town is a source with two generations of one issuer.
type town struct {
	issuers []Issuer
	keys    map[string]*ecdsa.PrivateKey
	states  map[string]Status // by key id and serial
	epoch   uint64
	asked   int
	away    bool // the signer does not answer
}

func (s *town) Issuers() []Issuer { return s.issuers }
func (s *town) Epoch() uint64     { return s.epoch }

func (s *town) Status(_ context.Context, keyID, serial string) (Status, error) {
	s.asked++
	st, ok := s.states[keyID+" "+serial]
	if !ok {
		return Status{State: Unknown}, nil
	}
	return st, nil
}

func (s *town) Delegate(_ context.Context, keyID string, key crypto.PublicKey, end time.Time) (*x509.Certificate, error) {
	if s.away {
		return nil, errors.New("the signing process does not answer")
	}
	for _, i := range s.issuers {
		if i.KeyID == keyID {
			return certify(&x509.Certificate{
				SerialNumber: big.NewInt(99), Subject: pkix.Name{CommonName: "ocsp"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
				KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
				ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: asn1.NullBytes}},
			}, i.Certificate, key, s.keys[keyID])
		}
	}
	return nil, errors.New("no such issuer")
}

func certify(t, parent *x509.Certificate, key crypto.PublicKey, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func newTown(t testing.TB) *town {
	t.Helper()
	s := &town{keys: map[string]*ecdsa.PrivateKey{}, states: map[string]Status{}}
	for _, name := range []string{"one", "two"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		ca := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer " + name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		cert, err := certify(ca, ca, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		s.issuers, s.keys[name] = append(s.issuers, Issuer{KeyID: name, Certificate: cert}), key
	}
	return s
}

func (s *town) leaf(t testing.TB, keyID string, serial int64) *x509.Certificate {
	t.Helper()
	for _, i := range s.issuers {
		if i.KeyID != keyID {
			continue
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c, err := certify(&x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}, i.Certificate, &key.PublicKey, s.keys[keyID])
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	t.Fatalf("no issuer %s", keyID)
	return nil
}

func (s *town) set(keyID string, serial int64, st Status) {
	s.states[keyID+" "+big.NewInt(serial).Text(16)] = st
	s.epoch++
}

func newResponder(s *town) *Responder {
	return New(Deps{Source: s, Log: slog.New(slog.DiscardHandler)})
}

func question(t testing.TB, leaf, issuer *x509.Certificate, h crypto.Hash) []byte {
	t.Helper()
	der, err := xocsp.CreateRequest(leaf, issuer, &xocsp.RequestOptions{Hash: h})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// The library that most Go clients use reads each answer and takes its
// signature, for old and new generations and both hashes.
func TestAnswersAreReadByTheLibrary(t *testing.T) {
	s := newTown(t)
	at := time.Now().Add(-time.Minute).UTC().Truncate(time.Second)
	s.set("one", 7, Status{State: Revoked, At: at, Reason: 1})
	s.set("one", 8, Status{State: Good})
	s.set("two", 7, Status{State: Good})
	r := newResponder(s)
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		for i, want := range map[int]map[int64]int{0: {7: xocsp.Revoked, 8: xocsp.Good, 9: xocsp.Unknown}, 1: {7: xocsp.Good, 8: xocsp.Unknown}} {
			issuer := s.issuers[i]
			for serial, status := range want {
				leaf := s.leaf(t, issuer.KeyID, serial)
				der, _ := r.Answer(t.Context(), question(t, leaf, issuer.Certificate, h), time.Now())
				got, err := xocsp.ParseResponseForCert(der, leaf, issuer.Certificate)
				if err != nil {
					t.Fatalf("%s %d %v: %v", issuer.KeyID, serial, h, err)
				}
				if got.Status != status || got.SerialNumber.Int64() != serial || !got.NextUpdate.After(time.Now()) || got.ThisUpdate.After(time.Now()) {
					t.Errorf("%s %d: got %+v, want status %d", issuer.KeyID, serial, got, status)
				}
				if status == xocsp.Revoked && (!got.RevokedAt.Equal(at) || got.RevocationReason != 1) {
					t.Errorf("revoked at %s for %d, want %s for 1", got.RevokedAt, got.RevocationReason, at)
				}
			}
		}
	}
}

// An answer without nonce is signed once a minute, and never outlives a
// revocation.
func TestKeptAnswersEndWithARevocation(t *testing.T) {
	s := newTown(t)
	s.set("one", 7, Status{State: Good})
	r := newResponder(s)
	leaf := s.leaf(t, "one", 7)
	q := question(t, leaf, s.issuers[0].Certificate, crypto.SHA1)
	first, until := r.Answer(t.Context(), q, time.Now())
	again, _ := r.Answer(t.Context(), q, time.Now())
	if !bytes.Equal(first, again) || s.asked != 1 || until.Before(time.Now()) {
		t.Errorf("asked the store %d times for one question asked twice, kept until %s", s.asked, until)
	}
	if later, _ := r.Answer(t.Context(), q, time.Now().Add(answerFresh+time.Second)); bytes.Equal(first, later) {
		t.Error("an old answer was given again")
	}
	s.set("one", 7, Status{State: Revoked, At: time.Now()})
	der, _ := r.Answer(t.Context(), q, time.Now())
	got, err := xocsp.ParseResponseForCert(der, leaf, s.issuers[0].Certificate)
	if err != nil || got.Status != xocsp.Revoked {
		t.Fatalf("after the revocation: %+v, %v", got, err)
	}
}

// While the signer is away, answers go on until the responder's certificate
// ends; then nobody is told "good".
func TestSignerAway(t *testing.T) {
	s := newTown(t)
	s.set("one", 7, Status{State: Good})
	r := newResponder(s)
	q := question(t, s.leaf(t, "one", 7), s.issuers[0].Certificate, crypto.SHA1)
	now := time.Now()
	r.Answer(t.Context(), q, now)
	s.away = true
	if der, _ := r.Answer(t.Context(), q, now.Add(delegateLife-delegateRenew+time.Minute)); len(der) < 100 {
		t.Errorf("with a day left: %x", der)
	}
	if der, _ := r.Answer(t.Context(), q, now.Add(delegateLife+time.Minute)); !bytes.Equal(der, failure(tryLater)) {
		t.Errorf("after its end: %x, want tryLater", der)
	}
}

func TestBadRequests(t *testing.T) {
	s := newTown(t)
	r := newResponder(s)
	foreign := newTown(t)
	good := question(t, s.leaf(t, "one", 7), s.issuers[0].Certificate, crypto.SHA1)
	nonce := func(n int) []byte {
		v, err := asn1.Marshal(make([]byte, n))
		if err != nil {
			t.Fatal(err)
		}
		return withExtensions(t, good, pkix.Extension{Id: oidNonce, Value: v})
	}
	for name, tt := range map[string]struct {
		der  []byte
		want byte
	}{
		"nothing":            {nil, malformedRequest},
		"garbage":            {[]byte("GET / HTTP/1.1"), malformedRequest},
		"cut":                {good[:len(good)-1], malformedRequest},
		"more":               {append(bytes.Clone(good), 0), malformedRequest},
		"another CA":         {question(t, foreign.leaf(t, "one", 7), foreign.issuers[0].Certificate, crypto.SHA1), unauthorized},
		"hash we do not use": {question(t, s.leaf(t, "one", 7), s.issuers[0].Certificate, crypto.SHA512), unauthorized},
		"empty nonce":        {nonce(0), malformedRequest},
		"nonce of 129 bytes": {nonce(129), malformedRequest},
		"critical extension": {withExtensions(t, good, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}), malformedRequest},
	} {
		if der, until := r.Answer(t.Context(), tt.der, time.Now()); !bytes.Equal(der, failure(tt.want)) || !until.IsZero() {
			t.Errorf("%s: %x kept until %s, want status %d", name, der, until, tt.want)
		}
	}
	for _, n := range []int{1, 32, 128} {
		if der, _ := r.Answer(t.Context(), nonce(n), time.Now()); len(der) < 100 || !bytes.Contains(der, make([]byte, n)) {
			t.Errorf("a nonce of %d bytes did not come back", n)
		}
	}
}

func withExtensions(t testing.TB, der []byte, list ...pkix.Extension) []byte {
	t.Helper()
	var w wireRequest
	if _, err := asn1.Unmarshal(der, &w); err != nil {
		t.Fatal(err)
	}
	type tbs struct {
		List       []wireSingle
		Extensions []pkix.Extension `asn1:"explicit,tag:2,optional"`
	}
	out, err := asn1.Marshal(struct{ TBS tbs }{tbs{w.TBS.List, list}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// GET carries any base64, escaped or not, and may be cached; POST may not.
func TestHTTP(t *testing.T) {
	s := newTown(t)
	r := newResponder(s)
	web := httptest.NewServer(r.Handler("/ocsp", http.NotFoundHandler()))
	defer web.Close()
	rapid.Check(t, func(rt *rapid.T) {
		serial := rapid.Int64Range(1, 1<<62).Draw(rt, "serial")
		s.set("one", serial, Status{State: Good})
		leaf := s.leaf(t, "one", serial)
		der := question(t, leaf, s.issuers[0].Certificate, crypto.SHA1)
		text := base64.StdEncoding.EncodeToString(der)
		if rapid.Bool().Draw(rt, "escaped") {
			text = url.PathEscape(text)
		}
		resp, err := http.Get(web.URL + "/ocsp/" + text)
		if err != nil {
			rt.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			rt.Fatal(err)
		}
		if got, err := xocsp.ParseResponseForCert(body, leaf, s.issuers[0].Certificate); err != nil || got.Status != xocsp.Good || !strings.Contains(resp.Header.Get("Cache-Control"), "max-age=") {
			rt.Fatalf("GET: %v, %v, %q", got, err, resp.Header.Get("Cache-Control"))
		}
		resp, err = http.Post(web.URL+"/ocsp", "application/ocsp-request", bytes.NewReader(der))
		if err != nil {
			rt.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Content-Type") != contentType {
			rt.Fatalf("POST: %s %v", resp.Status, resp.Header)
		}
	})
	resp, err := http.Get(web.URL + "/crl/x")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("another path: %s", resp.Status)
	}
}

// OpenSSL takes the answers, with its nonce.
func TestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	s := newTown(t)
	s.set("one", 7, Status{State: Revoked, At: time.Now().Add(-time.Minute), Reason: 4})
	s.set("two", 8, Status{State: Good})
	web := httptest.NewServer(newResponder(s).Handler("/ocsp", http.NotFoundHandler()))
	defer web.Close()
	dir := t.TempDir()
	save := func(name string, c *x509.Certificate) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for i, want := range []string{": revoked", ": good"} {
		issuer := save("ca.pem", s.issuers[i].Certificate)
		leaf := save("leaf.pem", s.leaf(t, s.issuers[i].KeyID, int64(7+i)))
		out, err := exec.Command("openssl", "ocsp", "-sha256", "-issuer", issuer, "-cert", leaf, "-url", web.URL+"/ocsp", "-CAfile", issuer).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) || !strings.Contains(string(out), "Response verify OK") || strings.Contains(string(out), "WARNING") {
			t.Errorf("openssl says %v:\n%s\nwant %q, verified, with its nonce", err, out, want)
		}
	}
}

// What the library reads as one question we read the same.
func FuzzRequest(f *testing.F) {
	s := newTown(f)
	der := question(f, s.leaf(f, "one", 7), s.issuers[0].Certificate, crypto.SHA1)
	v, err := asn1.Marshal(make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(withExtensions(f, der, pkix.Extension{Id: oidNonce, Value: v}))
	f.Add(der[:20])
	r := newResponder(s)
	f.Fuzz(func(t *testing.T, der []byte) {
		q, err := parseRequest(der)
		if err == nil && len(q.ids) == 1 {
			if lib, err := xocsp.ParseRequest(der); err == nil && (lib.SerialNumber.Cmp(q.ids[0].Serial) != 0 || !bytes.Equal(lib.IssuerKeyHash, q.ids[0].KeyHash) || !bytes.Equal(lib.IssuerNameHash, q.ids[0].NameHash)) {
				t.Errorf("we read %+v, the library %+v", q.ids[0], lib)
			}
		}
		if answer, _ := r.Answer(context.Background(), der, time.Now()); len(answer) == 0 {
			t.Error("no answer")
		}
	})
}
