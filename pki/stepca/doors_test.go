package stepca_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/acmeca"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/stepca"
	"go.step.sm/crypto/jose"
)

func TestForeignCertificatesAtTheStepAPI(t *testing.T) {
	r := newRig(t)
	dev := r.device("d-1")
	if status, answer := r.post(dev, "/1.0/renew", nil); status != http.StatusForbidden || !strings.Contains(answer, "wrong-issuer") {
		t.Errorf("a device renews here: %d %s", status, answer)
	}
	// The same with a renewal token, which needs no TLS certificate.
	if status, answer := r.renewByToken(dev); status != http.StatusUnauthorized {
		t.Errorf("a device renews by token: %d %s", status, answer)
	}
	// A PEP's certificate is the administrator's to renew.
	key := newKey(t)
	pep, err := r.pki.IssueService(t.Context(), pki.ServiceRequest{Name: "pep1", CSR: csrPEM(csr(t, key, "", r.spiffe("service", "pep1"))), By: "an"})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair([]byte(pep.Chain), keyPEM(t, key))
	if err != nil {
		t.Fatal(err)
	}
	if status, answer := r.post(&pair, "/1.0/renew", nil); status < 400 {
		t.Errorf("a PEP renews here: %d %s", status, answer)
	}
	// What step issued is no device's: nobody renews as a device with it.
	c := r.issue(stepca.TokenRequest{Name: "pep2"}, r.spiffe("service", "pep2"))
	if status, _ := r.post(c, enrol.RenewPath, map[string]string{}); status != http.StatusForbidden {
		t.Errorf("a service at the devices' renewal: %d", status)
	}
	// By token it may renew while it is valid; once.
	if status, answer := r.renewByToken(c); status != http.StatusCreated {
		t.Errorf("renewal by token: %d %s", status, answer)
	}
}

func (r *rig) renewByToken(c *tls.Certificate) (int, string) {
	r.t.Helper()
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		r.t.Fatal(err)
	}
	var chain []string
	for _, der := range c.Certificate {
		chain = append(chain, base64.StdEncoding.EncodeToString(der))
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: c.PrivateKey}, new(jose.SignerOptions).WithHeader("x5cInsecure", chain))
	if err != nil {
		r.t.Fatal(err)
	}
	now := time.Now()
	text, err := jose.Signed(s).Claims(jose.Claims{
		ID: fmt.Sprint(now.UnixNano()), Issuer: "step-ca-client/1.0", Subject: leaf.Subject.CommonName, Audience: jose.Audience{r.url + "/renew"},
		IssuedAt: jose.NewNumericDate(now), NotBefore: jose.NewNumericDate(now), Expiry: jose.NewNumericDate(now.Add(5 * time.Minute)),
	}).CompactSerialize()
	if err != nil {
		r.t.Fatal(err)
	}
	q, err := http.NewRequest(http.MethodPost, r.url+"/renew", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+text)
	resp, err := r.http(nil).Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestRegistrar(t *testing.T) {
	r := newRig(t)
	name := "app.hcmc.example"
	by := func(c *tls.Certificate, san string) (int, string) {
		var chain []string
		for _, der := range c.Certificate {
			chain = append(chain, base64.StdEncoding.EncodeToString(der))
		}
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: c.PrivateKey}, new(jose.SignerOptions).WithHeader("x5c", chain))
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		text, err := jose.Signed(s).Claims(jose.Claims{
			ID: fmt.Sprint(now.UnixNano()), Issuer: "registrar", Subject: name, Audience: jose.Audience{r.url + "/1.0/sign#x5c/registrar"},
			IssuedAt: jose.NewNumericDate(now), NotBefore: jose.NewNumericDate(now), Expiry: jose.NewNumericDate(now.Add(5 * time.Minute)),
		}).Claims(map[string]any{"sans": []string{san}}).CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return r.sign(text, csr(t, newKey(t), name, san))
	}
	reg := r.issue(stepca.TokenRequest{Name: "deploy", Registrar: true}, r.spiffe("registrar", "deploy"))
	if status, answer := by(reg, name); status != http.StatusCreated {
		t.Fatalf("registrar: %d %s", status, answer)
	}
	if status, answer := by(reg, r.spiffe("registrar", "more")); status < 400 {
		t.Errorf("a registrar makes registrars: %s", answer)
	}
	plain := r.issue(stepca.TokenRequest{Name: "pep2"}, r.spiffe("service", "pep2"))
	if status, answer := by(plain, name); status != http.StatusUnauthorized {
		t.Errorf("a service makes tokens: %d %s", status, answer)
	}
	if status, answer := by(r.device("d-1"), name); status != http.StatusUnauthorized {
		t.Errorf("a device makes tokens: %d %s", status, answer)
	}
	if err := r.pki.Revoke(t.Context(), enrol.SerialOf(reg.Leaf), "key-compromise", "an"); err != nil {
		t.Fatal(err)
	}
	if status, answer := by(reg, name); status != http.StatusUnauthorized || !r.audited("refuse", "is revoked") {
		t.Errorf("a revoked registrar: %d %s", status, answer)
	}
}

func TestTokensForNamesWeDoNotCertify(t *testing.T) {
	r := newRig(t)
	for what, q := range map[string]stepca.TokenRequest{
		"a device":          {Name: "x", Names: []string{r.spiffe("device", "d-1")}},
		"a registrar":       {Name: "x", Names: []string{r.spiffe("registrar", "x")}},
		"another domain":    {Name: "x", Names: []string{"spiffe://evil/service/x"}},
		"upper case":        {Name: "App.example"},
		"a space":           {Name: "a b.example"},
		"nothing":           {Name: ""},
		"an e-mail address": {Name: "x", Names: []string{"an@hcmc.example"}},
		"another subject":   {Name: "x", Names: []string{"y.example"}},
		"registrar + name":  {Name: "x", Names: []string{"y.example"}, Registrar: true},
	} {
		q.By = "an"
		if _, err := r.step.Token(t.Context(), q); err == nil {
			t.Errorf("%s: a token was made", what)
		}
	}
	if r.audited("token", "") {
		t.Error("a refused token is in the audit log as made")
	}
}

func TestExpiredIsNotRenewed(t *testing.T) {
	r := newRig(t)
	key := newKey(t)
	chain, err := r.pki.SignService(t.Context(), pki.ServiceLeaf{Key: &key.PublicKey, Subject: "app.hcmc.example", DNSNames: []string{"app.hcmc.example"}, NotAfter: time.Now().Add(2 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	row, err := r.pki.ServiceRow(chain)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.NewPKI(r.db, "hcmc").AddService(t.Context(), acmeca.Service{Certificate: row, Provisioner: "jwk/wardnet", Names: []string{"app.hcmc.example"}}); err != nil {
		t.Fatal(err)
	}
	c := &tls.Certificate{PrivateKey: key, Certificate: [][]byte{chain[0].Raw, chain[1].Raw}}
	if status, answer := r.post(c, "/1.0/renew", nil); status != http.StatusCreated {
		t.Fatalf("while it is valid: %d %s", status, answer)
	}
	time.Sleep(time.Until(chain[0].NotAfter) + time.Second)
	if status, answer := r.post(c, "/1.0/renew", nil); status != 0 && status != http.StatusForbidden {
		t.Errorf("by TLS: %d %s", status, answer)
	}
	if status, answer := r.renewByToken(c); status != http.StatusUnauthorized {
		t.Errorf("by token: %d %s", status, answer)
	}
	resp, err := r.http(nil).Get(r.url + "/provisioners")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var list struct {
		Provisioners []struct {
			Claims struct{ AllowRenewalAfterExpiry *bool }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil || len(list.Provisioners) == 0 {
		t.Fatal(err)
	}
	for _, p := range list.Provisioners {
		if p.Claims.AllowRenewalAfterExpiry == nil || *p.Claims.AllowRenewalAfterExpiry {
			t.Errorf("a provisioner renews what has ended: %+v", p)
		}
	}
}
