//go:build pkcs11

package p11key_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/p11key"
)

var _ enrol.Keystore = (*p11key.Store)(nil)

// token makes a SoftHSM token.
func token(t *testing.T) p11key.Config {
	t.Helper()
	program, err := exec.LookPath("softhsm2-util")
	if err != nil {
		t.Skip("softhsm2-util is not installed (Debian package softhsm2)")
	}
	module := ""
	for _, pattern := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/*/softhsm/libsofthsm2.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			module = found[0]
		}
	}
	if env := os.Getenv("SOFTHSM2_MODULE"); env != "" {
		module = env
	}
	if module == "" {
		t.Skip("libsofthsm2.so is not installed (Debian package softhsm2)")
	}
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens")
	conf, pin := filepath.Join(dir, "softhsm2.conf"), filepath.Join(dir, "pin")
	for path, text := range map[string]string{conf: "directories.tokendir = " + tokens + "\nobjectstore.backend = file\n", pin: "73921\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command(program, "--module", module, "--init-token", "--free", "--label", "ward test", "--pin", "73921", "--so-pin", "73921").CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v: %s", err, out)
	}
	return p11key.Config{Module: module, Token: "ward test", PINFile: pin}
}

func TestKeysStayInTheToken(t *testing.T) {
	c := token(t)
	s, err := p11key.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	ref, key, err := s.Make()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(ref, "pkcs11:token=ward%20test;id=%") {
		t.Errorf("the reference is %s", ref)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = p11key.Open(c); err != nil { // another start of the agent
		t.Fatal(err)
	}
	defer s.Close()
	again, err := s.Open(ref)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("hello"))
	sig, err := again.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil || !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), sum[:], sig) {
		t.Errorf("a signature that does not hold, %v", err)
	}
	if err := errors.Join(s.Forget(ref), s.Forget(ref)); err != nil {
		t.Errorf("forgotten: %v", err)
	}
	if _, err := s.Open(ref); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("a forgotten key: %v", err)
	}
	for _, bad := range []string{"", "pkcs11:token=other;id=%01;type=private", "pkcs11:token=ward%20test;id=zz;x"} {
		if _, err := s.Open(bad); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := os.Chmod(c.PINFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := p11key.Open(c); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a PIN that everybody may read: %v", err)
	}
}
