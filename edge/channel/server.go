package channel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"

	"github.com/wardnet/wardnet/inventory"
)

// Deps are what a [Server] works with. TLS, Identify and Log are required.
type Deps struct {
	// TLS is the listener's identity and whom it admits: by ClientCAs, or by a
	// VerifyConnection that verifies the chain itself. Protocol, version and
	// session tickets are set here whatever it says.
	TLS *tls.Config
	// Identify names the device of a connection and checks all there is to
	// check: chain, SPIFFE id, revocation, inventory. It is asked before a
	// session is registered and again right after, so that a revocation in
	// between holds.
	Identify func(tls.ConnectionState) (inventory.DeviceID, error)
	// Refused is told of peers turned away, for the audit log; not of peers
	// that merely were no TLS or went away. Strangers can make refusals as fast
	// as they can connect: at most 20 a second are told, the rest is counted.
	// The error wraps what TLS or Identify said, so that what they have
	// recorded is not recorded twice.
	Refused func(remote string, err error)
	// OnUp and OnDown frame a session and alternate for each device: a
	// superseded session is down before its successor is up. They run in the
	// session's goroutine and hold up that device only.
	OnUp, OnDown func(inventory.DeviceID)
	// OnFlap is the alarm that two claimants of one name took turns more than
	// Config.Swaps times in a minute: a cloned certificate, or a device
	// started twice. While it lasts the session in place stays.
	OnFlap func(id inventory.DeviceID, swaps int)
	Log    *slog.Logger
	Reg    prometheus.Registerer // nil: metrics work, nobody collects them
}

// Config are the knobs of a [Server]. Zero means default.
type Config struct {
	Handshakes       int           // at once; default 64 for each core
	Rate             int           // handshakes begun per second, a quarter of it for one address; default: no bound
	Waiting          int           // accepted, not yet registered; default 4096, more wait in the kernel
	HandshakeTimeout time.Duration // accept to first gRPC frame; default 15 s
	Keepalive        time.Duration // silence before a probe; default 30 s, at least 10 s
	KeepaliveTimeout time.Duration // for the probe's answer; default 10 s
	MaxMessage       int           // bytes; default 16 MiB
	Swaps            int           // per device and minute before damping; default 6
	Damping          time.Duration // how long newcomers wait then; default 60 s
}

func (c Config) withDefaults() Config {
	c.Handshakes = or(c.Handshakes, 64*runtime.GOMAXPROCS(0))
	c.Waiting = or(c.Waiting, 4096)
	c.HandshakeTimeout = or(c.HandshakeTimeout, DefaultHandshakeTimeout)
	c.Keepalive = or(c.Keepalive, DefaultKeepalive)
	c.KeepaliveTimeout = or(c.KeepaliveTimeout, DefaultKeepaliveTimeout)
	c.MaxMessage = or(c.MaxMessage, DefaultMaxMessage)
	c.Swaps = or(c.Swaps, 6)
	c.Damping = or(c.Damping, time.Minute)
	return c
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Server is the controller's end: it admits connections, names them and keeps
// one session for each device.
type Server struct {
	deps       Deps
	cfg        Config
	tls        *tls.Config
	metrics    *metrics
	handshakes chan struct{} // one element for each handshake under way
	pace       *rate.Limiter // of handshakes begun
	waiting    chan struct{}
	shares     *shares
	told       *rate.Limiter // of refusals, to the log and to Deps.Refused

	// Lock order: slot.turn, then mu.
	mu    sync.Mutex
	slots map[inventory.DeviceID]*slot
}

// NewServer checks deps and registers metrics on deps.Reg.
func NewServer(deps Deps, cfg Config) (*Server, error) {
	if deps.TLS == nil || deps.Identify == nil || deps.Log == nil {
		return nil, fmt.Errorf("%w: management channel: TLS, Identify and Log are required", inventory.ErrInvalid)
	}
	conf, err := serverTLS(deps.TLS)
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	return &Server{
		deps: deps, cfg: cfg, tls: conf, metrics: newMetrics(deps.Reg, cfg.Rate),
		handshakes: make(chan struct{}, cfg.Handshakes), waiting: make(chan struct{}, cfg.Waiting),
		pace:   paceOf(cfg.Rate),
		shares: newShares(cfg.Waiting, cfg.Handshakes, cfg.Rate), told: rate.NewLimiter(20, 200),
		slots: map[inventory.DeviceID]*slot{},
	}, nil
}

// paceOf bounds handshakes per second; a tenth of a second's may come at once.
func paceOf(perSecond int) *rate.Limiter {
	if perSecond <= 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, perSecond/10))
}

// patience is the part of the handshake's time that may be spent on waiting for
// the pace. Who would wait longer is turned away at once and comes back later:
// in a longer queue every peer would have given up when its turn comes, and the
// turns would be spent on the dead.
const patience = 3

// patient waits for pace up to limit, or says at once that it would take longer.
func patient(ctx context.Context, pace *rate.Limiter, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return pace.Wait(ctx)
}

// Serve admits connections from ln until ctx ends, then closes every session
// it made and returns nil. The error is the listener's.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var pause time.Duration
	for {
		select {
		case s.waiting <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		raw, err := ln.Accept()
		if err == nil {
			pause = 0
			wg.Go(func() { s.handle(ctx, raw) })
			continue
		}
		<-s.waiting
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("management channel on %s: %w", ln.Addr(), err)
		}
		// Out of descriptors, or aborted by the peer: go on, but not in a hot loop.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.deps.Log.WarnContext(ctx, "accepting a management connection failed", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// handle is the whole life of one connection.
func (s *Server) handle(ctx context.Context, raw net.Conn) {
	defer raw.Close()
	start := time.Now()
	sess, err := s.admit(ctx, raw)
	<-s.waiting
	s.metrics.handshakes.WithLabelValues(outcomeOf(err)).Inc()
	if err != nil {
		s.refuse(ctx, raw.RemoteAddr().String(), err)
		return
	}
	s.metrics.seconds.Observe(time.Since(start).Seconds())
	// A session lives no longer than the certificate it was made with.
	expiry := time.AfterFunc(time.Until(sess.state.PeerCertificates[0].NotAfter), func() { sess.end(errExpired) })
	<-sess.ctx.Done()
	expiry.Stop()
	s.unregister(sess)
	sess.conn.Close()
}

// admit is everything up to a registered session.
func (s *Server) admit(ctx context.Context, raw net.Conn) (*session, error) {
	share, leave, err := s.shares.enter(raw.RemoteAddr())
	if err != nil {
		return nil, &notAdmitted{refusedCrowded, err}
	}
	defer leave()
	sess, err := s.open(ctx, raw, share)
	if err != nil {
		return nil, err
	}
	if err := s.register(sess); err != nil {
		sess.conn.Close()
		return nil, err
	}
	return sess, nil
}

func (s *Server) refuse(ctx context.Context, remote string, err error) {
	switch outcome := outcomeOf(err); outcome {
	case failed, timedOut, refusedCrowded, refusedPaced:
		s.deps.Log.DebugContext(ctx, "management connection ended before it was one", "remote", remote, "err", err)
	default:
		if !s.told.Allow() {
			s.metrics.untold.Inc()
			return
		}
		s.deps.Log.WarnContext(ctx, "management connection refused", "remote", remote, "reason", outcome, "err", err)
		if s.deps.Refused != nil {
			s.deps.Refused(remote, err)
		}
	}
}

// open makes the handshake, learns the name and waits until gRPC runs.
func (s *Server) open(ctx context.Context, raw net.Conn, share *share) (*session, error) {
	hctx, cancel := context.WithTimeoutCause(ctx, s.cfg.HandshakeTimeout, fmt.Errorf("no session within %s", s.cfg.HandshakeTimeout))
	defer cancel()
	conn, id, err := s.handshake(hctx, raw, share)
	if err != nil {
		return nil, err
	}
	sctx, end := context.WithCancelCause(ctx)
	state := conn.ConnectionState()
	sess := &session{
		Session: Session{
			Device: id, Serial: state.PeerCertificates[0].SerialNumber.Text(16),
			Remote: raw.RemoteAddr().String(), Since: time.Now().UTC(),
		},
		ctx: sctx, end: end, state: state,
	}
	tr := newTransport(conn, raw, func() { end(errGone) })
	sess.conn, err = grpc.NewClient("passthrough:///"+string(id), // no resolver: the name is no address
		grpc.WithTransportCredentials(established{state}),
		grpc.WithContextDialer(once(tr)),
		grpc.WithIdleTimeout(0), // idleness must not close the only connection
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: s.cfg.Keepalive, Timeout: s.cfg.KeepaliveTimeout, PermitWithoutStream: true}),
		grpc.WithReadBufferSize(readBuffer), grpc.WithWriteBufferSize(writeBuffer),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(s.cfg.MaxMessage), grpc.MaxCallSendMsgSize(s.cfg.MaxMessage)),
	)
	if err != nil {
		end(err)
		return nil, fmt.Errorf("%s: %w", id, err)
	}
	if err := ready(hctx, sess.conn); err != nil {
		end(err)
		sess.conn.Close()
		if hctx.Err() != nil {
			return nil, &notAdmitted{timedOut, fmt.Errorf("%s: %w", id, context.Cause(hctx))}
		}
		return nil, fmt.Errorf("%s: %w", id, errors.Join(err, tr.why()))
	}
	return sess, nil
}

// ready waits until the peer's gRPC server has answered, so that a connection
// that is no session never supersedes one.
func ready(ctx context.Context, cc *grpc.ClientConn) error {
	cc.Connect()
	for {
		switch st := cc.GetState(); st {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return errors.New("the device's gRPC server did not start on the connection")
		default:
			if !cc.WaitForStateChange(ctx, st) {
				return context.Cause(ctx)
			}
		}
	}
}

// handshake makes the TLS handshake under the admission bound and asks for the
// peer's name, which nothing but its certificate can give.
func (s *Server) handshake(ctx context.Context, raw net.Conn, share *share) (*tls.Conn, inventory.DeviceID, error) {
	done, err := share.turn(ctx)
	if err != nil {
		return nil, "", &notAdmitted{timedOut, fmt.Errorf("%d handshakes of this address are under way: %w", cap(share.turns), err)}
	}
	defer done()
	if err := patient(ctx, share.pace, s.cfg.HandshakeTimeout/patience); err != nil {
		return nil, "", &notAdmitted{refusedPaced, fmt.Errorf("more than a quarter of %d handshakes per second are asked for by one address: %w", s.cfg.Rate, err)}
	}
	queue := time.NewTimer(s.cfg.HandshakeTimeout / patience)
	defer queue.Stop()
	select {
	case s.handshakes <- struct{}{}:
		defer func() { <-s.handshakes }()
	case <-queue.C:
		return nil, "", &notAdmitted{refusedPaced, fmt.Errorf("%d handshakes are under way, and none of them made room within %s", cap(s.handshakes), s.cfg.HandshakeTimeout/patience)}
	case <-ctx.Done():
		return nil, "", &notAdmitted{timedOut, fmt.Errorf("%d handshakes are under way: %w", cap(s.handshakes), context.Cause(ctx))}
	}
	// With the place taken: what waited for a place must not begin all at once.
	if err := patient(ctx, s.pace, s.cfg.HandshakeTimeout/patience); err != nil {
		return nil, "", &notAdmitted{refusedPaced, fmt.Errorf("more than %d handshakes per second are asked for: %w", s.cfg.Rate, err)}
	}
	s.metrics.begun.Inc()
	conn := tls.Server(raw, s.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, "", &notAdmitted{timedOut, context.Cause(ctx)}
		}
		return nil, "", &notAdmitted{classify(err), fmt.Errorf("handshake: %w", err)}
	}
	st := conn.ConnectionState()
	switch {
	case st.NegotiatedProtocol != Protocol:
		return nil, "", &notAdmitted{refusedProtocol, errProtocol}
	case len(st.PeerCertificates) == 0:
		return nil, "", &notAdmitted{refusedCertificate, fmt.Errorf("%w: none was presented", errCertificate)}
	}
	id, err := s.deps.Identify(st)
	if err == nil && id == "" {
		err = errors.New("the certificate names no device")
	}
	if err != nil {
		return nil, "", &notAdmitted{refusedIdentity, fmt.Errorf("certificate %x: %w", st.PeerCertificates[0].SerialNumber, err)}
	}
	return conn, id, nil
}

// notAdmitted is an error with the outcome it is counted under.
type notAdmitted struct {
	outcome string
	err     error
}

func (e *notAdmitted) Error() string { return e.err.Error() }
func (e *notAdmitted) Unwrap() error { return e.err }

func outcomeOf(err error) string {
	if err == nil {
		return accepted
	}
	if e, ok := errors.AsType[*notAdmitted](err); ok {
		return e.outcome
	}
	return failed
}

var (
	errProtocol    = errors.New("the peer does not offer " + Protocol + " over TLS 1.3")
	errCertificate = errors.New("client certificate")
	errGone        = errors.New("the connection ended")
	errExpired     = errors.New("the certificate of the session has expired")
)

// classify tells a peer that is refused from one that went away.
func classify(err error) string {
	switch {
	case errors.Is(err, errProtocol):
		return refusedProtocol
	case errors.Is(err, errCertificate):
		return refusedCertificate
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return failed
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return failed
	}
	if _, ok := errors.AsType[*net.OpError](err); ok { // also an alert sent by the peer
		return failed
	}
	return refusedCertificate
}
