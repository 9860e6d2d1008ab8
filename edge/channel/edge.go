package channel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/wardnet/wardnet/inventory"
)

// EdgeConfig is the edge's end of the channel. Dial, TLS, Register and Log are
// required, the rest has defaults.
type EdgeConfig struct {
	// Dial opens a connection to the controller over the underlay.
	Dial func(ctx context.Context) (net.Conn, error)
	// TLS returns the device's identity and the roots of the controller's; it
	// is asked at every dial, so that a renewed certificate is used at the next.
	TLS func() *tls.Config
	// ServerName is what the controller's certificate must be for; empty: what TLS says.
	ServerName string
	// Register puts the device's services on the server of a new connection.
	Register func(*grpc.Server)
	Log      *slog.Logger
	// OnUp is called when the controller has admitted the connection and
	// speaks on it, OnDown when that connection ends. Both are optional.
	OnUp, OnDown func()
	// OnRefused is called when the controller did not take the device's
	// certificate (a TLS alert, RFC 8446 §6.2), or takes it no more. It must not
	// block. Optional.
	OnRefused func()

	MinBackoff       time.Duration // upper bound of the first pause; default 1 s
	MaxBackoff       time.Duration // upper bound of any pause; default 60 s
	Stable           time.Duration // a session that lasted this long starts over at MinBackoff; default 60 s
	HandshakeTimeout time.Duration // for dial and handshake together; default 15 s
	Keepalive        time.Duration // silence before a probe; default 30 s
	KeepaliveTimeout time.Duration // for the probe's answer; default 10 s
	MaxMessage       int           // bytes; default 16 MiB
}

func (c EdgeConfig) withDefaults() (EdgeConfig, error) {
	if c.Dial == nil || c.TLS == nil || c.Register == nil || c.Log == nil {
		return c, fmt.Errorf("%w: management channel: Dial, TLS, Register and Log are required", inventory.ErrInvalid)
	}
	c.MinBackoff = or(c.MinBackoff, time.Second)
	c.MaxBackoff = max(or(c.MaxBackoff, time.Minute), c.MinBackoff)
	c.Stable = or(c.Stable, time.Minute)
	c.HandshakeTimeout = or(c.HandshakeTimeout, DefaultHandshakeTimeout)
	c.Keepalive = or(c.Keepalive, DefaultKeepalive)
	c.KeepaliveTimeout = or(c.KeepaliveTimeout, DefaultKeepaliveTimeout)
	c.MaxMessage = or(c.MaxMessage, DefaultMaxMessage)
	return c, nil
}

// Serve keeps the edge connected until ctx ends, then returns nil: dial, serve
// gRPC on the connection, and when it ends dial again after a random pause of
// up to the back-off (full jitter), which doubles up to MaxBackoff.
func Serve(ctx context.Context, cfg EdgeConfig) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	bound, last := cfg.MinBackoff, ""
	for {
		up, err := cfg.serveOnce(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if up >= cfg.Stable {
			bound = cfg.MinBackoff
		}
		if cfg.OnRefused != nil && refused(err) {
			cfg.OnRefused()
		}
		pause := rand.N(bound)
		bound = min(2*bound, cfg.MaxBackoff)
		level := slog.LevelDebug
		if text := err.Error(); text != last || up > 0 {
			last, level = text, slog.LevelWarn
		}
		cfg.Log.Log(ctx, level, "management channel is down", "up", up, "pause", pause, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// refused says that the other side ended the connection over our certificate.
// The library keeps the alert's number to itself and gives its text.
func refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate")
}

// serveOnce is the life of one connection; up is how long the controller used
// it and the error, never nil, why it ended.
func (c EdgeConfig) serveOnce(ctx context.Context) (up time.Duration, err error) {
	conn, raw, name, err := c.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer raw.Close()
	c.ServerName = name
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tr := newTransport(conn, raw, cancel)
	srv := grpc.NewServer(
		grpc.Creds(established{conn.ConnectionState()}),
		grpc.ConnectionTimeout(c.HandshakeTimeout),
		// No MaxConnectionAge: its GOAWAY would end the session.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: c.Keepalive, Timeout: c.KeepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.ReadBufferSize(readBuffer), grpc.WriteBufferSize(writeBuffer),
		grpc.MaxRecvMsgSize(c.MaxMessage), grpc.MaxSendMsgSize(c.MaxMessage),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := c.authorize(ctx); err != nil {
				return nil, err
			}
			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := c.authorize(ss.Context()); err != nil {
				return err
			}
			return next(srv, ss)
		}),
	)
	c.Register(srv)
	ln := &single{conn: make(chan net.Conn, 1), done: make(chan struct{}), addr: conn.LocalAddr()}
	ln.conn <- tr

	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { up = c.watch(ctx, tr) })
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	err = srv.Serve(ln)
	srv.Stop()
	cancel()
	wg.Wait()
	if cause := tr.why(); cause != nil {
		return up, fmt.Errorf("the connection to %s ended: %w", conn.RemoteAddr(), cause)
	}
	return up, fmt.Errorf("the connection to %s ended: %w", conn.RemoteAddr(), err)
}

// watch reports the session up when the controller's first byte is there: in
// TLS 1.3 the edge's own handshake ends before the controller has checked the
// edge's certificate, so a finished handshake proves nothing.
func (c EdgeConfig) watch(ctx context.Context, tr *transport) time.Duration {
	select {
	case <-ctx.Done():
		return 0
	case <-tr.first:
	}
	start := time.Now()
	c.Log.InfoContext(ctx, "management channel is up", "remote", tr.RemoteAddr().String())
	if c.OnUp != nil {
		c.OnUp()
	}
	<-ctx.Done()
	if c.OnDown != nil {
		c.OnDown()
	}
	return max(time.Since(start), 1)
}

// dial connects and makes the TLS handshake; name is what the controller's
// certificate was checked to be for.
func (c EdgeConfig) dial(ctx context.Context) (conn *tls.Conn, raw net.Conn, name string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.HandshakeTimeout, fmt.Errorf("no answer within %s", c.HandshakeTimeout))
	defer cancel()
	cfg := c.TLS()
	if cfg == nil {
		return nil, nil, "", errors.New("dial the controller: no device certificate; enrol first")
	}
	cfg = edgeTLS(cfg, c.ServerName)
	if raw, err = c.Dial(ctx); err != nil {
		return nil, nil, "", fmt.Errorf("dial the controller: %w", err)
	}
	conn = tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, nil, "", fmt.Errorf("handshake with the controller at %s: %w", raw.RemoteAddr(), err)
	}
	if p := conn.ConnectionState().NegotiatedProtocol; p != Protocol {
		raw.Close()
		return nil, nil, "", fmt.Errorf("the controller at %s speaks %q, not %s; is the port right?", raw.RemoteAddr(), p, Protocol)
	}
	return conn, raw, cfg.ServerName, nil
}

// authorize admits only the controller: the certificate verified when the edge
// dialled. It fails closed should the services ever reach another listener.
func (c EdgeConfig) authorize(ctx context.Context) error {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return status.Error(codes.PermissionDenied, "no peer")
	}
	info, ok := p.AuthInfo.(AuthInfo)
	if !ok || len(info.TLS.VerifiedChains) == 0 {
		return status.Error(codes.PermissionDenied, "the peer is not the controller this device dialled")
	}
	if err := info.TLS.PeerCertificates[0].VerifyHostname(c.ServerName); err != nil {
		return status.Error(codes.PermissionDenied, "the peer is not the controller: "+err.Error())
	}
	return nil
}

// single is a listener with one connection, which ends with it.
type single struct {
	conn chan net.Conn
	done chan struct{}
	addr net.Addr
	once sync.Once
}

func (l *single) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *single) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *single) Addr() net.Addr { return l.addr }
