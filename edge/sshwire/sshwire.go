// Package sshwire is the SSH connection that scrapligo's drivers run on: it
// logs in with a short-lived user certificate and takes only a host that shows
// a certificate of our host CA. scrapligo's own transports do neither without
// key files or a forked ssh.
package sshwire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scrapli/scrapligo/transport"
	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/edge"
)

// ErrOtherHost: the host has a valid certificate of our host CA, for another
// name. An error of [Wire.Open] that wraps it wraps [edge.ErrUnreachable], too.
var ErrOtherHost = errors.New("another host answers")

// DefaultTimeout bounds connecting and logging in.
const DefaultTimeout = 10 * time.Second

// hostAlgorithms are the certificate kinds a host may show; a bare host key is
// never asked for.
var hostAlgorithms = []string{
	ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
	ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
}

// Config says where to and as whom.
type Config struct {
	Addr string // host:port
	// HostName is the principal the host's certificate must name; empty: the
	// host part of Addr.
	HostName string
	User     string
	// Signer gives a signer whose public key is an [*ssh.Certificate], anew for
	// every connection, for the certificates are short-lived.
	Signer func(ctx context.Context) (ssh.Signer, error)
	HostCA ssh.PublicKey
	// Subsystem to ask for, such as "netconf"; empty: a shell on a terminal.
	Subsystem string
	Timeout   time.Duration // for connecting and logging in; zero: [DefaultTimeout]
	// Dial opens the connection; nil: TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Wire is one SSH session; it satisfies scrapligo's transport.Implementation.
// It is opened once and not used again after Close.
type Wire struct {
	ctx context.Context // of the call that opens it: Open takes none
	cfg Config

	client  *ssh.Client
	session *ssh.Session
	stdin   io.Writer
	stdout  io.Reader
	alive   atomic.Bool
	close   sync.Once
}

// New prepares a session; [Wire.Open] connects, within ctx. The end of ctx
// after that changes nothing.
func New(ctx context.Context, cfg Config) (*Wire, error) {
	if cfg.Addr == "" || cfg.User == "" || cfg.Signer == nil || cfg.HostCA == nil {
		return nil, errors.New("ssh: Config has an empty field; Addr, User, Signer and HostCA are required")
	}
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("ssh to %q: %w; write it as host:port", cfg.Addr, err)
	}
	if cfg.HostName == "" {
		cfg.HostName = host
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	return &Wire{ctx: ctx, cfg: cfg}, nil
}

// Open connects, logs in and starts the subsystem, or the shell on a terminal
// of the size that a says. Every error wraps [edge.ErrUnreachable].
func (w *Wire) Open(a *transport.Args) error {
	if err := w.open(a); err != nil {
		_ = w.Close()
		return fmt.Errorf("%w: ssh to %s@%s: %w", edge.ErrUnreachable, w.cfg.User, w.cfg.Addr, err)
	}
	w.alive.Store(true)
	return nil
}

func (w *Wire) open(a *transport.Args) error {
	ctx, cancel := context.WithTimeoutCause(w.ctx, w.cfg.Timeout, fmt.Errorf("no session within %s", w.cfg.Timeout))
	defer cancel()
	signer, err := w.cfg.Signer(ctx)
	if err != nil {
		return fmt.Errorf("get a user certificate: %w", err)
	}
	if _, ok := signer.PublicKey().(*ssh.Certificate); !ok {
		return fmt.Errorf("the signer has a bare %s key; it needs a certificate of the user CA", signer.PublicKey().Type())
	}
	conn, err := w.cfg.Dial(ctx, "tcp", w.cfg.Addr)
	if err != nil {
		return ended(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // the handshake knows no context
	defer stop()
	c, chans, reqs, err := ssh.NewClientConn(conn, w.cfg.Addr, &ssh.ClientConfig{
		User:              w.cfg.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   w.checkHost,
		HostKeyAlgorithms: hostAlgorithms,
	})
	if err != nil {
		_ = conn.Close()
		if strings.Contains(err.Error(), "unable to authenticate") { // x/crypto has no type for it
			err = fmt.Errorf("%w; see whether the device trusts our user CA (TrustedUserCAKeys) and lets %q in", err, w.cfg.User)
		}
		return ended(ctx, err)
	}
	w.client = ssh.NewClient(c, chans, reqs)
	if err := w.start(a); err != nil {
		return ended(ctx, err)
	}
	if !stop() {
		return context.Cause(ctx)
	}
	return nil
}

// ended prefers the reason why the context ended to what that broke.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (w *Wire) checkHost(_ string, remote net.Addr, key ssh.PublicKey) error {
	cert, ok := key.(*ssh.Certificate)
	if !ok || len(cert.ValidPrincipals) == 0 {
		return errors.New("the host shows no certificate that names it; give it one of our host CA")
	}
	name := cert.ValidPrincipals[0]
	named := slices.Contains(cert.ValidPrincipals, w.cfg.HostName)
	if named {
		name = w.cfg.HostName
	}
	ca := w.cfg.HostCA.Marshal()
	check := ssh.CertChecker{IsHostAuthority: func(auth ssh.PublicKey, _ string) bool {
		return bytes.Equal(auth.Marshal(), ca)
	}}
	// The checker takes the principal from the address.
	if err := check.CheckHostKey(net.JoinHostPort(name, "22"), remote, key); err != nil {
		return fmt.Errorf("the host's certificate is not a valid one of our host CA: %w; renew it on the device, or see what answers there", err)
	}
	if !named {
		return fmt.Errorf("%w: wanted %q, answers %q", ErrOtherHost, w.cfg.HostName, cert.ValidPrincipals)
	}
	return nil
}

func (w *Wire) start(a *transport.Args) error {
	var err error
	if w.session, err = w.client.NewSession(); err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	if w.stdin, err = w.session.StdinPipe(); err != nil {
		return err
	}
	if w.stdout, err = w.session.StdoutPipe(); err != nil {
		return err
	}
	if w.cfg.Subsystem != "" {
		stderr, err := w.session.StderrPipe()
		if err != nil {
			return err
		}
		if err := w.session.RequestSubsystem(w.cfg.Subsystem); err != nil {
			return fmt.Errorf("start subsystem %q: %w; switch it on in the device's SSH server", w.cfg.Subsystem, err)
		}
		// Unread diagnostics would use up the window. It ends with the session.
		go func() { _, _ = io.Copy(io.Discard, stderr) }()
		return nil
	}
	modes := ssh.TerminalModes{ssh.ECHO: 1, ssh.TTY_OP_ISPEED: 115200, ssh.TTY_OP_OSPEED: 115200}
	if err := w.session.RequestPty("xterm", a.TermHeight, a.TermWidth, modes); err != nil {
		return fmt.Errorf("ask for a terminal: %w", err)
	}
	if err := w.session.Shell(); err != nil {
		return fmt.Errorf("start a shell: %w", err)
	}
	return nil
}

// Close ends the session and the connection; a Read that waits returns.
func (w *Wire) Close() error {
	w.alive.Store(false)
	w.close.Do(func() {
		if w.session != nil {
			_ = w.session.Close()
		}
		if w.client != nil {
			_ = w.client.Close()
		}
	})
	return nil
}

// IsAlive says whether the session is open as far as is known.
func (w *Wire) IsAlive() bool { return w.alive.Load() }

// Read returns what came, at most n bytes; io.EOF when the session ended.
func (w *Wire) Read(n int) ([]byte, error) {
	b := make([]byte, n)
	n, err := w.stdout.Read(b)
	if n > 0 {
		return b[:n], nil
	}
	if err != nil {
		w.alive.Store(false)
	}
	return nil, err
}

// Write sends b.
func (w *Wire) Write(b []byte) error {
	if _, err := w.stdin.Write(b); err != nil {
		w.alive.Store(false)
		return fmt.Errorf("%w: write to %s: %w", edge.ErrUnreachable, w.cfg.Addr, err)
	}
	return nil
}
