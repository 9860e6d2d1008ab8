package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/wardnet/wardnet/inventory"
)

// fill gives every table the base owns some rows.
func fill(t *testing.T, db *DB) {
	t.Helper()
	revs := NewRevisions(db, "hcmc")
	err := errors.Join(
		replaceErr(NewInventory(db, "hcmc"), 0, inventory.Inventory{Org: "hcmc", Carriers: []inventory.Carrier{{ID: "vnpt", Name: `"Bưu chính" <VN>`}}}),
		revs.Append(t.Context(), revision(1)), revs.Append(t.Context(), revision(2)), revs.AppendApproval(t.Context(), approval(2)),
	)
	for range 250 { // more than one batch
		_, auditErr := NewAudit(db, "hcmc").Append(t.Context(), auditEntry("x\n\u2028"))
		err = errors.Join(err, auditErr)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// backup gives the backup and, for comparison, its rows without header and seal.
func backup(t *testing.T, db *DB) (file []byte, rows string) {
	t.Helper()
	var b bytes.Buffer
	if _, err := db.Backup(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(b.String(), "\n")
	return b.Bytes(), strings.Join(lines[1:len(lines)-2], "")
}

// SQLite → PostgreSQL → SQLite → SQLite, and PostgreSQL → PostgreSQL: every table equal.
func TestBackupMovesBetweenEngines(t *testing.T) {
	for _, route := range [][]string{{"sqlite", "postgres", "sqlite", "sqlite"}, {"postgres", "postgres"}} {
		t.Run(strings.Join(route, " to "), func(t *testing.T) {
			db := opened(t, blank(t, route[0]))
			fill(t, db)
			file, want := backup(t, db)
			for _, engine := range route[1:] {
				dsn := blank(t, engine)
				info, err := Restore(t.Context(), dsn, bytes.NewReader(file))
				if err != nil {
					t.Fatalf("restore on %s: %v", engine, err)
				}
				if info.Rows < 250+5 {
					t.Errorf("restore on %s counted %d rows", engine, info.Rows)
				}
				db = opened(t, dsn)
				var got string
				if file, got = backup(t, db); byTable(got) != byTable(want) {
					t.Errorf("on %s the content differs", engine)
				}
				if seq, _, err := NewAudit(db, "hcmc").Verify(t.Context()); err != nil || seq != 250 {
					t.Errorf("on %s the audit log verifies to %d, %v", engine, seq, err)
				}
				if _, err := NewAudit(db, "hcmc").Append(t.Context(), auditEntry("after")); err != nil {
					t.Errorf("on %s the restored log refuses an entry: %v", engine, err)
				}
			}
		})
	}
}

// byTable sorts the lines within: engines may sort keys by another collation.
func byTable(rows string) string {
	lines := strings.SplitAfter(rows, "\n")
	var out []string
	for _, l := range lines {
		if strings.HasPrefix(l, "[") {
			out = append(out, l)
		}
	}
	return fmt.Sprint(len(out)) + strings.Join(sortedCopy(out), "")
}

func TestBackupSeesOneMoment(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			started := make(chan struct{})
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i += 2 { // rows come in pairs
					err := db.Write(context.Background(), func(tx *Tx) error { return errors.Join(put(tx, i), put(tx, i+1)) })
					if err != nil {
						t.Error(err)
					}
					if i == 0 {
						close(started)
					}
				}
			})
			<-started
			for range 10 {
				_, rows := backup(t, db)
				if n := strings.Count(rows, `["o","test",`); n%2 != 0 || n == 0 {
					t.Errorf("the backup holds %d rows, half a write", n)
				}
			}
			stop()
			wg.Wait()
		})
	}
}

func TestRestoreRefusesADamagedBackup(t *testing.T) {
	db := opened(t, sqliteDSN(t))
	fill(t, db)
	file, _ := backup(t, db)
	lines := bytes.SplitAfter(file, []byte("\n"))
	dsns := map[string]string{"sqlite": blank(t, "sqlite"), "postgres": blank(t, "postgres")}
	without := func(i int) []byte {
		return bytes.Join(append(append([][]byte{}, lines[:i]...), lines[i+1:]...), nil)
	}
	for name, bad := range map[string][]byte{
		"empty":           {},
		"half":            file[:len(file)/2],
		"one byte short":  file[:len(file)-1],
		"without seal":    bytes.Join(lines[:len(lines)-2], nil),
		"a row less":      without(5),
		"a cell changed":  bytes.Replace(file, []byte(`"lan"`), []byte(`"bao"`), 1),
		"goes on":         append(append([]byte{}, file...), "{}\n"...),
		"something else":  []byte("PK\x03\x04\n"),
		"a newer schema":  bytes.Replace(file, []byte(`"schema":`), []byte(`"schema":9`), 1),
		"another format":  bytes.Replace(file, []byte(`"wardnet_backup":1`), []byte(`"wardnet_backup":2`), 1),
		"rows, no header": without(0),
	} {
		for engine, dsn := range dsns {
			if _, err := Restore(t.Context(), dsn, bytes.NewReader(bad)); !errors.Is(err, inventory.ErrInvalid) {
				t.Errorf("%s on %s gave %v", name, engine, err)
			}
		}
	}
	for engine, dsn := range dsns {
		// Nothing changed: the good backup still finds an empty database.
		if _, err := Restore(t.Context(), dsn, bytes.NewReader(file)); err != nil {
			t.Errorf("the good backup afterwards on %s: %v", engine, err)
		}
	}
}

func TestRestoreRefusesAUsedDatabase(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			source := open(t)
			fill(t, source)
			file, _ := backup(t, source)
			dsn := blank(t, name)
			db := opened(t, dsn)
			if err := db.Write(t.Context(), func(tx *Tx) error { return put(tx, 1) }); err != nil {
				t.Fatal(err)
			}
			_, before := backup(t, db)
			if _, err := Restore(t.Context(), dsn, bytes.NewReader(file)); !errors.Is(err, inventory.ErrConflict) {
				t.Errorf("got %v", err)
			}
			if _, after := backup(t, db); after != before {
				t.Error("the refused restore changed the database")
			}
		})
	}
}

// FuzzRestore: whatever the file holds, reading it ends in an answer.
func FuzzRestore(f *testing.F) {
	f.Add([]byte(`{"header":{"wardnet_backup":1,"schema":1,"engine":"sqlite","at":"2026-05-01T08:00:00Z"}}` + "\n" +
		`{"table":{"name":"t","columns":["a"],"kinds":["text"]}}` + "\n" + `["x"]` + "\n" + `{"end":{"name":"t","rows":1}}` + "\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		rows := int64(0)
		r := &backupReader{head: func(tableHead) error { return nil }, row: func([]any) error { rows++; return nil }}
		info, err := r.read(bytes.NewReader(file))
		if err == nil && info.Rows != rows {
			t.Errorf("%d rows handed on, %d counted", rows, info.Rows)
		}
		if err != nil && !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("an error that is not about the input: %v", err)
		}
	})
}
