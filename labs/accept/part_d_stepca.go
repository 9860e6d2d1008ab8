package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// stepCA is a real step-ca, as "step ca init" sets it up, on badgerv2, with a
// provisioner key that the checks hold themselves.
type stepCA struct {
	url   string
	pool  *x509.CertPool
	pid   int
	key   *ecdsa.PrivateKey // of the provisioner
	kid   string
	cmd   *exec.Cmd
	ended chan struct{}
}

// startStepCA makes and starts one in dir.
func (e *env) startStepCA(ctx context.Context, dir string) (*stepCA, error) {
	step, err := e.peer(ctx, "step")
	if err != nil {
		return nil, err
	}
	server, err := e.peer(ctx, "step-ca")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	c := &stepCA{url: fmt.Sprintf("https://127.0.0.1:%d", port), pool: x509.NewCertPool(), ended: make(chan struct{})}
	pass := filepath.Join(dir, "pass")
	if err := os.WriteFile(pass, []byte("accept\n"), 0o600); err != nil {
		return nil, err
	}
	env := append(os.Environ(), "STEPPATH="+dir, "HOME="+dir)
	init := exec.CommandContext(ctx, step, "ca", "init", "--deployment-type", "standalone", "--name", "Peer", "--dns", "127.0.0.1", "--dns", "localhost", "--address", fmt.Sprintf("127.0.0.1:%d", port),
		"--provisioner", "peer", "--password-file", pass, "--provisioner-password-file", pass, "--with-ca-url", c.url)
	init.Env = env
	if out, err := init.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("step ca init: %w: %s", err, tail(string(out), 1000))
	}
	if err := c.configure(dir); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "step-ca.log"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	c.cmd = exec.Command(server, filepath.Join(dir, "config", "ca.json"), "--password-file", pass)
	c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = env, log, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start step-ca: %w", err)
	}
	c.pid = c.cmd.Process.Pid
	go func() {
		_ = c.cmd.Wait()
		_ = log.Close()
		close(c.ended)
	}()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.pool}}, Timeout: 5 * time.Second}
	for range 100 {
		resp, err := client.Get(c.url + "/health")
		if err == nil {
			resp.Body.Close()
			return c, nil
		}
		select {
		case <-c.ended:
			return nil, fmt.Errorf("step-ca ended, see %s", log.Name())
		case <-time.After(100 * time.Millisecond):
		}
	}
	c.close()
	return nil, errors.New("step-ca does not answer")
}

// configure reads the root and puts our provisioner beside the one of init.
func (c *stepCA) configure(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, "certs", "root_ca.crt"))
	if err != nil {
		return err
	}
	c.pool.AppendCertsFromPEM(raw)
	file := filepath.Join(dir, "config", "ca.json")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var conf map[string]any
	if err := json.Unmarshal(text, &conf); err != nil {
		return err
	}
	c.key = newKey(elliptic.P256())
	point, err := c.key.PublicKey.Bytes()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(point)
	c.kid = hex.EncodeToString(sum[:8])
	jwk := map[string]string{
		"use": "sig", "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": c.kid,
		"x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:]),
	}
	authority, ok := conf["authority"].(map[string]any)
	if !ok {
		return errors.New("ca.json has no authority")
	}
	authority["provisioners"] = []any{
		map[string]any{"type": "JWK", "name": "wardnet", "key": jwk, "claims": map[string]any{"maxTLSCertDuration": "2160h", "defaultTLSCertDuration": "168h"}},
		map[string]any{"type": "ACME", "name": "acme"},
	}
	db, ok := conf["db"].(map[string]any)
	if !ok || db["type"] != "badgerv2" {
		return fmt.Errorf("ca.json has the database %v, want badgerv2", conf["db"])
	}
	conf["logger"] = map[string]any{"format": "json", "level": "error"}
	if text, err = json.Marshal(conf); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

func (c *stepCA) close() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.ended:
	case <-time.After(10 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
}

// claims of a one-time token, as a check wants them.
type claims map[string]any

// jwt signs claims with ES256 (RFC 7515).
func jwt(key *ecdsa.PrivateKey, kid string, c claims) (string, error) {
	head, err := json.Marshal(map[string]string{"alg": "ES256", "kid": kid, "typ": "JWT"})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(body)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		return "", err
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}

// serviceToken is a good one for name, changed as a check wants.
func serviceToken(key *ecdsa.PrivateKey, kid, url, name string, change func(claims)) (string, error) {
	now := time.Now()
	x := claims{
		"jti": randomText(), "iss": "wardnet", "sub": name, "sans": []string{name}, "aud": url + "/1.0/sign",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
	if change != nil {
		change(x)
	}
	return jwt(key, kid, x)
}

func trusting(pool *x509.CertPool) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}, Timeout: 30 * time.Second}
}
