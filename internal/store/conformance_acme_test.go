package store

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smallstep/certificates/acme"
	"go.step.sm/crypto/jose"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/acmeca"
)

// atOnce calls fn from 16 goroutines, half with each store, and says how many
// succeeded; an error that is no conflict fails the test.
func atOnce(t *testing.T, stores [2]*ACME, fn func(s *ACME, i int) error) int {
	t.Helper()
	var n atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			switch err := fn(stores[i%2], i); {
			case err == nil:
				n.Add(1)
			case !errors.Is(err, inventory.ErrConflict):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return int(n.Load())
}

func acmeAccount(t *testing.T, id string) (*acme.Account, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk := &jose.JSONWebKey{Key: &key.PublicKey}
	kid, err := acme.KeyToID(jwk)
	if err != nil {
		t.Fatal(err)
	}
	return &acme.Account{ID: id, Key: jwk, Contact: []string{"mailto:an@hcmc.example"}, Status: acme.StatusValid, LocationPrefix: "https://h/account/", ProvisionerID: "acme/acme", ProvisionerName: "acme"}, kid
}

func acmeOrder(id, account string, names ...string) (*acme.Order, []*acme.Authorization) {
	now := time.Now().UTC()
	o := &acme.Order{ID: id, AccountID: account, ProvisionerID: "acme/acme", Status: acme.StatusPending, ExpiresAt: now.Add(time.Hour), NotBefore: now, NotAfter: now.Add(24 * time.Hour)}
	var authz []*acme.Authorization
	for i, n := range names {
		a := &acme.Authorization{
			ID: fmt.Sprintf("%s-a%d", id, i), AccountID: account, Identifier: acme.Identifier{Type: acme.DNS, Value: n}, Status: acme.StatusPending, Token: "tok", ExpiresAt: o.ExpiresAt,
			Wildcard: i == 1,
		}
		for j, kind := range []acme.ChallengeType{acme.DNS01, acme.HTTP01} {
			a.Challenges = append(a.Challenges, &acme.Challenge{ID: fmt.Sprintf("%s-c%d", a.ID, j), AuthorizationID: a.ID, AccountID: account, Type: kind, Value: n, Token: "tok", Status: acme.StatusPending})
		}
		authz = append(authz, a)
	}
	return o, authz
}

func acmeService(order, account, serial string) acmeca.Service {
	now := time.Now().UTC()
	return acmeca.Service{
		Certificate: pki.Certificate{Serial: serial, Issuer: pki.Services, IssuerKey: "k", Subject: "a", Lineage: serial, CSRHash: "service " + serial, NotBefore: now, NotAfter: now.Add(time.Hour), IssuedAt: now, IssuedBy: "test", Chain: "x"},
		Provisioner: "acme/acme", Names: []string{"a.example"}, Account: account, Order: order,
	}
}

func eachACME(t *testing.T, test func(t *testing.T, stores [2]*ACME)) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			test(t, [2]*ACME{NewACME(db, "hcmc"), NewACME(db, "hcmc")})
		})
	}
}

func TestACMEAccounts(t *testing.T) {
	eachACME(t, func(t *testing.T, s [2]*ACME) {
		a, kid := acmeAccount(t, "one")
		if n := atOnce(t, s, func(s *ACME, i int) error {
			c := *a
			c.ID = fmt.Sprintf("acc-%d", i)
			return s.AddAccount(t.Context(), &c, kid)
		}); n != 1 {
			t.Fatalf("%d accounts of one key", n)
		}
		got, err := s[1].AccountByKey(t.Context(), kid)
		if err != nil || got.Status != acme.StatusValid || got.Contact[0] != a.Contact[0] || got.LocationPrefix != a.LocationPrefix || got.ProvisionerName != "acme" {
			t.Fatalf("got %+v, %v", got, err)
		}
		if k, err := acme.KeyToID(got.Key); err != nil || k != kid {
			t.Errorf("its key is %s, %v", k, err)
		}
		got.Status = acme.StatusDeactivated
		if err := s[0].ChangeAccount(t.Context(), got); err != nil {
			t.Fatal(err)
		}
		got.Status = acme.StatusValid
		if err := s[0].ChangeAccount(t.Context(), got); !errors.Is(err, inventory.ErrConflict) {
			t.Errorf("a deactivated account came back: %v", err)
		}
		if _, err := s[0].Account(t.Context(), "none"); !errors.Is(err, inventory.ErrNotFound) {
			t.Error(err)
		}
	})
}

func TestACMEExternalKeysBindOnce(t *testing.T) {
	eachACME(t, func(t *testing.T, s [2]*ACME) {
		k := acme.ExternalAccountKey{ID: "k", ProvisionerID: "acme/acme", Reference: "web team", HmacKey: []byte("secret"), CreatedAt: time.Now()}
		if err := s[0].AddExternalKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		if got, err := s[1].ExternalKey(t.Context(), "k"); err != nil || string(got.HmacKey) != "secret" || got.AlreadyBound() {
			t.Fatalf("got %+v, %v", got, err)
		}
		if n := atOnce(t, s, func(s *ACME, i int) error {
			return s.BindExternalKey(t.Context(), "k", fmt.Sprintf("acc-%d", i), time.Now())
		}); n != 1 {
			t.Errorf("%d accounts bound", n)
		}
		got, err := s[0].ExternalKey(t.Context(), "k")
		if err != nil || len(got.HmacKey) != 0 || !got.AlreadyBound() {
			t.Errorf("got %+v, %v", got, err)
		}
		if of, err := s[0].ExternalKeyOf(t.Context(), got.AccountID); err != nil || of.ID != "k" {
			t.Errorf("of the account: %+v, %v", of, err)
		}
	})
}

func TestACMENoncesCountOnce(t *testing.T) {
	eachACME(t, func(t *testing.T, s [2]*ACME) {
		one, err := s[0].NonceKey(t.Context(), []byte("first"))
		if err != nil {
			t.Fatal(err)
		}
		if two, err := s[1].NonceKey(t.Context(), []byte("second")); err != nil || string(two) != string(one) || string(one) != "first" {
			t.Errorf("keys %q %q, %v", one, two, err)
		}
		end := time.Now().Add(time.Hour)
		if n := atOnce(t, s, func(s *ACME, _ int) error {
			first, err := s.UseNonce(t.Context(), "n", end)
			if err == nil && !first {
				err = inventory.ErrConflict
			}
			return err
		}); n != 1 {
			t.Errorf("%d used one nonce", n)
		}
	})
}

func TestACMEOrders(t *testing.T) {
	eachACME(t, func(t *testing.T, s [2]*ACME) {
		o, authz := acmeOrder("o1", "acc", "a.example", "hcmc.example")
		if err := s[0].AddOrder(t.Context(), o, authz, ""); err != nil {
			t.Fatal(err)
		}
		got, err := s[1].Order(t.Context(), "o1")
		if err != nil || len(got.AuthorizationIDs) != 2 || got.Identifiers[1].Value != "*.hcmc.example" || !got.NotAfter.Equal(o.NotAfter) || got.Status != acme.StatusPending {
			t.Fatalf("got %+v, %v", got, err)
		}
		a, err := s[0].Authorization(t.Context(), "o1-a0")
		if err != nil || len(a.Challenges) != 2 || a.Challenges[1].Type != acme.HTTP01 || a.Identifier.Value != "a.example" || a.Token != "tok" {
			t.Fatalf("got %+v, %v", a, err)
		}
		if err := s[0].FinishOrder(t.Context(), acmeService("o1", "acc", "a1")); !errors.Is(err, inventory.ErrConflict) {
			t.Errorf("a pending order was finished: %v", err)
		}
		c := a.Challenges[0]
		c.Status, c.ValidatedAt, c.Error = acme.StatusValid, "2026-11-27T00:00:00Z", acme.NewError(acme.ErrorDNSType, "x")
		if err := s[0].ChangeChallenge(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		c.Status = acme.StatusInvalid
		if err := s[0].ChangeChallenge(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if c, err = s[1].Challenge(t.Context(), c.ID); err != nil || c.Status != acme.StatusValid || c.Error == nil || c.AuthorizationID != "o1-a0" {
			t.Errorf("got %+v, %v", c, err)
		}
		o.Status = acme.StatusReady
		if err := s[0].ChangeOrder(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if n := atOnce(t, s, func(s *ACME, i int) error {
			return s.FinishOrder(t.Context(), acmeService("o1", "acc", fmt.Sprintf("b%d", i)))
		}); n != 1 {
			t.Errorf("%d certificates of one order", n)
		}
		o.Status = acme.StatusInvalid
		if err := s[0].ChangeOrder(t.Context(), o); !errors.Is(err, inventory.ErrConflict) {
			t.Errorf("a valid order became invalid: %v", err)
		}
		if got, err = s[0].Order(t.Context(), "o1"); err != nil || got.Status != acme.StatusValid || got.CertificateID == "" {
			t.Errorf("got %+v, %v", got, err)
		}
		svc, err := s[0].Service(t.Context(), got.CertificateID)
		if err != nil || svc.Order != "o1" || svc.Account != "acc" || svc.Names[0] != "a.example" || svc.Issuer != pki.Services {
			t.Fatalf("got %+v, %v", svc, err)
		}
		// RFC 9773 §5: one order replaces a certificate; a failed one frees it.
		if n := atOnce(t, s, func(s *ACME, i int) error {
			o, authz := acmeOrder(fmt.Sprintf("r%d", i), "acc", "a.example")
			return s.AddOrder(t.Context(), o, authz, svc.Serial)
		}); n != 1 {
			t.Errorf("%d orders replace one certificate", n)
		}
		open, err := s[0].OpenOrders(t.Context(), "acc")
		if err != nil || len(open) != 1 {
			t.Fatalf("open orders %v, %v", open, err)
		}
		failed, err := s[0].Order(t.Context(), open[0])
		if err != nil {
			t.Fatal(err)
		}
		failed.Status = acme.StatusInvalid
		if err := s[0].ChangeOrder(t.Context(), failed); err != nil {
			t.Fatal(err)
		}
		again, authz := acmeOrder("again", "acc", "a.example")
		if err := s[0].AddOrder(t.Context(), again, authz, svc.Serial); err != nil {
			t.Errorf("after the first came to nothing: %v", err)
		}
	})
}

// Trap 7: what has ended goes; the tables do not grow for ever.
func TestACMEPurge(t *testing.T) {
	eachACME(t, func(t *testing.T, s [2]*ACME) {
		now := time.Now()
		old, authz := acmeOrder("old", "acc", "a.example", "b.example")
		old.ExpiresAt = now.Add(-8 * 24 * time.Hour)
		fresh, more := acmeOrder("fresh", "acc", "a.example")
		for _, err := range []error{
			s[0].AddOrder(t.Context(), old, authz, ""), s[0].AddOrder(t.Context(), fresh, more, ""),
			func() error { _, err := s[0].UseNonce(t.Context(), "old", now.Add(-time.Minute)); return err }(),
			func() error { _, err := s[0].UseNonce(t.Context(), "new", now.Add(time.Minute)); return err }(),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		n, err := s[0].Purge(t.Context(), now.Add(-7*24*time.Hour), now)
		if err != nil || n != 1+2+4+1 {
			t.Errorf("%d rows went, %v", n, err)
		}
		if _, err := s[0].Order(t.Context(), "fresh"); err != nil {
			t.Error(err)
		}
		if first, err := s[0].UseNonce(t.Context(), "new", now.Add(time.Minute)); err != nil || first {
			t.Errorf("a nonce that could still be presented was forgotten: %v %v", first, err)
		}
	})
}

// A renewal stays in its lineage, and not after a revocation.
func TestServiceRenewalKeepsLineage(t *testing.T) {
	eachACME(t, func(t *testing.T, s [2]*ACME) {
		first := acmeService("", "", "f1")
		if err := s[0].AddService(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		second := acmeService("", "", "f2")
		second.Parent = "f1"
		if err := s[0].AddService(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		gone, err := s[0].Revoke(t.Context(), pki.Revocation{Serial: "f1", Reason: "x", By: "an", At: time.Now()})
		if err != nil || len(gone) != 2 {
			t.Fatalf("revoked %v, %v", gone, err)
		}
		third := acmeService("", "", "f3")
		third.Parent = "f2"
		if err := s[0].AddService(t.Context(), third); !errors.Is(err, inventory.ErrConflict) {
			t.Errorf("a revoked certificate was renewed: %v", err)
		}
		for serial, want := range map[string]bool{"f2": true, "f9": false} {
			r, err := s[0].OCSPStatus(t.Context(), "k", serial)
			if want && (err != nil || r.At.IsZero() || r.Reason != "x") || !want && !errors.Is(err, inventory.ErrNotFound) {
				t.Errorf("OCSP of %s: %+v, %v", serial, r, err)
			}
		}
	})
}

// A token and its certificate are one transaction.
func TestServiceRenewalAndTokenOnce(t *testing.T) {
	eachACME(t, func(t *testing.T, s [2]*ACME) {
		end := time.Now().Add(time.Hour)
		if n := atOnce(t, s, func(s *ACME, i int) error {
			first, err := s.AddServiceOnce(t.Context(), "jti", end, acmeService("", "", fmt.Sprintf("c%d", i)))
			if err == nil && !first {
				err = inventory.ErrConflict
			}
			return err
		}); n != 1 {
			t.Errorf("%d certificates for one token", n)
		}
		var rows int
		if err := s[0].db.Read(t.Context(), func(tx *Tx) error { return tx.QueryRow("SELECT count(*) FROM pki_services").Scan(&rows) }); err != nil || rows != 1 {
			t.Errorf("%d rows, %v", rows, err)
		}
	})
}
