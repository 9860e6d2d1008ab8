package release

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"runtime"
	"testing"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
)

func key(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sample() Release {
	sum := sha256.Sum256([]byte("binary"))
	return Release{Version: "1.4.0", GOOS: "linux", GOARCH: "amd64", Size: 6, SHA256: sum[:]}
}

func TestSignAndVerify(t *testing.T) {
	k := key(t, elliptic.P256())
	r, err := sample().Sign(k, "k1")
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.PublicKey{"k1": &k.PublicKey}
	if err := r.Verify(keys); err != nil {
		t.Fatal(err)
	}
	other := key(t, elliptic.P256())
	for name, bad := range map[string]struct {
		r    Release
		keys map[string]crypto.PublicKey
	}{
		"no key":      {r, nil},
		"another key": {r, map[string]crypto.PublicKey{"k1": &other.PublicKey}},
		"wrong curve": {r, map[string]crypto.PublicKey{"k1": &key(t, elliptic.P384()).PublicKey}},
		"unsigned":    {sample(), keys},
	} {
		if err := bad.r.Verify(bad.keys); !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: %v, want ErrUntrusted", name, err)
		}
	}
	if _, err := sample().Sign(key(t, elliptic.P384()), "k1"); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("P-384 signed: %v", err)
	}
}

// TestNothingSignedCanChange: every field but the key id is bound, and no two
// releases have the same payload.
func TestNothingSignedCanChange(t *testing.T) {
	k := key(t, elliptic.P256())
	keys := map[string]crypto.PublicKey{"k1": &k.PublicKey}
	text := rapid.StringMatching(`[0-9a-z][0-9a-z.+_-]{0,8}`)
	word := rapid.StringMatching(`[a-z0-9]{1,8}`)
	draw := rapid.Custom(func(t *rapid.T) Release {
		return Release{
			Version: text.Draw(t, "version"), GOOS: word.Draw(t, "goos"), GOARCH: word.Draw(t, "goarch"),
			Size: rapid.Int64Range(1, MaxSize).Draw(t, "size"), SHA256: rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "sha"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw.Draw(t, "a"), draw.Draw(t, "b")
		equal := a.Version == b.Version && a.GOOS == b.GOOS && a.GOARCH == b.GOARCH && a.Size == b.Size && bytes.Equal(a.SHA256, b.SHA256)
		if equal != a.Same(b) {
			t.Fatalf("%+v and %+v: same = %v", a, b, a.Same(b))
		}
		signed, err := a.Sign(k, "k1")
		if err != nil {
			t.Fatal(err)
		}
		b.KeyID, b.Signature = "k1", signed.Signature
		if err := b.Verify(keys); (err == nil) != equal {
			t.Fatalf("%+v under the signature of %+v: %v", b, a, err)
		}
	})
}

func TestValidateNamesEveryFault(t *testing.T) {
	err := Release{Version: "1\n2", GOOS: "linux", GOARCH: "AMD 64", Size: MaxSize + 1, SHA256: []byte{1}}.Validate()
	if !errors.Is(err, inventory.ErrInvalid) {
		t.Fatal(err)
	}
	if n := len(err.(interface{ Unwrap() []error }).Unwrap()); n != 4 {
		t.Errorf("%d faults named, want 4: %v", n, err)
	}
}

// TestDescribe: the test's own binary is a Go program, but no agent.
func TestDescribe(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Describe("1.0", f, info.Size()); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("another program on %s is described: %v", runtime.GOARCH, err)
	}
	for name, content := range map[string][]byte{"empty": {}, "text": []byte("#!/bin/sh\n"), "half": []byte("\x7fELF\x02\x01\x01")} {
		if _, err := Describe("1.0", bytes.NewReader(content), int64(len(content))); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}
