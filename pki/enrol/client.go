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
	// Keys holds the device's keys; nil: the identity's file does.
	Keys Keystore
	// SSHHostKey is the file of the public SSH host key to have certified, see
	// [SSHHostCertificateFile]; empty: none.
	SSHHostKey string
	// Timeout is for resolving, connecting and TLS each; the answer may take
	// three times as long. Default 10 s.
	Timeout time.Duration
	Now     func() time.Time // the device's clock; nil: time.Now

	// askClock is asked once when the clock keeps the device from connecting;
	// it gives what to add to the clock, and whether that may be believed.
	askClock func(ctx context.Context, c Client) (add time.Duration, believed bool)
	patient  bool // see pause
	// enough says of an error that trying again the same way cannot help.
	enough func(error) bool
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
	have, err := c.Load(dir)
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
	next, fresh, err := c.pendingEnrolment(b, dir)
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
	if _, err := next.open(c.Keys); err != nil {
		c.stopped(StepCertificate, err)
		return nil, fmt.Errorf("enrol %s: answer of the controller: %w", b.Device, err)
	}
	if err := commitSlot(dir, next); err != nil {
		c.stopped(StepCertificate, &causeError{CauseLocal, err})
		return nil, err
	}
	c.keepSSH(dir, answer)
	id, err := c.Load(dir)
	if err == nil {
		c.passed(StepCertificate, "until "+id.Certificate().NotAfter.UTC().Format(time.RFC3339))
	}
	return id, err
}

// pendingEnrolment gives the next slot for this token, made and kept on disk
// when there is none yet; fresh says that it was.
func (c Client) pendingEnrolment(b Bundle, dir string) (next slot, fresh bool, err error) {
	purpose := "token " + digest([]byte(b.Token))
	next, err = readSlot(dir, nextFile)
	if err == nil && next.For == purpose && next.Device == b.Device && next.Root == b.RootPEM {
		return next, false, nil
	}
	next, err = newSlot(b.Device, b.RootPEM, purpose, "", c.Keys)
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
	c.askClock = func(ctx context.Context, c Client) (time.Duration, bool) {
		// The answer's key is vouched for by nothing that lasts: it is told to
		// people, and never set.
		skew, err := c.askTime(ctx, b.EnrolURL, b.Device, roots, checkHubUnit, nil)
		if err == nil {
			c.stopped(StepClock, clockOff(skew))
		}
		return 0, false
	}
	answer, err := c.post(ctx, strings.TrimSuffix(b.EnrolURL, "/")+EnrolPath, cfg, func() any {
		return Request{Token: b.Token, Serial: b.Serial, CSR: next.CSR, WireGuardPublicKey: publicText(wg), Timeline: c.Journal.Timeline().sent(), Time: c.now().UTC(), SSHHostKey: c.hostKey()}
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
	skew = c.now().Sub(r.Time)
	if skew.Abs() > MaxSkew {
		return skew, clockOff(skew)
	}
	if skew.Abs() > WarnSkew && c.Log != nil {
		c.Log.Warn("device clock differs from the controller's", "skew", skew.Round(time.Second).String())
	}
	return skew.Abs(), nil
}

func clockOff(skew time.Duration) error {
	where := "ahead of"
	if skew < 0 {
		where = "behind"
	}
	return &causeError{CauseClockSkew, fmt.Errorf("%w: the device's clock is %s %s the controller's; set the clock and enrol again", inventory.ErrInvalid, skew.Abs().Round(time.Second), where)}
}

// post sends what body makes until an answer comes, a refusal comes, or ctx
// ends.
func (c Client) post(ctx context.Context, url string, cfg *tls.Config, body func() any) (Response, error) {
	if !strings.HasPrefix(url, "https://") {
		return Response{}, fmt.Errorf("%w: %s is not an https URL", inventory.ErrInvalid, url)
	}
	w := &walk{client: c, tls: cfg}
	said, asked := "", c.askClock == nil
	for n := 1; ; n++ {
		answer, wait, err := w.attempt(ctx, url, body)
		var refused *RefusedError
		if err == nil || errors.As(err, &refused) {
			return answer, err
		}
		if c.enough != nil && c.enough(err) {
			return Response{}, err
		}
		if w.again {
			continue
		}
		if !asked && Classify(err) == CauseClockSkew {
			asked = true
			if add, believed := c.askClock(ctx, c); believed {
				w.tls = w.tls.Clone()
				w.tls.Time = func() time.Time { return c.now().Add(add) }
				continue
			}
		}
		if c.Log != nil && err.Error() != said && ctx.Err() == nil {
			said = err.Error()
			c.Log.WarnContext(ctx, "certificate request not answered, retrying", "step", w.last, "err", err)
		}
		pause := c.pause(n, rand.Float64())
		if errors.Is(err, errBusy) { // it is there
			pause = backoff(n, rand.Float64())
		}
		select {
		case <-time.After(max(wait, pause)):
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

// pause is the wait after the n-th failure. A renewal has days: it soon asks
// once in some minutes, which keeps a city's return after a long outage even.
func (c Client) pause(n int, jitter float64) time.Duration {
	if c.patient && n > 12 {
		return time.Duration(jitter * float64(5*time.Minute))
	}
	return backoff(n, jitter)
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
