package pki_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// post sends a request as a device would and gives the refusal.
func (a *authority) post(url string, body any, cert *tls.Certificate) (status int, refusal enrol.Error, err error) {
	a.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(a.RootPEM()))
	cfg := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	text, err := json.Marshal(body)
	if err != nil {
		a.t.Fatal(err)
	}
	// From an address of its own: no request is to meet another's rate limit.
	a.host++
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(a.host))}}
	transport := &http.Transport{TLSClientConfig: cfg, DialContext: from.DialContext}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Post(url, "application/json", bytes.NewReader(text))
	if err != nil {
		return 0, refusal, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, refusal, json.NewDecoder(resp.Body).Decode(&refusal)
}

// csrBy asks with any key; broken spoils the signature.
func csrBy(t *testing.T, key any, broken bool) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: urls(t, "spiffe://wardnet.hcmc/device/e-1")}, key)
	if err != nil {
		t.Fatal(err)
	}
	if broken {
		der[len(der)-1] ^= 1
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// signedBy is a signed renewal of leaf, the signature by key.
func signedBy(t *testing.T, leaf *x509.Certificate, key *ecdsa.PrivateKey, csr, wg string) enrol.SignedRenewal {
	t.Helper()
	q := enrol.SignedRenewal{Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})), CSR: csr, WireGuardPublicKey: wg}
	hash := ""
	if parsed, err := enrol.ParseCSR(csr); err == nil {
		hash = enrol.CSRHash(parsed)
	}
	sum := sha256.Sum256(enrol.SignedRenewalPayload(leaf, hash, wg, ""))
	var err error
	if q.Signature, err = ecdsa.SignASN1(rand.Reader, key, sum[:]); err != nil {
		t.Fatal(err)
	}
	return q
}

// Every bad request gets one clear reason, which the audit log has with all
// that is known; neither holds a secret.
func TestBadInputIsRefusedClearly(t *testing.T) {
	a, foreign := newAuthority(t, pki.Config{}), newAuthority(t, pki.Config{})
	const mine = "spiffe://wardnet.hcmc/device/e-1"
	a.declare("e-1", "")
	used, spoiled := a.bundle("e-used"), foreign.bundle("e-1")
	if _, err := enrol.Enrol(t.Context(), used, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	ended := a.bundle("e-1")
	good := a.bundle("e-1")
	resigned := good.Token[:len(good.Token)-2] + "AA"
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	enrolment := func(change func(*enrol.Request)) enrol.Request {
		q := enrol.Request{Token: good.Token, Serial: good.Serial, CSR: csrFor(t, mine), WireGuardPublicKey: wgKey(t), Time: time.Now()}
		change(&q)
		return q
	}
	i := a.enrolled("e-2")
	revoked := a.enrolled("e-3")
	if err := a.Revoke(t.Context(), enrol.SerialOf(revoked.Certificate()), "key-compromise", "an"); err != nil {
		t.Fatal(err)
	}
	leaf, key := i.Certificate(), presented(t, i).PrivateKey.(*ecdsa.PrivateKey)
	gone, goneKey := revoked.Certificate(), presented(t, revoked).PrivateKey.(*ecdsa.PrivateKey)
	second := func() string { return csrFor(t, "spiffe://wardnet.hcmc/device/e-2") }
	pep := service(t, a, "proxy")
	pepLeaf, err := x509.ParseCertificate(pep.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	replayed := signedBy(t, leaf, key, second(), i.WireGuardPublicKey())
	replayed.CSR = second()
	stranger := foreign.enrolled("e-2")
	for name, tt := range map[string]struct {
		path string
		body any
		want pki.Reason
	}{
		"replayed token": {enrol.EnrolPath, enrolment(func(q *enrol.Request) {
			q.Token, q.Serial = used.Token, used.Serial
			q.CSR = csrFor(t, "spiffe://wardnet.hcmc/device/e-used")
		}), pki.UsedToken},
		"ended token":          {enrol.EnrolPath, enrolment(func(q *enrol.Request) { q.Token = ended.Token }), pki.ExpiredToken},
		"foreign token":        {enrol.EnrolPath, enrolment(func(q *enrol.Request) { q.Token = spoiled.Token }), pki.UnknownToken},
		"altered token":        {enrol.EnrolPath, enrolment(func(q *enrol.Request) { q.Token = resigned }), pki.UnknownToken},
		"another box":          {enrol.EnrolPath, enrolment(func(q *enrol.Request) { q.Serial = "SN-x" }), pki.WrongSerial},
		"CSR with extra names": {enrol.EnrolPath, enrolment(func(q *enrol.Request) { q.CSR = csrFor(t, mine, "spiffe://wardnet.hcmc/device/e-2") }), pki.BadCSR},
		"CSR with a DNS name": {enrol.EnrolPath, enrolment(func(q *enrol.Request) {
			q.CSR = csrOf(t, &x509.CertificateRequest{URIs: urls(t, mine), DNSNames: []string{"hub"}})
		}), pki.BadCSR},
		"RSA key":                  {enrol.EnrolPath, enrolment(func(q *enrol.Request) { q.CSR = csrBy(t, weak, false) }), pki.BadCSR},
		"P-224 key":                {enrol.EnrolPath, enrolment(func(q *enrol.Request) { q.CSR = csrBy(t, p224, false) }), pki.BadCSR},
		"P-384 key":                {enrol.EnrolPath, enrolment(func(q *enrol.Request) { q.CSR = csrBy(t, p384, false) }), pki.BadCSR},
		"broken signature":         {enrol.EnrolPath, enrolment(func(q *enrol.Request) { q.CSR = csrBy(t, p256, true) }), pki.BadCSR},
		"clock a day ahead":        {enrol.EnrolPath, enrolment(func(q *enrol.Request) { q.Time = time.Now().Add(day) }), pki.Clock},
		"clock a day behind":       {enrol.EnrolPath, enrolment(func(q *enrol.Request) { q.Time = time.Now().Add(-day) }), pki.Clock},
		"revoked device":           {enrol.RenewSignedPath, signedBy(t, gone, goneKey, csrFor(t, "spiffe://wardnet.hcmc/device/e-3"), revoked.WireGuardPublicKey()), pki.Revoked},
		"another's key":            {enrol.RenewSignedPath, signedBy(t, leaf, goneKey, second(), i.WireGuardPublicKey()), pki.BadProof},
		"a signature of another":   {enrol.RenewSignedPath, replayed, pki.BadProof},
		"a service's certificate":  {enrol.RenewSignedPath, signedBy(t, pepLeaf, pep.PrivateKey.(*ecdsa.PrivateKey), second(), wgKey(t)), pki.WrongIssuer},
		"another CA's certificate": {enrol.RenewSignedPath, signedBy(t, stranger.Certificate(), presented(t, stranger).PrivateKey.(*ecdsa.PrivateKey), second(), wgKey(t)), pki.ForeignIssuer},
		"another device's name":    {enrol.RenewSignedPath, signedBy(t, leaf, key, csrFor(t, mine), wgKey(t)), pki.WrongDevice},
		"another's WireGuard key":  {enrol.RenewSignedPath, signedBy(t, leaf, key, second(), revoked.WireGuardPublicKey()), pki.KeyInUse},
		"no certificate":           {enrol.RenewSignedPath, enrol.SignedRenewal{Certificate: "x", CSR: second(), WireGuardPublicKey: wgKey(t), Signature: []byte{1}}, pki.Malformed},
		"nothing":                  {enrol.RenewSignedPath, map[string]string{}, pki.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			base := a.urls["enrol"]
			if tt.path == enrol.RenewSignedPath {
				base = a.urls["ca"]
			}
			a.forgetEvents()
			status, refusal, err := a.post(base+tt.path, tt.body, nil)
			if err != nil || status < 400 || status >= 500 || refusal.Reason != string(tt.want) || refusal.Message == "" {
				t.Fatalf("got %d %+v, %v; want %s", status, refusal, err, tt.want)
			}
			if !a.audited(tt.want) {
				t.Errorf("the audit log has %+v", a.events)
			}
			for _, secret := range []string{good.Token, used.Token, ended.Token, resigned} {
				if strings.Contains(refusal.Message, secret) || slices.ContainsFunc(a.events, func(e pki.Event) bool { return strings.Contains(e.Reason, secret) }) {
					t.Error("a token is told")
				}
			}
		})
	}
	if _, err := enrol.Enrol(t.Context(), good, t.TempDir()); err != nil {
		t.Errorf("the refusals spent the good token: %v", err)
	}
}

// A revoked device, a service and a stranger try every door.
func TestNobodyGetsInByAnyDoor(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	b := a.bundle("e-1")
	i, err := enrol.Enrol(t.Context(), b, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cert, pep := presented(t, i), service(t, a, "proxy")
	if err := a.Revoke(t.Context(), enrol.SerialOf(i.Certificate()), "key-compromise", "an"); err != nil {
		t.Fatal(err)
	}
	for _, door := range []string{"channel", "ca", "pep"} {
		if err := a.connect(door, cert, nil); err == nil {
			t.Errorf("revoked, and admitted at %s", door)
		}
	}
	for _, door := range []string{"channel", "ca"} {
		if err := a.connect(door, pep, nil); err == nil {
			t.Errorf("a service was admitted at %s", door)
		}
	}
	var refused *enrol.RefusedError
	if err := i.Renew(t.Context()); !errors.As(err, &refused) || refused.Body.Reason != string(pki.Revoked) {
		t.Errorf("renewing it was told %v", err)
	}
	if _, err := enrol.Enrol(t.Context(), b, t.TempDir()); !errors.As(err, &refused) || refused.Body.Reason != string(pki.UsedToken) {
		t.Errorf("with its old token it was told %v", err)
	}
	for _, want := range []pki.Reason{pki.Revoked, pki.WrongIssuer, pki.UsedToken} {
		if !a.audited(want) {
			t.Errorf("the audit log does not tell of %s", want)
		}
	}
}
