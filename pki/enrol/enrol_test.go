package enrol

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
)

func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte(`{"token":"t","serial":"s","csr":"c","wireguard_public_key":"w"}`))
	f.Add([]byte(`{"token":"t","serial":"s","csr":"c","wireguard_public_key":"w"} x`))
	f.Add([]byte(`{"token":"t","extra":1}`))
	f.Add([]byte(`{"token":`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := DecodeRequest(strings.NewReader(string(body)))
		switch {
		case err != nil && !errors.Is(err, inventory.ErrInvalid):
			t.Fatalf("%q gave %v", body, err)
		case err == nil && (q.Token == "" || q.Serial == "" || q.CSR == "" || q.WireGuardPublicKey == ""):
			t.Fatalf("%q was accepted as %+v", body, q)
		case err == nil:
			if csr, err := ParseCSR(q.CSR); err == nil && csr.CheckSignature() != nil {
				t.Fatalf("a CSR with a bad signature was accepted")
			}
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	for body, want := range map[string]string{
		"": "JSON", "{}": "token is missing", `{"token":"secret-value"`: "JSON", `{"unknown":1}`: "token is missing",
		`{"token":"t","serial":"s","csr":"c","wireguard_public_key":"w"}{}`: "after the JSON object",
		strings.Repeat(" ", MaxBody+1):                                      "over",
	} {
		_, err := DecodeRequest(strings.NewReader(body))
		if !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret-value") {
			t.Errorf("%.40q gave %v, want %q", body, err, want)
		}
	}
	if _, err := DecodeRenewRequest(strings.NewReader(`{"csr":"c"}`)); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a renewal without a WireGuard key gave %v", err)
	}
}

// A newer agent's requests are taken: what they tell beyond our fields is left
// out.
func TestDecodeLeavesOutWhatItDoesNotKnow(t *testing.T) {
	q, err := DecodeRequest(strings.NewReader(`{"token":"t","tpm":{"quote":"x"},"serial":"s","csr":"c","wireguard_public_key":"w","timeline":[{"step":"ports","state":"passed","weather":"rain"}]}`))
	if err != nil || q.Serial != "s" || len(q.Timeline) != 1 || q.Timeline[0].Name != StepPorts {
		t.Errorf("%+v, %v", q, err)
	}
	r, err := DecodeRenewRequest(strings.NewReader(`{"csr":"c","wireguard_public_key":"w","tpm":1}`))
	if err != nil || r.CSR != "c" {
		t.Errorf("%+v, %v", r, err)
	}
}

// An older agent reads a newer controller's answer; a purpose it has no key of
// is pinned with the first answer that brings one, what it has stays.
func TestTakePinsNewPurposes(t *testing.T) {
	var r Response
	if err := json.Unmarshal([]byte(`{"certificate":"2","hub_pins":["other"],"keys":{"revision":["evil"],"agent-binary":["k2"]},"future":true}`), &r); err != nil {
		t.Fatal(err)
	}
	s := slot{HubPins: []string{"pin"}, Keys: map[string][]string{"revision": {"k1"}}}.take(r)
	if s.HubPins[0] != "pin" || s.Keys["revision"][0] != "k1" || s.Keys["agent-binary"][0] != "k2" || s.Certificate != "2" {
		t.Errorf("%+v", s)
	}
	first := slot{}.take(r)
	if first.HubPins[0] != "other" || first.Keys["revision"][0] != "evil" {
		t.Errorf("at enrolment: %+v", first)
	}
}

// Renewal is due between two thirds and three quarters of the life, whenever
// one asks, and never in the past.
func TestNext(t *testing.T) {
	start := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		life := time.Duration(rapid.Int64Range(int64(time.Second), int64(400*24*time.Hour)).Draw(t, "life"))
		asked := start.Add(time.Duration(rapid.Int64Range(-int64(life), 2*int64(life)).Draw(t, "asked")))
		jitter := rapid.Float64Range(0, 0.999999).Draw(t, "jitter")
		wait := Next(asked, start, start.Add(life), jitter)
		due := asked.Add(wait)
		switch {
		case wait < 0:
			t.Fatalf("wait %s", wait)
		case wait > 0 && (due.Before(start.Add(life*2/3)) || due.After(start.Add(life*3/4))):
			t.Fatalf("due at %s of a life of %s", due.Sub(start), life)
		case wait == 0 && asked.Before(start.Add(life*2/3)):
			t.Fatalf("due at once at %s of a life of %s", asked.Sub(start), life)
		}
	})
}

func TestBackoffGrowsToItsCap(t *testing.T) {
	last := time.Duration(0)
	for n := 1; n < 100; n++ {
		d := backoff(n, 0.999)
		if d < last || d > 30*time.Second || backoff(n, 0) != 0 {
			t.Fatalf("pause %d is %s after %s", n, d, last)
		}
		last = d
	}
	if last < 29*time.Second {
		t.Errorf("pauses end at %s", last)
	}
}

// A name that can be written can be read, and nothing else is read as one.
func TestSPIFFEIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.StringMatching(`[a-z0-9._-]{1,20}`), rapid.String()).Draw(t, "name")
		u, err := SPIFFEID("wardnet.hcmc", DeviceKind, name)
		if err != nil {
			if !errors.Is(err, inventory.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if got, err := ParseSPIFFEID(u, "wardnet.hcmc", DeviceKind); err != nil || got != name {
			t.Fatalf("%q became %q, %v", name, got, err)
		}
		if _, err := ParseSPIFFEID(u, "wardnet.hcmc", ServiceKind); err == nil {
			t.Fatalf("%q is read as a service", u)
		}
	})
}

func TestBundleFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bundle.json")
	err := Bundle{EnrolURL: "http://hub"}.Validate()
	for _, field := range []string{"https", "root_pem", "device", "serial", "token"} {
		if !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	b := Bundle{EnrolURL: "https://hub:9445", Device: "e-1", Serial: "SN", Token: "t", RootPEM: "x"}
	if err := b.Save(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if got, err := LoadBundle(path); !reflect.DeepEqual(got, b) || !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), "root_pem") {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadBundle(path); !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file others may read gave %v", err)
	}
}

func TestLoadTellsMissingFromDamaged(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("an empty directory gave %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, currentFile), []byte(`{"key": "SECRET" x`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); !errors.Is(err, inventory.ErrInvalid) || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("a damaged file gave %v", err)
	}
}

func TestAskTellsBusyFromRefused(t *testing.T) {
	status, header := 0, ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", header)
		w.WriteHeader(status)
		w.Write([]byte(`{"error":"because","reason":"used-token"}`)) //nolint:errcheck
	}))
	defer srv.Close()
	for _, tt := range []struct {
		status  int
		header  string
		refused bool
		wait    time.Duration
	}{
		{429, "2", false, 2 * time.Second},
		{503, "9999", false, time.Minute},
		{500, "", false, 0},
		{403, "", true, 0},
		{400, "", true, 0},
	} {
		status, header = tt.status, tt.header
		_, wait, err := ask(t.Context(), srv.Client(), srv.URL, strings.NewReader("{}"))
		var refused *RefusedError
		if errors.As(err, &refused) != tt.refused || err == nil || wait != tt.wait {
			t.Errorf("%d: %v, wait %s", tt.status, err, wait)
		}
		if tt.refused && refused.Body.Reason != "used-token" {
			t.Errorf("reason %q", refused.Body.Reason)
		}
	}
}

func TestPostNeedsTLSAndEndsWithItsContext(t *testing.T) {
	c := Client{Log: slog.New(slog.DiscardHandler)}
	if _, err := c.post(t.Context(), "http://127.0.0.1:1/x", nil, nil); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("plain HTTP gave %v", err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("enough"))
	defer cancel()
	if _, err := c.post(ctx, "https://127.0.0.1:1/x", &tls.Config{MinVersion: tls.VersionTLS13}, nil); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("got %v", err)
	}
}
