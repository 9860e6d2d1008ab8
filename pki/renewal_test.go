package pki_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

func TestRenewalKeepsIdentityAndLineage(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	i := a.enrolled("e-1")
	first, key, cfg := enrol.SerialOf(i.Certificate()), presented(t, i).PrivateKey, i.TLS()
	if life := time.Until(i.Certificate().NotAfter); life < 7*24*time.Hour-time.Minute || life > 7*24*time.Hour {
		t.Errorf("the certificate lives %s, want 7 days", life)
	}
	if err := i.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := enrol.SerialOf(i.Certificate())
	if second == first || presented(t, i).PrivateKey == key {
		t.Error("certificate or key is the old one")
	}
	if c, err := cfg.GetClientCertificate(nil); err != nil || enrol.SerialOf(c.Leaf) != second {
		t.Errorf("a TLS configuration handed out before shows the old certificate (%v)", err)
	}
	all, err := a.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Issuer == pki.Devices && (c.Lineage != first || c.Device != "e-1" || c.State(time.Now()) != "valid" || (c.Serial == second && c.Parent != first)) {
			t.Errorf("recorded %+v", c)
		}
	}
	// The old certificate works on until its end: a crash may have kept the
	// device from storing the new one. Revoking it takes the new one along.
	if err := a.Revoke(t.Context(), first, "superseded", "an"); err != nil {
		t.Fatal(err)
	}
	if err := a.connect("channel", presented(t, i), nil); err == nil {
		t.Error("a certificate renewed from a revoked one was admitted")
	}
}

func TestRenewalLoop(t *testing.T) {
	a := newAuthority(t, pki.Config{DeviceTTL: 4 * time.Second})
	i := a.enrolled("e-1")
	first := enrol.SerialOf(i.Certificate())
	changed := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- i.RunRenewal(ctx, slog.New(slog.NewTextHandler(notify{changed, "certificate renewed"}, nil)))
	}()
	select {
	case <-changed:
	case <-time.After(20 * time.Second):
		t.Fatal("not renewed")
	}
	if enrol.SerialOf(i.Certificate()) == first || time.Now().After(i.Certificate().NotAfter) {
		t.Error("the certificate is the old one")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("the loop ended with %v", err)
	}
}

// notify is a log's writer that tells of one message.
type notify struct {
	heard chan struct{}
	what  string
}

func (n notify) Write(line []byte) (int, error) {
	if strings.Contains(string(line), n.what) {
		select {
		case n.heard <- struct{}{}:
		default:
		}
	}
	return len(line), nil
}

func TestRenewalRefuses(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	i, other := a.enrolled("e-1"), a.enrolled("e-2")
	cur := pki.Peer{Kind: enrol.DeviceKind, Name: "e-1", Serial: enrol.SerialOf(i.Certificate())}
	q := enrol.RenewRequest{CSR: csrFor(t, "spiffe://wardnet.hcmc/device/e-1"), WireGuardPublicKey: i.WireGuardPublicKey()}
	first, err := a.Renew(t.Context(), "", cur, q)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := a.Renew(t.Context(), "", cur, q); err != nil || again.Serial != first.Serial {
		t.Errorf("a retry got %s, %v, want %s", again.Serial, err, first.Serial)
	}
	fresh := func() string { return csrFor(t, "spiffe://wardnet.hcmc/device/e-1") }
	next := pki.Peer{Kind: enrol.DeviceKind, Name: "e-1", Serial: first.Serial}
	for name, tt := range map[string]struct {
		cur  pki.Peer
		q    enrol.RenewRequest
		want pki.Reason
	}{
		"another device's CSR":     {cur, enrol.RenewRequest{CSR: csrFor(t, "spiffe://wardnet.hcmc/device/e-2"), WireGuardPublicKey: wgKey(t)}, pki.WrongDevice},
		"a CSR used before":        {next, q, pki.KeyInUse},
		"another's WireGuard key":  {cur, enrol.RenewRequest{CSR: fresh(), WireGuardPublicKey: other.WireGuardPublicKey()}, pki.KeyInUse},
		"no WireGuard key":         {cur, enrol.RenewRequest{CSR: fresh(), WireGuardPublicKey: "x"}, pki.Malformed},
		"something that is no CSR": {cur, enrol.RenewRequest{CSR: "x", WireGuardPublicKey: wgKey(t)}, pki.BadCSR},
	} {
		var refused *pki.Refusal
		if _, err := a.Renew(t.Context(), "", tt.cur, tt.q); !errors.As(err, &refused) || refused.Reason != tt.want {
			t.Errorf("%s: got %v, want %s", name, err, tt.want)
		}
	}
	limited := false
	for range 30 {
		_, err := a.Renew(t.Context(), "", cur, enrol.RenewRequest{CSR: fresh(), WireGuardPublicKey: i.WireGuardPublicKey()})
		var refused *pki.Refusal
		limited = limited || errors.As(err, &refused) && refused.Reason == pki.RateLimited
	}
	if !limited {
		t.Error("a device may renew without end")
	}
}

func TestRenewalNeedsACertificate(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	i := a.enrolled("e-1")
	cfg := i.TLS()
	cfg.GetClientCertificate = nil
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}
	resp, err := c.Post(a.urls["ca"]+enrol.RenewPath, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden || !a.audited(pki.NoCertificate) {
		t.Errorf("got %s", resp.Status)
	}
	if err := a.connect("ca", service(t, a, "proxy"), nil); err == nil || a.refusals(pki.CAListener, pki.WrongIssuer) != 1 {
		t.Errorf("a service at the CA listener got %v", err)
	}
}

// A database that was restored has forgotten certificates; they work on, and
// revocations that were asked for elsewhere hold.
func TestRestoredDatabase(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	i, stolen := a.enrolled("e-1"), a.enrolled("e-2")
	state := dialChannel(t, a, stolen)
	if err := a.Revoke(t.Context(), enrol.SerialOf(stolen.Certificate()), "key-compromise", "an"); err != nil {
		t.Fatal(err)
	}
	before, _, err := a.WireGuardKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	log, err := a.Revocations(t.Context())
	if err != nil || len(log) != 1 {
		t.Fatalf("exported %v, %v", log, err)
	}
	if a.db, err = store.Open(t.Context(), "sqlite://"+filepath.Join(t.TempDir(), "restored.db")); err != nil {
		t.Fatal(err)
	}
	defer a.db.Close()
	a.open(pki.Config{})
	if _, err := a.IdentifyDevice(state); err != nil {
		t.Fatalf("before the merge the restored database knows of no revocation, yet: %v", err)
	}
	if n, err := a.MergeRevocations(t.Context(), log, "root"); err != nil || n != 1 {
		t.Fatalf("merged %d, %v", n, err)
	}
	if n, err := a.MergeRevocations(t.Context(), log, "root"); err != nil || n != 0 {
		t.Errorf("merged %d the second time, %v", n, err)
	}
	if _, err := a.IdentifyDevice(state); err == nil {
		t.Error("the merged revocation does not hold")
	}
	cur := pki.Peer{Kind: enrol.DeviceKind, Name: "e-1", Serial: enrol.SerialOf(i.Certificate())}
	if _, err := a.Renew(t.Context(), "", cur, enrol.RenewRequest{CSR: csrFor(t, "spiffe://wardnet.hcmc/device/e-1"), WireGuardPublicKey: i.WireGuardPublicKey()}); err != nil {
		t.Errorf("a device the database has forgotten cannot renew: %v", err)
	}
	after, keys, err := a.WireGuardKeys(t.Context())
	if err != nil || after <= before || len(keys) != 1 || keys["e-1"] != i.WireGuardPublicKey() {
		t.Errorf("epoch %d after %d, peers %v, %v", after, before, keys, err)
	}
}

func TestRevocationOfAnotherReplica(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	i := a.enrolled("e-1")
	state := dialChannel(t, a, i)
	first, changed := a.PKI, make(chan struct{}, 8)
	first.OnPeersChanged(func() { changed <- struct{}{} })
	done := make(chan error, 1)
	go func() { done <- first.Run(t.Context()) }()
	a.open(pki.Config{})
	if err := a.Revoke(t.Context(), enrol.SerialOf(i.Certificate()), "privilege-withdrawn", "an"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	case <-time.After(5 * time.Second):
		t.Fatal("the other replica did not hear of it within 5 s")
	}
	if _, err := first.IdentifyDevice(state); err == nil {
		t.Error("the other replica admits it")
	}
}

func TestCAFilesFailClosed(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	ca := filepath.Join(a.dir, "ca")
	reopen := func(cfg pki.Config) error {
		_, err := pki.Open(t.Context(), pki.Deps{Store: store.NewPKI(a.db, "hcmc"), Dir: a.dir}, cfg)
		return err
	}
	entries, err := os.ReadDir(ca)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if len(entries) != 4*2+len(pki.Purposes)+2+1 { // and the two SSH CAs, and the signer's journal
		t.Errorf("%d files in %s", len(entries), ca)
	}
	for what, do := range map[string]func() (want string, undo func()){
		"another domain": func() (string, func()) { return "trust domain", func() {} },
		"an open key": func() (string, func()) {
			os.Chmod(filepath.Join(ca, "hub.key"), 0o644)
			return "chmod 600", func() { os.Chmod(filepath.Join(ca, "hub.key"), 0o600) }
		},
		"a swapped key": func() (string, func()) {
			k, _ := os.ReadFile(filepath.Join(ca, "hub.key"))
			o, _ := os.ReadFile(filepath.Join(ca, "devices.key"))
			os.WriteFile(filepath.Join(ca, "hub.key"), o, 0o600)
			return "does not belong", func() { os.WriteFile(filepath.Join(ca, "hub.key"), k, 0o600) }
		},
		"a missing file": func() (string, func()) {
			os.Rename(filepath.Join(ca, "revision.key"), filepath.Join(a.dir, "x"))
			return "backup", func() { os.Rename(filepath.Join(a.dir, "x"), filepath.Join(ca, "revision.key")) }
		},
		"a missing directory": func() (string, func()) {
			os.Rename(ca, ca+"-gone")
			return "lock every device out", func() { os.Rename(ca+"-gone", ca) }
		},
	} {
		want, undo := do()
		cfg := pki.Config{}
		if what == "another domain" {
			cfg.TrustDomain = "other.example"
		}
		if err := reopen(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", what, err, want)
		}
		undo()
	}
	os.Remove(filepath.Join(ca, "root.key")) // kept elsewhere
	a.open(pki.Config{})
}

func TestServerCertificateIsReplacedWhileServing(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	i := a.enrolled("e-1")
	seen := func() string {
		cfg := i.TLS()
		cfg.NextProtos = []string{pki.ChannelProtocol}
		conn, err := tls.Dial("tcp", a.urls["channel"], cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return enrol.SerialOf(conn.ConnectionState().PeerCertificates[0])
	}
	before := seen()
	if err := a.RenewServerNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := seen(); after == before {
		t.Error("the old certificate is served")
	}
}
