package store

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

var (
	_ intent.Store     = (*Revisions)(nil)
	_ intent.Approvals = (*Revisions)(nil)
	_ intent.Waivers   = (*Revisions)(nil)
)

func revision(n intent.Number) intent.Revision {
	r := intent.Revision{
		Number: n, Org: "hcmc", Author: "lan", At: time.Date(2026, 5, 1, 8, 0, int(n), 7, time.UTC), Message: "đổi tuyến",
		Content:  inventory.Inventory{Org: "hcmc", Carriers: []inventory.Carrier{{ID: "vnpt", Name: "VNPT"}}}.Normalize(),
		Envelope: intent.Envelope{Peers: []inventory.DeviceID{"d-1"}, GrantsPerSite: 64},
		KeyID:    "k1", Signature: []byte{0, 1, 0xff},
	}
	r.Hash, _ = intent.ContentHash(r)
	return r
}

func approval(n intent.Number) intent.Approval {
	at := time.Date(2026, 5, 1, 9, 0, 0, 0, time.UTC)
	return intent.Approval{
		Revision: n, Hash: revision(n).Hash, Approver: "minh", At: at, Expires: at.Add(time.Hour),
		Comment: "ok", KeyID: "k1", Signature: []byte{9},
	}
}

func TestRevisionsAreNumberedAndKept(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s := NewRevisions(open(t), "hcmc")
			if _, err := s.Latest(t.Context()); !errors.Is(err, inventory.ErrNotFound) {
				t.Errorf("latest of none gave %v", err)
			}
			if err := errors.Join(s.Append(t.Context(), revision(1)), s.Append(t.Context(), revision(2))); err != nil {
				t.Fatal(err)
			}
			for _, n := range []intent.Number{0, 1, 2, 4} {
				if err := s.Append(t.Context(), revision(n)); !errors.Is(err, inventory.ErrConflict) {
					t.Errorf("append of %d after 2 gave %v", n, err)
				}
			}
			foreign := revision(3)
			foreign.Org = "hanoi"
			if err := s.Append(t.Context(), foreign); !errors.Is(err, inventory.ErrInvalid) {
				t.Errorf("append of another organisation's gave %v", err)
			}
			if got, err := s.Get(t.Context(), 1); err != nil || !reflect.DeepEqual(got, revision(1)) {
				t.Errorf("get gave %+v, %v", got, err)
			}
			if got, err := s.Latest(t.Context()); err != nil || !reflect.DeepEqual(got, revision(2)) {
				t.Errorf("latest gave %+v, %v", got, err)
			}
			if hash, err := intent.ContentHash(revision(2)); err != nil || hash != revision(2).Hash {
				t.Errorf("content hash %q, %v", hash, err)
			}
			if _, err := s.Get(t.Context(), 9); !errors.Is(err, inventory.ErrNotFound) {
				t.Errorf("get of an unknown number gave %v", err)
			}
			want := []intent.Revision{revision(1), revision(2)}
			for i := range want {
				want[i].Content, want[i].Envelope = inventory.Inventory{}, intent.Envelope{}
			}
			if got, err := s.List(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("list gave %+v, %v", got, err)
			}
		})
	}
}

func TestApprovalsAreKeptInOrder(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s := NewRevisions(open(t), "hcmc")
			if err := s.Append(t.Context(), revision(1)); err != nil {
				t.Fatal(err)
			}
			if err := s.AppendApproval(t.Context(), approval(2)); !errors.Is(err, inventory.ErrNotFound) {
				t.Errorf("an approval of no revision gave %v", err)
			}
			if got, err := s.ApprovalsOf(t.Context(), 1); err != nil || len(got) != 0 {
				t.Errorf("approvals of an unapproved revision: %v, %v", got, err)
			}
			want := []intent.Approval{approval(1), approval(1)}
			want[1].Approver = "an"
			for _, a := range want {
				if err := s.AppendApproval(t.Context(), a); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := s.ApprovalsOf(t.Context(), 1); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("approvals gave %+v, %v", got, err)
			}
		})
	}
}

func waiver(n intent.Number) intent.Waiver {
	at := time.Date(2026, 11, 22, 9, 30, 0, 5000, time.UTC)
	return intent.Waiver{
		Revision: n, Hash: revision(n).Hash, By: "minh", Reason: "đóng sau Tết", Finding: "segment iot must not open TCP port 1 to segment staff",
		At: at, Until: at.Add(time.Hour), KeyID: "rev-1", Signature: []byte{1, 2},
	}
}

func TestWaiversAreKeptInOrder(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s := NewRevisions(open(t), "hcmc")
			if err := s.Append(t.Context(), revision(1)); err != nil {
				t.Fatal(err)
			}
			if err := s.AppendWaiver(t.Context(), waiver(2)); !errors.Is(err, inventory.ErrNotFound) {
				t.Errorf("a waiver of no revision gave %v", err)
			}
			want := []intent.Waiver{waiver(1), waiver(1)}
			want[1].By = "an"
			for _, w := range want {
				if err := s.AppendWaiver(t.Context(), w); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := s.WaiversOf(t.Context(), 1); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("waivers gave %+v, %v", got, err)
			}
		})
	}
}
