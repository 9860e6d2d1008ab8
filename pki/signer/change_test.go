package signer

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// A crash at any step of staging leaves a directory that opens and in which the
// same call ends in one generation with one key.
func TestStageAfterACrash(t *testing.T) {
	for name, cut := range map[string]func(t *testing.T, dir string){
		"before the key":          func(*testing.T, string) {},
		"key without certificate": func(t *testing.T, dir string) { fatal(t, MakeKey(dir, "devices-2")) },
		"pieces of a file": func(t *testing.T, dir string) {
			fatal(t, os.Mkdir(filepath.Join(dir, ".new-1"), 0o700))
			fatal(t, os.WriteFile(filepath.Join(dir, ".new-1", "devices-2.key"), []byte("-----BEG"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, dir := created(t)
			cut(t, dir)
			s := open(t, dir, Config{})
			first, err := s.Change(t.Context(), Change{Action: Stage, Issuer: Devices, Generation: 2})
			if err != nil {
				t.Fatal(err)
			}
			again, err := open(t, dir, Config{}).Change(t.Context(), Change{Action: Stage, Issuer: Devices, Generation: 2})
			if err != nil || again.KeyID != first.KeyID || len(again.Certificate) == 0 || string(again.Certificate) != string(first.Certificate) {
				t.Errorf("staged again: %v", err)
			}
		})
	}
	s, _ := created(t)
	for _, c := range []Change{
		{Action: Stage, Issuer: Devices, Generation: 3}, {Action: Stage, Issuer: Root, Generation: 1}, {Action: Stage, Issuer: Hub, Generation: 1000}, {Action: "sign", Issuer: Hub, Generation: 1},
	} {
		if _, err := s.Change(t.Context(), c); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The whole ceremony with the root's key elsewhere: prepare, csr, sign, install;
// and what is not signed by this root, for this key and within an issuer's
// bounds is refused.
func TestRootElsewhere(t *testing.T) {
	rootKey, err := enrol.NewKey()
	fatal(t, err)
	root, err := NewRoot(rootKey, domain, time.Now())
	fatal(t, err)
	dir := filepath.Join(t.TempDir(), "ca")
	fatal(t, Prepare(dir, root))
	s := open(t, dir, Config{Domain: domain})
	st, err := s.State(t.Context())
	fatal(t, err)
	if st.RootKey || len(st.Issuers) != 3 {
		t.Fatalf("%+v", st)
	}
	otherKey, err := enrol.NewKey()
	fatal(t, err)
	other, err := NewRoot(otherKey, domain, time.Now())
	fatal(t, err)
	for _, i := range st.Issuers {
		if len(i.CSR) == 0 {
			t.Fatalf("%s has no CSR", i.Issuer)
		}
		install := func(c *x509.Certificate) error {
			_, err := s.Change(t.Context(), Change{Action: Install, Issuer: i.Issuer, Generation: 1, Certificate: c.Raw})
			return err
		}
		foreign, err := SignIssuer(i.CSR, i.Issuer, other, otherKey, "", time.Now())
		fatal(t, err)
		if err := install(foreign); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s of another root: %v", i.Issuer, err)
		}
		wide, err := caTemplate(caSpec{name: Root, domain: domain, now: time.Now()})
		fatal(t, err)
		csr, err := x509.ParseCertificateRequest(i.CSR)
		fatal(t, err)
		unbounded, err := signCA(wide, root, csr.PublicKey.(*ecdsa.PublicKey), rootKey)
		fatal(t, err)
		if err := install(unbounded); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s without bounds: %v", i.Issuer, err)
		}
		if _, err := s.Issue(t.Context(), Order{KeyID: i.KeyID, Kind: OCSPLeaf, PublicKey: public(t), NotAfter: time.Now().Add(time.Hour)}); !errors.Is(err, ErrCeremony) {
			t.Errorf("%s signs without a certificate: %v", i.Issuer, err)
		}
		for _, wrong := range Issuers {
			if _, err := SignIssuer(i.CSR, wrong, root, rootKey, "", time.Now()); (err == nil) != (wrong == i.Issuer) {
				t.Errorf("CSR of %s signed as %s: %v", i.Issuer, wrong, err)
			}
		}
		good, err := SignIssuer(i.CSR, i.Issuer, root, rootKey, "http://hub.example/crl/root.crl", time.Now())
		fatal(t, err)
		fatal(t, install(good))
		fatal(t, install(good)) // again: nothing changes
	}
	if _, err := s.CRL(t.Context(), CRLOrder{KeyID: must(enrol.KeyID(root.PublicKey)), Number: 1, Life: time.Hour}); !errors.Is(err, ErrCeremony) {
		t.Errorf("the root's CRL without its key: %v", err)
	}
	list := func(n uint64) []byte {
		der, err := SignRootCRL(root, rootKey, n, "", []CRLEntry{{Serial: "a1", At: time.Now(), Reason: 2}}, time.Now())
		fatal(t, err)
		return der
	}
	importCRL := func(der []byte) error {
		_, err := s.Change(t.Context(), Change{Action: InstallRootCRL, Issuer: Root, CRL: der})
		return err
	}
	fatal(t, importCRL(list(5)))
	if err := importCRL(list(4)); !errors.Is(err, inventory.ErrConflict) {
		t.Errorf("an older list: %v", err)
	}
	staged, err := s.Change(t.Context(), Change{Action: Stage, Issuer: Hub, Generation: 2})
	if err != nil || len(staged.CSR) == 0 || len(staged.Certificate) > 0 {
		t.Errorf("staged %+v, %v", staged, err)
	}
	if again, err := open(t, dir, Config{}).State(t.Context()); err != nil || len(again.Issuers) != 4 || len(again.RootCRL) == 0 {
		t.Errorf("after a restart: %d issuers, %v", len(again.Issuers), err)
	}
}

// A CA directory of a version that knew no generations opens as it is.
func TestOldLayout(t *testing.T) {
	_, dir := created(t)
	for _, name := range []string{JournalFile, "ssh-user.key", "ssh-host.key"} {
		fatal(t, os.Remove(filepath.Join(dir, name)))
	}
	fatal(t, MakeKey(dir, "revision"))
	s := open(t, dir, Config{Domain: domain})
	st, err := s.State(t.Context())
	if err != nil || len(st.Issuers) != 3 || !st.RootKey || len(st.SSHUser) == 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := Open(dir, Config{Domain: "other"}, time.Now()); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("another trust domain: %v", err)
	}
	fatal(t, os.Chmod(filepath.Join(dir, "hub.key"), 0o640))
	if _, err := Open(dir, Config{}, time.Now()); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a key that others may read: %v", err)
	}
}
