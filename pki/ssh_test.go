package pki_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"golang.org/x/crypto/ssh"
)

// sshKey makes a host key.
func sshKey(t *testing.T) ssh.PublicKey {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func same(a, b ssh.PublicKey) bool { return string(a.Marshal()) == string(b.Marshal()) }

func TestSSHSigner(t *testing.T) {
	a := newAuthority(t, pki.Config{SSHSources: []netip.Prefix{netip.MustParsePrefix("10.0.0.8/32"), netip.MustParsePrefix("fd00::8/128")}})
	a.declare("r-1", inventory.InService)
	s, err := a.SSHSigner(t.Context(), "r-1")
	if err != nil {
		t.Fatal(err)
	}
	c, ok := s.PublicKey().(*ssh.Certificate)
	if !ok {
		t.Fatalf("the signer shows a %T", s.PublicKey())
	}
	now := time.Now()
	for what, wrong := range map[string]bool{
		"type":        c.CertType != ssh.UserCert,
		"key id":      c.KeyId != "wardnet/r-1",
		"principal":   len(c.ValidPrincipals) != 1 || c.ValidPrincipals[0] != "wardnet",
		"source":      c.CriticalOptions["source-address"] != "10.0.0.8/32,fd00::8/128" || len(c.CriticalOptions) != 1,
		"extensions":  len(c.Extensions) != 1 || c.Extensions["permit-pty"] != "",
		"valid after": now.Sub(time.Unix(int64(c.ValidAfter), 0)).Round(5*time.Second) != time.Minute,
		"valid until": time.Unix(int64(c.ValidBefore), 0).Sub(now).Round(5*time.Second) != 10*time.Minute,
		"serial":      c.Serial == 0,
	} {
		if wrong {
			t.Errorf("%s: certificate %+v", what, c)
		}
	}
	check := func(principal, source string, at time.Time) error {
		checker := ssh.CertChecker{
			Clock:                    func() time.Time { return at },
			IsUserAuthority:          func(k ssh.PublicKey) bool { return same(k, a.SSHUserCA()) },
			SupportedCriticalOptions: []string{"source-address"},
		}
		if err := checker.CheckCert(principal, c); err != nil {
			return err
		}
		_, err := checker.Authenticate(meta{user: principal, from: source}, c)
		return err
	}
	if err := check("wardnet", "10.0.0.8", now); err != nil {
		t.Error(err)
	}
	if check("root", "10.0.0.8", now) == nil || check("wardnet", "10.0.0.8", now.Add(11*time.Minute)) == nil {
		t.Error("it serves another account, or after its time")
	}
	again, err := a.SSHSigner(t.Context(), "r-1")
	if err != nil || same(again.PublicKey(), c) || same(again.PublicKey().(*ssh.Certificate).Key, c.Key) {
		t.Errorf("the second login has the first one's key: %v", err)
	}
	if same(a.SSHUserCA(), a.SSHHostCA()) {
		t.Error("users and hosts have one CA")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	issued := 0
	for _, e := range a.events {
		if e.Action == "issue" && e.Object == "r-1" && strings.Contains(e.Reason, "ssh-user certificate") && strings.Contains(e.Reason, "SHA256:") {
			issued++
		}
	}
	if issued != 2 {
		t.Errorf("%d issuances audited, want 2: %+v", issued, a.events)
	}
}

// meta is what a checker asks of a connection.
type meta struct {
	ssh.ConnMetadata
	user, from string
}

func (m meta) User() string         { return m.user }
func (m meta) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(m.from), Port: 4000} }

func TestSSHRefusals(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	a.declare("r-1", inventory.InService)
	a.declare("r-2", inventory.Retired)
	for _, id := range []inventory.DeviceID{"r-2", "r-9"} {
		if _, err := a.SSHSigner(t.Context(), id); !errors.Is(err, inventory.ErrNotFound) {
			t.Errorf("login to %s: %v", id, err)
		}
		if _, err := a.SignSSHHost(t.Context(), id, sshKey(t), []string{"r"}, time.Hour); !errors.Is(err, inventory.ErrNotFound) {
			t.Errorf("host certificate of %s: %v", id, err)
		}
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weakKey, err := ssh.NewPublicKey(&weak.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	login, err := a.SSHSigner(t.Context(), "r-1")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		key   ssh.PublicKey
		names []string
		life  time.Duration
		want  string
	}{
		"ok":              {sshKey(t), []string{"r-1.example", "10.9.0.1", "fd00::1"}, 24 * time.Hour, ""},
		"any host":        {sshKey(t), nil, time.Hour, "no principal"},
		"a pattern":       {sshKey(t), []string{"*.example"}, time.Hour, "no host name"},
		"a list":          {sshKey(t), []string{"a,b"}, time.Hour, "no host name"},
		"a line":          {sshKey(t), []string{"a\nb"}, time.Hour, "no host name"},
		"for ever":        {sshKey(t), []string{"r-1"}, 10000 * time.Hour, "life"},
		"no time":         {sshKey(t), []string{"r-1"}, 0, "life"},
		"a certificate":   {login.PublicKey(), []string{"r-1"}, time.Hour, "no plain host key"},
		"short RSA":       {weakKey, []string{"r-1"}, time.Hour, "2048"},
		"nothing to sign": {nil, []string{"r-1"}, time.Hour, "no host key"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := a.SignSSHHost(t.Context(), "r-1", tt.key, tt.names, tt.life)
			if tt.want != "" {
				if !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			check := ssh.CertChecker{IsHostAuthority: func(k ssh.PublicKey, _ string) bool { return same(k, a.SSHHostCA()) }}
			for _, host := range tt.names {
				if err := check.CheckHostKey(net.JoinHostPort(host, "22"), &net.TCPAddr{}, c); err != nil {
					t.Error(err)
				}
			}
			if check.CheckHostKey("r-2.example:22", &net.TCPAddr{}, c) == nil || len(c.Extensions)+len(c.CriticalOptions) != 0 {
				t.Errorf("it is another host's too: %+v", c)
			}
		})
	}
}

// TestSSHCA sees that the CAs outlive the process, that a directory from before
// them gets them, and that nothing is issued that cannot be audited.
func TestSSHCA(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	a.declare("r-1", inventory.InService)
	user, host := a.SSHUserCA(), a.SSHHostCA()
	a.open(pki.Config{})
	if !same(user, a.SSHUserCA()) || !same(host, a.SSHHostCA()) {
		t.Fatal("the CAs are new after a restart")
	}
	path := filepath.Join(a.dir, "ca", "ssh-user.key")
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", st, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	a.open(pki.Config{})
	if same(user, a.SSHUserCA()) || !same(host, a.SSHHostCA()) {
		t.Error("the missing CA was not made, or the other one was")
	}
	if left, err := filepath.Glob(filepath.Join(a.dir, "ca", ".key-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	full := errors.New("the disk is full")
	p, err := pki.Open(t.Context(), pki.Deps{
		Store: store.NewPKI(a.db, "hcmc"), Dir: a.dir, Log: slog.New(slog.DiscardHandler),
		Audit: func(context.Context, pki.Event) error { return full },
	}, pki.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := p.SSHSigner(t.Context(), "r-1"); s != nil || !errors.Is(err, full) {
		t.Errorf("a login that is not audited: %v, %v", s, err)
	}
	if c, err := p.SignSSHHost(t.Context(), "r-1", sshKey(t), []string{"r-1"}, time.Hour); c != nil || !errors.Is(err, full) {
		t.Errorf("a host certificate that is not audited: %v, %v", c, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Open(t.Context(), pki.Deps{Store: store.NewPKI(a.db, "hcmc"), Dir: a.dir, Log: slog.New(slog.DiscardHandler), Audit: func(context.Context, pki.Event) error { return nil }}, pki.Config{}); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a CA key that others may read: %v", err)
	}
}
