package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Prefix is where the API lives on the server.
const Prefix = "/api/v1"

// maxAnswer bounds what is read of one answer.
const maxAnswer = 256 << 20

// Config says where the server is and who asks.
type Config struct {
	// Server is "https://host:port", or "unix:///path/wardnet.sock" on the
	// controller's own machine.
	Server string
	// RootCA is a PEM file with the only roots to trust; empty: the system's.
	RootCA string
	// RootPEM is the same as bytes; it goes before RootCA.
	RootPEM []byte
	// TokenFile holds an API token; only its owner may read it. Empty: none.
	TokenFile string
}

// Client calls the API. It is safe for concurrent use.
type Client struct {
	http  *http.Client
	base  string
	token string

	mu     sync.Mutex
	cookie *http.Cookie
	csrf   string
}

// New makes a Client; it does not connect yet.
func New(cfg Config) (*Client, error) {
	c := &Client{}
	tr := &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true}
	u, err := url.Parse(cfg.Server)
	if err != nil {
		return nil, fmt.Errorf("%w: server %q: %w", inventory.ErrInvalid, cfg.Server, err)
	}
	switch {
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", u.Path)
		}
		c.base = "http://wardnet"
	case u.Scheme == "https" && u.Host != "" && u.User == nil && strings.Trim(u.Path, "/") == "":
		tr.Proxy = http.ProxyFromEnvironment
		if tr.TLSClientConfig, err = tlsConfig(cfg); err != nil {
			return nil, err
		}
		c.base = "https://" + u.Host
	default:
		return nil, fmt.Errorf("%w: server %q: write https://host:port or unix:///path/wardnet.sock", inventory.ErrInvalid, cfg.Server)
	}
	if cfg.TokenFile != "" {
		if c.token, err = readToken(cfg.TokenFile); err != nil {
			return nil, err
		}
	}
	c.http = &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // a token goes to one server only
	}}
	return c, nil
}

func tlsConfig(cfg Config) (*tls.Config, error) {
	pem := cfg.RootPEM
	if pem == nil && cfg.RootCA != "" {
		var err error
		if pem, err = os.ReadFile(cfg.RootCA); err != nil {
			return nil, fmt.Errorf("read the root CA: %w", err)
		}
	}
	out := &tls.Config{MinVersion: tls.VersionTLS13}
	if pem != nil {
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: the root CA holds no PEM certificate", inventory.ErrInvalid)
		}
	}
	return out, nil
}

func readToken(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("read the API token: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%w: others may read the token file %s; run chmod 600 on it and take the token back if it is known", inventory.ErrInvalid, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the API token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("%w: the token file %s must hold one token", inventory.ErrInvalid, path)
	}
	return token, nil
}

// SetToken makes the client send this API token from now on; for programs that
// have just made one.
func (c *Client) SetToken(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = token
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// request is one call; body is nil, []byte with a content type, or JSON.
type request struct {
	method, path string
	query        url.Values
	body         any
	contentType  string
	header       map[string]string
}

func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	target := c.base + Prefix + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	var body io.Reader
	if raw, ok := r.body.([]byte); ok {
		body = bytes.NewReader(raw)
	} else if r.body != nil {
		b, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
		}
		body, r.contentType = bytes.NewReader(b), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	c.authorise(req)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %w", r.method, r.path, ErrUnavailable, err)
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		defer res.Body.Close()
		return nil, problem(r, res)
	}
	return res, nil
}

func (c *Client) authorise(req *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.token != "":
		req.Header.Set("Authorization", "Bearer "+c.token)
	case c.cookie != nil:
		req.AddCookie(c.cookie)
		req.Header.Set("X-CSRF-Token", c.csrf)
	}
}

// problem reads an error's body; one that is not ours becomes a Problem too.
func problem(r request, res *http.Response) error {
	p := &Problem{}
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil || json.Unmarshal(b, p) != nil || p.Status == 0 {
		p = &Problem{Detail: "the server answered " + res.Status, Hint: "is this the address of a Wardnet controller?"}
	}
	p.Status = res.StatusCode // what counts is what was sent
	return fmt.Errorf("%s %s: %w", r.method, r.path, p)
}

// call sends r and reads a JSON answer.
func call[T any](ctx context.Context, c *Client, r request) (T, error) {
	out, _, err := callHeader[T](ctx, c, r)
	return out, err
}

func callHeader[T any](ctx context.Context, c *Client, r request) (T, http.Header, error) {
	var out T
	res, err := c.send(ctx, r)
	if err != nil {
		return out, nil, err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&out); err != nil {
		return out, nil, fmt.Errorf("%s %s: read the answer: %w", r.method, r.path, err)
	}
	return out, res.Header, nil
}

// do sends r and expects no answer.
func (c *Client) do(ctx context.Context, r request) error {
	res, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
	return errors.Join(err, res.Body.Close())
}

func read[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	return call[T](ctx, c, request{method: http.MethodGet, path: path, query: query})
}

func write[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	return call[T](ctx, c, request{method: method, path: path, body: body})
}

// at builds a path; parts are escaped.
func at(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/" + url.PathEscape(p))
	}
	return b.String()
}
