package main

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/pki/enrol"
)

// foreignCRL is a list signed by a CA of the same name that is not ours.
func foreignCRL(t *testing.T) []byte {
	t.Helper()
	key, err := enrol.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Wardnet devices CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign | x509.KeyUsageCertSign, SubjectKeyId: []byte{1},
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}, ca, key)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestBackupRefused holds restore to "all or nothing": what it refuses leaves
// nothing that a controller could be started on.
func TestBackupRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a := begin(t, dir)
	if err := a.first(t.Context()); err != nil {
		t.Fatal(err)
	}
	key, recipient := ageKey(t, dir, "backup.key")
	wrong, _ := ageKey(t, dir, "wrong.key")
	open, _ := ageKey(t, dir, "open.key")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "whole")
	a.must(t, "admin", "backup", "--recipient", recipient, file, "--json")
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	altered := append([]byte{}, whole...)
	altered[len(altered)/2] ^= 1
	data := filepath.Join(dir, "restored")

	type refusal struct {
		args []string
		code int
		want string // in the error
		left string // in the data directory
	}
	cases := map[string]refusal{
		"nobody said what was revoked": {args: []string{file, "--identity", key}, code: exitHeld, want: "--no-later-revocations"},
		"wrong identity":               {args: []string{file, "--identity", wrong, "--no-later-revocations"}, code: exitInvalid, want: "is not for this key"},
		"identity others can read":     {args: []string{file, "--identity", open, "--no-later-revocations"}, code: exitInvalid, want: "chmod 600"},
		"no identity in the file":      {args: []string{file, "--identity", write("empty.key", nil), "--no-later-revocations"}, code: exitInvalid, want: "holds no age secret key"},
		"altered":                      {args: []string{write("altered", altered), "--identity", key, "--no-later-revocations"}, code: exitInvalid, want: "cut off or altered"},
		"not a backup":                 {args: []string{key, "--identity", key, "--no-later-revocations"}, code: exitInvalid, want: "is not for this key"},
		"not a CRL":                    {args: []string{file, "--identity", key, "--crl", key}, code: exitInvalid, want: "is no CRL"},
		"another CA's CRL":             {args: []string{file, "--identity", key, "--crl", write("foreign.crl", foreignCRL(t))}, code: exitInvalid, want: "not signed by one of this installation's issuers", left: "lock"},
	}
	for _, n := range []int{0, 2, 5, 9} { // tenths of the backup
		cut := write("cut"+string(rune('0'+n)), whole[:len(whole)*n/10])
		cases["cut to "+filepath.Base(cut)] = refusal{args: []string{cut, "--identity", key, "--no-later-revocations"}, code: exitInvalid, want: "invalid: " + cut}
	}
	last := write("last", whole[:len(whole)-1])
	cases["cut by one byte"] = refusal{args: []string{last, "--identity", key, "--no-later-revocations"}, code: exitInvalid, want: "cut off or altered"}

	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			_, errs, code := program(t, append([]string{"restore", "--data", data}, tt.args...)...)
			if code != tt.code || !strings.Contains(errs, tt.want) {
				t.Errorf("exit code %d, want %d with %q:\n%s", code, tt.code, tt.want, errs)
			}
			if secret, _ := os.ReadFile(key); strings.Contains(errs, strings.Fields(string(secret))[len(strings.Fields(string(secret)))-1]) {
				t.Error("the error tells the secret key")
			}
			var left []string
			entries, err := os.ReadDir(data)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			for _, e := range entries {
				left = append(left, e.Name())
			}
			if got := strings.Join(left, " "); got != tt.left {
				t.Errorf("left in the data directory: %q, want %q", got, tt.left)
			}
			if err := os.RemoveAll(data); err != nil {
				t.Fatal(err)
			}
		})
	}
	must(t, "restore", "--data", data, file, "--identity", key, "--no-later-revocations", "--json")
}
