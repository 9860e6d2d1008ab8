package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The recorded run: transactions of three rows that differ in size, one at a
// time and several at once, with checkpoints, a clean stop and a second start.
const (
	cutWrites = 20
	// cutPrepared is how many operations stand for the database as it was.
	cutPrepared = 4
)

func recordWrites(t *testing.T, o sqliteOptions) (dir string, ops []diskOp) {
	t.Helper()
	dir = t.TempDir()
	path := filepath.Join(dir, "wardnet.db")
	// A migrated database first: the migrations have a test of their own. Two of
	// them are enough here, and each image is quicker to open.
	prepared, err := openSQLite(t.Context(), path, sqliteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(prepared.migrate(t.Context(), 2), prepared.Close()); err != nil {
		t.Fatal(err)
	}
	base, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if o.syncDir == nil {
		o.syncDir = cut.syncDir
	}
	o.vfs = cutVFS
	stop := cut.record(dir)
	cut.mu.Lock()
	for _, op := range []diskOp{
		{kind: opCreate, name: "wardnet.db"},
		{kind: opWrite, name: "wardnet.db", data: base},
		{kind: opSync, name: "wardnet.db"},
		{kind: opDirSync},
	} {
		cut.add(op)
	}
	cut.mu.Unlock()
	write := func(db *DB, n int) {
		if err := writeParts(t.Context(), db, n); err != nil {
			t.Error(err)
			return
		}
		cut.ack(n)
	}
	for start := range 2 {
		db, err := openSQLite(t.Context(), path, o)
		if err != nil {
			t.Fatal(err)
		}
		// A checkpoint every few transactions, and a log that starts over.
		if _, err := db.writer.Exec("PRAGMA wal_autocheckpoint = 12"); err != nil {
			t.Fatal(err)
		}
		first := start * cutWrites / 2
		for n := first; n < first+cutWrites/4; n++ {
			write(db, n)
		}
		var wg sync.WaitGroup
		for n := first + cutWrites/4; n < first+cutWrites/2; n++ {
			wg.Go(func() { write(db, n) })
		}
		wg.Wait()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir, stop()
}

// checkCut opens what a cut left and gives what is wrong with it. acked lists
// the transactions that must be there.
func checkCut(ctx context.Context, path string, acked []int) error {
	db, err := openSQLite(ctx, path, sqliteOptions{synchronous: "OFF", syncDir: func(string) error { return nil }})
	if err != nil {
		return err
	}
	defer db.Close()
	// One connection for all: reading would open another.
	return db.once(ctx, db.writer, nil, func(tx *Tx) error {
		for _, pragma := range []string{"PRAGMA integrity_check", "PRAGMA foreign_key_check"} {
			problems, err := strs(tx, pragma)
			if err != nil {
				return err
			}
			if len(problems) > 0 && problems[0] != "ok" {
				return fmt.Errorf("%s: %q", pragma, problems)
			}
		}
		parts, err := scanParts(tx)
		if err != nil {
			return err
		}
		for n, got := range parts {
			if got != cutParts {
				return fmt.Errorf("half a write: transaction %d has %d of %d rows", n, got, cutParts)
			}
		}
		for _, n := range acked {
			if parts[n] == 0 {
				return fmt.Errorf("transaction %d was acknowledged and is lost", n)
			}
		}
		return nil
	})
}

// cutEverywhere cuts a recorded run behind every operation but the first few
// and gives the number of different images tried and what check found, at most
// limit faults.
func cutEverywhere(t *testing.T, ops []diskOp, skip, limit int, check func(path string, acked []int) error) (tried int, faults []string) {
	t.Helper()
	p, seed, seen, root := newPlatter(), maphash.MakeSeed(), map[[2]uint64]bool{}, t.TempDir()
	var acked []int
	for i, o := range ops {
		p.apply(o)
		if i < skip {
			continue
		}
		if o.kind == opAck {
			acked = append(acked, int(o.off))
		}
		for what, files := range p.images() {
			key := [2]uint64{digest(seed, files), uint64(len(acked))}
			if seen[key] {
				continue
			}
			seen[key] = true
			tried++
			dir := filepath.Join(root, fmt.Sprint(tried))
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for name, content := range files {
				if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := check(filepath.Join(dir, "wardnet.db"), acked); err != nil {
				faults = append(faults, fmt.Sprintf("cut after operation %d (%s %s), %s: %v", i, o.kind, o.name, what, err))
				if len(faults) == limit {
					return tried, faults
				}
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	return tried, faults
}

func digest(seed maphash.Seed, files map[string][]byte) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&h, "%s %d ", name, len(files[name]))
		h.Write(files[name])
	}
	return h.Sum64()
}

func TestPowerCutLosesNothingAcknowledged(t *testing.T) {
	_, ops := recordWrites(t, sqliteOptions{})
	tried, faults := cutEverywhere(t, ops, cutPrepared, 10, func(path string, acked []int) error { return checkCut(t.Context(), path, acked) })
	for _, f := range faults {
		t.Error(f)
	}
	t.Logf("%d operations, %d transactions, %d different images", len(ops), cutWrites, tried)
}

// The test above must be able to fail: a database that does not sync loses
// acknowledged writes, and the cut shows it.
func TestPowerCutBitesWithoutSync(t *testing.T) {
	_, ops := recordWrites(t, sqliteOptions{synchronous: "OFF"})
	_, faults := cutEverywhere(t, ops, cutPrepared, 1, func(path string, acked []int) error { return checkCut(t.Context(), path, acked) })
	if len(faults) == 0 || !strings.Contains(faults[0], "acknowledged and is lost") {
		t.Errorf("nothing was synced, and the first fault found is %v", faults)
	}
}

// Every cut during the very first start, from no file to a migrated schema,
// leaves something the next start completes.
func TestPowerCutDuringMigration(t *testing.T) {
	dir := t.TempDir()
	stop := cut.record(dir)
	db, err := openSQLite(t.Context(), filepath.Join(dir, "wardnet.db"), sqliteOptions{vfs: cutVFS, syncDir: cut.syncDir})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.migrate(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	newest, err := db.schemaVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cut.ack(0)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	ops := stop()
	want := ""
	tried, faults := cutEverywhere(t, coarse(ops), 0, 10, func(path string, acked []int) error {
		db, err := openSQLite(t.Context(), path, sqliteOptions{synchronous: "OFF", syncDir: func(string) error { return nil }})
		if err != nil {
			return err
		}
		defer db.Close()
		if v, err := db.schemaVersion(t.Context()); err != nil || len(acked) > 0 && v != newest {
			return fmt.Errorf("schema version %d after a start that ended well with %d: %w", v, newest, err)
		}
		if err := db.migrate(t.Context(), 0); err != nil {
			return err
		}
		var b bytes.Buffer
		err = db.Read(t.Context(), func(tx *Tx) error {
			sql, err := strs(tx, "SELECT coalesce(sql, '') FROM sqlite_schema ORDER BY name")
			fmt.Fprint(&b, sql)
			return err
		})
		if want == "" {
			want = b.String()
		}
		if err == nil && b.String() != want {
			return fmt.Errorf("another schema: %s", &b)
		}
		return err
	})
	for _, f := range faults {
		t.Error(f)
	}
	t.Logf("%d operations, %d different images", len(ops), tried)
}

// coarse joins neighbouring writes to one file: the migration writes a hundred
// pages, and each image costs a start.
func coarse(ops []diskOp) (out []diskOp) {
	for _, o := range ops {
		if last := len(out) - 1; last >= 0 && o.kind == opWrite && out[last].kind == opWrite && o.name == out[last].name &&
			o.off == out[last].off+int64(len(out[last].data)) {
			out[last].data = append(out[last].data, o.data...)
			continue
		}
		o.data = slices.Clone(o.data)
		out = append(out, o)
	}
	return out
}
