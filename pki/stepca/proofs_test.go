package stepca_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/wardnet/wardnet/pki/acmeca"
	"github.com/wardnet/wardnet/pki/enrol"
)

func TestRenewalInformation(t *testing.T) {
	r, p := newACME(t)
	c := r.registered(t)
	leaf, err := r.obtain(t.Context(), c, p, newKey(t), "app.hcmc.example")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.http(nil).Get(c.DirectoryURL)
	if err != nil {
		t.Fatal(err)
	}
	var dir struct{ NewOrder, RenewalInfo string }
	err = json.NewDecoder(resp.Body).Decode(&dir)
	resp.Body.Close()
	if err != nil || dir.RenewalInfo != r.url+"/acme/acme/renewal-info" || dir.NewOrder == "" {
		t.Fatalf("directory %+v, %v", dir, err)
	}
	ask := func(id string) (int, time.Time, time.Time, string) {
		resp, err := r.http(nil).Get(dir.RenewalInfo + "/" + id)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var info struct {
			SuggestedWindow struct{ Start, End time.Time }
		}
		_ = json.NewDecoder(resp.Body).Decode(&info) // a problem document has none
		return resp.StatusCode, info.SuggestedWindow.Start, info.SuggestedWindow.End, resp.Header.Get("Retry-After")
	}
	id := acmeca.CertID(leaf)
	status, start, end, again := ask(id)
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	if status != 200 || !start.After(leaf.NotBefore.Add(life/2)) || !end.Before(leaf.NotAfter) || !start.Before(end) || again != "21600" {
		t.Errorf("%d, %s to %s, Retry-After %s", status, start, end, again)
	}
	if status, _, _, _ := ask("x"); status != 400 {
		t.Errorf("malformed: %d", status)
	}
	if status, _, _, _ := ask(id + "A"); status < 400 {
		t.Errorf("unknown: %d", status)
	}
	if err := r.pki.Revoke(t.Context(), enrol.SerialOf(leaf), "key-compromise", "an"); err != nil {
		t.Fatal(err)
	}
	if _, start, end, _ := ask(id); !end.Before(time.Now()) || !start.Before(end) {
		t.Errorf("after a revocation: %s to %s, want the past", start, end)
	}
}

func TestProofsAreNotFetchedFromInside(t *testing.T) {
	var hits atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer inside.Close()
	port := inside.Listener.Addr().(*net.TCPAddr).Port
	placeholder := &rig{zone: map[string][]string{}}
	at := placeholder.resolver(t)
	r := newRig(t, allow("*.hcmc.example"), func(c *acmeca.Config) { c.Resolver, c.HTTPPort = at, port }) // no networks: the default
	c := r.registered(t)
	o, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs("app.hcmc.example"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.GetAuthorization(t.Context(), o.AuthzURLs[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, ch := range a.Challenges {
		if ch.Type == "http-01" {
			if _, err := c.Accept(t.Context(), ch); err != nil && !strings.Contains(err.Error(), "connection") {
				t.Errorf("accept: %v", err)
			}
		}
	}
	if hits.Load() != 0 {
		t.Errorf("%d requests reached loopback", hits.Load())
	}
}

func TestProofsAreBounded(t *testing.T) {
	var other atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { other.Add(1) }))
	defer elsewhere.Close()
	var sent atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Host, "redirect") {
			http.Redirect(w, r, elsewhere.URL+"/secret", http.StatusFound)
			return
		}
		for range 1000 {
			n, err := w.Write(make([]byte, 64<<10))
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}))
	defer front.Close()
	placeholder := &rig{zone: map[string][]string{}}
	at := placeholder.resolver(t)
	r := newRig(t, allow("*.hcmc.example"), onLoopback(front.Listener.Addr().(*net.TCPAddr).Port), func(c *acmeca.Config) { c.Resolver = at })
	c := r.registered(t)
	for _, name := range []string{"redirect.hcmc.example", "long.hcmc.example"} {
		o, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs(name))
		if err != nil {
			t.Fatal(err)
		}
		a, err := c.GetAuthorization(t.Context(), o.AuthzURLs[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, ch := range a.Challenges {
			if ch.Type != "http-01" {
				continue
			}
			ch, err := c.Accept(t.Context(), ch)
			if err == nil && ch.Status == acme.StatusValid {
				t.Errorf("%s: proven", name)
			}
		}
	}
	if other.Load() != 0 {
		t.Error("a redirect led to another port")
	}
	if sent.Load() > 16<<20 {
		t.Errorf("%d bytes were read of a proof", sent.Load())
	}
}

func TestACMEBadRequests(t *testing.T) {
	r, _ := newACME(t)
	for _, path := range []string{"new-account", "new-order", "revoke-cert", "key-change", "order/x", "order/x/finalize", "authz/x", "challenge/x/y", "certificate/x", "account/x"} {
		for _, body := range []string{"", "{}", "x", `{"protected":"e30","payload":"","signature":""}`, strings.Repeat("x", 200<<10)} {
			resp, err := r.http(nil).Post(r.url+"/acme/acme/"+path, "application/jose+json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode < 400 || resp.StatusCode >= 500 || !strings.Contains(string(text), "urn:ietf:params:acme:error:") && path != "key-change" {
				t.Errorf("%s %.20q: %s %s", path, body, resp.Status, text)
			}
		}
	}
	if n := r.rows("acme_accounts") + r.rows("acme_used_nonces"); n != 0 {
		t.Errorf("%d rows", n)
	}
}
