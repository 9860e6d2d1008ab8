package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

func bootStep(name enrol.StepName, by string, second int) enrol.Step {
	return enrol.Step{Name: name, State: enrol.StepPassed, By: by, At: time.Date(2026, 11, 22, 5, 0, second, 7, time.UTC), Count: 1}
}

func TestBootTimelines(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s := NewBoots(open(t), "hcmc")
			if tl, err := s.Timeline(t.Context(), "e-1"); err != nil || len(tl.Steps) != 0 {
				t.Fatalf("%+v, %v", tl, err)
			}
			told := []enrol.Step{bootStep(enrol.StepTCP, enrol.ByDevice, 1), bootStep(enrol.StepTLS, enrol.ByDevice, 2), bootStep(enrol.StepCertificate, enrol.ByController, 3)}
			told[1].Detail = "nul \x00 and đ"
			if _, after, err := s.AddSteps(t.Context(), "e-1", told); err != nil || !after.Open() {
				t.Fatalf("%+v, %v", after, err)
			}
			// The device tells the same again with its next token, and one thing more.
			before, after, err := s.AddSteps(t.Context(), "e-1", append(told[:2:2], bootStep(enrol.StepToken, enrol.ByDevice, 4)))
			if err != nil || len(before.Steps) != 3 || len(after.Steps) != 4 {
				t.Fatalf("%+v became %+v, %v", before, after, err)
			}
			got, err := s.Timeline(t.Context(), "e-1")
			if err != nil || !reflect.DeepEqual(got, after) {
				t.Errorf("read %+v, %v\nwrote %+v", got, err, after)
			}
			if _, _, err := s.AddSteps(t.Context(), "e-2", []enrol.Step{bootStep(enrol.StepToken, enrol.ByController, 1)}); err != nil {
				t.Fatal(err)
			}
			if list, err := s.OpenBoots(t.Context()); err != nil || !reflect.DeepEqual(list, []inventory.DeviceID{"e-1"}) {
				t.Errorf("open %v, %v", list, err)
			}
			if _, _, err := s.AddSteps(t.Context(), "e-1", []enrol.Step{bootStep(enrol.StepConfirmed, enrol.ByController, 9)}); err != nil {
				t.Fatal(err)
			}
			if list, err := s.OpenBoots(t.Context()); err != nil || len(list) != 0 {
				t.Errorf("open %v, %v", list, err)
			}
		})
	}
}

// Device, channel and controller write at once: no step is lost.
func TestBootStepsAreNotLost(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s := NewBoots(open(t), "hcmc")
			var wg sync.WaitGroup
			for w := range 4 {
				wg.Go(func() {
					for i := range 10 {
						if _, _, err := s.AddSteps(context.Background(), "e-1", []enrol.Step{bootStep(enrol.StepTCP, fmt.Sprint("w", w), i)}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			tl, err := s.Timeline(t.Context(), "e-1")
			total := 0
			for _, step := range tl.Steps {
				total += step.Count
			}
			if err != nil || total != 40 {
				t.Errorf("%d steps, %v", total, err)
			}
		})
	}
}

// image is everything that a swap may touch.
func image(t *testing.T, db *DB) (out string) {
	t.Helper()
	err := db.Read(t.Context(), func(tx *Tx) error {
		for _, q := range []string{
			"SELECT noun || ' ' || id || ' ' || doc FROM inventory_rows ORDER BY noun, id",
			"SELECT CAST(version AS TEXT) FROM inventory_versions",
			"SELECT CAST(number AS TEXT) FROM revisions ORDER BY number",
			"SELECT hash || ' ' || device || ' ' || expires_at FROM pki_tokens ORDER BY hash",
			"SELECT serial || ' ' || reason FROM pki_revocations ORDER BY serial",
			"SELECT lineage || ' ' || revoked_at FROM pki_lineages ORDER BY lineage",
		} {
			rows, err := tx.Query(q)
			if err != nil {
				return err
			}
			for rows.Next() {
				var line string
				if err := rows.Scan(&line); err != nil {
					return errors.Join(err, rows.Close())
				}
				out += line + "\n"
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A swap changes inventory, revision, certificates and tokens together. Each
// way it can fail in the middle leaves every one of them as it was.
func TestSwapIsOneStep(t *testing.T) {
	now := time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC)
	inv := func(id inventory.DeviceID) inventory.Inventory {
		return inventory.Inventory{Org: "hcmc", Devices: []inventory.Device{{ID: id, Serial: "SN"}}}.Normalize()
	}
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			certs, ctx := NewPKI(db, "hcmc"), t.Context()
			if _, err := NewInventory(db, "hcmc").Replace(ctx, 0, inv("e-1")); err != nil {
				t.Fatal(err)
			}
			if err := NewRevisions(db, "hcmc").Append(ctx, revision(1)); err != nil {
				t.Fatal(err)
			}
			for i, id := range []inventory.DeviceID{"e-1", "e-1", "e-9"} { // e-1 twice: superseded once
				tok := pki.Token{Hash: fmt.Sprint("t", i), Device: id, Serial: "SN", At: now, Expires: now.Add(time.Hour)}
				c := pki.Certificate{Serial: fmt.Sprint("c", i), Issuer: pki.Devices, Device: id, Lineage: fmt.Sprint("c", i), CSRHash: fmt.Sprint("r", i), WireGuard: fmt.Sprint("w", i), IssuedAt: now, NotBefore: now, NotAfter: now.Add(24 * time.Hour)}
				if err := certs.AddToken(ctx, tok); err != nil {
					t.Fatal(err)
				}
				if _, err := certs.Redeem(ctx, tok.Hash, c); err != nil {
					t.Fatal(err)
				}
			}
			unused := pki.Token{Hash: "unused", Device: "e-1", Serial: "SN", At: now, Expires: now.Add(time.Hour)}
			if err := certs.AddToken(ctx, unused); err != nil {
				t.Fatal(err)
			}
			at := now.Add(time.Minute)
			good := Swap{Base: 1, Inventory: inv("e-1-2"), Revision: revision(2), Handover: pki.Handover{
				Old: "e-1", Revoke: pki.Revocation{Reason: "replaced", By: "lan", At: at},
				Token: pki.Token{Hash: "new", Device: "e-1-2", Serial: "SN2", By: "lan", At: at, Expires: at.Add(10 * time.Minute)},
			}}
			before := image(t, db)
			for why, edit := range map[string]func(*Swap){
				"another version":      func(s *Swap) { s.Base = 7 },
				"another revision":     func(s *Swap) { s.Revision = revision(3) },
				"a token that exists":  func(s *Swap) { s.Handover.Token.Hash = "unused" },
				"another organisation": func(s *Swap) { s.Inventory.Org = "hanoi" },
				"a bad token":          func(s *Swap) { s.Handover.Token.Serial = "\x00" },
			} {
				bad := good
				edit(&bad)
				if _, _, err := db.Swap(ctx, "hcmc", bad); err == nil {
					t.Errorf("%s was accepted", why)
				} else if strings.HasPrefix(why, "another v") && !errors.Is(err, inventory.ErrConflict) {
					t.Errorf("%s: %v", why, err)
				}
				if got := image(t, db); got != before {
					t.Fatalf("%s left\n%s\nof\n%s", why, got, before)
				}
			}
			version, revoked, err := db.Swap(ctx, "hcmc", good)
			if err != nil || version != 2 || len(revoked) != 1 || revoked[0].Serial != "c1" || revoked[0].Device != "e-1" {
				t.Fatalf("%d, %+v, %v", version, revoked, err)
			}
			if got, v, err := NewInventory(db, "hcmc").Load(ctx); err != nil || v != 2 || got.Devices[0].ID != "e-1-2" {
				t.Errorf("%+v, %d, %v", got.Devices, v, err)
			}
			if r, err := NewRevisions(db, "hcmc").Latest(ctx); err != nil || r.Number != intent.Number(2) {
				t.Errorf("%d, %v", r.Number, err)
			}
			if r, err := certs.Token(ctx, "unused"); err != nil || !r.Token.Expires.Equal(at) {
				t.Errorf("the old device's unused token ends at %s, %v", r.Token.Expires, err)
			}
			if r, err := certs.Token(ctx, "new"); err != nil || r.Token.Device != "e-1-2" {
				t.Errorf("%+v, %v", r.Token, err)
			}
			if _, keys, err := certs.Peers(ctx); err != nil || len(keys) != 1 || keys["e-9"] == "" {
				t.Errorf("peers %v, %v", keys, err)
			}
		})
	}
}
