package pki_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
	"golang.org/x/crypto/ssh"
)

func hostKeyFile(t *testing.T, key any) (path string, pub ssh.PublicKey) {
	t.Helper()
	pub, err := ssh.NewPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "ssh_host_key.pub")
	if err := os.WriteFile(path, ssh.MarshalAuthorizedKey(pub), 0o644); err != nil {
		t.Fatal(err)
	}
	return path, pub
}

// A device that offers its SSH host key gets it certified with its own
// certificate, for its own name and no longer than that; again at renewal.
func TestSSHHostCertificateOfADevice(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	key, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path, pub := hostKeyFile(t, key)
	dir, c := t.TempDir(), enrol.Client{SSHHostKey: path}
	i, err := c.Enrol(t.Context(), a.bundle("e-1"), dir)
	if err != nil {
		t.Fatal(err)
	}
	read := func() *ssh.Certificate {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, enrol.SSHHostCertificateFile))
		if err != nil {
			t.Fatal(err)
		}
		got, _, _, _, err := ssh.ParseAuthorizedKey(text)
		if err != nil {
			t.Fatal(err)
		}
		return got.(*ssh.Certificate)
	}
	checker := ssh.CertChecker{IsHostAuthority: func(k ssh.PublicKey, _ string) bool { return string(k.Marshal()) == string(a.SSHHostCA().Marshal()) }}
	first := read()
	if err := checker.CheckHostKey("e-1:22", &net.TCPAddr{}, first); err != nil {
		t.Error(err)
	}
	if err := checker.CheckHostKey("e-2:22", &net.TCPAddr{}, first); err == nil {
		t.Error("it is good for another device's name")
	}
	if string(first.Key.Marshal()) != string(pub.Marshal()) || time.Unix(int64(first.ValidBefore), 0).After(i.Certificate().NotAfter.Add(time.Second)) {
		t.Errorf("until %s, the device's certificate until %s", time.Unix(int64(first.ValidBefore), 0), i.Certificate().NotAfter)
	}
	user, err := os.ReadFile(filepath.Join(dir, enrol.SSHUserCAFile))
	if ca, _, _, _, bad := ssh.ParseAuthorizedKey(user); err != nil || bad != nil || string(ca.Marshal()) != string(a.SSHUserCA().Marshal()) {
		t.Errorf("the user CA is %q, %v, %v", user, err, bad)
	}
	if err := c.Renew(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	if second := read(); second.Serial == first.Serial {
		t.Error("the renewal brought no new one")
	}
	if err := a.Revoke(t.Context(), enrol.SerialOf(i.Certificate()), "key-compromise", "an"); err != nil {
		t.Fatal(err)
	}
	last := read().Serial
	if err := c.Renew(t.Context(), i); err == nil || read().Serial != last {
		t.Errorf("revoked it got another one: %v", err)
	}
}

// A host key that is no good costs no device its certificate.
func TestUnfitSSHHostKeys(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	small, _ := hostKeyFile(t, &weak.PublicKey)
	garbage := filepath.Join(t.TempDir(), "garbage.pub")
	if err := os.WriteFile(garbage, []byte("-----BEGIN OPENSSH PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"e-weak": small, "e-garbage": garbage, "e-none": "/nonexistent"} {
		dir := t.TempDir()
		if _, err := (enrol.Client{SSHHostKey: path}).Enrol(t.Context(), a.bundle(inventory.DeviceID(name)), dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, enrol.SSHHostCertificateFile)); !os.IsNotExist(err) {
			t.Errorf("%s: it was certified (%v)", name, err)
		}
	}
}
