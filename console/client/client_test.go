package client

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/inventory"
)

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, cfg := range map[string]Config{
		"plain http":         {Server: "http://hub:8443"},
		"password in URL":    {Server: "https://a:b@hub:8443"},
		"no host":            {Server: "https://"},
		"relative socket":    {Server: "unix://wardnet.sock"},
		"open token file":    {Server: "https://hub", TokenFile: write("open", "wn_x", 0o644)},
		"two tokens":         {Server: "https://hub", TokenFile: write("two", "wn_x\nwn_y", 0o600)},
		"no token":           {Server: "https://hub", TokenFile: write("none", "\n", 0o600)},
		"root is no PEM":     {Server: "https://hub", RootCA: write("root", "x", 0o600)},
		"root is not there":  {Server: "https://hub", RootCA: dir + "/gone"},
		"token is not there": {Server: "https://hub", TokenFile: dir + "/gone"},
	} {
		if c, err := New(cfg); err == nil {
			t.Errorf("%s: accepted as %s", name, c.base)
		}
	}
	if c, err := New(Config{Server: "https://hub:8443/", TokenFile: write("good", "wn_x\n", 0o600)}); err != nil || c.base != "https://hub:8443" || c.token != "wn_x" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestProblemIsItsSentinel(t *testing.T) {
	for _, tt := range []struct {
		p    Problem
		want error
	}{
		{Problem{Status: http.StatusNotFound}, inventory.ErrNotFound},
		{Problem{Status: http.StatusUnprocessableEntity}, inventory.ErrInvalid},
		{Problem{Status: http.StatusRequestEntityTooLarge}, inventory.ErrInvalid},
		{Problem{Status: http.StatusConflict}, inventory.ErrConflict},
		{Problem{Status: http.StatusConflict, Type: TypeHeld}, ErrHeld},
		{Problem{Status: http.StatusUnauthorized}, ErrUnauthenticated},
		{Problem{Status: http.StatusForbidden}, ErrForbidden},
		{Problem{Status: http.StatusTooManyRequests}, ErrUnavailable},
	} {
		if !errors.Is(&tt.p, tt.want) {
			t.Errorf("%d %s is not %v", tt.p.Status, tt.p.Type, tt.want)
		}
	}
	if err := (&Problem{Status: http.StatusInternalServerError}); err.Unwrap() != nil {
		t.Errorf("an internal error is %v", err.Unwrap())
	}
}

func TestReadEvents(t *testing.T) {
	const in = "retry: 2000\n\n: beat\n\nevent: device\ndata: {\"a\":\ndata: 1}\n\nevent: lost\n\ndata:x\r\n\r\n:\nevent: half\ndata: never ends"
	var got []string
	err := readEvents(strings.NewReader(in), func(e Event) error {
		got = append(got, e.Type+"="+string(e.Data))
		return nil
	})
	if want := "device={\"a\":\n1}|=x"; err != nil || strings.Join(got, "|") != want {
		t.Errorf("%q, %v; want %q", strings.Join(got, "|"), err, want)
	}
}

// No stream makes the reader panic, hang or deliver an event without data.
func FuzzReadEvents(f *testing.F) {
	f.Add("event: summary\ndata: {}\n\n")
	f.Add(":\n\ndata\n\ndata:\n\n")
	f.Fuzz(func(t *testing.T, s string) {
		err := readEvents(strings.NewReader(s), func(e Event) error {
			if len(e.Data) == 0 || strings.ContainsAny(e.Type, "\n") {
				t.Errorf("%q gives %+v", s, e)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%q: %v", s, err)
		}
	})
}
