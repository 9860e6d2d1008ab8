//go:build lab

package tpmkey_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/tpmkey"
)

var _ enrol.Keystore = (*tpmkey.Store)(nil)

// emulator starts swtpm and gives its socket.
func emulator(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("swtpm")
	if err != nil {
		t.Skip("swtpm is not installed (Debian package swtpm)")
	}
	dir, err := os.MkdirTemp("", "tpm") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sock := filepath.Join(dir, "s")
	cmd := exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+sock, "--flags", "not-need-init,startup-clear")
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // ours, by its id
		cmd.Wait()         //nolint:errcheck // killed
	})
	for range 100 {
		if _, err := os.Stat(sock); err == nil {
			return sock
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("swtpm did not start: %s", out)
	return ""
}

// A key of the TPM signs, is found again by its reference, and is good for
// that TPM only.
func TestKeysStayInTheTPM(t *testing.T) {
	sock := emulator(t)
	s, err := tpmkey.Open(sock)
	if err != nil {
		t.Fatal(err)
	}
	ref, key, err := s.Make()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(ref, "TSS2 PRIVATE KEY") {
		t.Errorf("the reference is %s", ref)
	}
	sum := sha256.Sum256([]byte("hello"))
	again, err := s.Open(ref)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []crypto.Signer{key, again} {
		sig, err := k.Sign(rand.Reader, sum[:], crypto.SHA256)
		if err != nil || !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), sum[:], sig) {
			t.Errorf("a signature that does not hold, %v", err)
		}
	}
	if _, err := key.Sign(rand.Reader, sum[:20], crypto.SHA1); err == nil {
		t.Error("it signed SHA-1")
	}
	other, err := tpmkey.Open(emulator(t))
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := other.Open(ref)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stolen.Sign(rand.Reader, sum[:], crypto.SHA256); err == nil {
		t.Error("another TPM signs with the key")
	}
	file, _, err := enrol.Files{}.Make()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(file); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a key of a file: %v", err)
	}
}

func TestNoTPM(t *testing.T) {
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "gone"))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, path := range []string{filepath.Join(dir, "nothing"), filepath.Join(dir, "gone"), dir} {
		if _, err := tpmkey.Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
