package store

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/controller/archive"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent/commit"
	"github.com/wardnet/wardnet/edge/foreign"
	"github.com/wardnet/wardnet/inventory"
)

var (
	_ controller.Drifts = (*Controller)(nil)
	_ archive.Store     = (*Archive)(nil)
)

func TestDriftsAreKept(t *testing.T) {
	at := time.Date(2026, 11, 1, 8, 0, 0, 7, time.UTC)
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s, ctx := NewController(open(t), "hcmc"), t.Context()
			a := controller.Drift{
				ID: "01", Device: "d-1", Found: at, Revision: 3, Want: "w", Have: "h", Changes: []string{"~ bgp: asn"},
				How: "read back from the device", State: controller.DriftOpen,
			}
			b := a
			b.ID, b.Device, b.Who = "02", "d-2", "an"
			row := controller.Status{Device: "d-1", Revision: 3, Hash: "h", Outcome: "held", Drifts: 1, At: at}
			entry := controller.Entry{ID: "e-1", At: at, Rollout: "r", Device: "d-1", Revision: 3, Hash: "h", Step: controller.StepDrift}
			if err := s.SaveDrift(ctx, a, &row, entry); err != nil {
				t.Fatal(err)
			}
			if rows, err := s.Statuses(ctx); err != nil || len(rows) != 1 || rows[0].Drifts != 1 {
				t.Errorf("the row beside it: %+v, %v", rows, err)
			}
			if entries, err := s.Entries(ctx, "r"); err != nil || len(entries) != 1 || entries[0].Step != controller.StepDrift {
				t.Errorf("the journal beside it: %+v, %v", entries, err)
			}
			c := b
			c.ID = "03"
			if err := s.SaveDrift(ctx, c, &row, entry); err == nil { // an entry is written once
				t.Error("an entry was written twice")
			}
			if err := s.SaveDrift(ctx, b, nil); err != nil {
				t.Fatal(err)
			}
			a.State, a.By, a.Reason, a.Decided, a.Until = controller.DriftWaived, "minh", "đang sửa", at, at.Add(time.Hour)
			if err := s.SaveDrift(ctx, a, nil); err != nil {
				t.Fatal(err)
			}
			got, err := s.Drifts(ctx)
			if err != nil || !reflect.DeepEqual(got, []controller.Drift{a, b}) {
				t.Errorf("Drifts() = %+v, %v", got, err)
			}
			if got, err := NewController(s.db, "national").Drifts(ctx); err != nil || len(got) != 0 {
				t.Errorf("another organisation sees %+v, %v", got, err)
			}
		})
	}
}

func TestConfigurationsAreArchived(t *testing.T) {
	at := time.Date(2026, 11, 1, 8, 0, 0, 7, time.UTC)
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s, ctx := NewArchive(open(t), "hcmc"), t.Context()
			if _, err := s.Get(ctx, "d-1", 0); !errors.Is(err, inventory.ErrNotFound) {
				t.Fatalf("Get() of nothing = %v", err)
			}
			var all []archive.Version
			for n := uint64(1); n <= 5; n++ {
				v := archive.Version{Head: archive.Head{
					Device: "d-1", N: n, At: at, Revision: 7, Hash: fmt.Sprint("h", n), Source: "read-back", Complete: n != 3, Bytes: 6, Note: "ghi chú",
				}, Text: strings.Repeat("dòng\n", int(n))}
				all = append(all, v)
				if err := s.Append(ctx, v); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Append(ctx, all[2]); !errors.Is(err, inventory.ErrConflict) {
				t.Errorf("the same number again: %v", err)
			}
			if v, err := s.Get(ctx, "d-1", 3); err != nil || !reflect.DeepEqual(v, all[2]) {
				t.Errorf("Get(3) = %+v, %v", v, err)
			}
			if v, err := s.Get(ctx, "d-1", 0); err != nil || v.N != 5 {
				t.Errorf("Get(newest) = %+v, %v", v, err)
			}
			if err := s.Prune(ctx, "d-1", 2); err != nil {
				t.Fatal(err)
			}
			heads, err := s.Heads(ctx, "d-1")
			if err != nil || len(heads) != 2 || heads[0] != all[3].Head {
				t.Errorf("Heads() = %+v, %v", heads, err)
			}
			if heads, err := s.Heads(ctx, ""); err != nil || len(heads) != 2 {
				t.Errorf("Heads of all = %+v, %v", heads, err)
			}
			if heads, err := NewArchive(s.db, "national").Heads(ctx, "d-1"); err != nil || len(heads) != 0 {
				t.Errorf("another organisation sees %+v, %v", heads, err)
			}
		})
	}
}

var _ foreign.Journal = (*Commits)(nil)

func TestCommitsOfForeignDevicesAreKept(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db, ctx := open(t), t.Context()
			s := NewCommits(db, "hcmc", "d-1")
			if e, err := s.Load(ctx); err != nil || !reflect.DeepEqual(e, foreign.Entry{}) {
				t.Fatalf("Load() of nothing = %+v, %v", e, err)
			}
			want := foreign.Entry{
				Record:      commit.Record{Running: edge.Signed{Device: "d-1", Revision: 3, Hash: "h"}, Highest: 3, Confirmed: []edge.CommitID{"a", "b"}},
				Credentials: edge.Credentials{Epoch: 7, At: time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC), Keys: map[inventory.DeviceID]string{"hub-1": "k"}},
			}
			for range 2 {
				if err := s.Save(ctx, want); err != nil {
					t.Fatal(err)
				}
			}
			got, err := s.Load(ctx)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("Load() = %+v, %v", got, err)
			}
			if e, err := NewCommits(db, "hcmc", "d-2").Load(ctx); err != nil || e.Highest != 0 {
				t.Errorf("another device has %+v, %v", e, err)
			}
		})
	}
}
