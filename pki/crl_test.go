package pki_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

func fetch(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return body
}

func TestCRLPerIssuer(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	i, pep := a.enrolled("e-1"), service(t, a, "proxy")
	served, err := x509.ParseCertificate(pep.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	issuers := map[string]*x509.Certificate{} // by subject key
	for text := fetch(t, a.urls["status"]+"/issuers.pem"); ; {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		issuers[string(c.SubjectKeyId)] = c
	}
	list := func(leaf *x509.Certificate) *x509.RevocationList {
		t.Helper()
		if len(leaf.CRLDistributionPoints) != 1 {
			t.Fatalf("distribution points %v", leaf.CRLDistributionPoints)
		}
		crl, err := x509.ParseRevocationList(fetch(t, leaf.CRLDistributionPoints[0]))
		if err != nil {
			t.Fatal(err)
		}
		if err := crl.CheckSignatureFrom(issuers[string(leaf.AuthorityKeyId)]); err != nil {
			t.Errorf("the CRL is not of the leaf's issuer: %v", err)
		}
		scoped := false
		for _, e := range crl.Extensions {
			scoped = scoped || e.Id.String() == "2.5.29.28" && e.Critical && bytes.Contains(e.Value, []byte(leaf.CRLDistributionPoints[0]))
		}
		if !scoped {
			t.Error("the CRL's issuing distribution point is not the leaf's distribution point")
		}
		return crl
	}
	before := list(i.Certificate())
	if len(before.RevokedCertificateEntries) != 0 || len(list(served).RevokedCertificateEntries) != 0 {
		t.Error("a fresh CRL has entries")
	}
	if err := a.Revoke(t.Context(), enrol.SerialOf(i.Certificate()), "key-compromise: lost", "an"); err != nil {
		t.Fatal(err)
	}
	after := list(i.Certificate())
	entries := after.RevokedCertificateEntries
	if len(entries) != 1 || entries[0].SerialNumber.Cmp(i.Certificate().SerialNumber) != 0 || entries[0].ReasonCode != 1 {
		t.Errorf("entries %+v", entries)
	}
	if after.Number.Cmp(before.Number) <= 0 || !after.NextUpdate.After(time.Now()) {
		t.Errorf("number %v after %v, until %v", after.Number, before.Number, after.NextUpdate)
	}
	if n := len(list(served).RevokedCertificateEntries); n != 0 {
		t.Errorf("the services CRL has %d entries", n)
	}
	if err := a.Revoke(t.Context(), enrol.SerialOf(served), "cessation-of-operation", "an"); err != nil {
		t.Fatal(err)
	}
	if n := len(list(served).RevokedCertificateEntries); n != 1 {
		t.Errorf("the services CRL has %d entries after a revocation", n)
	}
	if err := a.connect("pep", pep, nil); err == nil {
		t.Error("a revoked service was admitted")
	}
	if revoked, err := a.AuthorityRevoked(i.Certificate().SerialNumber.String()); err != nil || !revoked {
		t.Errorf("the embedded authority says %v, %v", revoked, err)
	}
	if got := fetch(t, a.urls["status"]+"/root.pem"); string(got) != a.RootPEM() {
		t.Error("the root is another")
	}
	if resp, err := http.Get(a.urls["status"] + "/crl/nope.crl"); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown CRL gave %v, %v", resp, err)
	}
}

func TestSignedTokenCannotBeSpentTwice(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	present, err := a.PresentSignedToken(csrFor(t, "spiffe://wardnet.hcmc/device/e-1"), "e-1")
	if err != nil {
		t.Fatal(err)
	}
	var ok atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if present(t.Context()) == nil {
				ok.Add(1)
			}
		})
	}
	wg.Wait()
	if ok.Load() != 1 {
		t.Errorf("the token was accepted %d times", ok.Load())
	}
}

func TestTokensAndServicesRefuse(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	a.declare("e-1", inventory.InService)
	a.declare("e-retired", inventory.Retired)
	for name, tt := range map[string]struct {
		device inventory.DeviceID
		serial string
		want   error
	}{
		"unknown device": {"e-9", "SN-e-9", inventory.ErrNotFound},
		"retired device": {"e-retired", "SN-e-retired", inventory.ErrNotFound},
		"another serial": {"e-1", "SN-e-2", inventory.ErrInvalid},
		"no serial":      {"e-1", "", inventory.ErrInvalid},
		"unfit name":     {"e/1", "SN", inventory.ErrInvalid},
	} {
		if _, _, err := a.CreateToken(t.Context(), tt.device, tt.serial, "an"); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
	for name, q := range map[string]pki.ServiceRequest{
		"a device's id":  {Name: "e-1", CSR: csrFor(t, "spiffe://wardnet.hcmc/device/e-1")},
		"another name":   {Name: "proxy", CSR: csrFor(t, "spiffe://wardnet.hcmc/service/other")},
		"for too long":   {Name: "proxy", CSR: csrFor(t, "spiffe://wardnet.hcmc/service/proxy"), TTL: 91 * 24 * time.Hour},
		"for no time":    {Name: "proxy", CSR: csrFor(t, "spiffe://wardnet.hcmc/service/proxy"), TTL: -1},
		"without a CSR":  {Name: "proxy"},
		"with two names": {Name: "proxy", CSR: csrFor(t, "spiffe://wardnet.hcmc/service/proxy", "spiffe://wardnet.hcmc/service/x")},
	} {
		if _, err := a.IssueService(t.Context(), q); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := pki.Open(t.Context(), pki.Deps{}, pki.Config{TokenTTL: time.Hour}); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a token life of an hour gave %v", err)
	}
	keys := a.Keys()
	sig, err := keys[pki.RevisionKey].Sign([]byte("x"))
	if err != nil || !keys[pki.RevisionKey].Verify([]byte("x"), sig) || keys[pki.PolicyKey].Verify([]byte("x"), sig) || len(keys) != 4 {
		t.Errorf("signing keys %v, %v", keys, err)
	}
	if strings.Contains(a.RootPEM(), "PRIVATE") {
		t.Error("the root's key is given out")
	}
}
