//go:build lab

package netconf

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/edge/edgetest"
	"github.com/wardnet/wardnet/edge/foreign"
	"github.com/wardnet/wardnet/edge/sshwire"
	"github.com/wardnet/wardnet/labs/ncbox"
)

const subsystem = "/usr/sbin/netconf-subsystem"

// The test binary is the NETCONF subsystem, too, where a test wants a server
// that netconfd is not; see [intercept].
func TestMain(m *testing.M) {
	if mode := os.Getenv("WARDNET_TEST_FILTER"); mode != "" {
		if err := intercept(strings.ReplaceAll(mode, "_", " "), os.Getenv("WARDNET_TEST_SOCKET")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// intercept runs the real subsystem and changes what the server says.
func intercept(mode, socket string) error {
	cmd := exec.Command(subsystem, "--ncxserver-sockname="+socket)
	cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Process.Kill() }() // our child, when we leave first
	var hello []byte
	for b := make([]byte, 1); !bytes.HasSuffix(hello, []byte("]]>]]>")); {
		if _, err := out.Read(b); err != nil {
			return err
		}
		hello = append(hello, b[0])
	}
	less := map[string][]string{
		"no confirmed commit": {"capability:confirmed-commit:1.0", "capability:confirmed-commit:1.1"},
		"no persistent one":   {"capability:confirmed-commit:1.1"},
		"base 1.0":            {"netconf:base:1.1"},
		"no candidate":        {"capability:candidate:1.0"},
	}
	for _, name := range less[mode] {
		hello = bytes.Replace(hello, []byte("<capability>urn:ietf:params:"+name), []byte("<capability>urn:not:"+name), 1)
		hello = bytes.Replace(hello, []byte("<capability>urn:ietf:params:netconf:"+name), []byte("<capability>urn:not:"+name), 1)
	}
	if mode == "no hello" {
		hello = []byte("This device is for authorised staff only.\n]]>]]>")
	}
	if _, err := os.Stdout.Write(hello); err != nil {
		return err
	}
	for buf := make([]byte, 64<<10); ; {
		n, err := out.Read(buf)
		b := buf[:n]
		switch {
		case mode == "cut off" && n > 60:
			_, _ = os.Stdout.Write(b[:60])
			return nil
		case mode == "not XML":
			b = bytes.ReplaceAll(b, []byte("<data>"), []byte("<da&a>"))
		case mode == "wrong chunk size": // of 3 digits
			b = bytes.Replace(b, []byte("\n#1"), []byte("\n#9"), 1)
			b = bytes.Replace(b, []byte("\n#2"), []byte("\n#9"), 1)
		case mode == "no reply":
			b = bytes.ReplaceAll(b, []byte("message-id="), []byte("massage-id="))
		case mode == "newer module":
			b = bytes.ReplaceAll(b, []byte("loopback>"), []byte("loopbuck>"))
		}
		if _, werr := os.Stdout.Write(b); werr != nil || err != nil {
			return nil
		}
	}
}

// server is a real netconfd behind a real sshd, both of this test only.
type server struct {
	addr   string
	user   ssh.Signer // a user certificate
	hostCA ssh.PublicKey
	box    *ncbox.Box
}

// newServer starts one. mode is for [intercept]; "": none.
func newServer(t *testing.T, mode string) *server {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: sshd and netconfd are started as root, and this is not root")
	}
	if missing := ncbox.Missing(); len(missing) > 0 {
		t.Skipf("NOT RUN: %s missing; install the Debian packages openssh-server and netconfd", strings.Join(missing, ", "))
	}
	if err := exec.Command("unshare", "--mount", "true").Run(); err != nil {
		t.Skipf("NOT RUN: no mount namespace can be made here: %v", err)
	}
	userCA, hostCA := newKey(t), newKey(t)
	cfg := ncbox.Config{UserCA: userCA.PublicKey(), Certify: func(_ context.Context, pub ssh.PublicKey) (*ssh.Certificate, error) {
		return certificate(t, hostCA, pub, ssh.HostCert, "e-26740.devices"), nil
	}}
	if mode != "" {
		self, err := os.Executable()
		must(t, err)
		cfg.Subsystem = func(socket string) string {
			return fmt.Sprintf("env WARDNET_TEST_FILTER=%s WARDNET_TEST_SOCKET=%s %s", strings.ReplaceAll(mode, " ", "_"), socket, self)
		}
	}
	box, err := ncbox.Start(t.Context(), cfg)
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("netconfd and sshd said:\n%s", box.Said())
		}
		must(t, box.Stop())
	})
	return &server{addr: box.Addr(), hostCA: hostCA.PublicKey(), user: certify(t, userCA, newKey(t), ssh.UserCert, "root"), box: box}
}

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	s, err := ssh.NewSignerFromKey(key)
	must(t, err)
	return s
}

func certify(t *testing.T, ca, key ssh.Signer, kind uint32, name string) ssh.Signer {
	t.Helper()
	s, err := ssh.NewCertSigner(certificate(t, ca, key.PublicKey(), kind, name), key)
	must(t, err)
	return s
}

func certificate(t *testing.T, ca ssh.Signer, pub ssh.PublicKey, kind uint32, name string) *ssh.Certificate {
	t.Helper()
	c := &ssh.Certificate{
		Key: pub, CertType: kind, KeyId: "test", ValidPrincipals: []string{name},
		ValidAfter: uint64(time.Now().Add(-time.Minute).Unix()), ValidBefore: uint64(time.Now().Add(10 * time.Minute).Unix()),
	}
	must(t, c.SignCert(rand.Reader, ca))
	return c
}

// config reaches the server, by proxy p unless that is nil.
func (s *server) config(p *proxy) Config {
	c := Config{Timeout: 10 * time.Second, Wire: sshwire.Config{
		Addr: s.addr, HostName: "e-26740.devices", User: "root", HostCA: s.hostCA,
		Signer: func(context.Context) (ssh.Signer, error) { return s.user, nil },
	}}
	if p != nil {
		c.Wire.Addr = p.l.Addr().String()
	}
	return c
}

// box is a Box that ends with t.
func box(t *testing.T, c Config) *Box {
	b := New(c)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// ram is a journal for one test.
type ram struct {
	mu sync.Mutex
	e  foreign.Entry
}

func (j *ram) Load(context.Context) (foreign.Entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.e, nil
}

func (j *ram) Save(_ context.Context, e foreign.Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.e = e
	return nil
}

func drive(t *testing.T, b *Box, j *ram, keys map[string]crypto.PublicKey) *foreign.Driver {
	t.Helper()
	d, err := foreign.New(t.Context(), foreign.Deps{
		Device: edgetest.Device, Keys: keys, Box: b, Journal: j, Log: slog.New(slog.DiscardHandler),
	}, foreign.Config{})
	must(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// proxy is a network between us and the server, with faults.
type proxy struct {
	l net.Listener
	t *testing.T

	mu    sync.Mutex
	left  int  // bytes to the server until the connection is cut; negative: no end
	stuck bool // the server is left believing that its connections are there
	conns []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{l: l, t: t, left: -1}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, near, far)
			p.mu.Unlock()
			wg.Go(func() { p.copy(far, near, true) })
			wg.Go(func() { p.copy(near, far, false) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		wg.Wait()
	})
	return p
}

func (p *proxy) copy(to, from net.Conn, counted bool) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		cut := false
		if counted && p.left >= 0 {
			if cut = n >= p.left; cut {
				n = p.left
			}
			p.left -= n
		}
		stuck := p.stuck
		p.mu.Unlock()
		if _, werr := to.Write(buf[:n]); werr != nil || err != nil || cut {
			if counted || !stuck { // the far side stays open when it is to be stuck
				_ = from.Close()
			}
			if !counted || !stuck {
				_ = to.Close()
			}
			return
		}
	}
}

// cutAfter cuts the next connection, and those after it at once, when n more
// bytes went to the server; negative: never.
func (p *proxy) cutAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = n
}

// strand cuts our side of what is open and leaves the server's.
func (p *proxy) strand() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stuck = true
	for i := 0; i < len(p.conns); i += 2 {
		_ = p.conns[i].Close()
	}
}

var _ io.Closer = (*Box)(nil)
