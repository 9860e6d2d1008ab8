package store

import (
	"errors"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

// Generations: one row for a number and a key; all moves or none, each only
// from the state it names; times of entry kept; a certificate set once.
func TestGenerations(t *testing.T) {
	at := time.Date(2026, 3, 1, 8, 0, 0, 5, time.UTC)
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s := NewPKI(open(t), "hcmc")
			add := func(i pki.Issuer, n int, key string, state pki.IssuerState) error {
				return s.AddGeneration(t.Context(), pki.Generation{Issuer: i, Number: n, KeyID: key, State: state, StagedAt: at, By: "an"})
			}
			for _, err := range []error{add(pki.Devices, 1, "k1", pki.Active), add(pki.Devices, 2, "k2", pki.Published), add(pki.Hub, 1, "k3", pki.Active)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			for what, err := range map[string]error{"number": add(pki.Devices, 2, "k9", pki.Staged), "key": add(pki.Services, 1, "k1", pki.Active)} {
				if !errors.Is(err, inventory.ErrConflict) {
					t.Errorf("the same %s twice: %v", what, err)
				}
			}
			by := pki.MoveRecord{At: at.Add(time.Hour), By: "binh", Reason: "yearly"}
			up, down := pki.Move{Issuer: pki.Devices, Number: 2, From: pki.Published, To: pki.Active}, pki.Move{Issuer: pki.Devices, Number: 1, From: pki.Active, To: pki.Draining}
			wrong := down
			wrong.From = pki.Published
			if err := s.MoveGenerations(t.Context(), []pki.Move{up, wrong}, by); !errors.Is(err, inventory.ErrConflict) {
				t.Fatalf("a move from another state: %v", err)
			}
			if list, err := s.Generations(t.Context()); err != nil || list[1].State != pki.Published {
				t.Fatalf("half of the moves were made: %+v, %v", list, err)
			}
			if err := s.MoveGenerations(t.Context(), []pki.Move{down, up}, by); err != nil {
				t.Fatal(err)
			}
			list, err := s.Generations(t.Context())
			if err != nil || len(list) != 3 {
				t.Fatalf("%+v, %v", list, err)
			}
			if g := list[0]; g.State != pki.Draining || !g.DrainingAt.Equal(by.At) || g.By != "binh" || g.Reason != "yearly" || !g.StagedAt.Equal(at) || !g.ActiveAt.IsZero() {
				t.Errorf("%+v", g)
			}
			if g := list[1]; g.State != pki.Active || !g.ActiveAt.Equal(by.At) {
				t.Errorf("%+v", g)
			}
			for range 2 { // again: nothing changes
				if err := s.CertifyGeneration(t.Context(), pki.Devices, 2, "PEM"); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.CertifyGeneration(t.Context(), pki.Devices, 2, "other"); !errors.Is(err, inventory.ErrConflict) {
				t.Errorf("another certificate: %v", err)
			}
			leaf := func(serial string, device inventory.DeviceID, end time.Duration) pki.Certificate {
				return pki.Certificate{Serial: serial, Issuer: pki.Services, IssuerKey: "k1", Device: device, Subject: "s", CSRHash: serial, IssuedAt: at, NotBefore: at, NotAfter: at.Add(end)}
			}
			for _, c := range []pki.Certificate{leaf("a", "", time.Hour), leaf("b", "", 3*time.Hour), leaf("c", "", 3*time.Hour)} {
				if err := s.AddCertificate(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.Revoke(t.Context(), pki.Revocation{Serial: "c", Reason: "x", By: "an", At: at.Add(time.Minute)}); err != nil {
				t.Fatal(err)
			}
			leaves, err := s.Leaves(t.Context(), pki.Services, at.Add(2*time.Hour))
			if err != nil || len(leaves) != 2 || leaves[0].Serial != "b" || leaves[1].RevokedAt.IsZero() || leaves[0].IssuerKey != "k1" {
				t.Errorf("%+v, %v", leaves, err)
			}
		})
	}
}
