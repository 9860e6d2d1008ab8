package netconf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/scrapli/scrapligo/driver/netconf"
	"github.com/scrapli/scrapligo/driver/opoptions"
	"github.com/scrapli/scrapligo/driver/options"
	"github.com/scrapli/scrapligo/util"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/foreign"
	"github.com/wardnet/wardnet/edge/sshwire"
)

// Capabilities that we look at; of the others the device is master.
const (
	capCandidate = "urn:ietf:params:netconf:capability:candidate:1.0"
	capConfirm   = "urn:ietf:params:netconf:capability:confirmed-commit:1.0"
	capPersist   = "urn:ietf:params:netconf:capability:confirmed-commit:1.1"
	capValidate  = "urn:ietf:params:netconf:capability:validate:1.0"
	capValidate2 = "urn:ietf:params:netconf:capability:validate:1.1"
)

// readDelay is how often scrapligo looks for what has come; its own 250 µs cost
// 2 % of a core for each open session.
const readDelay = time.Millisecond

// afterHello is the pause between our hello and the first operation, and
// firstWait how long its answer is waited for; see [session.greet].
const (
	afterHello = 20 * time.Millisecond
	firstWait  = 250 * time.Millisecond
)

// session is one NETCONF session. It is used by one goroutine at a time.
type session struct {
	driver  *netconf.Driver
	pipe    *pipe
	timeout time.Duration // for one operation
	trial   edge.CommitID // a confirmed commit that ends with this session
	broken  bool          // the connection is lost, or out of step
}

// pipe is the connection below scrapligo.
type pipe struct {
	*sshwire.Wire
	closed atomic.Bool
}

// Write swallows what is written after the end; see [session.close].
func (p *pipe) Write(b []byte) error {
	if p.closed.Load() {
		return nil
	}
	return p.Wire.Write(b)
}

// open connects and exchanges hellos.
func open(ctx context.Context, cfg Config) (*session, error) {
	wire, err := sshwire.New(ctx, cfg.Wire)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(cfg.Wire.Addr)
	if err != nil {
		return nil, err
	}
	p := &pipe{Wire: wire}
	opts := []util.Option{
		options.WithCustomTransport(p),
		options.WithTimeoutOps(cfg.Timeout),
		options.WithReadDelay(readDelay),
	}
	driver, err := netconf.NewDriver(host, opts...)
	if err != nil {
		return nil, fmt.Errorf("netconf to %s: %w", cfg.Wire.Addr, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = wire.Close() }) // scrapligo takes no context
	defer stop()
	if err := driver.Open(); err != nil {
		switch {
		case errors.Is(err, sshwire.ErrOtherHost):
			return nil, fmt.Errorf("%w (%w)", foreign.ErrOtherDevice, hide(err))
		case errors.Is(err, edge.ErrUnreachable):
			return nil, err
		}
		return nil, fmt.Errorf("%w: netconf to %s: hello: %w; is it a NETCONF server?", edge.ErrUnreachable, cfg.Wire.Addr, err)
	}
	s := &session{driver: driver, pipe: p, timeout: cfg.Timeout}
	if err := s.greet(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("%w: netconf to %s: %w", edge.ErrUnreachable, cfg.Wire.Addr, err)
	}
	if !s.can(capCandidate) {
		s.close()
		return nil, fmt.Errorf("%w: the device has no candidate datastore (RFC 6241 §8.3), without which a change is not one transaction; drive it by its CLI", edge.ErrRejected)
	}
	return s, nil
}

// greet asks for nothing until the device answers. netconfd (yuma123 2.13)
// leaves an operation that reaches it in one read with our hello lie until more
// comes; what comes next is answered, and so is all after it.
func (s *session) greet(ctx context.Context) error {
	select {
	case <-time.After(afterHello):
	case <-ctx.Done():
	}
	whole := s.timeout
	defer func() { s.timeout = whole }()
	nothing, err := marshal(getConfig{Source: running, Filter: filter{Type: "subtree"}}) // RFC 6241 §6.4.2
	if err != nil {
		return err
	}
	for s.timeout = min(firstWait, whole); ; s.timeout = min(2*s.timeout, whole) {
		_, err := s.send(ctx, nothing)
		if !errors.Is(err, util.ErrTimeoutError) || s.timeout >= whole {
			return err
		}
	}
}

// hide keeps the text of err and not its kind.
func hide(err error) error { return errors.New(err.Error()) }

func (s *session) can(any ...string) bool {
	return slices.ContainsFunc(any, s.driver.ServerHasCapability)
}

// persists says whether a commit on trial has a name and outlives the session:
// those belong to base:1.1 (RFC 6241 §8.4.5).
func (s *session) persists() bool {
	return s.can(capPersist) && s.driver.SelectedVersion == netconf.V1Dot1
}

// rpc sends one operation and returns the answer. An error is an [rpcError]
// when the device refused; any other error leaves the session broken.
func (s *session) rpc(ctx context.Context, op any) (reply, error) {
	r, _, err := s.exchange(ctx, op)
	return r, err
}

// exchange is rpc with the answer as the device wrote it.
func (s *session) exchange(ctx context.Context, op any) (r reply, doc string, err error) {
	body, err := marshal(op)
	if err != nil {
		return reply{}, "", fmt.Errorf("write XML: %w", err)
	}
	doc, err = s.send(ctx, body)
	switch {
	case errors.Is(err, errGarbled):
		s.broken = true
		return reply{}, "", err
	case err != nil:
		s.broken = true
		return reply{}, "", fmt.Errorf("%w: netconf: %w", edge.ErrUnreachable, err)
	}
	r, err = parseReply([]byte(doc))
	if err != nil && !errors.As(err, new(rpcError)) {
		s.broken = true
	}
	return r, doc, err
}

func (s *session) send(ctx context.Context, body string) (doc string, err error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	timeout := s.timeout
	if at, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(at), time.Millisecond))
	}
	stop := context.AfterFunc(ctx, func() { _ = s.pipe.Wire.Close() })
	defer stop()
	defer func() {
		// scrapligo 1.4.3 reads chunk sizes (RFC 6242 §4.2) as they come and slices
		// past the end of what is cut off.
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: its chunks do not add up (%v)", errGarbled, r)
		}
	}()
	r, err := s.driver.RPC(opoptions.WithFilter(body), opoptions.WithTimeoutOps(timeout))
	switch {
	case err != nil && ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.Is(err, util.ErrTimeoutError):
		return "", fmt.Errorf("no answer within %s (%w)", timeout, util.ErrTimeoutError)
	case errors.Is(err, util.ErrConnectionError):
		return "", errors.New("the session ended")
	case err != nil:
		return "", err
	}
	return r.Result, nil
}

// close ends the session and the connection. The session has to be at rest.
func (s *session) close() {
	s.pipe.closed.Store(true)
	_ = s.pipe.Wire.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.driver.Close()
	}()
	// When the connection broke first, scrapligo's reader waits for somebody to
	// take its error before it looks whether it is to end, and Close waits for
	// the reader. Only a call takes errors.
	for {
		select {
		case <-done:
			return
		case <-time.After(50 * time.Millisecond):
			_, _ = s.driver.RPC(opoptions.WithFilter("<close-session/>"), opoptions.WithTimeoutOps(50*time.Millisecond))
		}
	}
}
