package stepca_test

import (
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/stepca"
	"go.step.sm/crypto/jose"
)

// What "step ca bootstrap" does: fetch the root by its fingerprint, unverified,
// then everything over TLS that trusts it.
func TestBootstrap(t *testing.T) {
	r := newRig(t)
	sum := sha256.Sum256(r.root.Raw)
	if r.step.Fingerprint() != hex.EncodeToString(sum[:]) {
		t.Errorf("fingerprint %s", r.step.Fingerprint())
	}
	for path, want := range map[string]int{
		"/root/" + r.step.Fingerprint(): 200, "/root/" + strings.Repeat("0", 64): 404, "/health": 200, "/version": 200, "/roots": 201, "/roots.pem": 200,
		"/provisioners": 200, "/1.0/provisioners": 200, "/1.0/intermediates": 201, "/federation": 201, "/1.0/crl": 200, "/root.pem": 200,
		"/provisioners/x/encrypted-key": 404, "/ssh/roots": 404, "/admin/provisioners": 404, "/acme/acme/directory": 403,
	} {
		resp, err := r.http(nil).Get(r.url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want {
			t.Errorf("GET %s: %s %s, want %d", path, resp.Status, body, want)
		}
		if strings.Contains(string(body), "encryptedKey") {
			t.Errorf("GET %s shows a provisioner's key", path)
		}
	}
}

// A token gives one certificate with its names, the services issuer's chain, its
// CRL and OCSP; renewal keeps the key, rekey takes a new one, both the names.
func TestLifeOfACertificate(t *testing.T) {
	r := newRig(t)
	c := r.issue(stepca.TokenRequest{Name: "app.hcmc.example", Names: []string{"app.hcmc.example", "10.0.0.9"}}, "app.hcmc.example", "10.0.0.9")
	leaf := c.Leaf
	if leaf.Subject.CommonName != "app.hcmc.example" || !slices.Equal(leaf.DNSNames, []string{"app.hcmc.example"}) || len(leaf.IPAddresses) != 1 {
		t.Errorf("names %v %v %v", leaf.Subject, leaf.DNSNames, leaf.IPAddresses)
	}
	if len(leaf.CRLDistributionPoints) != 1 || !strings.HasPrefix(leaf.CRLDistributionPoints[0], r.status+"/crl/") || !slices.Equal(leaf.OCSPServer, []string{r.status + "/ocsp"}) {
		t.Errorf("CRL at %v, OCSP at %v", leaf.CRLDistributionPoints, leaf.OCSPServer)
	}
	if life := time.Until(leaf.NotAfter); life > 24*time.Hour+time.Second || life < 23*time.Hour {
		t.Errorf("lives %s", life)
	}
	status, answer := r.post(c, "/1.0/renew", nil)
	if status != http.StatusCreated {
		t.Fatalf("renew: %d %s", status, answer)
	}
	next := chainOf(t, answer, c.PrivateKey.(crypto.Signer))
	if !samePublicKey(next.Leaf, leaf) || !slices.Equal(next.Leaf.DNSNames, leaf.DNSNames) || next.Leaf.SerialNumber.Cmp(leaf.SerialNumber) == 0 {
		t.Error("the renewal is another's, or the same")
	}
	if was, is := leaf.NotAfter.Sub(leaf.NotBefore), next.Leaf.NotAfter.Sub(next.Leaf.NotBefore); is > was || is < was-3*time.Second {
		t.Errorf("a certificate for %s was renewed for %s", was, is)
	}
	key := newKey(t)
	status, answer = r.post(next, "/1.0/rekey", map[string]string{"csr": csrPEM(csr(t, key, "app.hcmc.example", "app.hcmc.example"))})
	if status != http.StatusCreated {
		t.Fatalf("rekey: %d %s", status, answer)
	}
	rekeyed := chainOf(t, answer, key)
	if samePublicKey(rekeyed.Leaf, leaf) || len(rekeyed.Leaf.IPAddresses) != 1 {
		t.Error("rekey kept the key or lost a name")
	}
	row, err := store.NewPKI(r.db, "hcmc").Service(t.Context(), enrol.SerialOf(rekeyed.Leaf))
	if err != nil || row.Lineage != enrol.SerialOf(leaf) || row.Parent != enrol.SerialOf(next.Leaf) || len(row.Names) != 2 {
		t.Errorf("row %+v, %v", row, err)
	}

	// Revoking the first takes what was renewed from it: who stole the key may
	// have renewed with it.
	n := leaf.SerialNumber.String()
	if status, answer := r.post(rekeyed, "/1.0/revoke", map[string]any{"serial": n, "passive": true}); status != http.StatusForbidden {
		t.Errorf("another's serial number: %d %s", status, answer)
	}
	if status, answer := r.post(c, "/1.0/revoke", map[string]any{"serial": n, "reasonCode": 1, "reason": "key lost", "passive": true}); status != http.StatusOK {
		t.Fatalf("revoke: %d %s", status, answer)
	}
	for name, held := range map[string]*tls.Certificate{"revoked": c, "renewed from it": next, "rekeyed from that": rekeyed} {
		if status, answer := r.post(held, "/1.0/renew", nil); status == http.StatusCreated {
			t.Errorf("%s: renewed: %s", name, answer)
		}
	}
	log, err := r.pki.Revocations(t.Context())
	if err != nil || len(log) != 3 {
		t.Fatalf("revocation log %v, %v", log, err)
	}
	for _, e := range log { // trap 4 of the facts: an entry without an end never leaves the CRL
		if e.NotAfter.IsZero() || !strings.HasPrefix(e.Reason, "key-compromise: key lost") {
			t.Errorf("entry %+v", e)
		}
	}
}

func samePublicKey(a, b *x509.Certificate) bool {
	return string(a.RawSubjectPublicKeyInfo) == string(b.RawSubjectPublicKeyInfo)
}

// Everything that step-ca checks, and what it does not.
func TestRefusals(t *testing.T) {
	r := newRig(t)
	key := newKey(t)
	name := "app.hcmc.example"
	good := csr(t, key, name, name)
	tok := func(q stepca.TokenRequest) string { return r.token(q) }
	other, err := r.pki.TokenKey()
	if err != nil {
		t.Fatal(err)
	}
	forge := func(change func(*jose.Claims, map[string]any)) string {
		now := time.Now()
		kid, err := enrol.KeyID(&other.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		c := jose.Claims{ID: "x" + fmt.Sprint(now.UnixNano()), Issuer: "wardnet", Subject: name, Audience: jose.Audience{r.url + "/1.0/sign"}, IssuedAt: jose.NewNumericDate(now), NotBefore: jose.NewNumericDate(now), Expiry: jose.NewNumericDate(now.Add(5 * time.Minute))}
		extra := map[string]any{"sans": []string{name}}
		var k any = other
		change(&c, extra)
		if v, ok := extra["key"]; ok {
			k = v
			delete(extra, "key")
		}
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: k, KeyID: kid}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jose.Signed(s).Claims(c).Claims(extra).CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	used := tok(stepca.TokenRequest{Name: name})
	if status, answer := r.sign(used, good); status != http.StatusCreated {
		t.Fatalf("%d %s", status, answer)
	}
	sum := sha256.Sum256(csr(t, newKey(t), name, name).Raw)
	broken := *good
	broken.Raw = slices.Clone(good.Raw)
	broken.Raw[len(broken.Raw)-1] ^= 1
	for what, tt := range map[string]struct {
		token string
		csr   *x509.CertificateRequest
		extra map[string]any
	}{
		"a used token":        {used, good, nil},
		"no token":            {"", good, nil},
		"garbage":             {"a.b.c", good, nil},
		"another's signature": {forge(func(_ *jose.Claims, x map[string]any) { x["key"] = newKey(t) }), good, nil},
		"an expired token": {forge(func(c *jose.Claims, _ map[string]any) {
			c.Expiry = jose.NewNumericDate(time.Now().Add(-2 * time.Minute))
		}), good, nil},
		"a token of the future": {forge(func(c *jose.Claims, _ map[string]any) {
			c.NotBefore = jose.NewNumericDate(time.Now().Add(2 * time.Minute))
		}), good, nil},
		"a token without end":        {forge(func(c *jose.Claims, _ map[string]any) { c.Expiry = nil }), good, nil},
		"a token for a day":          {forge(func(c *jose.Claims, _ map[string]any) { c.Expiry = jose.NewNumericDate(time.Now().Add(24 * time.Hour)) }), good, nil},
		"another audience":           {forge(func(c *jose.Claims, _ map[string]any) { c.Audience = jose.Audience{"https://other.example/1.0/sign"} }), good, nil},
		"a token to revoke":          {forge(func(c *jose.Claims, _ map[string]any) { c.Audience = jose.Audience{r.url + "/1.0/revoke"} }), good, nil},
		"another provisioner":        {forge(func(c *jose.Claims, _ map[string]any) { c.Issuer = "admin" }), good, nil},
		"no subject":                 {forge(func(c *jose.Claims, _ map[string]any) { c.Subject = "" }), good, nil},
		"an extra name":              {tok(stepca.TokenRequest{Name: name}), csr(t, key, name, name, "evil.example"), nil},
		"another name":               {tok(stepca.TokenRequest{Name: name}), csr(t, key, "evil.example", "evil.example"), nil},
		"another common name":        {tok(stepca.TokenRequest{Name: name}), csr(t, key, "evil.example", name), nil},
		"bound to another CSR":       {tok(stepca.TokenRequest{Name: name, CSRHash: base64.RawURLEncoding.EncodeToString(sum[:])}), good, nil},
		"a broken signature":         {tok(stepca.TokenRequest{Name: name}), &broken, nil},
		"a life of a year":           {tok(stepca.TokenRequest{Name: name}), good, map[string]any{"notAfter": "8760h"}},
		"a life of a second":         {tok(stepca.TokenRequest{Name: name}), good, map[string]any{"notAfter": "1s"}},
		"a life that ended":          {tok(stepca.TokenRequest{Name: name}), good, map[string]any{"notAfter": "-1h"}},
		"a device's id":              {forge(func(c *jose.Claims, x map[string]any) { x["sans"] = []string{r.spiffe("device", "d-1")} }), csr(t, key, name, r.spiffe("device", "d-1")), nil},
		"an id of another domain":    {forge(func(c *jose.Claims, x map[string]any) { x["sans"] = []string{"spiffe://evil/service/x"} }), csr(t, key, name, "spiffe://evil/service/x"), nil},
		"an e-mail address":          {forge(func(c *jose.Claims, x map[string]any) { x["sans"] = []string{"an@hcmc.example"} }), withEmail(t, "an@hcmc.example"), nil},
		"a weak key":                 {tok(stepca.TokenRequest{Name: name}), csr(t, weakKey(t), name, name), nil},
		"a body over its bound":      {strings.Repeat("x", 70<<10), good, nil},
		"a template of the client's": {forge(func(c *jose.Claims, x map[string]any) { x["sans"] = []string{name} }), csr(t, key, name, name, "ca.example"), map[string]any{"templateData": map[string]any{"isCA": true}}},
	} {
		status, answer := r.sign(tt.token, tt.csr, tt.extra)
		if status < 400 || status >= 500 && status != 501 {
			t.Errorf("%s: %d %s, want a refusal", what, status, answer)
		}
		if strings.Contains(answer, "stack") || len(answer) > 500 {
			t.Errorf("%s: the answer tells too much: %s", what, answer)
		}
	}
	// Trap 11: the client hears one sentence, the audit log the reason.
	for _, want := range []string{"token already used", "the token lives longer than", "signature is wrong", "expired at"} {
		if !r.audited("refuse", want) {
			t.Errorf("no audit entry says %q", want)
		}
	}
	if status, answer := r.post(nil, "/1.0/revoke", map[string]any{"serial": "1", "passive": false}); status != http.StatusNotImplemented {
		t.Errorf("active revocation by this API: %d %s", status, answer)
	}
}

// A stranger cannot spend a token, nor fill the table of used ones: step-ca
// keeps the id before it looks at the signature.
func TestForgedTokensLeaveNothing(t *testing.T) {
	r := newRig(t)
	name := "app.hcmc.example"
	text := r.token(stepca.TokenRequest{Name: name})
	parts := strings.Split(text, ".")
	sig := []byte(parts[2])
	sig[5] ^= 3
	forged := parts[0] + "." + parts[1] + "." + string(sig)
	key := newKey(t)
	for range 20 {
		if status, _ := r.sign(forged, csr(t, key, name, name)); status != http.StatusUnauthorized {
			t.Fatalf("forged: %d", status)
		}
	}
	if n := r.rows("pki_used_tokens"); n != 0 {
		t.Errorf("%d rows of forged tokens", n)
	}
	if status, answer := r.sign(text, csr(t, key, name, name)); status != http.StatusCreated {
		t.Errorf("the genuine one: %d %s", status, answer)
	}
}

func (r *rig) rows(table string) (n int) {
	r.t.Helper()
	if err := r.db.Read(r.t.Context(), func(tx *store.Tx) error { return tx.QueryRow("SELECT count(*) FROM " + table).Scan(&n) }); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// Trap 1: one token, many presentations, two controllers: one certificate.
func TestTokenIsSpentOnce(t *testing.T) {
	dir := t.TempDir()
	db, err := store.Open(t.Context(), "sqlite://"+filepath.Join(dir, "wardnet.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rigs := []*rig{newRigOn(t, db, dir), newRigOn(t, db, dir)}
	for range 5 {
		text := rigs[0].token(stepca.TokenRequest{Name: "app.hcmc.example"})
		var got atomic.Int32
		var wg sync.WaitGroup
		for i := range 16 {
			q := csr(t, newKey(t), "app.hcmc.example", "app.hcmc.example")
			wg.Go(func() {
				if status, _ := rigs[i%2].sign(text, q); status == http.StatusCreated {
					got.Add(1)
				}
			})
		}
		wg.Wait()
		if got.Load() != 1 {
			t.Errorf("%d certificates for one token", got.Load())
		}
	}
}

// No certificate opens this door but those that came through it.
// renewByToken does what "step ca renew --mtls=false" does.
// A registrar's certificate makes tokens; no other of our certificates does, nor
// a revoked one. step-ca takes any certificate of the issuer, revoked or not.
// Nobody gets a token for what we do not certify.
// Provisioners are told without keys, and without the ACME that is off.
func TestProvisioners(t *testing.T) {
	for _, acme := range []bool{false, true} {
		var r *rig
		if acme {
			r = newRig(t, allow("*.hcmc.example"))
		} else {
			r = newRig(t)
		}
		resp, err := r.http(nil).Get(r.url + "/provisioners")
		if err != nil {
			t.Fatal(err)
		}
		var list struct {
			Provisioners []struct{ Type, Name string }
		}
		err = json.NewDecoder(resp.Body).Decode(&list)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range list.Provisioners {
			names = append(names, p.Type+" "+p.Name)
		}
		slices.Sort(names)
		want := []string{"JWK wardnet", "X5C registrar"}
		if acme {
			want = append([]string{"ACME acme"}, want...)
		}
		if !slices.Equal(names, want) {
			t.Errorf("provisioners %v, want %v", names, want)
		}
	}
}

// Trap 9: what has ended is not renewed by TLS; by token, the provisioners say
// that they renew nothing that has ended, and the library looks.
