// Package golden compares what a test made with a file in its testdata folder.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden; read the diff before committing")

// Check fails the test when got is not testdata/NAME.golden, or rewrites the
// file with -update.
func Check(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run the test with -update", err)
	}
	if n, g, w, differ := first(got, string(want)); differ {
		t.Errorf("%s:%d differs (-update to accept)\n got %s\nwant %s\n--- got\n%s", path, n, g, w, got)
	}
}

// first finds the first line that differs, counted from 1.
func first(got, want string) (n int, g, w string, differ bool) {
	if got == want {
		return 0, "", "", false
	}
	gs, ws := strings.Split(got, "\n"), strings.Split(want, "\n")
	for n < len(gs) && n < len(ws) && gs[n] == ws[n] {
		n++
	}
	g, w = "(the end)", "(the end)"
	if n < len(gs) {
		g = gs[n]
	}
	if n < len(ws) {
		w = ws[n]
	}
	return n + 1, g, w, true
}
