package pki_test

import (
	"bytes"
	"context"
	"encoding/json"
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

// A clock that is off by ten minutes works, with a word about it; by a day the
// device is told "clock", so is the audit log, and its token stays good.
func TestClockSkew(t *testing.T) {
	for name, tt := range map[string]struct {
		off  time.Duration
		warn bool
		want enrol.Cause
	}{
		"exact":            {0, false, ""},
		"a minute ahead":   {time.Minute, false, ""},
		"10 min ahead":     {10 * time.Minute, true, ""},
		"10 min behind":    {-10 * time.Minute, true, ""},
		"59 min ahead":     {59 * time.Minute, true, ""},
		"2 hours ahead":    {2 * time.Hour, false, enrol.CauseClockSkew},
		"a day ahead":      {day, false, enrol.CauseClockSkew},
		"a day behind":     {-day, false, enrol.CauseClockSkew},
		"as from the shop": {-30 * 365 * day, false, enrol.CauseClockSkew},
		"a year ahead":     {365 * day, false, enrol.CauseClockSkew},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTown(t, pki.Config{})
				b, dir := w.bundle("e-1"), t.TempDir()
				var log bytes.Buffer
				c := w.client()
				c.Now = func() time.Time { return time.Now().Add(tt.off) }
				c.Log = slog.New(slog.NewTextHandler(&log, nil))
				var steps []enrol.Step
				c.Observe = func(s enrol.Step) { steps = append(steps, s) }
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err := c.Enrol(ctx, b, dir)
				if tt.want == "" {
					if err != nil {
						t.Fatal(err)
					}
					audit := w.story("enrol")
					if warned := strings.Contains(log.String(), "clock differs"); warned != tt.warn || strings.Contains(audit[0].Reason, "clock is off") != tt.warn {
						t.Errorf("the device warned: %v, the audit says %q", warned, audit[0].Reason)
					}
					return
				}
				told := false
				for _, s := range steps {
					told = told || s.Name == enrol.StepClock && s.Cause == tt.want && strings.Contains(s.Detail, "clock")
				}
				var refused *enrol.RefusedError
				if errors.As(err, &refused) {
					told = told || refused.Body.Reason == "clock"
				}
				if err == nil || enrol.Classify(err) != tt.want || !told {
					t.Errorf("got %v (%s), steps %v", err, enrol.Classify(err), steps)
				}
				refusals := w.story("refuse")
				if len(refusals) == 0 || !strings.HasPrefix(refusals[0].Reason, "clock: ") || refusals[0].Actor != "device e-1" {
					t.Errorf("the audit log has %+v", refusals)
				}
				if _, err := w.client().Enrol(t.Context(), b, dir); err != nil {
					t.Errorf("with the clock set the token is refused: %v", err)
				}
			})
		})
	}
}

// A device that has pinned the checkpoint key takes the controller's word for
// the time: no clock makes it miss a renewal.
func TestRenewalWithAnyClock(t *testing.T) {
	for _, off := range []time.Duration{-day, day, -400 * day, 400 * day} {
		synctest.Test(t, func(t *testing.T) {
			w := newTown(t, pki.Config{})
			i := w.enrolled("e-1")
			before := enrol.SerialOf(i.Certificate())
			c := w.client()
			c.Now = func() time.Time { return time.Now().Add(off) }
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := c.Renew(ctx, i); err != nil || enrol.SerialOf(i.Certificate()) == before {
				t.Fatalf("off by %s: %v", off, err)
			}
			renewals := w.story("renew")
			if len(renewals) != 1 || !strings.Contains(renewals[0].Reason, "clock is off") {
				t.Errorf("off by %s the audit log has %+v", off, renewals)
			}
		})
	}
}

func FuzzDecodeTimeRequest(f *testing.F) {
	good, err := json.Marshal(enrol.TimeRequest{Nonce: strings.Repeat("ab", 32), Device: "e-1", Time: time.Unix(1, 0)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"nonce":"zz","device":"e-1","time":"2027-01-01T00:00:00Z"}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := enrol.DecodeTimeRequest(bytes.NewReader(body))
		switch {
		case err != nil && !errors.Is(err, inventory.ErrInvalid):
			t.Fatalf("%q gave %v", body, err)
		case err == nil && (len(q.Nonce) != 64 || q.Time.IsZero() || q.Device == ""):
			t.Fatalf("%q was accepted as %+v", body, q)
		}
	})
}

func FuzzSignedRenewal(f *testing.F) {
	f.Add([]byte(`{"certificate":"c","csr":"r","wireguard_public_key":"w","signature":"AA=="}`))
	f.Add([]byte(`{"certificate":"c"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := enrol.DecodeSignedRenewal(bytes.NewReader(body))
		if err != nil && !errors.Is(err, inventory.ErrInvalid) {
			t.Fatalf("%q gave %v", body, err)
		}
		if err == nil && (q.Certificate == "" || q.CSR == "" || len(q.Signature) == 0) {
			t.Fatalf("%q was accepted as %+v", body, q)
		}
	})
}
