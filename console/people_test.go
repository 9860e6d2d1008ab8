package console

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/console/people"
	"github.com/wardnet/wardnet/inventory"
)

func pemOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

func TestLoginSetsAGuardedCookie(t *testing.T) {
	s := newSite(t)
	s.user("lan", client.RoleNOC)
	body := `{"name":"lan","password":"` + password + `"}`
	res, _ := s.raw("POST", "/api/v1/session", body, map[string]string{"Content-Type": "application/json"})
	if res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	ck := res.Cookies()[0]
	if ck.Name != "__Host-wardnet" || !ck.Secure || !ck.HttpOnly || ck.SameSite != http.SameSiteStrictMode || ck.Path != "/" || ck.Domain != "" {
		t.Errorf("cookie %+v", ck)
	}
	for h, want := range map[string]string{
		"Strict-Transport-Security": "max-age=31536000; includeSubDomains", "X-Frame-Options": "DENY",
		"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
	} {
		if got := res.Header.Get(h); got != want {
			t.Errorf("%s: %q, want %q", h, got, want)
		}
	}
	if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("Content-Security-Policy %q", csp)
	}

	old := map[string]string{"Cookie": ck.Name + "=" + ck.Value, "Content-Type": "application/json"}
	res, _ = s.raw("POST", "/api/v1/session", body, old)
	if again := res.Cookies()[0]; again.Value == ck.Value {
		t.Error("the second login kept the session's id")
	}
	if res, _ := s.raw("GET", "/api/v1/session", "", old); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("the old session answers %s after a new login", res.Status)
	}
}

func TestLoginTellsNothing(t *testing.T) {
	s := newSite(t)
	s.user("lan", client.RoleNOC)
	header := map[string]string{"Content-Type": "application/json"}
	_, wrong := s.raw("POST", "/api/v1/session", `{"name":"lan","password":"not the password"}`, header)
	_, unknown := s.raw("POST", "/api/v1/session", `{"name":"minh","password":"not the password"}`, header)
	_, impossible := s.raw("POST", "/api/v1/session", `{"name":"Ông Minh","password":"x"}`, header)
	for _, p := range []client.Problem{unknown, impossible} {
		a, _ := json.Marshal(wrong)
		b, _ := json.Marshal(p)
		if string(a) != string(b) || wrong.Status != http.StatusUnauthorized {
			t.Errorf("a wrong password says %s, another fault %s", a, b)
		}
	}
	for range 10 {
		s.raw("POST", "/api/v1/session", `{"name":"lan","password":"not the password"}`, header)
	}
	res, p := s.raw("POST", "/api/v1/session", `{"name":"lan","password":"`+password+`"}`, header)
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" || p.Hint == "" {
		t.Errorf("after many guesses: %s, Retry-After %q, %+v", res.Status, res.Header.Get("Retry-After"), p)
	}
	e := s.last(1)[0]
	if e.What != "login" || e.Who != "lan" || e.Outcome != "refused" || !strings.HasPrefix(e.From, "127.0.0.1:") {
		t.Errorf("audit %+v", e)
	}
}

func TestCSRFAndOrigin(t *testing.T) {
	s := newSite(t)
	c := s.user("lan", client.RoleNOC)
	session, err := c.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cookie := func() string {
		res, _ := s.raw("POST", "/api/v1/session", `{"name":"lan","password":"`+password+`"}`, map[string]string{"Content-Type": "application/json"})
		return res.Cookies()[0].Name + "=" + res.Cookies()[0].Value
	}()
	h := map[string]string{"Cookie": cookie, "Content-Type": "application/json"}
	for name, token := range map[string]string{"none": "", "another session's": session.CSRF, "wrong": "x"} {
		h["X-CSRF-Token"] = token
		res, p := s.raw("POST", "/api/v1/incidents/i-1/ack", `{}`, h)
		if res.StatusCode != http.StatusForbidden || !strings.Contains(p.Detail, "X-CSRF-Token") {
			t.Errorf("%s: %s %+v", name, res.Status, p)
		}
		if e := s.last(1)[0]; e.What != "ack-incident" || e.Who != "lan" || e.Outcome != "refused" {
			t.Errorf("%s: audit %+v", name, e)
		}
	}
	res, p := s.raw("POST", "/api/v1/session", `{}`, map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Content-Type": "application/json"})
	if res.StatusCode != http.StatusForbidden || !strings.Contains(p.Detail, "another web site") {
		t.Errorf("login from another site: %s %+v", res.Status, p)
	}
	if _, err := c.AckIncident(t.Context(), "i-1", "seen"); err != nil {
		t.Errorf("with the token: %v", err)
	}
	e := s.last(1)[0]
	if e.Who != "lan" || e.Object != "incident/i-1" || e.Outcome != "done" || string(e.Before) != `{"owner":"","state":"open"}` || string(e.After) != `{"owner":"lan","state":"acknowledged"}` {
		t.Errorf("audit %+v (%s → %s)", e, e.Before, e.After)
	}
}

func TestSetupOnce(t *testing.T) {
	s := newSite(t)
	token, expires, err := s.dir.FirstAdmin(t.Context())
	if err != nil || token == "" || time.Until(expires) > 24*time.Hour {
		t.Fatal(token, expires, err)
	}
	want := client.Setup{Token: "guess", Name: "an", FullName: "Trần An", Password: password}
	if _, err := s.client().Setup(t.Context(), want); !errors.Is(err, client.ErrUnauthenticated) {
		t.Errorf("a guessed link: %v", err)
	}
	want.Token, want.Password = token, "short"
	if _, err := s.client().Setup(t.Context(), want); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a weak password: %v", err)
	}
	want.Password = password
	c := s.client()
	session, err := c.Setup(t.Context(), want)
	if err != nil || session.User.Name != "an" {
		t.Fatal(session, err)
	}
	e := s.last(1)[0]
	if e.What != "setup" || e.Who != "an" || e.Outcome != "done" || strings.Contains(string(e.After)+e.Object, token) {
		t.Errorf("audit %+v", e)
	}
	if _, err := s.client().Setup(t.Context(), client.Setup{Token: token, Name: "binh", FullName: "B", Password: password}); !errors.Is(err, client.ErrUnauthenticated) {
		t.Errorf("the link works twice: %v", err)
	}
	if token, _, err := s.dir.FirstAdmin(t.Context()); err != nil || token != "" {
		t.Errorf("a second link %q, %v", token, err)
	}
	if _, err := c.CreateUser(t.Context(), client.NewUser{Name: "eng", FullName: "Kỹ sư", Roles: []client.Role{client.RoleEngineer}, Password: password}); err != nil {
		t.Error(err)
	}
	if e := s.last(1)[0]; strings.Contains(string(e.After), password) || strings.Contains(string(e.After), "argon2") || e.Object != "user/eng" {
		t.Errorf("audit %+v %s", e, e.After)
	}
	off := true
	if _, err := c.UpdateUser(t.Context(), "an", client.UserPatch{Disabled: &off}); !errors.Is(err, inventory.ErrConflict) {
		t.Errorf("the last administrator is disabled: %v", err)
	}
}

func TestUserChangesEndSessions(t *testing.T) {
	s := newSite(t)
	admin, lan := s.user("an", client.RoleAdmin), s.user("lan", client.RoleNOC)
	ctx := t.Context()
	off := true
	if _, err := admin.UpdateUser(ctx, "lan", client.UserPatch{Disabled: &off}); err != nil {
		t.Fatal(err)
	}
	if _, err := lan.Session(ctx); !errors.Is(err, client.ErrUnauthenticated) {
		t.Errorf("a disabled user's session: %v", err)
	}
	if _, err := s.client().Login(ctx, client.Login{Name: "lan", Password: password}); !errors.Is(err, client.ErrUnauthenticated) {
		t.Errorf("a disabled user signs in: %v", err)
	}
	next := "a completely other phrase"
	if err := admin.ChangePassword(ctx, client.PasswordChange{Current: "wrong", New: next}); !errors.Is(err, client.ErrForbidden) {
		t.Errorf("wrong current password: %v", err)
	}
	if err := admin.ChangePassword(ctx, client.PasswordChange{Current: password, New: next}); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Session(ctx); !errors.Is(err, client.ErrUnauthenticated) {
		t.Errorf("the session outlives its password: %v", err)
	}
	if _, err := admin.Login(ctx, client.Login{Name: "an", Password: next}); err != nil {
		t.Error(err)
	}
	if err := admin.Logout(ctx); err != nil {
		t.Error(err)
	}
	if _, err := admin.Session(ctx); !errors.Is(err, client.ErrUnauthenticated) {
		t.Errorf("after signing out: %v", err)
	}
}

func TestTokens(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	owner, admin := s.user("lan", client.RoleNOC, client.RoleEngineer), s.user("an", client.RoleAdmin)
	soon := time.Now().Add(time.Hour)
	for name, bad := range map[string]client.NewToken{
		"more than the user":  {Name: "x", Scopes: []client.Role{client.RoleAdmin}, Expires: soon},
		"no scope":            {Name: "x", Scopes: []client.Role{}, Expires: soon},
		"unknown scope":       {Name: "x", Scopes: []client.Role{"god"}, Expires: soon},
		"in the past":         {Name: "x", Scopes: []client.Role{client.RoleNOC}, Expires: time.Now()},
		"longer than a year":  {Name: "x", Scopes: []client.Role{client.RoleNOC}, Expires: time.Now().AddDate(2, 0, 0)},
		"no expiry, no name":  {Scopes: []client.Role{client.RoleNOC}},
		"everything is wrong": {},
	} {
		if _, err := owner.CreateToken(ctx, bad); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	tok, err := owner.CreateToken(ctx, client.NewToken{Name: "ci", Scopes: []client.Role{client.RoleNOC}, Expires: soon})
	if err != nil || !strings.HasPrefix(tok.Secret, people.TokenPrefix) {
		t.Fatal(tok, err)
	}
	if e := s.last(1)[0]; strings.Contains(string(e.After), tok.Secret) || e.Object != "token/"+tok.ID {
		t.Errorf("audit %+v %s", e, e.After)
	}
	bearer := s.client()
	bearer.SetToken(tok.Secret)
	if _, err := bearer.AckIncident(ctx, "i-1", ""); err != nil { // no CSRF token: no cookie
		t.Error(err)
	}
	if _, err := bearer.StartRollout(ctx, 1); !errors.Is(err, client.ErrForbidden) {
		t.Errorf("beyond its scope: %v", err)
	}
	if _, err := bearer.CreateToken(ctx, client.NewToken{Name: "child", Scopes: []client.Role{client.RoleEngineer}, Expires: soon}); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a token widens itself: %v", err)
	}
	if _, err := bearer.CreateToken(ctx, client.NewToken{Name: "child", Scopes: []client.Role{client.RoleNOC}, Expires: soon.Add(time.Hour)}); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a token prolongs itself: %v", err)
	}
	if list, err := owner.Tokens(ctx); err != nil || len(list) != 1 || list[0].Secret != "" {
		t.Errorf("own tokens %+v, %v", list, err)
	}
	// The user loses the role: so does the token.
	if _, err := admin.UpdateUser(ctx, "lan", client.UserPatch{Roles: []client.Role{client.RoleEngineer}}); err != nil {
		t.Fatal(err)
	}
	if _, err := bearer.AckIncident(ctx, "i-1", ""); !errors.Is(err, client.ErrForbidden) {
		t.Errorf("a role the user lost: %v", err)
	}
	if err := admin.DeleteToken(ctx, tok.ID); err != nil {
		t.Error(err)
	}
	if _, err := bearer.Session(ctx); !errors.Is(err, client.ErrUnauthenticated) {
		t.Errorf("a token taken back: %v", err)
	}
}
