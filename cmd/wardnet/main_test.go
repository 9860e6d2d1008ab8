package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite docs/cli.md and docs/metrics.md; read the diff before committing")

// TestMain makes the test binary the program too: called as "wardnet" it is
// what a person runs, with its own process, working directory and exit code.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "signer" { // the signing process of a plane in a test's own process
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	// What serves within a test starts its signing process as this binary under
	// its own name: that is no run of the tests.
	if len(os.Args) > 1 && os.Args[1] == "signer" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	testscript.Main(m, map[string]func(){
		"wardnet": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// golden compares got with a page of docs/, or rewrites the page with -update.
func golden(t *testing.T, page string, got []byte) {
	t.Helper()
	path := filepath.Join("..", "..", "docs", page)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run: go test ./cmd/wardnet -run Golden -update", err)
	}
	if !bytes.Equal(got, want) {
		g, w := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
		for i := range min(len(g), len(w)) {
			if !bytes.Equal(g[i], w[i]) {
				t.Fatalf("docs/%s:%d is out of date; run: go test ./cmd/wardnet -run Golden -update\n have %s\n want %s", page, i+1, w[i], g[i])
			}
		}
		t.Fatalf("docs/%s has %d lines, want %d; run: go test ./cmd/wardnet -run Golden -update", page, len(w), len(g))
	}
}
