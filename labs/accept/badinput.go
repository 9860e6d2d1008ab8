package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"
)

// badInput gives the CLI each kind of broken inventory and wants exit code 2
// and the fault named; several faults in one file must come at once.
func badInput(ctx context.Context, e *env) (string, error) {
	r, err := e.command(ctx, "bin/wardnet", "inventory", "export", "--sample")
	if err != nil || r.code != 0 {
		return "", fmt.Errorf("export the sample: exit %d, %w", r.code, err)
	}
	good := r.out
	swap := func(from, to string) string { return strings.Replace(good, from, to, 1) }
	wide := utf16.Encode([]rune(good[:2000]))
	utf16le := []byte{0xff, 0xfe}
	for _, u := range wide {
		utf16le = append(utf16le, byte(u), byte(u>>8))
	}
	cases := []struct {
		name string
		body []byte
		want []string
	}{
		{"unknown field", []byte(swap("kind: Inventory", "kind: Inventory\ncolour: red")), []string{"colour"}},
		{"duplicate code", []byte(swap(`code: "25750"`, `code: "25747"`)), []string{"25747"}},
		{"overlapping prefix", []byte(swap("prefix: 10.64.0.0/10", "prefix: 172.16.0.0/12")), []string{"overlap"}},
		{"unknown carrier", []byte(swap("carrier: vnpt", "carrier: nobody")), []string{"nobody"}},
		{"site without hub", []byte(strings.Replace(good, "hubs: [", "legacy_hubs: [", 1)), []string{"hub"}},
		{"UTF-16", utf16le, []string{"UTF-16"}},
		{"Windows-1258", []byte("apiVersion: wardnet/v1\nkind: Inventory\norg: hcmc\nunits:\n  - {id: u-1, kind: ward, codes: [{code: '1', name: 'Ph\xdd\xf2ng', valid_from: 2025-07-01}]}\n"), []string{"Windows-1258", "UTF-8"}},
		{"200 MB", bytes.Repeat([]byte("# filler line\n"), 200_000_000/14), []string{"32 MiB"}},
		{"two faults at once", []byte(strings.Replace(swap("carrier: vnpt", "carrier: nobody"), "kind: Inventory", "kind: Inventory\ncolour: red", 1)), []string{"colour", "nobody"}},
	}
	var failed []string
	for _, c := range cases {
		file := filepath.Join(e.dir, "bad.yaml")
		if err := os.WriteFile(file, c.body, 0o600); err != nil {
			return "", err
		}
		r, err := e.command(ctx, "bin/wardnet", "inventory", "check", file)
		if err != nil {
			return "", err
		}
		if r.code != 2 {
			failed = append(failed, fmt.Sprintf("%s: exit %d, want 2: %s", c.name, r.code, tail(r.errOut, 300)))
		}
		for _, w := range c.want {
			if !strings.Contains(r.errOut, w) {
				failed = append(failed, fmt.Sprintf("%s: %q is not named: %s", c.name, w, tail(r.errOut, 300)))
			}
		}
	}
	if len(failed) > 0 {
		return "", fmt.Errorf("%d faults: %s", len(failed), strings.Join(failed, "; "))
	}
	return fmt.Sprintf("%d kinds of bad input refused with exit code 2", len(cases)), nil
}
