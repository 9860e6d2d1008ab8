package pki_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// The controller is away for eight days, longer than any certificate lives.
// Then the whole city returns: nobody in quarantine, at a bounded rate.
func TestTheWholeCityReturns(t *testing.T) {
	const devices, perSecond = 208, 1
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, pki.Config{ReturnRate: perSecond})
		w.wasUp()
		ids := make([]*enrol.Identity, devices)
		for n := range ids { // over the last days: certificates of every age
			ids[n] = w.enrolled(inventory.DeviceID(fmt.Sprintf("e-%03d", n)))
			time.Sleep(110 * time.Hour / devices)
		}
		w.wasUp()
		w.down()
		gone := time.Now()
		time.Sleep(8*day - 2*time.Hour)
		// They have asked all the time; two hours of it show the same.
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for _, i := range ids {
			wg.Go(func() {
				if err := w.client().RunRenewal(ctx, i); err != nil {
					t.Errorf("%s: %v", i.Device(), err)
				}
			})
		}
		defer wg.Wait()
		defer cancel()
		time.Sleep(2 * time.Hour)
		for _, i := range ids {
			if time.Now().Before(i.Certificate().NotAfter) {
				t.Fatalf("the certificate of %s still holds: the test shows nothing", i.Device())
			}
		}
		w.up(true)
		back := time.Now()
		time.Sleep(15 * time.Minute)
		for _, i := range ids {
			if !i.Certificate().NotAfter.After(back) {
				t.Errorf("%s has not renewed; its certificate ended %s", i.Device(), i.Certificate().NotAfter)
			}
		}
		if in := w.quarantined(); len(in) > 0 {
			t.Errorf("%d devices are in quarantine: %v", len(in), in)
		}
		renewals := w.story("renew")
		if len(renewals) != devices {
			t.Errorf("%d renewals in the audit log, want %d", len(renewals), devices)
		}
		most, oldest := 0, time.Duration(0)
		for n, e := range renewals {
			in10 := 0
			for _, f := range renewals[n:] {
				if f.At.Sub(e.At) < 10*time.Second {
					in10++
				}
			}
			most, oldest = max(most, in10), max(oldest, e.At.Sub(back))
			if !strings.Contains(e.Reason, "after its end") {
				t.Errorf("%s renewed by %q", e.Object, e.Reason)
			}
		}
		if most > 10*perSecond+perSecond+1 {
			t.Errorf("%d renewals within ten seconds, at most %d wanted", most, 11*perSecond+1)
		}
		t.Logf("away %s; %d devices back within %s, at most %d in ten seconds", back.Sub(gone), devices, oldest.Round(time.Second), most)
	})
}

// Whoever is dark by its own doing goes into quarantine, is no peer there,
// and is released by a person.
func TestDarkForSixtyDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, pki.Config{})
		w.wasUp()
		dark, long, stolen := w.enrolled("e-dark"), w.enrolled("e-long"), w.enrolled("e-stolen")
		w.pass(67 * day)
		if err := w.pki.Revoke(t.Context(), enrol.SerialOf(stolen.Certificate()), "key-compromise", "an"); err != nil {
			t.Fatal(err)
		}
		if err := w.client().Renew(t.Context(), dark); err != nil {
			t.Fatal(err)
		}
		in := w.quarantined()
		if in["e-dark"] == "" || len(in) != 1 {
			t.Errorf("in quarantine: %v", in)
		}
		_, keys, err := w.pki.WireGuardKeys(t.Context())
		if err != nil || keys["e-dark"] != "" || keys["e-long"] == "" {
			t.Errorf("peers %v, %v", keys, err)
		}
		// A renewal in time changes nothing about it.
		w.pass(5 * day)
		if err := w.client().Renew(t.Context(), dark); err != nil {
			t.Fatal(err)
		}
		if w.quarantined()["e-dark"] == "" {
			t.Error("renewing in time let it out")
		}
		if err := w.pki.Release(t.Context(), "e-dark", " ", "lan"); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("released without a reason: %v", err)
		}
		if err := w.pki.Release(t.Context(), "e-dark", "seen on site", "lan"); err != nil {
			t.Fatal(err)
		}
		if _, keys, err = w.pki.WireGuardKeys(t.Context()); err != nil || keys["e-dark"] != dark.WireGuardPublicKey() {
			t.Errorf("after the release peers are %v, %v", keys, err)
		}
		refused := func(i *enrol.Identity, want pki.Reason) {
			t.Helper()
			var r *enrol.RefusedError
			if err := w.client().Renew(t.Context(), i); !errors.As(err, &r) || r.Body.Reason != string(want) || r.Body.Message == "" {
				t.Errorf("%s: %v, want %s", i.Device(), err, want)
			}
		}
		refused(stolen, pki.Revoked)
		w.pass(30 * day)
		refused(long, pki.EndedTooLong)
	})
}

// A device that is away is put into quarantine by the controller itself; one
// that is enrolled anew comes out.
func TestSweepTakesTheDarkOnesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, pki.Config{})
		w.wasUp()
		w.enrolled("e-away")
		w.pass(7*day - time.Hour)
		w.enrolled("e-here")
		w.pass(47 * time.Hour)
		look := func() map[inventory.DeviceID]string {
			w.down()
			w.up(true)
			time.Sleep(2 * time.Minute)
			return w.quarantined()
		}
		if in := look(); len(in) != 0 {
			t.Errorf("too early: %v", in)
		}
		w.pass(3 * time.Hour)
		if in := look(); len(in) != 1 || in["e-away"] == "" {
			t.Errorf("in quarantine: %v", in)
		}
		w.enrolled("e-away")
		if in := w.quarantined(); len(in) != 0 {
			t.Errorf("enrolled anew and in quarantine: %v", in)
		}
	})
}

// snapshot is a device's disk.
func snapshot(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, name := range []string{"current.json", "next.json"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			out[name] = text
		} else if !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return out
}

func setBack(t *testing.T, dir string, disk map[string][]byte) *enrol.Identity {
	t.Helper()
	for _, name := range []string{"current.json", "next.json"} {
		os.Remove(filepath.Join(dir, name))
		if text, ok := disk[name]; ok {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	i, err := enrol.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// visit is one time that a device calls.
type visit struct {
	wait   time.Duration
	disk   int // to be set back to, newest is 0; -1: as it is
	answer bool
}

// A device's two slots live through random times, outages, lost answers and
// disks that are set back; a twin with two facts says what must come of each
// renewal.
func TestSlotsLiveThroughEverything(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		visits := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) visit {
			hours := rapid.SampledFrom([]int{1, 30, 5 * 24, 7*24 + 30, 7*24 + 47, 7*24 + 60, 30 * 24, 98 * 24}).Draw(rt, "hours")
			return visit{
				wait:   time.Duration(hours) * time.Hour,
				disk:   rapid.SampledFrom([]int{-1, -1, -1, 0, 1, 2}).Draw(rt, "disk"),
				answer: rapid.Bool().Draw(rt, "answer"),
			}
		}), 1, 6).Draw(rt, "visits")
		fault := ""
		synctest.Test(t, func(t *testing.T) { fault = liveThrough(t, visits) })
		if fault != "" {
			rt.Fatal(fault)
		}
	})
}

// liveThrough gives what went wrong.
func liveThrough(t *testing.T, visits []visit) string {
	w, dir := newTown(t, pki.Config{}), t.TempDir()
	i, err := w.client().Enrol(t.Context(), w.bundle("e-1"), dir)
	if err != nil {
		return err.Error()
	}
	in, disks, newest := false, []map[string][]byte{snapshot(t, dir)}, enrol.SerialOf(i.Certificate())
	for n, v := range visits {
		w.pass(v.wait)
		if v.disk >= 0 {
			i = setBack(t, dir, disks[max(0, len(disks)-1-v.disk)])
		}
		leaf := i.Certificate()
		late, old := time.Since(leaf.NotAfter), enrol.SerialOf(leaf) != newest
		var asking map[string][]byte // the disk as the request leaves
		c := w.client()
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if asking == nil {
				asking = snapshot(t, dir)
			}
			return w.wires.Dial(ctx, network, addr)
		}
		err := c.Renew(t.Context(), i)
		var refused *enrol.RefusedError
		switch {
		case late > pki.RecoverLimit:
			if !errors.As(err, &refused) || refused.Body.Reason != string(pki.EndedTooLong) {
				return fmt.Sprintf("visit %d, %s after the end: %v", n, late, err)
			}
			return "" // it is enrolled anew
		case err != nil:
			return fmt.Sprintf("visit %d, %s after the end: %v", n, late, err)
		case late > pki.RecoverGrace, late > 0 && old:
			in = true
		}
		serial := enrol.SerialOf(i.Certificate())
		if !v.answer { // the power went before the answer was on disk
			i = setBack(t, dir, asking)
			if enrol.SerialOf(i.Certificate()) != enrol.SerialOf(leaf) {
				return "the certificate was on disk before it was asked for"
			}
			if err := w.client().Renew(t.Context(), i); err != nil || enrol.SerialOf(i.Certificate()) != serial {
				return fmt.Sprintf("asked again it got %s, %v, want %s", enrol.SerialOf(i.Certificate()), err, serial)
			}
		}
		if why := w.quarantined()["e-1"]; (why != "") != in {
			return fmt.Sprintf("visit %d, %s after the end, old %v: in quarantine %q, want %v", n, late, old, why, in)
		}
		again, err := enrol.Load(dir)
		if err != nil || enrol.SerialOf(again.Certificate()) != serial || again.WireGuardPublicKey() != i.WireGuardPublicKey() {
			return fmt.Sprintf("on disk is %v, %v", again, err)
		}
		newest = serial
		disks = append(disks, snapshot(t, dir))
	}
	return ""
}
