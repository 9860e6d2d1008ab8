package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/wardnet/wardnet/console"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/policy"
)

// What a verdict depends on is news; that one of thousands of devices came or
// went is none, for its posture stands with its time.
func TestFactsNews(t *testing.T) {
	at := time.Now()
	well := standing{site: "s-1", certificate: "valid", connected: true, compliant: true}
	fresh := policy.Posture{Compliant: true, Source: "controller", At: at.Add(-postureEvery)}
	for name, tt := range map[string]struct {
		change  func(*standing)
		posture policy.Posture
		want    tidings
	}{
		"nothing":            {func(*standing) {}, fresh, noNews},
		"it went":            {func(s *standing) { s.connected, s.compliant = false, false }, fresh, noNews},
		"another site":       {func(s *standing) { s.site = "s-2" }, fresh, badNews},
		"revoked":            {func(s *standing) { s.certificate = "none" }, fresh, badNews},
		"quarantined":        {func(s *standing) { s.quarantined = true }, fresh, badNews},
		"drifted":            {func(s *standing) { s.compliant = false }, fresh, badNews},
		"put back":           {func(*standing) {}, policy.Posture{At: at}, goodNews},
		"back after an hour": {func(*standing) {}, policy.Posture{Compliant: true, At: at.Add(-time.Hour)}, goodNews},
		"never measured":     {func(*standing) {}, policy.Posture{}, goodNews},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts{
				standing: map[inventory.DeviceID]standing{"d-1": well},
				postures: map[inventory.DeviceID]policy.Posture{"d-1": tt.posture},
			}
			now := well
			tt.change(&now)
			if got := f.news("d-1", now, at); got != tt.want {
				t.Errorf("news: %v, want %v", got, tt.want)
			}
		})
	}
	f := facts{standing: map[inventory.DeviceID]standing{"d-1": well}, postures: map[inventory.DeviceID]policy.Posture{"d-1": fresh}}
	if got := f.news("d-2", well, at); got != badNews {
		t.Errorf("a device that was added: %v", got)
	}
	f.standing["d-1"] = standing{site: "s-1", certificate: "none", quarantined: true, connected: true, compliant: true}
	if got := f.news("d-1", well, at); got != goodNews {
		t.Errorf("a certificate and the end of a quarantine: %v", got)
	}
}

// observed is what a test says of the devices.
type observed struct {
	mu           sync.Mutex
	revoked      map[inventory.DeviceID]bool
	quarantined  map[inventory.DeviceID]string
	noncompliant map[inventory.DeviceID]bool
	gone         map[inventory.DeviceID]bool
	mark         string
}

// factsPlane is the part of a plane that gives facts, with a real store and a
// real engine; of devices it knows what the test says.
func factsPlane(t *testing.T, o *observed, devices ...inventory.DeviceID) *plane {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite://"+filepath.Join(t.TempDir(), "wardnet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	p := &plane{log: slog.New(slog.NewTextHandler(t.Output(), nil)), db: db, subjects: store.NewPolicy(db, "hcmc")}
	inv := inventory.Inventory{Org: "hcmc"}
	for _, id := range devices {
		inv.Devices = append(inv.Devices, inventory.Device{ID: id, Site: "s-1", Intended: inventory.InService})
	}
	p.declared.Store(declare(inv))
	p.devices = console.AdaptDevices(console.DeviceSources{
		Mark: func(context.Context) (string, error) {
			o.mu.Lock()
			defer o.mu.Unlock()
			return o.mark, nil
		},
		Certificates: func(context.Context) ([]pki.Certificate, error) {
			o.mu.Lock()
			defer o.mu.Unlock()
			var all []pki.Certificate
			for _, id := range devices {
				c := pki.Certificate{Device: id, NotAfter: time.Now().Add(time.Hour)}
				if o.revoked[id] {
					c.RevokedAt = time.Now()
				}
				all = append(all, c)
			}
			return all, nil
		},
		Quarantined: func(context.Context) ([]pki.Quarantine, error) {
			o.mu.Lock()
			defer o.mu.Unlock()
			var list []pki.Quarantine
			for id, why := range o.quarantined {
				if why != "" {
					list = append(list, pki.Quarantine{Device: id, Reason: why})
				}
			}
			return list, nil
		},
	})
	p.facts.look = func(id inventory.DeviceID) (connected, compliant bool) {
		o.mu.Lock()
		defer o.mu.Unlock()
		return !o.gone[id], !o.gone[id] && !o.noncompliant[id]
	}
	bundle, err := policy.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	log, err := policy.OpenLog(t.Context(), p.subjects, "test")
	if err != nil {
		t.Fatal(err)
	}
	if p.engine, err = policy.New(t.Context(), policy.Deps{Bundle: bundle, Log: log, Slog: p.log}, policy.Config{}); err != nil {
		t.Fatal(err)
	}
	return p
}

// fact is what a verdict about a device would use now.
func (p *plane) fact(t *testing.T, id inventory.DeviceID) policy.DeviceFact {
	t.Helper()
	used, ok := p.engine.Eval(t.Context(), policy.Request{Device: id, At: time.Now()}).Facts.(map[string]any)
	if !ok {
		t.Fatal("a verdict tells no facts")
	}
	f, ok := used["device"].(policy.DeviceFact)
	if !ok {
		t.Fatalf("%s is not in the facts", id)
	}
	return f
}

// Postures are measured once a minute, but what ends an access does not wait for
// that: non-compliance, revocation and quarantine are in the next verdict but one
// tick, and so is their end.
func TestBadNewsReachVerdictsWithinTwoSeconds(t *testing.T) {
	o := &observed{revoked: map[inventory.DeviceID]bool{}, quarantined: map[inventory.DeviceID]string{}, noncompliant: map[inventory.DeviceID]bool{}, gone: map[inventory.DeviceID]bool{}}
	p := factsPlane(t, o, "d-1", "d-2", "d-3", "d-4")
	if err := p.refreshFacts(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.watchFacts(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for _, id := range []inventory.DeviceID{"d-1", "d-2", "d-3", "d-4"} {
		if f := p.fact(t, id); f.Certificate != "valid" || f.Quarantined || !f.Compliant {
			t.Fatalf("%s at first: %+v", id, f)
		}
	}
	within := func(what string, is func() bool) {
		t.Helper()
		begin := time.Now()
		for !is() {
			if time.Since(begin) > 2*time.Second {
				t.Fatalf("%s: not in the facts after %s", what, time.Since(begin))
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Logf("%s: in the facts after %s", what, time.Since(begin).Round(10*time.Millisecond))
	}
	set := func(change func()) {
		o.mu.Lock()
		defer o.mu.Unlock()
		change()
	}
	set(func() { o.noncompliant["d-1"] = true })
	within("no longer compliant", func() bool { return !p.fact(t, "d-1").Compliant })
	set(func() { o.revoked["d-2"], o.mark = true, "1" })
	within("revoked", func() bool { return p.fact(t, "d-2").Certificate == "none" })
	set(func() { o.quarantined["d-3"], o.mark = "a stranger's traffic", "2" })
	within("quarantined", func() bool { return p.fact(t, "d-3").Quarantined })
	set(func() { delete(o.noncompliant, "d-1"); delete(o.quarantined, "d-3"); o.mark = "3" })
	within("compliant again, quarantine over", func() bool { return p.fact(t, "d-1").Compliant && !p.fact(t, "d-3").Quarantined })
	before := p.fact(t, "d-4").PostureAtNS
	set(func() { o.gone["d-4"] = true })
	time.Sleep(2 * factsEvery)
	if f := p.fact(t, "d-4"); !f.Compliant || f.PostureAtNS != before {
		t.Errorf("a device that went: %+v, its posture should stand as of %d", f, before)
	}
}
