package enrol

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
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

// errBusy: the controller wants to be asked later.
var errBusy = errors.New("the controller is busy")

// Client enrols devices. The zero value is ready to use.
type Client struct {
	Log *slog.Logger // nil: silent
	// Dial connects to the controller, addr being IP:port; nil: by the system's
	// routing. Where large packets get lost, the system's routing is tried too.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Resolve gives the addresses of a host name; nil: the system's resolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Journal keeps the steps of the boot and goes with the enrolment; nil: one
	// in the directory of the identity.
	Journal *Journal
	Observe func(Step) // is told of each step as it ends; nil: nobody
	// Root is the root certificate the device was given beforehand, PEM; then
	// only a bundle signed under it is taken. Empty: the bundle's own.
	Root string
	// Timeout is for resolving, connecting and TLS each; the answer may take
	// three times as long. Default 10 s.
	Timeout time.Duration
	Now     func() time.Time // the device's clock; nil: time.Now
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
// bundle is for another device, and never goes over to another CA.
func (c Client) Enrol(ctx context.Context, b Bundle, dir string) (*Identity, error) {
	if err := b.Validate(); err != nil {
		return nil, err
	}
	if c.Root != "" {
		if err := b.Verify(c.Root); err != nil {
			return nil, err
		}
	}
	have, err := Load(dir)
	switch {
	case err == nil && have.Device() == b.Device && have.now.Load().Root == b.RootPEM && c.now().Before(have.Certificate().NotAfter):
		return have, nil
	case err == nil && have.Device() != b.Device:
		return nil, fmt.Errorf("%w: %s holds the identity of %s, the bundle is for %s; use another directory", inventory.ErrConflict, dir, have.Device(), b.Device)
	case err == nil && have.now.Load().Root != b.RootPEM:
		return nil, fmt.Errorf("%w: %s belongs to another CA than the bundle's; if the controller was set up anew, empty the directory first", inventory.ErrConflict, dir)
	}
	if c.Journal == nil {
		c.Journal = OpenJournal(dir)
	}
	next, fresh, err := pendingEnrolment(b, dir)
	if err != nil {
		c.stopped(StepCertificate, &causeError{CauseLocal, err})
		return nil, err
	}
	if fresh {
		c.Journal.Begin()
	}
	answer, err := c.enrol(ctx, b, next)
	if err != nil {
		return nil, fmt.Errorf("enrol %s at %s: %w", b.Device, b.EnrolURL, err)
	}
	next = next.take(answer)
	if _, err := next.open(); err != nil {
		c.stopped(StepCertificate, err)
		return nil, fmt.Errorf("enrol %s: answer of the controller: %w", b.Device, err)
	}
	if err := commitSlot(dir, next); err != nil {
		c.stopped(StepCertificate, &causeError{CauseLocal, err})
		return nil, err
	}
	id, err := Load(dir)
	if err == nil {
		c.passed(StepCertificate, "until "+id.Certificate().NotAfter.UTC().Format(time.RFC3339))
	}
	return id, err
}

// pendingEnrolment gives the next slot for this token, made and kept on disk
// when there is none yet; fresh says that it was.
func pendingEnrolment(b Bundle, dir string) (next slot, fresh bool, err error) {
	purpose := "token " + digest([]byte(b.Token))
	next, err = readSlot(dir, nextFile)
	if err == nil && next.For == purpose && next.Device == b.Device && next.Root == b.RootPEM {
		return next, false, nil
	}
	next, err = newSlot(b.Device, b.RootPEM, purpose, "")
	if err != nil {
		return slot{}, false, err
	}
	next.Serial, next.Channel, next.CAURL = b.Serial, b.Channel, b.CAURL
	return next, true, writeSlot(dir, nextFile, next)
}

func (c Client) enrol(ctx context.Context, b Bundle, next slot) (Response, error) {
	wg, err := next.wireGuardKey()
	if err != nil {
		return Response{}, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(b.RootPEM))
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, VerifyConnection: checkHubUnit, Time: c.Now}
	answer, err := c.post(ctx, strings.TrimSuffix(b.EnrolURL, "/")+EnrolPath, cfg, func() any {
		return Request{Token: b.Token, Serial: b.Serial, CSR: next.CSR, WireGuardPublicKey: publicText(wg), Timeline: c.Journal.Timeline().sent()}
	})
	if err != nil {
		return Response{}, err
	}
	skew, err := c.checkTime(answer, next.CSR)
	if err != nil {
		c.stopped(StepClock, err)
		return Response{}, err
	}
	c.passed(StepClock, "off by "+skew.Round(time.Millisecond).String())
	c.passed(StepToken, "")
	return answer, nil
}

// checkTime holds the device's clock against the controller's signed one.
func (c Client) checkTime(r Response, csrPEM string) (skew time.Duration, err error) {
	csr, err := ParseCSR(csrPEM)
	if err != nil {
		return 0, err
	}
	sum := sha256.Sum256(TimePayload(CSRHash(csr), r.Time))
	signed := false
	for _, text := range r.Keys["checkpoint"] {
		id, pub, err := parsePublicKey(text)
		signed = signed || (err == nil && id == r.TimeKey && ecdsa.VerifyASN1(pub, sum[:], r.TimeSignature))
	}
	if !signed {
		return 0, fmt.Errorf("%w: the controller's time is not signed by its checkpoint key", inventory.ErrInvalid)
	}
	skew = c.now().Sub(r.Time).Abs()
	if skew > maxSkew {
		return skew, &causeError{CauseClockSkew, fmt.Errorf("%w: the device's clock is %s off the controller's; set the clock and enrol again", inventory.ErrInvalid, skew.Round(time.Second))}
	}
	if skew > 10*time.Minute && c.Log != nil {
		c.Log.Warn("device clock differs from the controller's", "skew", skew.Round(time.Second).String())
	}
	return skew, nil
}

// post sends what body makes until an answer comes, a refusal comes, or ctx
// ends.
func (c Client) post(ctx context.Context, url string, cfg *tls.Config, body func() any) (Response, error) {
	if !strings.HasPrefix(url, "https://") {
		return Response{}, fmt.Errorf("%w: %s is not an https URL", inventory.ErrInvalid, url)
	}
	w := &walk{client: c, tls: cfg}
	said := ""
	for n := 1; ; n++ {
		answer, wait, err := w.attempt(ctx, url, body)
		var refused *RefusedError
		if err == nil || errors.As(err, &refused) {
			return answer, err
		}
		if w.again {
			continue
		}
		if c.Log != nil && err.Error() != said && ctx.Err() == nil {
			said = err.Error()
			c.Log.WarnContext(ctx, "certificate request not answered, retrying", "step", w.last, "err", err)
		}
		select {
		case <-time.After(max(wait, backoff(n, rand.Float64()))):
		case <-ctx.Done():
			return Response{}, errors.Join(err, context.Cause(ctx))
		}
	}
}

// backoff is the pause after the n-th failure: full jitter over 0.5 s doubling
// to 30 s, for a city's edges fail together and must not return together.
func backoff(n int, jitter float64) time.Duration {
	top := min(500*time.Millisecond<<min(n-1, 10), 30*time.Second)
	return time.Duration(jitter * float64(top))
}

func (c Client) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

func (c Client) timeout() time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return 10 * time.Second
}

// passed and stopped record the end of a step.
func (c Client) passed(name StepName, detail string) {
	c.record(Step{Name: name, State: StepPassed, Detail: detail})
}

func (c Client) stopped(name StepName, err error) {
	c.record(Step{Name: name, State: StepFailed, Cause: Classify(err), Detail: err.Error()})
}

// record does nothing for a renewal, which is no first boot.
func (c Client) record(s Step) {
	s.By, s.At, s.Count = ByDevice, c.now().UTC(), 1
	if c.Journal != nil {
		c.Journal.Observe(s)
	}
	if c.Observe != nil {
		c.Observe(s.tidy())
	}
}
