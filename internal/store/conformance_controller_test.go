package store

import (
	"reflect"
	"testing"
	"time"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

var _ controller.Store = (*Controller)(nil)

// What is observed and what is assigned share a row and are written by two
// hands: neither may undo the other's part.
func TestDeviceRowsHaveTwoWriters(t *testing.T) {
	at := time.Date(2026, 5, 1, 8, 0, 0, 7, time.UTC)
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s, ctx := NewController(open(t), "hcmc"), t.Context()
			seen := controller.Status{Device: "d-1", Revision: 3, Hash: "h3", Commit: "c", Pushed: "h4", Outcome: "changed", Error: "lỗi", Drifts: 2, At: at}
			entry := controller.Entry{ID: "01", At: at, Rollout: "r", Device: "d-1", Revision: 3, Hash: "h3", Commit: "c", Step: controller.StepPush}
			if err := s.Save(ctx, seen, entry); err != nil {
				t.Fatal(err)
			}
			target := controller.Target{Revision: 4, Keep: []intent.Number{3, 2}}
			r := controller.Rollout{ID: "r", Revision: 4, State: controller.RolloutRunning, Started: at, Waves: []controller.Wave{{
				Name: "hub-1", Devices: []inventory.DeviceID{"d-1"}, Additions: true, State: controller.WaveRunning, Started: at,
			}}, Keep: map[inventory.DeviceID][]intent.Number{"d-1": {3, 2}}}
			assign := []controller.Assignment{{Device: "d-1", Target: target, Want: "h4"}, {Device: "d-2", Target: controller.Target{Revision: 4}}}
			if err := s.SaveRollout(ctx, r, assign); err != nil {
				t.Fatal(err)
			}
			seen.Drifts = 3
			if err := s.Save(ctx, seen, controller.Entry{ID: "02", At: at, Rollout: "r", Device: "d-1", Step: controller.StepConfirm}); err != nil {
				t.Fatal(err)
			}
			want := seen
			want.Target, want.Want = target, "h4"
			got, err := s.Statuses(ctx)
			if err != nil || len(got) != 2 || !reflect.DeepEqual(got[0], want) || got[1].Target.Revision != 4 {
				t.Errorf("Statuses() = %+v, %v", got, err)
			}
			r.State = controller.RolloutDone
			if err := s.SaveRollout(ctx, r, nil); err != nil {
				t.Fatal(err)
			}
			rs, err := s.Rollouts(ctx)
			if err != nil || len(rs) != 1 || !reflect.DeepEqual(rs[0], r) {
				t.Errorf("Rollouts() = %+v, %v; want %+v", rs, err, r)
			}
			es, err := s.Entries(ctx, "r")
			if err != nil || len(es) != 2 || es[0] != entry || es[1].Step != controller.StepConfirm {
				t.Errorf("Entries() = %+v, %v", es, err)
			}
			other := NewController(s.db, "national")
			if got, err := other.Statuses(ctx); err != nil || len(got) != 0 {
				t.Errorf("another organisation sees %d rows, %v", len(got), err)
			}
		})
	}
}

func TestPushJournalIsAppendOnly(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s, ctx := NewController(open(t), "hcmc"), t.Context()
			if err := s.Save(ctx, controller.Status{Device: "d-1"}, controller.Entry{ID: "01", Rollout: "r"}); err != nil {
				t.Fatal(err)
			}
			for _, q := range []string{"UPDATE push_journal SET error = 'x'", "DELETE FROM push_journal"} {
				err := s.db.Write(ctx, func(tx *Tx) error { _, err := tx.Exec(q); return err })
				if err == nil {
					t.Errorf("%s was carried out", q)
				}
			}
		})
	}
}
