package pki_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// An offline token waits for a person, who lets in the very box whose code was
// compared: not a thief's that showed a copy of the token first.
func TestOfflineTokenWaitsForAPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, pki.Config{})
		token, expires, err := w.pki.CreateOfflineToken(t.Context(), "e-1", "SN-e-1", "an", 14*day)
		if err != nil || time.Until(expires).Round(time.Hour) != 14*day {
			t.Fatalf("until %s, %v", expires, err)
		}
		b := w.pki.Bundle("e-1", "SN-e-1", token)
		w.pass(9 * day)
		c := w.client()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.Enrol(ctx, b, t.TempDir()); err == nil || !strings.Contains(err.Error(), "code is") {
			t.Fatalf("the thief got %v", err)
		}
		done := make(chan error, 1)
		dir := t.TempDir()
		var log strings.Builder
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
		go func() {
			_, err := c.Enrol(context.Background(), b, dir)
			done <- err
		}()
		time.Sleep(2 * time.Minute)
		waiting, err := w.pki.Pending(t.Context())
		if err != nil || len(waiting) != 2 {
			t.Fatalf("%v wait, %v", waiting, err)
		}
		if len(w.story("pending")) != 2 {
			t.Errorf("audited %+v, want each first showing", w.story("pending"))
		}
		code := enrol.Code(waiting[1].CSRHash)
		if err := w.pki.Confirm(t.Context(), "e-1", "0000-0000-0000-0000", "lan"); !errors.Is(err, inventory.ErrNotFound) {
			t.Errorf("a wrong code: %v", err)
		}
		if err := w.pki.Confirm(t.Context(), "e-1", " "+strings.ToUpper(code), "lan"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatal("the confirmed box still waits")
		}
		if !strings.Contains(log.String(), code) {
			t.Errorf("the box never told its code %s: %s", code, log.String())
		}
		if e := w.story("enrol"); len(e) != 1 || !strings.Contains(e[0].Reason, "confirmed by lan") {
			t.Errorf("audited %+v", e)
		}
		var refused *enrol.RefusedError
		if _, err := w.client().Enrol(t.Context(), b, t.TempDir()); !errors.As(err, &refused) || refused.Body.Reason != string(pki.UsedToken) {
			t.Errorf("the thief then got %v", err)
		}
		if left, err := w.pki.Pending(t.Context()); err != nil || len(left) != 0 {
			t.Errorf("%v wait still, %v", left, err)
		}
	})
}

func TestOfflineTokenIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, pki.Config{})
		for _, life := range []time.Duration{-1, 0, 31 * day} {
			if _, _, err := w.pki.CreateOfflineToken(t.Context(), "e-1", "SN-e-1", "an", life); !errors.Is(err, inventory.ErrInvalid) {
				t.Errorf("a life of %s: %v", life, err)
			}
		}
		token, _, err := w.pki.CreateOfflineToken(t.Context(), "e-1", "SN-e-1", "an", day)
		if err != nil {
			t.Fatal(err)
		}
		show := func() error {
			_, err := w.pki.Enrol(t.Context(), "192.0.2.1:1", enrol.Request{Token: token, Serial: "SN-e-1", CSR: csrFor(t, "spiffe://wardnet.hcmc/device/e-1"), WireGuardPublicKey: wgKey(t)})
			return err
		}
		var refused *pki.Refusal
		for range pki.MaxPending {
			if err := show(); err == nil || errors.As(err, &refused) {
				t.Fatalf("unconfirmed it got %v", err)
			}
		}
		if err := show(); !errors.As(err, &refused) || refused.Reason != pki.RateLimited {
			t.Errorf("one too many got %v", err)
		}
		waiting, err := w.pki.Pending(t.Context())
		if err != nil || len(waiting) != pki.MaxPending {
			t.Fatalf("%d wait, %v", len(waiting), err)
		}
		if err := w.pki.Confirm(t.Context(), "e-1", enrol.Code(waiting[0].CSRHash), "lan"); err != nil {
			t.Fatal(err)
		}
		if err := show(); !errors.As(err, &refused) || refused.Reason != pki.NotConfirmed {
			t.Errorf("another than the confirmed one got %v", err)
		}
		w.pass(2 * day)
		if err := show(); !errors.As(err, &refused) || refused.Reason != pki.ExpiredToken {
			t.Errorf("after its end the token gave %v", err)
		}
	})
}

// A box that was given the text of a QR code gets the root by its fingerprint.
func TestTicket(t *testing.T) {
	a, other := newAuthority(t, pki.Config{}), newAuthority(t, pki.Config{})
	b := a.bundle("e-1")
	ticket, err := enrol.TicketOf(b)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(ticket.String(), b.Token) || len(ticket.Text()) > 300 {
		t.Errorf("%s, %d bytes", ticket, len(ticket.Text()))
	}
	parsed, err := enrol.ParseTicket(ticket.Text() + "\n")
	if err != nil || parsed != ticket {
		t.Fatalf("%v, %v", parsed, err)
	}
	got, err := enrol.Client{}.Bundle(t.Context(), parsed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enrol.Enrol(t.Context(), got, t.TempDir()); err != nil {
		t.Error(err)
	}
	parsed.EnrolURL = other.urls["enrol"]
	if _, err := (enrol.Client{}).Bundle(t.Context(), parsed); enrol.Classify(err) != enrol.CauseCAUnknown {
		t.Errorf("another controller's root was taken: %v", err)
	}
}
