package signer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// maxAnswer bounds an answer: the root's and the issuers' lists.
const maxAnswer = 32 << 20

// callTimeout bounds one call; signing takes a millisecond and a sync.
const callTimeout = 10 * time.Second

// Client is the controller's end of the socket. It has the methods of
// [Service]; an error of the connection wraps [ErrUnavailable], for nobody
// signs in the signer's place.
type Client struct{ http *http.Client }

// NewClient gives the signer behind the socket at path; it need not be there
// yet.
func NewClient(path string) *Client {
	var d net.Dialer
	return &Client{&http.Client{
		Timeout: callTimeout,
		Transport: &http.Transport{
			DialContext:  func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) },
			MaxIdleConns: 64, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute, DisableCompression: true,
		},
	}}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// State is [Service.State].
func (c *Client) State(ctx context.Context) (State, error) {
	return ask[State](ctx, c, http.MethodGet, "state", nil)
}

// Issue is [Service.Issue].
func (c *Client) Issue(ctx context.Context, o Order) ([]byte, error) {
	return ask[[]byte](ctx, c, http.MethodPost, "issue", o)
}

// CRL is [Service.CRL].
func (c *Client) CRL(ctx context.Context, o CRLOrder) ([]byte, error) {
	return ask[[]byte](ctx, c, http.MethodPost, "crl", o)
}

// SSH is [Service.SSH].
func (c *Client) SSH(ctx context.Context, o SSHOrder) ([]byte, error) {
	return ask[[]byte](ctx, c, http.MethodPost, "ssh", o)
}

// Change is [Service.Change].
func (c *Client) Change(ctx context.Context, o Change) (Info, error) {
	return ask[Info](ctx, c, http.MethodPost, "change", o)
}

func ask[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	var out T
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return out, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://signer/v1/"+path, body)
	if err != nil {
		return out, err
	}
	// A signer that was restarted left dead connections in the pool: asking
	// twice signs twice at worst, and what is not recorded is never shown.
	req.Header["Idempotency-Key"] = nil
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		return out, fmt.Errorf("%w (%w)", ErrUnavailable, err)
	}
	defer drain(resp.Body)
	d := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode == http.StatusOK {
		if err := d.Decode(&out); err != nil {
			return out, fmt.Errorf("%w (its answer was cut off: %w)", ErrUnavailable, err)
		}
		return out, nil
	}
	var f failure
	if err := d.Decode(&f); err != nil {
		return out, fmt.Errorf("%w (%s)", ErrUnavailable, resp.Status)
	}
	for _, k := range kinds {
		if k.name == f.Kind {
			return out, &told{text: f.Error, is: k.err}
		}
	}
	return out, errors.New("signer: " + f.Error)
}

// told is an error that came over the socket, with its meaning.
type told struct {
	text string
	is   error
}

func (e *told) Error() string { return e.text }
func (e *told) Unwrap() error { return e.is }
