package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/console/client"
)

// operation is one row of the OpenAPI document.
type operation struct{ method, path, id string }

var pathParameter = regexp.MustCompile(`\{[^}]*\}`)

// operations reads them from the served document.
func (s *siege) operations(ctx context.Context) ([]operation, error) {
	status, body, err := s.call(ctx, s.elsewhere(), http.MethodGet, "/openapi.json", nil)
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("read the OpenAPI document: %d, %w", status, err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			ID string `json:"operationId"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, err
	}
	var all []operation
	for path, item := range doc.Paths {
		for method, op := range item {
			if op.ID != "" {
				all = append(all, operation{strings.ToUpper(method), pathParameter.ReplaceAllString(path, "x"), op.ID})
			}
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.id, b.id) })
	if len(all) < 30 {
		return nil, fmt.Errorf("the OpenAPI document has %d operations only", len(all))
	}
	return all, nil
}

// call sends one request to the API; a write's body is {}.
func (s *siege) call(ctx context.Context, from place, method, path string, header map[string]string) (int, []byte, error) {
	var body io.Reader
	if method != http.MethodGet {
		body = strings.NewReader("{}")
	}
	if b, ok := header["body"]; ok {
		body = strings.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+s.serving.Console+client.Prefix+strings.TrimPrefix(path, client.Prefix), body)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	for k, v := range header {
		if k != "body" {
			req.Header.Set(k, v)
		}
	}
	res, err := from.http(&tls.Config{RootCAs: s.pool}).Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
	return res.StatusCode, text, err
}

// refusedCall is an attack on the API that must end in status.
func (s *siege) refusedCall(ctx context.Context, name string, want trace, status int, op operation, header map[string]string) {
	s.attack(ctx, name, want, func(ctx context.Context, from place) error {
		got, body, err := s.call(ctx, from, op.method, op.path, header)
		if err == nil && got != status {
			err = fmt.Errorf("answered %d, want %d: %s", got, status, tail(string(body), 200))
		}
		return err
	})
}

func refused(reason string) string { return fmt.Sprintf("console_refused_total{reason=%q}", reason) }

// own are the operations that everybody signed in may use on their own account;
// public those that take their own credential in the body.
var (
	own    = []string{"logout", "change-password", "create-token", "delete-token"}
	public = []string{"login", "setup"}
)

// writes attacks the API.
func (s *siege) writes(ctx context.Context) error {
	all, err := s.operations(ctx)
	if err != nil {
		return err
	}
	for _, op := range all {
		if slices.Contains(public, op.id) {
			continue
		}
		audit := "not signed in"
		if op.method == http.MethodGet {
			audit = "" // reads are counted, writes are audited too
		}
		s.refusedCall(ctx, op.id+" without credentials", trace{audit, refused("unauthenticated")}, http.StatusUnauthorized, op, nil)
		if op.method == http.MethodGet || slices.Contains(own, op.id) {
			continue
		}
		s.refusedCall(ctx, op.id+" with an auditor's token", trace{"may not " + op.id, refused("forbidden")}, http.StatusForbidden, op,
			map[string]string{"Authorization": "Bearer " + s.auditorToken})
	}
	s.credentials(ctx)
	return s.browser(ctx)
}

// credentials attacks with wrong ones.
func (s *siege) credentials(ctx context.Context) {
	users := operation{method: http.MethodPost, path: "/users"}
	s.refusedCall(ctx, "made-up API token", trace{"not signed in", refused("unauthenticated")}, http.StatusUnauthorized, users,
		map[string]string{"Authorization": "Bearer wn_" + strings.Repeat("A", 43)})
	s.refusedCall(ctx, "made-up session cookie", trace{"not signed in", refused("unauthenticated")}, http.StatusUnauthorized, users,
		map[string]string{"Cookie": client.SessionCookie + "=" + rand.Text(), "X-CSRF-Token": rand.Text()})
	s.refusedCall(ctx, "set-up with a made-up link", trace{"set-up link is not valid", refused("unauthenticated")}, http.StatusUnauthorized,
		operation{method: http.MethodPost, path: "/setup"}, map[string]string{"body": `{"token":"` + rand.Text() + `","name":"mallory","full_name":"M","password":"` + rand.Text() + `"}`})
	guess := func(password string) map[string]string {
		return map[string]string{"body": `{"name":"` + engineer + `","password":"` + password + `"}`}
	}
	login := operation{method: http.MethodPost, path: "/session"}
	s.refusedCall(ctx, "wrong password", trace{"not signed in", refused("unauthenticated")}, http.StatusUnauthorized, login, guess("not-the-password"))
	s.attack(ctx, "guessing a password", trace{"too many attempts", refused("throttled")}, func(ctx context.Context, from place) error {
		for range 20 {
			switch got, _, err := s.call(ctx, from, login.method, login.path, guess(rand.Text())); {
			case err != nil:
				return err
			case got == http.StatusTooManyRequests:
				return nil
			case got != http.StatusUnauthorized:
				return fmt.Errorf("answered %d", got)
			}
		}
		return errors.New("20 guesses were looked at")
	})
	more := `{"name":"more","scopes":["engineer"],"expires":"2099-01-01T00:00:00Z"}`
	s.refusedCall(ctx, "a token with more rights than its maker, for ever", trace{Reason: "scope engineer"}, http.StatusUnprocessableEntity,
		operation{method: http.MethodPost, path: "/tokens"}, map[string]string{"Authorization": "Bearer " + s.auditorToken, "body": more})
}

// browser attacks a signed-in person's browser.
func (s *siege) browser(ctx context.Context) error {
	from := s.elsewhere()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.serving.Console+client.Prefix+"/session",
		strings.NewReader(`{"name":"`+engineer+`","password":"`+s.engineerPassword+`"}`))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := from.http(&tls.Config{RootCAs: s.pool}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var session client.Session
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&session); err != nil {
		return err
	}
	cookie := ""
	for _, c := range res.Cookies() {
		if c.Name != client.SessionCookie || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode {
			return fmt.Errorf("the session cookie %s is not Secure, HttpOnly and SameSite=Strict", c.Name)
		}
		cookie = c.Name + "=" + c.Value
	}
	enrolment := operation{method: http.MethodPost, path: "/enrolment"}
	const missing = "is not this session's"
	s.refusedCall(ctx, "CSRF: cookie without its token", trace{missing, refused("csrf")}, http.StatusForbidden, enrolment, map[string]string{"Cookie": cookie})
	s.refusedCall(ctx, "CSRF: cookie with another token", trace{missing, refused("csrf")}, http.StatusForbidden, enrolment,
		map[string]string{"Cookie": cookie, "X-CSRF-Token": rand.Text()})
	const elsewhere = "another web site"
	for name, header := range map[string]map[string]string{
		"Origin":         {"Origin": "https://evil.example"},
		"Sec-Fetch-Site": {"Sec-Fetch-Site": "cross-site"},
	} {
		header["Cookie"], header["X-CSRF-Token"] = cookie, session.CSRF
		s.refusedCall(ctx, "cross-origin write ("+name+")", trace{elsewhere, refused("cross_origin")}, http.StatusForbidden, enrolment, header)
	}
	return nil
}
