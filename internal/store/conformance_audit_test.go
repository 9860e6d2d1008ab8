package store

import (
	"encoding/json"
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

func auditEntry(object string) client.AuditEntry {
	return client.AuditEntry{
		At: time.Date(2026, 5, 1, 8, 0, 0, 120, time.UTC), Who: "lan", From: "192.0.2.7", What: "importInventory", Object: object,
		Before: json.RawMessage(`{"a": 1}`), After: json.RawMessage(`{"a":2}`), Outcome: "done", Reason: "vì đổi mã phường",
	}
}

func TestAuditKeepsOrderAndContent(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			a, other := NewAudit(db, "hcmc"), NewAudit(db, "hanoi")
			for i, object := range []string{"x", "y", "x"} {
				seq, err := a.Append(t.Context(), auditEntry(object))
				if err != nil || seq != uint64(i+1) {
					t.Fatalf("append gave %d, %v", seq, err)
				}
			}
			if seq, err := other.Append(t.Context(), client.AuditEntry{Who: "bad\x00\xff", What: "w"}); err != nil || seq != 1 {
				t.Fatalf("another organisation's first entry: %d, %v", seq, err)
			}
			got, err := a.List(t.Context(), "x", 0, 10)
			want := []client.AuditEntry{auditEntry("x"), auditEntry("x")}
			want[0].Seq, want[1].Seq = 3, 1
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("list gave %+v, %v", got, err)
			}
			if got, err := a.List(t.Context(), "", 3, 1); err != nil || len(got) != 1 || got[0].Seq != 2 {
				t.Errorf("page before 3 gave %+v, %v", got, err)
			}
			if got, err := other.List(t.Context(), "", 0, 10); err != nil || len(got) != 1 || got[0].Who != "bad\uFFFD\uFFFD" {
				t.Errorf("another organisation's list gave %+v, %v", got, err)
			}
			for _, log := range []*Audit{a, other} {
				if _, hash, err := log.Verify(t.Context()); err != nil || len(hash) != 64 {
					t.Errorf("verify gave %q, %v", hash, err)
				}
			}
		})
	}
}

func TestAuditChainHoldsUnderConcurrency(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			a := NewAudit(open(t), "hcmc")
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 10 {
						if _, err := a.Append(t.Context(), auditEntry("x")); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if seq, _, err := a.Verify(t.Context()); err != nil || seq != 80 {
				t.Errorf("verify gave %d, %v", seq, err)
			}
		})
	}
}

// Somebody with the database's password and no triggers in the way.
func TestAuditShowsTampering(t *testing.T) {
	for name, open := range engines(t) {
		for tamper, statement := range map[string]string{
			"edit":   "UPDATE audit SET who = 'nobody' WHERE seq = 2",
			"remove": "DELETE FROM audit WHERE seq = 2",
			"after":  "UPDATE audit SET after = '' WHERE seq = 3",
		} {
			t.Run(name+"/"+tamper, func(t *testing.T) {
				db := open(t)
				a := NewAudit(db, "hcmc")
				for range 3 {
					if _, err := a.Append(t.Context(), auditEntry("x")); err != nil {
						t.Fatal(err)
					}
				}
				drops := []string{"DROP TRIGGER audit_no_update", "DROP TRIGGER audit_no_delete"}
				if db.Dialect() == Postgres {
					drops = []string{"DROP TRIGGER audit_append_only ON audit"}
				}
				err := db.Write(t.Context(), func(tx *Tx) error {
					for _, s := range append(drops, statement) {
						if _, err := tx.Exec(s); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := a.Verify(t.Context()); !errors.Is(err, inventory.ErrInvalid) {
					t.Errorf("verify gave %v", err)
				}
			})
		}
	}
}

// appendOnly lists the tables whose rows no statement may change or remove.
var appendOnly = []string{"audit", "revisions", "approvals", "waivers"}

func TestAppendOnlyTablesRefuseChange(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			if _, err := NewAudit(db, "hcmc").Append(t.Context(), auditEntry("x")); err != nil {
				t.Fatal(err)
			}
			revs := NewRevisions(db, "hcmc")
			if err := errors.Join(revs.Append(t.Context(), revision(1)), revs.AppendApproval(t.Context(), approval(1)), revs.AppendWaiver(t.Context(), waiver(1))); err != nil {
				t.Fatal(err)
			}
			statements := []string{"INSERT OR REPLACE INTO audit SELECT * FROM audit"}
			if db.Dialect() == Postgres {
				statements = []string{"TRUNCATE audit", "TRUNCATE revisions CASCADE"}
			}
			for _, table := range appendOnly {
				statements = append(statements, "UPDATE "+table+" SET org = org", "DELETE FROM "+table)
			}
			for _, s := range statements {
				if err := db.Write(t.Context(), func(tx *Tx) error { _, err := tx.Exec(s); return err }); err == nil {
					t.Errorf("%s: it was allowed", s)
				}
			}
		})
	}
}
