package enrol

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// How far a device's clock may be off.
const (
	// MaxSkew is the most at enrolment; beyond it the device is refused, and
	// its token is not spent.
	MaxSkew = time.Hour
	// WarnSkew is what nobody speaks of.
	WarnSkew = 2 * time.Minute
)

// TimePath is below the enrolment and the CA base URL: it tells the time to a
// device whose clock makes the controller's certificate look wrong.
const TimePath = "/v1/time"

// TimeRequest asks for the time. It proves nothing of who asks.
type TimeRequest struct {
	Nonce  string             `json:"nonce"` // 64 hex digits
	Device inventory.DeviceID `json:"device"`
	Time   time.Time          `json:"time"` // the device's clock
}

// TimeAnswer is the controller's clock, signed over the nonce: see
// [TimePayload].
type TimeAnswer struct {
	Time          time.Time `json:"time"`
	TimeKey       string    `json:"time_key"`
	Key           string    `json:"key"` // PEM of TimeKey; a device that has pinned one uses that
	TimeSignature []byte    `json:"time_signature"`
}

// DecodeTimeRequest reads one TimeRequest as [DecodeRequest] does.
func DecodeTimeRequest(r io.Reader) (TimeRequest, error) {
	var q TimeRequest
	if err := decode(r, &q); err != nil {
		return TimeRequest{}, fmt.Errorf("time request: %w", err)
	}
	if raw, err := hex.DecodeString(q.Nonce); err != nil || len(raw) != 32 || q.Time.IsZero() || !segment.MatchString(string(q.Device)) {
		return TimeRequest{}, fmt.Errorf("time request: %w: nonce, device and time must be given", inventory.ErrInvalid)
	}
	return q, nil
}

// askTime asks the controller at base for its time over TLS that checks
// everything of its certificate but the time: who answers holds a key of the
// controller's, be it of an old certificate. Nothing secret is sent, and what
// comes back counts as far as the key that signed it does. keys are the pinned
// ones; nil takes the answer's own.
func (c Client) askTime(ctx context.Context, base string, device inventory.DeviceID, roots *x509.CertPool, check func(tls.ConnectionState) error, keys map[string]*ecdsa.PublicKey) (skew time.Duration, err error) {
	u, err := url.Parse(base)
	if err != nil {
		return 0, err
	}
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, // for its time only, see below
		VerifyConnection: func(cs tls.ConnectionState) error { return verifyButTime(cs, roots, u.Hostname(), check) },
	}
	var nonce [32]byte
	rand.Read(nonce[:]) //nolint:errcheck // never fails, crypto/rand
	q := TimeRequest{Nonce: hex.EncodeToString(nonce[:]), Device: device, Time: c.now().UTC()}
	body, err := json.Marshal(q)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*c.timeout())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(base, "/")+TimePath, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	quiet := &leg{client: Client{Dial: c.Dial, Resolve: c.Resolve, Timeout: c.timeout()}}
	transport := &http.Transport{TLSClientConfig: cfg, Proxy: http.ProxyFromEnvironment, DialContext: quiet.dial, DisableKeepAlives: true, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var a TimeAnswer
	switch text, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody)); {
	case err != nil:
		return 0, err
	case resp.StatusCode != http.StatusOK:
		return 0, fmt.Errorf("ask the controller for the time: %s", resp.Status)
	case json.Unmarshal(text, &a) != nil:
		return 0, fmt.Errorf("%w: the controller's time is no JSON", inventory.ErrInvalid)
	}
	if keys == nil {
		id, pub, err := parsePublicKey(a.Key)
		if err != nil {
			return 0, err
		}
		keys = map[string]*ecdsa.PublicKey{id: pub}
	}
	sum := sha256.Sum256(TimePayload(q.Nonce, a.Time))
	if pub := keys[a.TimeKey]; pub == nil || !ecdsa.VerifyASN1(pub, sum[:], a.TimeSignature) {
		return 0, fmt.Errorf("%w: the controller's time is not signed by its checkpoint key", inventory.ErrInvalid)
	}
	return c.now().Sub(a.Time), nil
}

// verifyButTime makes the checks of TLS for a server called name, at a moment
// when its certificate was good.
func verifyButTime(cs tls.ConnectionState, roots *x509.CertPool, name string, check func(tls.ConnectionState) error) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the server showed no certificate")
	}
	leaf, between := cs.PeerCertificates[0], x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		between.AddCert(c)
	}
	var err error
	cs.VerifiedChains, err = leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, DNSName: name, CurrentTime: leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2),
	})
	if err != nil {
		return err
	}
	return check(cs)
}
