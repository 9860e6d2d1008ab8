package upgrade

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/wardnet/wardnet/inventory"
)

func sumOf(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

func TestShelf(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "agents")
	s, err := NewShelf(dir)
	if err != nil {
		t.Fatal(err)
	}
	content := []byte("binary")
	sum := sumOf(content)
	if _, err := s.Open(sum); !errors.Is(err, inventory.ErrNotFound) || s.Holds(sum) {
		t.Errorf("an empty shelf: %v", err)
	}
	for range 2 {
		if err := s.Put(content); err != nil {
			t.Fatal(err)
		}
	}
	f, err := s.Open(sum)
	if err != nil || !s.Holds(sum) {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(content))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%q, %v", got, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	if err := os.WriteFile(s.path(sum), []byte("binarx"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(sum); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestEmbeddedVersion(t *testing.T) {
	info := func(main string, settings ...string) *buildinfo.BuildInfo {
		out := &buildinfo.BuildInfo{Main: debug.Module{Version: main}}
		for i := 0; i < len(settings); i += 2 {
			out.Settings = append(out.Settings, debug.BuildSetting{Key: settings[i], Value: settings[i+1]})
		}
		return out
	}
	for name, tt := range map[string]struct {
		in   *buildinfo.BuildInfo
		want string
	}{
		"nothing":         {info("(devel)"), ""},
		"a commit":        {info("v0.0.0-20261122094512-0123456789ab+dirty"), ""},
		"after a tag":     {info("v1.4.1-0.20261122094512-0123456789ab"), ""},
		"a tag":           {info("v1.4.0"), "1.4.0"},
		"linker":          {info("v1.4.0", "-ldflags", "-s -w -X main.version=1.5.0-rc.1"), "1.5.0-rc.1"},
		"linker, quoted":  {info("(devel)", "-ldflags", `-X 'main.version=2.0' -s`), "2.0"},
		"another symbol":  {info("(devel)", "-ldflags", "-X main.commit=abc"), ""},
		"unknown, a tag":  {info("v1.4.0", "-trimpath", "true"), ""},
		"trimmed, linker": {info("v1.4.0", "-trimpath", "true", "-ldflags", "-X main.version=3"), "3"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := embedded(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Whatever is uploaded, it is described or refused as invalid.
func FuzzInspect(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("#!/bin/sh\n"))
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	if self, err := os.Executable(); err == nil {
		if b, err := os.ReadFile(self); err == nil {
			f.Add(b[:4096])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if rel, err := inspect("1.0", b); err == nil && (rel.GOOS != "linux" || rel.Size != int64(len(b))) {
			t.Errorf("described as %+v", rel)
		} else if err != nil && !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%v is not ErrInvalid", err)
		}
	})
}
