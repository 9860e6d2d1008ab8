package pki_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// issuer gives where one issuer is.
func (a *authority) issuer(i pki.Issuer) pki.RotationStatus {
	a.t.Helper()
	all, err := a.Rotations(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	for _, s := range all {
		if s.Issuer == i {
			return s
		}
	}
	a.t.Fatalf("no issuer %s", i)
	return pki.RotationStatus{}
}

// states are an issuer's generations' states, the first generation first.
func (a *authority) states(i pki.Issuer) string {
	a.t.Helper()
	var out []string
	for _, g := range a.issuer(i).Generations {
		out = append(out, string(g.State))
	}
	return strings.Join(out, " ")
}

// next takes a step, and waits where it has only to let the others see.
func (a *authority) next(r pki.Rotation, want pki.Step) {
	a.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		step, err := a.NextRotation(a.t.Context(), r)
		if err == nil && step == want {
			return
		}
		if !errors.Is(err, pki.ErrHeld) || time.Now().After(end) {
			a.t.Fatalf("NextRotation() = %q, %v, want %q", step, err, want)
		}
	}
}

// A rotation of the devices issuer under load: every enrolment succeeds, and so
// does every handshake with a certificate of the old and of the new one.
func TestRotationUnderEnrolments(t *testing.T) {
	a := newAuthority(t, pki.Config{EnrolRate: 1000})
	old := presented(t, a.enrolled("e-old"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var enrolled, shaken atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	var last *enrol.Identity
	offered := 0 // of the one goroutine that begins enrolments
	const perSecond = 50
	comes := func(id inventory.DeviceID) {
		a.declare(id, inventory.InService)
		token, _, err := a.CreateToken(t.Context(), id, "SN-"+string(id), "an")
		if err != nil {
			t.Errorf("token of %s: %v", id, err)
			return
		}
		i, err := enrol.Enrol(t.Context(), a.Bundle(id, "SN-"+string(id), token), filepath.Join(a.dir, "state", string(id)))
		if err != nil {
			t.Errorf("enrolment of %s: %v", id, err)
			return
		}
		enrolled.Add(1)
		mu.Lock()
		last = i
		mu.Unlock()
		c, err := i.TLS().GetClientCertificate(nil)
		if err == nil {
			err = a.connect("channel", c, nil)
		}
		if err != nil {
			t.Errorf("handshake of %s: %v", id, err)
		}
		shaken.Add(1)
	}
	wg.Go(func() {
		for begun := time.Now(); ctx.Err() == nil; time.Sleep(time.Second / perSecond) {
			for ; float64(offered) < time.Since(begun).Seconds()*perSecond; offered++ { // a slow machine skips none
				id := inventory.DeviceID(fmt.Sprintf("e-%d", offered))
				wg.Go(func() { comes(id) })
			}
		}
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := a.connect("channel", old, nil); err != nil {
				t.Errorf("handshake of the old device: %v", err)
			}
			shaken.Add(1)
			time.Sleep(20 * time.Millisecond)
		}
	})
	start := time.Now()
	time.Sleep(500 * time.Millisecond)
	r := pki.Rotation{Issuer: pki.Devices, By: "an", Reason: "test"}
	if err := a.StartRotation(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	a.next(r, pki.PublishStep)
	a.next(r, pki.SwitchStep)
	time.Sleep(time.Second)
	rotated := time.Since(start)
	stop()
	wg.Wait()
	t.Logf("%d enrolments begun in %s (%.0f/s), %d succeeded, %d handshakes", offered, rotated.Round(time.Millisecond), float64(offered)/rotated.Seconds(), enrolled.Load(), shaken.Load())
	if float64(offered) < perSecond*0.8*rotated.Seconds() || enrolled.Load() != int64(offered) {
		t.Errorf("want %d begun in a second for the test to mean anything, and all to succeed", perSecond)
	}
	if got := a.states(pki.Devices); got != "draining active" {
		t.Errorf("states %q", got)
	}
	leaf := last.Certificate()
	if g := a.issuer(pki.Devices).Generations[1]; !slices.Contains(g.Holders, string(last.Device())) {
		t.Errorf("%s is not shown with generation 2, of %d holders", last.Device(), len(g.Holders))
	}
	// The old one is not retired while somebody depends on it.
	if _, err := a.NextRotation(t.Context(), r); !errors.Is(err, pki.ErrHeld) {
		t.Errorf("retired with holders: %v", err)
	}
	if _, err := a.NextRotation(t.Context(), pki.Rotation{Issuer: pki.Devices, By: "an", Force: true}); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("forced without a reason: %v", err)
	}
	a.bothCRLs(old.Certificate[0], leaf.Raw)
	a.next(pki.Rotation{Issuer: pki.Devices, By: "an", Reason: "cut the rest off", Force: true}, pki.RetireStep)
	if err := a.connect("channel", old, nil); err == nil {
		t.Error("a certificate of a retired generation is taken")
	}
	if !a.audited(pki.ForeignIssuer) {
		t.Error("the refusal is not in the audit log")
	}
}

// bothCRLs revokes a leaf of either generation, and openssl finds each revoked
// by the CRL of its own issuer.
func (a *authority) bothCRLs(leaves ...[]byte) {
	a.t.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		a.t.Log("openssl is not installed: CRLs not verified by it")
		return
	}
	dir := a.t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			a.t.Fatal(err)
		}
		return path
	}
	issuers := filepath.Join(dir, "issuers.pem")
	if err := os.WriteFile(issuers, fetch(a.t, a.urls["status"]+"/issuers.pem"), 0o600); err != nil {
		a.t.Fatal(err)
	}
	root := filepath.Join(dir, "root.pem")
	if err := os.WriteFile(root, []byte(a.RootPEM()), 0o600); err != nil {
		a.t.Fatal(err)
	}
	for n, der := range leaves {
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			a.t.Fatal(err)
		}
		check := func() string {
			crl := file(fmt.Sprintf("%d.crl", n), "X509 CRL", fetch(a.t, leaf.CRLDistributionPoints[0]))
			out, _ := exec.Command(openssl, "verify", "-crl_check", "-CAfile", root, "-untrusted", issuers, "-CRLfile", crl, file(fmt.Sprintf("%d.pem", n), "CERTIFICATE", der)).CombinedOutput()
			return string(out)
		}
		if out := check(); !strings.Contains(out, "OK") {
			a.t.Errorf("leaf %d before: %s", n, out)
		}
		if err := a.Revoke(a.t.Context(), enrol.SerialOf(leaf), "key-compromise", "an"); err != nil {
			a.t.Fatal(err)
		}
		if out := check(); !strings.Contains(out, "certificate revoked") {
			a.t.Errorf("leaf %d after: %s", n, out)
		}
	}
}

// The hub issuer is switched only when the devices know the new one; who has
// not renewed is named, and who has finds the controller again.
func TestHubRotation(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	early, late := a.enrolled("e-early"), a.enrolled("e-late")
	r := pki.Rotation{Issuer: pki.Hub, By: "an", Reason: "yearly"}
	if err := a.StartRotation(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	a.next(r, pki.PublishStep)
	time.Sleep(5100 * time.Millisecond) // until every replica has it
	if err := early.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.NextRotation(t.Context(), r); !errors.Is(err, pki.ErrHeld) {
		t.Fatalf("switched before the devices know: %v", err)
	}
	if s := a.issuer(pki.Hub); !slices.Equal(s.Behind, []string{"e-late"}) || s.Next != pki.SwitchStep || s.Held == "" {
		t.Errorf("behind %v, next %q, held %q", s.Behind, s.Next, s.Held)
	}
	a.next(pki.Rotation{Issuer: pki.Hub, By: "an", Reason: "e-late is broken", Force: true}, pki.SwitchStep)
	dial := func(i *enrol.Identity) error {
		c := i.TLS()
		c.ServerName, c.NextProtos = "localhost", []string{pki.ChannelProtocol}
		return a.dialTLS("channel", c)
	}
	if err := dial(early); err != nil {
		t.Errorf("who knows the new issuer: %v", err)
	}
	if err := dial(late); !errors.Is(err, enrol.ErrPin) {
		t.Errorf("who does not: %v", err)
	}
}

// A rotation can be given up until the switch, and steps out of turn are named.
func TestRotationAbort(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	r := pki.Rotation{Issuer: pki.Services, By: "an"}
	if _, err := a.NextRotation(t.Context(), r); !errors.Is(err, inventory.ErrConflict) {
		t.Errorf("next without a start: %v", err)
	}
	if err := a.AbortRotation(t.Context(), r); !errors.Is(err, inventory.ErrConflict) {
		t.Errorf("abort without a start: %v", err)
	}
	if err := a.StartRotation(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := a.StartRotation(t.Context(), r); !errors.Is(err, inventory.ErrConflict) {
		t.Errorf("a second start: %v", err)
	}
	a.next(r, pki.PublishStep)
	if err := a.AbortRotation(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := a.states(pki.Services); got != "active retired" {
		t.Errorf("states %q", got)
	}
	if err := a.StartRotation(t.Context(), pki.Rotation{Issuer: "root", By: "an"}); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("rotation of the root: %v", err)
	}
}
