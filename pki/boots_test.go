package pki_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// timeline is what the controller knows of a device's boots.
func (a *authority) timeline(id inventory.DeviceID) enrol.Timeline {
	a.t.Helper()
	tl, err := a.boots.Timeline(a.t.Context(), id)
	if err != nil {
		a.t.Fatal(err)
	}
	return tl
}

func names(tl enrol.Timeline) (out []string) {
	for _, s := range tl.Steps {
		line := string(s.Name) + " " + string(s.State)
		if s.Cause != "" {
			line += " " + string(s.Cause)
		}
		out = append(out, line+" by "+s.By)
	}
	return out
}

// The whole story of a first boot: what the device saw on its own before and
// during the contact, and what the controller saw after it.
func TestFirstBootIsTold(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	b, dir := a.bundle("e-1"), t.TempDir()
	j := enrol.OpenJournal(dir)
	for _, s := range []enrol.Step{
		{Name: enrol.StepPorts, State: enrol.StepPassed, Detail: "eth0"},
		{Name: enrol.StepAddress, State: enrol.StepFailed, Cause: enrol.CauseNoAddress, Detail: "no DHCP answer"},
		{Name: enrol.StepAddress, State: enrol.StepPassed, Detail: "192.0.2.7/24"},
		{Name: enrol.StepRoute, State: enrol.StepPassed},
	} {
		s.By, s.At = enrol.ByDevice, time.Now()
		j.Observe(s)
	}
	if _, err := (enrol.Client{Journal: j}).Enrol(t.Context(), b, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"ports passed by device", "address failed no-address by device", "address passed by device", "route passed by device",
		"dns skipped by device", "tcp passed by device", "tls passed by device",
		"token passed by controller", "certificate passed by controller",
	}
	if got := names(a.timeline("e-1")); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	own := names(j.Timeline())
	if tail := own[len(own)-3:]; !slices.Equal(tail, []string{"clock passed by device", "token passed by device", "certificate passed by device"}) {
		t.Errorf("the device's own story ends with %v", tail)
	}

	ctx := t.Context()
	a.boots.Reached(ctx, "e-1", enrol.StepChannel, "", "")
	a.boots.Reached(ctx, "e-1", enrol.StepConfirmed, enrol.CauseUnhealthy, "no BFD")
	a.boots.Reached(ctx, "e-1", enrol.StepConfirmed, "", "")
	a.boots.Reached(ctx, "e-1", enrol.StepChannel, "", "") // a later day: no first boot any more
	a.boots.Reached(ctx, "e-2", enrol.StepChannel, "", "")
	want = append(want, "channel passed by controller", "confirmed failed unhealthy by controller", "confirmed passed by controller")
	if got := names(a.timeline("e-1")); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(a.timeline("e-2").Steps) != 0 {
		t.Errorf("a device that never booted: %v", names(a.timeline("e-2")))
	}
}

// An attempt with another's serial, a used or an expired token stops at the
// device, typed, and is on the named device's timeline.
func TestRefusedAttemptsAreOnTheTimeline(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	good := a.bundle("e-1")
	wrong := good
	wrong.Serial = "SN-another"
	_, err := enrol.Enrol(t.Context(), wrong, t.TempDir())
	if cause := enrol.Classify(err); cause != enrol.CauseWrongSerial {
		t.Errorf("%q: %v", cause, err)
	}
	dir := t.TempDir()
	if _, err := enrol.Enrol(t.Context(), good, dir); err != nil {
		t.Fatal(err)
	}
	thief := t.TempDir()
	for range 3 {
		_, err = enrol.Enrol(t.Context(), good, thief)
		if cause := enrol.Classify(err); cause != enrol.CauseTokenUsed {
			t.Errorf("%q: %v", cause, err)
		}
	}
	kept, err := enrol.ReadTimeline(thief)
	if err != nil || kept.Steps[len(kept.Steps)-1].Cause != enrol.CauseTokenUsed {
		t.Errorf("the thief's own file: %v, %v", names(kept), err)
	}
	got := a.timeline("e-1")
	want := []string{
		"token failed wrong-serial by controller",
		"dns skipped by device", "tcp passed by device", "tls passed by device",
		"token passed by controller", "certificate passed by controller", "token failed token-used by controller",
	}
	if !slices.Equal(names(got), want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(names(got), "\n"), strings.Join(want, "\n"))
	}
	if last := got.Steps[len(got.Steps)-1]; last.Count != 3 || !strings.Contains(last.Detail, "127.0.0.1") {
		t.Errorf("%+v", last)
	}
	if !got.Open() {
		t.Error("a stranger's attempt ended the boot")
	}

	// A device that is not ours gets no timeline, or strangers would fill the disk.
	stranger := good
	stranger.Device = "e-unknown"
	if _, err := enrol.Enrol(t.Context(), stranger, t.TempDir()); err == nil {
		t.Error("enrolled")
	}
	if got := a.timeline("e-unknown"); len(got.Steps) != 0 {
		t.Errorf("%v", names(got))
	}
}

func TestExpiredTokenAndSkewedClockAreTyped(t *testing.T) {
	a := newAuthority(t, pki.Config{TokenTTL: time.Nanosecond})
	_, err := enrol.Enrol(t.Context(), a.bundle("e-1"), t.TempDir())
	if cause := enrol.Classify(err); cause != enrol.CauseTokenExpired {
		t.Errorf("%q: %v", cause, err)
	}
	// Within the validity of the controller's certificate, but two days off: the
	// signed time shows it.
	a = newAuthority(t, pki.Config{})
	j := enrol.OpenJournal(t.TempDir())
	c := enrol.Client{Journal: j, Now: func() time.Time { return time.Now().Add(48 * time.Hour) }}
	_, err = c.Enrol(t.Context(), a.bundle("e-2"), t.TempDir())
	last := j.Timeline().Steps
	if s := last[len(last)-1]; enrol.Classify(err) != enrol.CauseClockSkew || s.Name != enrol.StepClock || s.Cause != enrol.CauseClockSkew {
		t.Errorf("%v: %+v", err, s)
	}
}

// A replica, or the next process, takes up the boots that are under way.
func TestBootsAreTakenUp(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	a.enrolled("e-1")
	b, err := pki.NewBoots(pki.BootDeps{Store: store.NewBoots(a.db, "hcmc"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	deadline := time.Now().Add(10 * time.Second)
	for !slices.Contains(names(a.timeline("e-1")), "confirmed passed by controller") {
		if time.Now().After(deadline) {
			t.Fatal("the boot was not taken up")
		}
		b.Reached(t.Context(), "e-1", enrol.StepConfirmed, "", "")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSignedBundle(t *testing.T) {
	a, other := newAuthority(t, pki.Config{}), newAuthority(t, pki.Config{})
	b := a.bundle("e-1")
	b.Ports = []enrol.Port{{Name: "c-1", Kind: inventory.Metronet, Port: "eth0", Addressing: inventory.Static, MTU: 1500}}
	if err := b.Validate(); !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), "not signed") {
		t.Errorf("ports without a signature: %v", err)
	}
	signed, err := a.SignBundle(b)
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/bundle.json"
	if err := signed.Save(path); err != nil {
		t.Fatal(err)
	}
	if signed, err = enrol.LoadBundle(path); err != nil {
		t.Fatal(err)
	}
	if err := signed.Verify(a.RootPEM()); err != nil {
		t.Error(err)
	}
	foreign, err := other.SignBundle(b) // another network's controller, our root
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*enrol.Bundle){
		"address":   func(x *enrol.Bundle) { x.EnrolURL = "https://evil.example:9445" },
		"port":      func(x *enrol.Bundle) { x.Ports[0].Port = "eth1" },
		"no port":   func(x *enrol.Bundle) { x.Ports = nil },
		"token":     func(x *enrol.Bundle) { x.Token += "x" },
		"signature": func(x *enrol.Bundle) { x.Signature = x.Signature[:len(x.Signature)-1] },
		"signer":    func(x *enrol.Bundle) { x.Signer, x.Signature = foreign.Signer, foreign.Signature },
	} {
		bad := signed
		bad.Ports = slices.Clone(signed.Ports)
		edit(&bad)
		if err := bad.Validate(); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A whole bundle of another network is sound in itself; a device that was
	// given the root refuses it.
	swapped, err := other.SignBundle(other.bundle("e-1"))
	if err != nil || swapped.Validate() != nil {
		t.Fatalf("%v, %v", err, swapped.Validate())
	}
	if _, err := (enrol.Client{Root: a.RootPEM()}).Enrol(t.Context(), swapped, t.TempDir()); !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), "another root") {
		t.Errorf("got %v", err)
	}
	if _, err := (enrol.Client{Root: a.RootPEM()}).Enrol(t.Context(), a.bundle("e-1"), t.TempDir()); !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), "not signed") {
		t.Errorf("got %v", err)
	}
	dir := t.TempDir()
	again, err := a.SignBundle(a.bundle("e-1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (enrol.Client{Root: a.RootPEM()}).Enrol(t.Context(), again, dir); err != nil {
		t.Error(err)
	}
	// Enrolled: it stays with its CA, signed or not.
	if _, err := enrol.Enrol(t.Context(), other.bundle("e-1"), dir); !errors.Is(err, inventory.ErrConflict) {
		t.Errorf("an enrolled device went over to another CA: %v", err)
	}
}

// TestNewerBundle: a bundle of a newer controller has fields this device does
// not know; the signature covers them, so none can be added, changed or left
// out on the way.
func TestNewerBundle(t *testing.T) {
	a := newAuthority(t, pki.Config{})
	text, err := json.Marshal(a.bundle("e-1"))
	if err != nil {
		t.Fatal(err)
	}
	const added = `"beacon":{"every":3, "to":["x"]},`
	text = bytes.Replace(text, []byte(`"device"`), []byte(added+`"device"`), 1)
	var newer enrol.Bundle
	if err := json.Unmarshal(text, &newer); err != nil {
		t.Fatal(err)
	}
	payload, err := newer.Payload()
	if want := "wardnet-bundle/1\n" + strings.Replace(string(text), ", ", ",", 1); err != nil || string(payload) != want {
		t.Fatalf("payload %s, %v; want %s", payload, err, want)
	}
	if err := newer.Validate(); !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), "not signed") {
		t.Errorf("unknown fields without a signature: %v", err)
	}
	signed, err := a.SignBundle(newer)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := json.MarshalIndent(signed, "", "  ") // only the fields we know
	if err != nil {
		t.Fatal(err)
	}
	whole := strings.Replace(string(doc), `"device"`, added+"\n  "+`"device"`, 1)
	for name, tt := range map[string]struct {
		text string
		good bool
	}{
		"as signed":   {whole, true},
		"changed":     {strings.Replace(whole, `"every":3`, `"every":4`, 1), false},
		"left out":    {string(doc), false},
		"added":       {strings.Replace(whole, "{", `{"more": 1,`, 1), false},
		"known field": {strings.Replace(whole, `"serial": "SN-e-1"`, `"serial": "SN-e-2"`, 1), false},
	} {
		path := filepath.Join(t.TempDir(), "bundle.json")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := enrol.LoadBundle(path)
		if (err == nil) != tt.good || err != nil && !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if !tt.good {
			continue
		}
		if err := b.Verify(a.RootPEM()); err != nil || b.Device != "e-1" {
			t.Errorf("%s: %v", name, err)
		}
		b.EnrolURL = "https://evil.example:9445"
		if err := b.Verify(""); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("changed after it was read: %v", err)
		}
	}
}
