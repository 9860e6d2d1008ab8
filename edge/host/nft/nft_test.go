package nft

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/edge/host/hosttest"
	"github.com/wardnet/wardnet/inventory"
)

const table = `table inet wardnet {}
delete table inet wardnet
table inet wardnet {
	set hosts {
		type ipv4_addr
		elements = { 10.64.0.1, 10.64.0.2 }
	}
	set granted {
		type ipv4_addr
		flags timeout
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
		ip saddr @hosts tcp dport 80-443 counter accept comment "http"
		ip saddr @granted accept
	}
}
`

// TestFilter loads, refuses, and sees what others do to the table.
func TestFilter(t *testing.T) {
	if !hosttest.Enter(t) {
		return
	}
	ctx := t.Context()
	record := filepath.Join(t.TempDir(), "nft.json")
	f, err := Open(record)
	if err != nil {
		t.Fatal(err)
	}
	load := func(text string, want bool) {
		t.Helper()
		if got, err := f.Load(ctx, text); err != nil || got != want {
			t.Fatalf("Load = %v, %v; want %v", got, err, want)
		}
	}
	inForce := func(text string, want bool) {
		t.Helper()
		if got, err := f.InForce(ctx, text); err != nil || got != want {
			t.Fatalf("InForce = %v, %v; want %v", got, err, want)
		}
	}
	if there, err := f.Present(ctx); err != nil || there {
		t.Fatalf("an empty kernel has our table: %v, %v", there, err)
	}
	inForce(table, false)
	load(table, true)
	load(table, false)

	// Another process finds the table and knows it.
	if f, err = Open(record); err != nil {
		t.Fatal(err)
	}
	inForce(table, true)
	other := strings.Replace(table, "80-443", "443", 1)
	inForce(other, false)

	bad := strings.Replace(table, "@granted", "@missing", 1)
	if err := f.Check(ctx, bad); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("check of a bad text: %v", err)
	}
	if err := f.Check(ctx, table); err != nil {
		t.Errorf("check of a good text: %v", err)
	}
	if _, err := f.Load(ctx, bad); err == nil {
		t.Error("a bad text was loaded")
	}
	inForce(table, true)

	// Elements with a timeout come and go; a foreign rule or element is a
	// difference, and the next load removes it.
	hosttest.Run(t, "nft", "add", "element", "inet", "wardnet", "granted", "{ 10.64.0.9 timeout 1h, 10.64.0.10 timeout 1h, 10.64.0.11 timeout 1h, 10.64.0.12 timeout 1h }")
	inForce(table, true)
	hosttest.Run(t, "nft", "add", "element", "inet", "wardnet", "hosts", "{ 10.64.0.9 }")
	inForce(table, false)
	load(table, true)
	hosttest.Run(t, "nft", "insert", "rule", "inet", "wardnet", "forward", "accept")
	inForce(table, false)
	load(table, true)
	inForce(table, true)

	if err := os.Remove(record); err != nil {
		t.Fatal(err)
	}
	load(table, true)
	hosttest.Run(t, "nft", "flush", "ruleset")
	inForce(table, false)
	load(table, true)
}

func TestEmptyTextIsRefused(t *testing.T) {
	f, err := Open(filepath.Join(t.TempDir(), "nft.json"))
	switch {
	case errors.Is(err, inventory.ErrNotFound): // nft is
		t.Skipf("NOT RUN: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	if err := f.Check(t.Context(), "\n"); err == nil {
		t.Error("an empty filter passed the check")
	}
}
