package client

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSetupToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "first-administrator")
	for _, tt := range []struct{ link, token, err string }{
		{"https://c.example:8443/setup#token=abc-_1\n", "abc-_1", ""},
		{"https://[::1]:8443/#/setup?token=x", "x", ""},
		{"https://c.example/setup?token=in-the-query", "", "no token"},
		{"https://c.example/setup#tok=abc", "", "no token"},
		{"", "", "no token"},
		{"http://a b\x7f", "", "not a URL"},
	} {
		if err := os.WriteFile(file, []byte(tt.link), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := SetupToken(file)
		if got != tt.token || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: %q, %v", tt.link, got, err)
		}
		if err != nil && tt.link != "" && strings.Contains(err.Error(), tt.link) {
			t.Errorf("the error shows the link: %v", err)
		}
	}
	for name, want := range map[string]string{"": "administrator already", file + "x": "no such file"} {
		if _, err := SetupToken(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
