package sshwire

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scrapli/scrapligo/transport"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/edge"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	s, err := ssh.NewSignerFromKey(key)
	must(t, err)
	return s
}

func certify(t *testing.T, ca ssh.Signer, kind uint32, until time.Time, names ...string) ssh.Signer {
	t.Helper()
	key := newKey(t)
	c := &ssh.Certificate{Key: key.PublicKey(), CertType: kind, ValidPrincipals: names, ValidBefore: uint64(until.Unix())}
	must(t, c.SignCert(rand.Reader, ca))
	s, err := ssh.NewCertSigner(c, key)
	must(t, err)
	return s
}

// echo is an SSH server of x/crypto that says what kind of session was asked
// for and then answers what it hears. The drivers' own tests use sshd.
func echo(t *testing.T, host ssh.Signer, userCA ssh.PublicKey) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	check := ssh.CertChecker{IsUserAuthority: func(k ssh.PublicKey) bool { return string(k.Marshal()) == string(userCA.Marshal()) }}
	cfg := &ssh.ServerConfig{PublicKeyCallback: check.Authenticate}
	cfg.AddHostKey(host)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(c, cfg) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

func serve(c net.Conn, cfg *ssh.ServerConfig) {
	defer func() { _ = c.Close() }()
	conn, chans, reqs, err := ssh.NewServerConn(c, cfg)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	go ssh.DiscardRequests(reqs)
	for ch := range chans {
		session, asked, err := ch.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range asked {
				ok := r.Type == "pty-req" || r.Type == "shell" || r.Type == "subsystem" && strings.HasSuffix(string(r.Payload), "netconf")
				_ = r.Reply(ok, nil)
				if _, err := session.Write([]byte(r.Type + ";")); err == nil && ok && r.Type != "pty-req" {
					go func() {
						_, _ = io.Copy(session, session)
						_ = session.Close()
					}()
				}
			}
		}()
	}
}

type lab struct {
	userCA, hostCA ssh.Signer
	addr           string
}

func newLab(t *testing.T) lab {
	l := lab{userCA: newKey(t), hostCA: newKey(t)}
	l.addr = echo(t, certify(t, l.hostCA, ssh.HostCert, time.Now().Add(time.Hour), "e-1.devices"), l.userCA.PublicKey())
	return l
}

func (l lab) config(t *testing.T) Config {
	user := certify(t, l.userCA, ssh.UserCert, time.Now().Add(time.Hour), "wardnet")
	return Config{
		Addr: l.addr, HostName: "e-1.devices", User: "wardnet", HostCA: l.hostCA.PublicKey(), Subsystem: "netconf",
		Signer: func(context.Context) (ssh.Signer, error) { return user, nil },
	}
}

func dial(t *testing.T, ctx context.Context, cfg Config) (*Wire, error) {
	t.Helper()
	w, err := New(ctx, cfg)
	must(t, err)
	t.Cleanup(func() { _ = w.Close() })
	return w, w.Open(&transport.Args{TermWidth: 200, TermHeight: 50})
}

func hear(t *testing.T, w *Wire, want string) {
	t.Helper()
	var got string
	for len(got) < len(want) {
		b, err := w.Read(3)
		must(t, err)
		got += string(b)
	}
	if got != want {
		t.Fatalf("heard %q, want %q", got, want)
	}
}

func TestSubsystemAndShell(t *testing.T) {
	l := newLab(t)
	for sub, said := range map[string]string{"netconf": "subsystem;", "": "pty-req;shell;"} {
		cfg := l.config(t)
		cfg.Subsystem = sub
		w, err := dial(t, t.Context(), cfg)
		must(t, err)
		hear(t, w, said)
		must(t, w.Write([]byte("hello")))
		hear(t, w, "hello")
		if !w.IsAlive() {
			t.Error("not alive")
		}
		ended := make(chan error)
		go func() {
			_, err := w.Read(10)
			ended <- err
		}()
		must(t, w.Close())
		if err := <-ended; err == nil || w.IsAlive() {
			t.Errorf("read after Close: %v, alive %v", err, w.IsAlive())
		}
		must(t, w.Close())
	}
}

func TestWhoIsLetIn(t *testing.T) {
	l := newLab(t)
	old := echo(t, certify(t, l.hostCA, ssh.HostCert, time.Now().Add(-time.Hour), "e-1.devices"), l.userCA.PublicKey())
	anybody := echo(t, certify(t, l.hostCA, ssh.HostCert, time.Now().Add(time.Hour)), l.userCA.PublicKey())
	bare := echo(t, newKey(t), l.userCA.PublicKey())
	signer := func(s ssh.Signer, err error) func(context.Context) (ssh.Signer, error) {
		return func(context.Context) (ssh.Signer, error) { return s, err }
	}
	for name, tt := range map[string]struct {
		edit func(*Config)
		hint string
	}{
		"another host":        {func(c *Config) { c.HostName = "e-2.devices" }, "another host answers"},
		"not by our CA":       {func(c *Config) { c.HostCA = newKey(t).PublicKey() }, "not a valid one of our host CA"},
		"expired":             {func(c *Config) { c.Addr = old }, "expired"},
		"a name for all":      {func(c *Config) { c.Addr = anybody }, "no certificate that names it"},
		"a bare host key":     {func(c *Config) { c.Addr = bare }, "host key"},
		"a bare user key":     {func(c *Config) { c.Signer = signer(newKey(t), nil) }, "certificate of the user CA"},
		"another user's":      {func(c *Config) { c.User = "root" }, `lets "root" in`},
		"no user certificate": {func(c *Config) { c.Signer = signer(nil, errors.New("the CA is away")) }, "the CA is away"},
		"no such subsystem":   {func(c *Config) { c.Subsystem = "telepathy" }, "switch it on"},
		"nobody":              {func(c *Config) { c.Addr = "127.0.0.1:1" }, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := l.config(t)
			tt.edit(&cfg)
			_, err := dial(t, t.Context(), cfg)
			if !errors.Is(err, edge.ErrUnreachable) || !strings.Contains(err.Error(), tt.hint) {
				t.Errorf("err = %v, want %q", err, tt.hint)
			}
			if errors.Is(err, ErrOtherHost) != (name == "another host") {
				t.Errorf("ErrOtherHost: %v", err)
			}
		})
	}
}

// A host that accepts and says nothing does not hold the caller.
func TestSilentHost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	cfg := newLab(t).config(t)
	cfg.Addr, cfg.Timeout = l.Addr().String(), 100*time.Millisecond
	if _, err := dial(t, t.Context(), cfg); !errors.Is(err, edge.ErrUnreachable) || !strings.Contains(err.Error(), "no session within 100ms") {
		t.Errorf("timeout: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	cfg.Timeout = time.Minute
	if _, err := dial(t, ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("cancel: %v", err)
	}
}

func TestConfig(t *testing.T) {
	l := newLab(t)
	for name, edit := range map[string]func(*Config){
		"no user": func(c *Config) { c.User = "" }, "no CA": func(c *Config) { c.HostCA = nil }, "no port": func(c *Config) { c.Addr = "e-1.devices" },
	} {
		cfg := l.config(t)
		edit(&cfg)
		if _, err := New(t.Context(), cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
