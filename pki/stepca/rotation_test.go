package stepca_test

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/stepca"
)

// status asks OCSP and the CRL that a leaf names and gives what both say.
func (r *rig) statusOf(c *tls.Certificate) (byOCSP int, byCRL bool) {
	r.t.Helper()
	issuer, err := x509.ParseCertificate(c.Certificate[1])
	if err != nil {
		r.t.Fatal(err)
	}
	q, err := ocsp.CreateRequest(c.Leaf, issuer, &ocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		r.t.Fatal(err)
	}
	fetch := func(resp *http.Response, err error) []byte {
		if err != nil {
			r.t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			r.t.Fatalf("%s: %s %v", resp.Request.URL, resp.Status, err)
		}
		return body
	}
	answer, err := ocsp.ParseResponseForCert(fetch(http.Post(c.Leaf.OCSPServer[0], "application/ocsp-request", bytes.NewReader(q))), c.Leaf, issuer)
	if err != nil {
		r.t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(fetch(http.Get(c.Leaf.CRLDistributionPoints[0])))
	if err != nil {
		r.t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		r.t.Errorf("the CRL of %s is not its issuer's: %v", c.Leaf.Subject, err)
	}
	for _, e := range list.RevokedCertificateEntries {
		byCRL = byCRL || e.SerialNumber.Cmp(c.Leaf.SerialNumber) == 0
	}
	return answer.Status, byCRL
}

// Trap 2: over an issuer's rotation nothing fails; a renewal moves to the new
// generation with its CRL and OCSP; CRL and OCSP agree for leaves of both.
func TestRotationMovesRenewals(t *testing.T) {
	r := newRig(t)
	old := r.issue(stepca.TokenRequest{Name: "old.hcmc.example"}, "old.hcmc.example")
	moves := r.issue(stepca.TokenRequest{Name: "moves.hcmc.example"}, "moves.hcmc.example")
	rot := pki.Rotation{Issuer: pki.Services, By: "an", Reason: "yearly", Force: true}
	if err := r.pki.StartRotation(t.Context(), rot); err != nil {
		t.Fatal(err)
	}
	for done := 0; done < 2; { // publish, switch; the second waits until every replica has seen the first
		_, err := r.pki.NextRotation(t.Context(), rot)
		switch {
		case err == nil:
			done++
		case errors.Is(err, pki.ErrHeld) && t.Context().Err() == nil:
			time.Sleep(500 * time.Millisecond)
		default:
			t.Fatal(err)
		}
	}
	status, answer := r.post(moves, "/1.0/renew", nil)
	if status != http.StatusCreated {
		t.Fatalf("renew over the rotation: %d %s", status, answer)
	}
	moved := chainOf(t, answer, moves.PrivateKey.(crypto.Signer))
	if bytes.Equal(moved.Certificate[1], moves.Certificate[1]) {
		t.Fatal("the old generation signed the renewal")
	}
	if a, b := moved.Leaf.CRLDistributionPoints[0], moves.Leaf.CRLDistributionPoints[0]; a == b {
		t.Errorf("the renewal names the old CRL %s", a)
	}
	fresh := r.issue(stepca.TokenRequest{Name: "new.hcmc.example"}, "new.hcmc.example")
	for name, c := range map[string]*tls.Certificate{"old": old, "moved": moved, "new": fresh} {
		if o, l := r.statusOf(c); o != ocsp.Good || l {
			t.Errorf("%s before: OCSP %d, on the CRL %v", name, o, l)
		}
	}
	for _, c := range []*tls.Certificate{old, moved} {
		if err := r.pki.Revoke(t.Context(), enrol.SerialOf(c.Leaf), "superseded", "an"); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]*tls.Certificate{"old": old, "before the move": moves, "moved": moved} {
		if o, l := r.statusOf(c); o != ocsp.Revoked || !l {
			t.Errorf("%s after: OCSP %d, on the CRL %v", name, o, l)
		}
	}
	if o, l := r.statusOf(fresh); o != ocsp.Good || l {
		t.Errorf("new: OCSP %d, on the CRL %v", o, l)
	}
	resp, err := r.http(nil).Get(r.url + "/intermediates.pem")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || strings.Count(string(body), "BEGIN CERTIFICATE") != 2 {
		t.Errorf("intermediates: %s %v", body, err)
	}
}
