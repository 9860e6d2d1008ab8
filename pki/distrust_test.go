package pki_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
	"github.com/wardnet/wardnet/pki/signer"
)

// dialTLS makes a handshake with a device's own configuration and waits for the
// first byte.
func (a *authority) dialTLS(name string, cfg *tls.Config) error {
	conn, err := tls.Dial("tcp", strings.TrimPrefix(a.urls[name], "https://"), cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.ReadAll(conn)
	return err
}

// renewWith asks the CA listener with a client certificate.
func (a *authority) renewWith(cert *tls.Certificate, body any) (status int, answer string, err error) {
	a.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		a.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(a.RootPEM()))
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS13}}}
	defer c.CloseIdleConnections()
	resp, err := c.Post(a.urls["ca"]+enrol.RenewPath, "application/json", bytes.NewReader(text))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(out), err
}

// The devices issuer's key is stolen. From the distrust on nothing of it opens
// a connection, what is open is looked at again, forged certificates get
// nothing anywhere, and the recorded devices come back with new keys.
func TestDistrust(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	devices := []*enrol.Identity{a.enrolled("e-1"), a.enrolled("e-2"), a.enrolled("e-3")}
	old := presented(t, devices[0])
	forged := a.forge("devices", client(t, "spiffe://wardnet.hcmc/device/e-1"))
	if err := a.connect("channel", forged, nil); err != nil {
		t.Fatalf("before the theft is known the forged one is as good as any: %v", err)
	}
	looked := 0
	a.OnIssuersChanged(func() { looked++ })
	dry, err := a.Distrust(t.Context(), pki.Compromise{Issuer: pki.Devices, By: "an", Reason: "drill", DryRun: true})
	if err != nil || !slices.Equal(dry.Holders, []string{"e-1", "e-2", "e-3"}) || !slices.Equal(dry.Distrusted, []int{1}) || dry.Active != 2 || !dry.RootCRL {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	if got := a.states(pki.Devices); got != "active" || looked != 0 {
		t.Fatalf("a dry run changed something: %s", got)
	}
	if _, err := a.Distrust(t.Context(), pki.Compromise{Issuer: pki.Devices, By: "an", Reason: " "}); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("without a reason: %v", err)
	}
	start := time.Now()
	if _, err := a.Distrust(t.Context(), pki.Compromise{Issuer: pki.Devices, By: "an", Reason: "key-compromise: directory stolen"}); err != nil {
		t.Fatal(err)
	}
	if got := a.states(pki.Devices); got != "distrusted active" || looked == 0 {
		t.Errorf("states %q, connections looked at %d times", got, looked)
	}
	for name, cert := range map[string]*tls.Certificate{"recorded": old, "forged": forged} {
		if err := a.connect("channel", cert, nil); err == nil {
			t.Errorf("%s certificate at the channel: admitted", name)
		}
	}
	t.Logf("refused %s after the call", time.Since(start).Round(time.Millisecond))
	if !a.audited(pki.DistrustedIssuer) || a.refusals(pki.ChannelListener, pki.DistrustedIssuer) != 2 {
		t.Errorf("%v refusals counted", a.refusals(pki.ChannelListener, pki.DistrustedIssuer))
	}
	fresh := enrol.RenewRequest{CSR: csrFor(t, "spiffe://wardnet.hcmc/device/e-1"), WireGuardPublicKey: devices[0].WireGuardPublicKey()}
	if _, answer, err := a.renewWith(forged, fresh); err == nil {
		t.Errorf("the forged certificate at the CA: %s", answer)
	}
	same := fresh
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: devices[0].Certificate().URIs}, old.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	same.CSR = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	if status, answer, err := a.renewWith(old, same); err != nil || status != http.StatusForbidden || !strings.Contains(answer, "same-key") {
		t.Errorf("the old key certified again: %d %s, %v", status, answer, err)
	}
	for _, i := range devices[:2] {
		if err := i.Renew(t.Context()); err != nil {
			t.Fatalf("%s: %v", i.Device(), err)
		}
		if err := a.connect("channel", presented(t, i), nil); err != nil {
			t.Errorf("%s with its new certificate: %v", i.Device(), err)
		}
	}
	g := a.issuer(pki.Devices).Generations
	if d := g[0].Drill; d == nil || d.Affected != 3 || d.Rekeyed != 2 || !slices.Equal(d.Remaining, []string{"e-3"}) || d.First == 0 {
		t.Errorf("drill %+v", d)
	}
	if err := a.Revoke(t.Context(), enrol.SerialOf(devices[2].Certificate()), "stolen", "an"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := deadline(t)
	defer cancel()
	if err := devices[2].Renew(ctx); err == nil {
		t.Error("a revoked device came back")
	}
	list, err := x509.ParseRevocationList(fetch(t, a.urls["status"]+"/crl/root.crl"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(g[0].Certificate))
	issuer, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(issuer.SerialNumber) != 0 {
		t.Errorf("the root's list has %d entries", len(list.RevokedCertificateEntries))
	}
}

// A whole city comes back by itself, paced, within the minute; the time line
// says so.
func TestDistrustFleet(t *testing.T) {
	const fleet = 208
	a := newAuthority(t, pki.Config{EnrolRate: 1000})
	devices := make([]*enrol.Identity, fleet)
	var wg sync.WaitGroup
	gate := make(chan struct{}, 16)
	for n := range devices {
		id := inventory.DeviceID(fmt.Sprintf("e-%03d", n))
		b := a.bundle(id)
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			var err error
			if devices[n], err = enrol.Enrol(t.Context(), b, filepath.Join(a.dir, "state", string(id))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	if _, err := a.Distrust(t.Context(), pki.Compromise{Issuer: pki.Devices, By: "an", Reason: "drill"}); err != nil {
		t.Fatal(err)
	}
	for _, i := range devices {
		wg.Go(func() {
			if err := a.connect("channel", presented(t, i), nil); err == nil {
				t.Errorf("%s is still admitted", i.Device())
			}
			if err := i.Renew(t.Context()); err != nil {
				t.Errorf("%s: %v", i.Device(), err)
				return
			}
			if err := a.connect("channel", presented(t, i), nil); err != nil {
				t.Errorf("%s with its new certificate: %v", i.Device(), err)
			}
		})
	}
	wg.Wait()
	d := a.issuer(pki.Devices).Generations[0].Drill
	t.Logf("re-keyed %d of %d: first %s, half %s, 95 %% %s, all %s", d.Rekeyed, d.Affected, d.First, d.Half, d.P95, d.Last)
	if d.Affected != fleet || d.Rekeyed != fleet || d.Last == 0 || d.Last > time.Minute {
		t.Errorf("drill %+v", d)
	}
}

// faulty is the store and the signer of a process that is killed before its
// n-th change.
type faulty struct {
	pki.Store
	pki.Signer
	left int
}

var errKilled = errors.New("killed")

func (f *faulty) cut() error {
	if f.left--; f.left < 0 {
		return errKilled
	}
	return nil
}

func (f *faulty) AddGeneration(ctx context.Context, g pki.Generation) error {
	if err := f.cut(); err != nil {
		return err
	}
	return f.Store.AddGeneration(ctx, g)
}

func (f *faulty) MoveGenerations(ctx context.Context, list []pki.Move, r pki.MoveRecord) error {
	if err := f.cut(); err != nil {
		return err
	}
	return f.Store.MoveGenerations(ctx, list, r)
}

func (f *faulty) Change(ctx context.Context, c signer.Change) (signer.Info, error) {
	if err := f.cut(); err != nil {
		return signer.Info{}, err
	}
	return f.Signer.Change(ctx, c)
}

// A kill before each change of a distrust: the issuer is then either as before
// or distrusted, nothing in between; certificates are issued; and the same call
// again ends in the distrust. The listeners are another replica's, which follows
// by itself.
func TestKilledInDistrust(t *testing.T) {
	for n := range 5 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			a := newAuthority(t, pki.Config{})
			device := a.enrolled("e-1")
			ctx, stop := context.WithCancel(t.Context())
			replica, ended := a.PKI, make(chan error, 1)
			go func() { ended <- replica.Run(ctx) }()
			defer func() { stop(); <-ended }()
			cfg := pki.Config{EnrolURL: a.urls["enrol"], CAURL: a.urls["ca"], StatusURL: a.urls["status"], Channel: a.urls["channel"]}
			deps := a.deps()
			s, err := signer.Open(filepath.Join(a.dir, "ca"), signer.Config{Names: []string{"localhost", "127.0.0.1", "::1"}}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			f := &faulty{Store: deps.Store, Signer: s, left: 1 << 30}
			deps.Store, deps.Signer, deps.Reg = f, f, nil
			doomed, err := pki.Open(t.Context(), deps, cfg)
			if err != nil {
				t.Fatal(err)
			}
			f.left = n
			_, err = doomed.Distrust(t.Context(), pki.Compromise{Issuer: pki.Devices, By: "an", Reason: "drill"})
			if err != nil && !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			t.Logf("after a kill before change %d: %v", n, err)
			a.open(cfg) // the process starts again
			if got := a.states(pki.Devices); got != "active" && got != "active staged" && got != "distrusted active" {
				t.Fatalf("states %q after a kill at %d", got, n)
			}
			if _, err := enrol.Enrol(t.Context(), a.bundle("e-2"), t.TempDir()); err != nil {
				t.Fatalf("enrolment after the kill: %v", err)
			}
			if !strings.HasPrefix(a.states(pki.Devices), "distrusted") {
				if _, err := a.Distrust(t.Context(), pki.Compromise{Issuer: pki.Devices, By: "an", Reason: "drill"}); err != nil {
					t.Fatal(err)
				}
			}
			for end := time.Now().Add(5 * time.Second); a.connect("channel", presented(t, device), nil) == nil; time.Sleep(50 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("the other replica still admits the old certificate after 5 s")
				}
			}
			if err := device.Renew(t.Context()); err != nil {
				t.Error(err)
			}
			if err := a.connect("channel", presented(t, device), nil); err != nil {
				t.Error(err)
			}
		})
	}
}
