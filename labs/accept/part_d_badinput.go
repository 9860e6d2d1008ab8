package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"
)

// attempt is one request of the bad-input set.
type attempt struct {
	what  string
	token func(name string, t tokens) (string, error)
	csr   func(name string) (string, error)
	more  map[string]any
}

// tokens makes tokens that one of the two servers takes.
type tokens struct {
	key *ecdsa.PrivateKey
	kid string
	url string
}

func (t tokens) with(name string, change func(claims)) (string, error) {
	return serviceToken(t.key, t.kid, t.url, name, change)
}

func plainToken(name string, t tokens) (string, error) { return t.with(name, nil) }

func claim(key string, v any) func(string, tokens) (string, error) {
	return func(name string, t tokens) (string, error) { return t.with(name, func(c claims) { c[key] = v }) }
}

func csrFor(names ...string) func(string) (string, error) {
	return func(string) (string, error) { return csrOf(newKey(elliptic.P256()), names[0], names...) }
}

func ownCSR(name string) (string, error) { return csrOf(newKey(elliptic.P256()), name, name) }

// attempts is every check that step-ca v0.30.2 makes of a request to sign
// (authority/authorize.go, provisioner/jwk.go, provisioner/sign_options.go),
// and what only we check is marked so.
func attempts() []attempt {
	ago, ahead := time.Now().Add(-10*time.Minute).Unix(), time.Now().Add(10*time.Minute).Unix()
	foreign := func(name string, t tokens) (string, error) {
		return serviceToken(newKey(elliptic.P256()), t.kid, t.url, name, nil)
	}
	return []attempt{
		{what: "no token", token: func(string, tokens) (string, error) { return "", nil }},
		{what: "a token that is no JWT", token: func(string, tokens) (string, error) { return "x.y.z", nil }},
		{what: "a token signed by another key", token: foreign},
		{what: "a token of another key's id", token: func(name string, t tokens) (string, error) { return serviceToken(t.key, "other", t.url, name, nil) }},
		{what: "a token with alg none", token: func(name string, t tokens) (string, error) {
			text, err := t.with(name, nil)
			if err != nil {
				return "", err
			}
			p := strings.Split(text, ".")
			return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"`+t.kid+`"}`)) + "." + p[1] + ".", nil
		}},
		{what: "a token changed after signing", token: func(name string, t tokens) (string, error) {
			text, err := t.with(name, nil)
			if err != nil {
				return "", err
			}
			p := strings.Split(text, ".")
			body, err := base64.RawURLEncoding.DecodeString(p[1])
			if err != nil {
				return "", err
			}
			body = bytes.ReplaceAll(body, []byte(name), []byte("evil.hcmc.example"))
			return p[0] + "." + base64.RawURLEncoding.EncodeToString(body) + "." + p[2], nil
		}, csr: csrFor("evil.hcmc.example")},
		{what: "an expired token", token: claim("exp", ago)},
		{what: "a token not yet valid", token: claim("nbf", ahead)},
		{what: "a token issued in the future", token: claim("iat", ahead)},
		{what: "a token of another issuer", token: claim("iss", "other")},
		{what: "a token for another CA", token: claim("aud", "https://other.example/1.0/sign")},
		{what: "a token to revoke", token: func(name string, t tokens) (string, error) {
			return t.with(name, func(c claims) { c["aud"] = t.url + "/1.0/revoke" })
		}},
		{what: "a token without subject", token: claim("sub", "")},
		{what: "a token bound to another CSR", token: claim("cnf", map[string]string{"x5rt#S256": base64.RawURLEncoding.EncodeToString(make([]byte, 32))})},
		{what: "no CSR", csr: func(string) (string, error) { return "", nil }},
		{what: "a CSR that is none", csr: func(string) (string, error) {
			return "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", nil
		}},
		{what: "a CSR not signed by its key", csr: brokenCSR},
		{what: "a CSR with one more name", csr: func(name string) (string, error) {
			return csrOf(newKey(elliptic.P256()), name, name, "more.hcmc.example")
		}},
		{what: "a CSR with another name", csr: csrFor("other.hcmc.example")},
		{what: "a CSR with another common name", csr: func(name string) (string, error) { return csrOf(newKey(elliptic.P256()), "other.hcmc.example", name) }},
		{what: "a CSR with an address for the name", csr: func(name string) (string, error) { return csrOf(newKey(elliptic.P256()), name, "10.0.0.1") }},
		{what: "a CSR with a URI for the name", csr: func(name string) (string, error) {
			return csrOf(newKey(elliptic.P256()), name, "spiffe://wardnet.hcmc/device/e-1")
		}},
		{what: "a CSR with a weak key", csr: weakCSR},
		{what: "a certificate for ten years", more: map[string]any{"notAfter": "87600h"}},
		{what: "a certificate for a second", more: map[string]any{"notAfter": "1s"}},
		{what: "a certificate that ended", more: map[string]any{"notAfter": "-1h"}},
		{what: "an end that is no time", more: map[string]any{"notAfter": "soon"}},
	}
}

// onlyOurs is what step-ca grants and we refuse.
func onlyOurs() []attempt {
	return []attempt{
		{what: "a token that never ends", token: func(name string, t tokens) (string, error) { return t.with(name, func(c claims) { delete(c, "exp") }) }},
		{what: "a token for a day", token: claim("exp", time.Now().Add(24*time.Hour).Unix())},
		{what: "a device's identity", token: claim("sans", []string{"spiffe://wardnet.hcmc/device/e-1"}), csr: func(name string) (string, error) {
			return csrOf(newKey(elliptic.P256()), name, "spiffe://wardnet.hcmc/device/e-1")
		}},
		{what: "an e-mail address", token: claim("sans", []string{"an@hcmc.example"}), csr: func(name string) (string, error) { return csrOf(newKey(elliptic.P256()), name, "an@hcmc.example") }},
	}
}

// both is what both grant, for it only looks bad: a CSR may leave the names to the token, and a
// token's audience may be the SSH half of the same API.
func both() []attempt {
	return []attempt{
		{what: "a token to sign SSH", token: func(name string, t tokens) (string, error) {
			return t.with(name, func(c claims) { c["aud"] = t.url + "/1.0/ssh/sign" })
		}},
		{what: "a CSR without names", csr: func(name string) (string, error) { return csrOf(newKey(elliptic.P256()), name) }},
	}
}

// badInputBoth sends the same requests to a real step-ca and to ours.
func badInputBoth(ctx context.Context, e *env) (string, error) {
	s, err := newStation(ctx, e, "")
	if err != nil {
		return "", err
	}
	defer s.close()
	peer, err := e.startStepCA(ctx, filepath.Join(e.dir, "step-ca"))
	if err != nil {
		return "", err
	}
	defer peer.close()
	key, kid, err := s.tokenKey()
	if err != nil {
		return "", err
	}
	sides := []struct {
		name string
		t    tokens
		http *http.Client
	}{
		{"step-ca", tokens{peer.key, peer.kid, peer.url}, trusting(peer.pool)},
		{"wardnet", tokens{key, kid, s.ca.URL}, s.elsewhere().http(s.show(nil))},
	}
	const name = "app.hcmc.example"
	try := func(i int, a attempt) (bool, error) {
		if a.token == nil {
			a.token = plainToken
		}
		if a.csr == nil {
			a.csr = ownCSR
		}
		token, err := a.token(name, sides[i].t)
		if err != nil {
			return false, err
		}
		csr, err := a.csr(name)
		if err != nil {
			return false, err
		}
		body := map[string]any{"csr": csr, "ott": token}
		for k, v := range a.more {
			body[k] = v
		}
		_, err = stepPost(ctx, sides[i].http, sides[i].t.url+"/1.0/sign", body)
		return err == nil, nil
	}
	var faults []string
	for i, side := range sides {
		if ok, err := try(i, attempt{}); err != nil || !ok {
			return "", fmt.Errorf("%s grants no good request: %w", side.name, err)
		}
		for _, a := range attempts() {
			granted, err := try(i, a)
			if err != nil {
				return "", fmt.Errorf("%s: %w", a.what, err)
			}
			if granted {
				faults = append(faults, side.name+" grants "+a.what)
			}
		}
		for _, a := range both() {
			if granted, err := try(i, a); err != nil || !granted {
				faults = append(faults, fmt.Sprintf("%s refuses %s, %v", side.name, a.what, err))
			}
		}
		for _, a := range onlyOurs() {
			granted, err := try(i, a)
			if err != nil {
				return "", fmt.Errorf("%s: %w", a.what, err)
			}
			if granted != (side.name == "step-ca") {
				faults = append(faults, fmt.Sprintf("%s, %s: granted %v", side.name, a.what, granted))
			}
		}
		token, err := side.t.with(name, nil)
		if err != nil {
			return "", err
		}
		once := attempt{token: func(string, tokens) (string, error) { return token, nil }}
		for n, want := range []bool{true, false} {
			if granted, err := try(i, once); err != nil || granted != want {
				faults = append(faults, fmt.Sprintf("%s: presentation %d of one token granted %v %v", side.name, n+1, granted, err))
			}
		}
	}
	figure := fmt.Sprintf("%d bad requests refused by both and a used token; %d more by us alone", len(attempts()), len(onlyOurs()))
	if len(faults) > 0 {
		return figure, errors.New(strings.Join(faults, "; "))
	}
	return figure, nil
}
