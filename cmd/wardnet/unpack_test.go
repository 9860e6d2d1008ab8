package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/wardnet/wardnet/inventory"
)

// archived is a tar with one regular file per name, and the store last.
func archived(t testing.TB, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, n := range append(names, storeEntry) {
		if err := w.WriteHeader(&tar.Header{Name: n, Mode: 0o600, Size: 2}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "ab"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestBackupUnpacksBelowItsDirectoryOnly(t *testing.T) {
	for name, want := range map[string]error{
		"ca/root.crt":         nil,
		"ca/sub/x":            nil,
		"ca/../root.crt":      inventory.ErrInvalid,
		"ca/../../etc/passwd": inventory.ErrInvalid,
		"ca//etc/passwd":      inventory.ErrInvalid,
		"/etc/passwd":         inventory.ErrInvalid,
		"lock":                inventory.ErrInvalid,
	} {
		got := unpack(bytes.NewReader(archived(t, name)), t.TempDir(), func(io.Reader) error { return nil })
		if !errors.Is(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archived(f, "ca/root.crt"))
	f.Add(archived(f, "ca/../x"))
	f.Add(archived(f, "/x", "ca/x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		top := t.TempDir()
		dir := filepath.Join(top, "in", "here")
		// Any input may be refused; none may write elsewhere.
		_ = unpack(bytes.NewReader(b), dir, func(r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
		err := filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if rel, err := filepath.Rel(filepath.Join(dir, "ca"), path); err != nil || !filepath.IsLocal(rel) {
				t.Errorf("%s was written outside %s", path, dir)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
