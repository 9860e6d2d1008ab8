package enrol

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// maxSkew is how far the device's clock may be off at enrolment; certificate
// validity means nothing beyond it.
const maxSkew = 24 * time.Hour

// RefusedError is the controller's refusal; asking again cannot help.
type RefusedError struct {
	Status int // HTTP
	Body   Error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the controller refused (%s): %s", e.Body.Reason, e.Body.Message)
}

// Client enrols devices. The zero value is ready to use.
type Client struct {
	Log *slog.Logger // nil: silent
}

// Enrol is [Client.Enrol] of the zero Client.
func Enrol(ctx context.Context, b Bundle, dir string) (*Identity, error) {
	return Client{}.Enrol(ctx, b, dir)
}

// Enrol gives the identity in dir, fetching it with the bundle's token when
// there is none. Key and CSR are on disk before the first request, so that a
// crash at any moment ends in the same certificate. Network failures and busy
// servers are retried with growing, jittered pauses until ctx ends; a refusal
// is a [RefusedError]. An enrolled directory is left as it is unless the
// bundle is for another device.
func (c Client) Enrol(ctx context.Context, b Bundle, dir string) (*Identity, error) {
	if err := b.Validate(); err != nil {
		return nil, err
	}
	have, err := Load(dir)
	switch {
	case err == nil && have.Device() == b.Device && have.now.Load().Root == b.RootPEM && time.Now().Before(have.Certificate().NotAfter):
		return have, nil
	case err == nil && have.Device() != b.Device:
		return nil, fmt.Errorf("%w: %s holds the identity of %s, the bundle is for %s; use another directory", inventory.ErrConflict, dir, have.Device(), b.Device)
	}
	next, err := pendingEnrolment(b, dir)
	if err != nil {
		return nil, err
	}
	answer, err := c.enrol(ctx, b, next)
	if err != nil {
		return nil, fmt.Errorf("enrol %s at %s: %w", b.Device, b.EnrolURL, err)
	}
	next = next.take(answer)
	if _, err := next.open(); err != nil {
		return nil, fmt.Errorf("enrol %s: answer of the controller: %w", b.Device, err)
	}
	if err := commitSlot(dir, next); err != nil {
		return nil, err
	}
	return Load(dir)
}

// pendingEnrolment gives the next slot for this token, made and kept on disk
// when there is none yet.
func pendingEnrolment(b Bundle, dir string) (slot, error) {
	purpose := "token " + digest([]byte(b.Token))
	next, err := readSlot(dir, nextFile)
	if err == nil && next.For == purpose && next.Device == b.Device && next.Root == b.RootPEM {
		return next, nil
	}
	next, err = newSlot(b.Device, b.RootPEM, purpose, "")
	if err != nil {
		return slot{}, err
	}
	next.Serial, next.Channel, next.CAURL = b.Serial, b.Channel, b.CAURL
	return next, writeSlot(dir, nextFile, next)
}

func (c Client) enrol(ctx context.Context, b Bundle, next slot) (Response, error) {
	wg, err := next.wireGuardKey()
	if err != nil {
		return Response{}, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(b.RootPEM))
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, VerifyConnection: checkHubUnit}
	answer, err := c.post(ctx, strings.TrimSuffix(b.EnrolURL, "/")+EnrolPath, cfg,
		Request{Token: b.Token, Serial: b.Serial, CSR: next.CSR, WireGuardPublicKey: publicText(wg)})
	if err != nil {
		return Response{}, err
	}
	return answer, c.checkTime(answer, next.CSR)
}

// checkTime holds the device's clock against the controller's signed one.
func (c Client) checkTime(r Response, csrPEM string) error {
	csr, err := ParseCSR(csrPEM)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(TimePayload(CSRHash(csr), r.Time))
	signed := false
	for _, text := range r.Keys["checkpoint"] {
		id, pub, err := parsePublicKey(text)
		signed = signed || (err == nil && id == r.TimeKey && ecdsa.VerifyASN1(pub, sum[:], r.TimeSignature))
	}
	if !signed {
		return fmt.Errorf("%w: the controller's time is not signed by its checkpoint key", inventory.ErrInvalid)
	}
	skew := time.Since(r.Time).Abs()
	if skew > maxSkew {
		return fmt.Errorf("%w: the device's clock is %s off the controller's; set the clock and enrol again", inventory.ErrInvalid, skew.Round(time.Second))
	}
	if skew > 10*time.Minute && c.Log != nil {
		c.Log.Warn("device clock differs from the controller's", "skew", skew.Round(time.Second).String())
	}
	return nil
}

// post sends body until an answer comes, a refusal comes, or ctx ends.
func (c Client) post(ctx context.Context, url string, cfg *tls.Config, body any) (Response, error) {
	if !strings.HasPrefix(url, "https://") {
		return Response{}, fmt.Errorf("%w: %s is not an https URL", inventory.ErrInvalid, url)
	}
	text, err := json.Marshal(body)
	if err != nil {
		return Response{}, err
	}
	transport := &http.Transport{TLSClientConfig: cfg, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	said := ""
	for n := 1; ; n++ {
		answer, wait, err := attempt(ctx, client, url, text)
		var refused *RefusedError
		if err == nil || errors.As(err, &refused) {
			return answer, err
		}
		if c.Log != nil && err.Error() != said && ctx.Err() == nil {
			said = err.Error()
			c.Log.WarnContext(ctx, "certificate request not answered, retrying", "err", err)
		}
		select {
		case <-time.After(max(wait, backoff(n, rand.Float64()))):
		case <-ctx.Done():
			return Response{}, errors.Join(err, context.Cause(ctx))
		}
	}
}

// attempt makes one request. wait is the least pause the server asked for.
func attempt(ctx context.Context, client *http.Client, url string, text []byte) (r Response, wait time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		return Response{}, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		var bad x509.CertificateInvalidError
		if errors.As(err, &bad) && bad.Reason == x509.Expired {
			err = fmt.Errorf("%w; check the device's clock (it says %s)", err, time.Now().UTC().Format(time.RFC3339))
		}
		return Response{}, 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody))
	if err != nil {
		return Response{}, 0, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, &r); err != nil {
			return Response{}, 0, fmt.Errorf("read the answer: %w", err)
		}
		return r, 0, nil
	}
	var said Error
	if json.Unmarshal(body, &said) != nil || said.Message == "" {
		said = Error{Message: resp.Status, Reason: "unknown"}
	}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 {
		if s, err := time.ParseDuration(resp.Header.Get("Retry-After") + "s"); err == nil {
			wait = min(s, time.Minute)
		}
		return Response{}, wait, fmt.Errorf("the controller is busy: %s", said.Message)
	}
	return Response{}, 0, &RefusedError{Status: resp.StatusCode, Body: said}
}

// backoff is the pause after the n-th failure: full jitter over 0.5 s doubling
// to 30 s, for a city's edges fail together and must not return together.
func backoff(n int, jitter float64) time.Duration {
	top := min(500*time.Millisecond<<min(n-1, 10), 30*time.Second)
	return time.Duration(jitter * float64(top))
}
