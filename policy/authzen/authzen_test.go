package authzen

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/policy"
)

type decider func(policy.Request) policy.Decision

func (d decider) Decide(_ context.Context, r policy.Request) policy.Decision { return d(r) }

const good = `{"subject":{"type":"user","id":"lan"},"action":{"name":"connect"},"resource":{"type":"application","id":"records"},"context":{"device":"edge-1","segment":"staff"}}`

func TestEvaluation(t *testing.T) {
	var asked policy.Request
	h := Handler(decider(func(r policy.Request) policy.Decision {
		asked = r
		return policy.Decision{ID: "d1", Allow: r.Subject == "lan", Code: policy.CodeAllowed, TTL: time.Minute}
	}), func(r *http.Request) (string, error) {
		if r.Header.Get("Test-Cert") == "" {
			return "", errors.New("no client certificate")
		}
		return "pep-1", nil
	})
	for name, tt := range map[string]struct {
		body, cert string
		status     int
		want       string
	}{
		"allow":         {good, "1", 200, `"decision":true`},
		"deny is 200":   {strings.Replace(good, "lan", "hoa", 1), "1", 200, `"decision":false`},
		"no cert":       {good, "", 401, "not a known PEP"},
		"all at once":   {`{"subject":{"type":"user"}}`, "1", 400, `subject.id is missing\ninvalid: action.name is missing`},
		"not json":      {`{`, "1", 400, "not an AuthZEN evaluation"},
		"two documents": {good + good, "1", 400, "more than one"},
		"too large":     {`{"subject":{"id":"` + strings.Repeat("a", maxBody) + `"}}`, "1", 400, "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/access/v1/evaluation", strings.NewReader(tt.body))
			r.Header.Set("Test-Cert", tt.cert)
			r.Header.Set("X-Request-ID", "rid-1")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.status || !strings.Contains(strings.ReplaceAll(w.Body.String(), "\\n", `\n`), tt.want) {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if w.Header().Get("X-Request-ID") != "rid-1" {
				t.Error("X-Request-ID is not echoed")
			}
		})
	}
	if asked.PEP != "pep-1" || asked.At.IsZero() {
		t.Errorf("asked %+v", asked)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"subject":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := Decode(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, inventory.ErrInvalid) {
				t.Fatalf("%v does not wrap ErrInvalid", err)
			}
			return
		}
		if req.Subject == "" || req.Application == "" || req.Action == "" {
			t.Fatalf("accepted without its members: %+v", req)
		}
		if _, err := json.Marshal(req); err != nil {
			t.Fatal(err)
		}
	})
}
