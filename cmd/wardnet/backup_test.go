package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// program runs wardnet and returns its output and exit code.
func program(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "wardnet", args...)
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return o.String(), e.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return o.String(), e.String(), 0
}

// must is program that must succeed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, code := program(t, args...)
	if code != 0 {
		t.Fatalf("wardnet %s: exit code %d\n%s", strings.Join(args, " "), code, errs)
	}
	return out
}

func (c *center) must(t *testing.T, user string, args ...string) string {
	t.Helper()
	return must(t, append(args, c.as(user)...)...)
}

func begin(t *testing.T, dir string) *center {
	t.Helper()
	c, err := startCenter(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// enrolled gives a device its certificate as the device itself would fetch it.
func (c *center) enrolled(t *testing.T, device inventory.DeviceID) *enrol.Identity {
	t.Helper()
	var b client.EnrolmentBundle
	if err := json.Unmarshal([]byte(c.must(t, "lan", "cert", "token", "create", string(device), "--json")), &b); err != nil {
		t.Fatal(err)
	}
	id, err := enrol.Enrol(t.Context(), enrol.Bundle{
		EnrolURL: b.EnrolURL, Channel: b.Channel, CAURL: b.CAURL, RootPEM: b.RootPEM,
		Device: device, Serial: b.Tokens[0].Serial, Token: b.Tokens[0].Token,
	}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// admitted says whether a listener of c lets the device in. With TLS 1.3 the
// refusal of a client's certificate is seen on the first read.
func (c *center) admitted(t *testing.T, id *enrol.Identity, addr, proto string) error {
	t.Helper()
	cfg := id.TLS()
	cfg.ServerName, cfg.NextProtos = "127.0.0.1", []string{proto}
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: cfg}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if proto == "http/1.1" {
		if _, err := io.WriteString(conn, "GET /root.pem HTTP/1.1\r\nHost: ca\r\n\r\n"); err != nil {
			return err
		}
	}
	_, err = conn.Read(make([]byte, 1)) // the channel's server speaks first: its side is the gRPC client
	return err
}

// fetch reads what everybody may.
func fetch(t *testing.T, url string) []byte {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s %v", url, res.Status, err)
	}
	return b
}

// crls fetches the revocation lists of all issuers into files.
func (c *center) crls(t *testing.T) map[pki.Issuer]string {
	t.Helper()
	out := map[pki.Issuer]string{}
	rest := fetch(t, "http://"+c.serving.Status+"/issuers.pem")
	for _, issuer := range []pki.Issuer{pki.Devices, pki.Services, pki.Hub} {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			t.Fatalf("issuers.pem has no certificate of %s", issuer)
		}
		cert, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		id, err := enrol.KeyID(cert.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		out[issuer] = filepath.Join(c.dir, string(issuer)+".crl")
		if err := os.WriteFile(out[issuer], fetch(t, "http://"+c.serving.Status+"/crl/"+id+".crl"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// writeOn makes tokens until the returned function is called, which tells how
// many; each is a write and a link of the audit log.
func writeOn(t *testing.T, c *center) (count *atomic.Int64, stop func()) {
	t.Helper()
	own, err := client.New(client.Config{Server: "https://" + c.serving.Console, RootCA: c.serving.Root, TokenFile: c.tokenFile("lan")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	count = &atomic.Int64{}
	first, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			n := client.NewToken{Name: "write " + strconv.FormatInt(count.Load(), 10), Scopes: []client.Role{client.RoleNOC}, Expires: time.Now().Add(time.Minute).UTC()}
			if _, err := own.CreateToken(ctx, n); err != nil {
				if ctx.Err() == nil {
					done <- err
				}
				break
			}
			if count.Add(1) == 1 {
				close(first)
			}
		}
		close(done)
	}()
	select {
	case <-first:
	case err := <-done:
		t.Fatal(err)
	}
	return count, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("writing during the backup: %v", err)
		}
		own.Close()
	}
}

// ageKey makes a key pair; the secret half is in the returned file.
func ageKey(t *testing.T, dir, name string) (file, recipient string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte("# a comment, as age-keygen writes\n"+id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, id.Recipient().String()
}

// chain verifies the audit log of a data directory that no controller holds.
func chain(t *testing.T, dir string) uint64 {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite://"+filepath.Join(dir, "data", "wardnet.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	n, _, err := store.NewAudit(db, "hcmc").Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestBackupIsRestoredOnAnEmptyMachine(t *testing.T) {
	t.Parallel()
	old, fresh := t.TempDir(), t.TempDir()
	a := begin(t, old)
	if err := a.first(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lan", "an"} {
		if err := a.hire(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	city := filepath.Join(old, "city.yaml")
	if err := os.WriteFile(city, sample.Document(), 0o600); err != nil {
		t.Fatal(err)
	}
	a.must(t, "lan", "inventory", "import", city)
	stolen, kept := a.enrolled(t, "d-26740"), a.enrolled(t, "d-25750")
	for name, id := range map[string]*enrol.Identity{"stolen": stolen, "kept": kept} {
		if err := a.admitted(t, id, a.serving.CA, "http/1.1"); err != nil {
			t.Fatalf("%s before the backup: %v", name, err)
		}
	}

	key, recipient := ageKey(t, old, "backup.key")
	file := filepath.Join(old, "wardnet.backup")
	count, stop := writeOn(t, a)
	before := count.Load()
	a.must(t, "admin", "backup", "--recipient", recipient, file)
	during := count.Load() - before
	stop()
	if during == 0 {
		t.Error("nothing was written while the backup was made; the test shows nothing")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("backup file: %v, %v; want mode 0600", info.Mode(), err)
	}

	// The box is stolen after the backup; then the machine is lost, but for a
	// CRL that somebody fetched.
	serial := enrol.SerialOf(stolen.Certificate())
	a.must(t, "an", "cert", "revoke", serial, "--reason", "box stolen")
	crls := a.crls(t)
	exported := a.must(t, "lan", "inventory", "export")
	root := fetch(t, "http://"+a.serving.Status+"/root.pem")
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	chain(t, old)

	conf := filepath.Join(fresh, "wardnet.yaml")
	if err := os.WriteFile(conf, []byte(freePorts(filepath.Join(fresh, "data"))), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"restore", file, "--identity", key, "--config", conf, "--crl", crls[pki.Devices]}
	if _, errs, code := program(t, args...); code != exitHeld || !strings.Contains(errs, "what did the services issuer revoke") {
		t.Errorf("restore without the services' CRL: exit code %d, %s", code, errs)
	}
	args = append(args, "--crl", crls[pki.Services])
	out := must(t, args...)
	if !strings.Contains(out, "; 1 later revocations kept") {
		t.Errorf("restore says %q, want 1 later revocation", out)
	}
	if _, errs, code := program(t, args...); code != exitFailed || !strings.Contains(errs, "holds a controller already") {
		t.Errorf("restore over a controller: exit code %d, %s", code, errs)
	}
	for _, name := range []string{"admin.password", "lan.password", "lan.token", "an.token"} {
		b, err := os.ReadFile(filepath.Join(old, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(fresh, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := begin(t, fresh)
	checkRestored(t, b, exported, root)
	checkRevoked(t, b, stolen, kept)
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	// The log goes on where the backup ended, the restore itself included.
	if n := chain(t, fresh); n == 0 {
		t.Error("the restored audit log is empty")
	}
}

// checkRestored compares what people see with what was there.
func checkRestored(t *testing.T, b *center, exported string, root []byte) {
	t.Helper()
	if b.serving.Setup != "" {
		t.Error("the restored controller offers a link for a first administrator")
	}
	if got := fetch(t, "http://"+b.serving.Status+"/root.pem"); !bytes.Equal(got, root) {
		t.Error("the restored controller has another root certificate")
	}
	for _, user := range []string{"admin", "lan"} {
		own, err := b.signIn(t.Context(), user)
		if err != nil {
			t.Errorf("%s cannot sign in after the restore: %v", user, err)
			continue
		}
		own.Close()
	}
	if got := b.must(t, "lan", "inventory", "export"); got != exported {
		t.Errorf("the restored inventory differs: %d bytes, want %d", len(got), len(exported))
	}
}

// checkRevoked holds the restored controller to the revocation that its backup
// did not know.
func checkRevoked(t *testing.T, b *center, stolen, kept *enrol.Identity) {
	t.Helper()
	var certs []client.Certificate
	if err := json.Unmarshal([]byte(b.must(t, "lan", "cert", "list", "--json")), &certs); err != nil {
		t.Fatal(err)
	}
	states := map[string]string{}
	for _, c := range certs {
		states[c.Serial] = c.State
	}
	serial := enrol.SerialOf(stolen.Certificate())
	if states[serial] != "revoked" || states[enrol.SerialOf(kept.Certificate())] != "valid" {
		t.Errorf("certificates are %v, want %s alone revoked", states, serial)
	}
	for addr, proto := range map[string]string{b.serving.CA: "http/1.1", b.serving.Devices: pki.ChannelProtocol} {
		if err := b.admitted(t, kept, addr, proto); err != nil {
			t.Errorf("%s: the good certificate is refused: %v", proto, err)
		}
		if err := b.admitted(t, stolen, addr, proto); err == nil || !strings.Contains(err.Error(), "remote error: tls: bad certificate") {
			t.Errorf("%s: the revoked certificate: %v, want a TLS alert", proto, err)
		}
	}
	var log []client.AuditEntry
	if err := json.Unmarshal([]byte(b.must(t, "an", "audit", "list", "--json")), &log); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range log {
		seen[e.What+" "+e.Outcome] = true
	}
	for _, want := range []string{"pki.merge done", "create-backup done"} {
		if !seen[want] {
			t.Errorf("the audit log has no %q; it has %v", want, seen)
		}
	}
}
