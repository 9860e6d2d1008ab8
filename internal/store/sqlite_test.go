package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/wardnet/wardnet/inventory"
)

func TestNewFileIsPrivateAndItsNameDurable(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "var", "lib")
	path := filepath.Join(dir, "wardnet.db")
	var synced []string
	db, err := openSQLite(t.Context(), path, sqliteOptions{syncDir: func(d string) error {
		synced = append(synced, d)
		return syncDir(d)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.migrate(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if want := []string{filepath.Join(root, "var"), root, dir}; !slices.Equal(synced, want) {
		t.Errorf("synced %v, want %v", synced, want)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", info.Name(), info.Mode())
		}
	}
}

// The settings durability hangs on, as the connections have them.
func TestPragmas(t *testing.T) {
	db := opened(t, sqliteDSN(t))
	for name, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "recursive_triggers": "1",
	} {
		for _, begin := range []func(context.Context, func(*Tx) error) error{db.Write, db.Read} {
			err := begin(t.Context(), func(tx *Tx) error {
				got, err := strs(tx, "PRAGMA "+name)
				if err == nil && (len(got) != 1 || got[0] != want) {
					err = fmt.Errorf("%v, want %s", got, want)
				}
				return err
			})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// A transaction that ends under its members fails all of them, and the next
// one starts afresh.
func TestBrokenBatchFailsItsMembers(t *testing.T) {
	db := opened(t, sqliteDSN(t))
	join := func(fn func(*Tx) error) (*batch, error) {
		db.group.turn <- struct{}{}
		return db.group.join(t.Context(), fn)
	}
	b, err := join(func(tx *Tx) error { return put(tx, 1) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := join(func(tx *Tx) error { _, err := tx.Exec("ROLLBACK"); return err }); err == nil {
		t.Error("the function that ended the transaction got no error")
	}
	select {
	case <-b.done:
		if b.err == nil {
			t.Error("the first member was told its write is durable")
		}
	default:
		t.Error("the first member still waits")
	}
	if n := count(t, db); n != 0 {
		t.Errorf("%d rows of a transaction that was rolled back", n)
	}
	if err := db.Write(t.Context(), func(tx *Tx) error { return put(tx, 2) }); err != nil {
		t.Error(err)
	}
}

func TestWritersShareCommits(t *testing.T) {
	db := opened(t, sqliteDSN(t))
	reg := prometheus.NewRegistry()
	db.Instrument(reg)
	// A long write; whoever comes meanwhile shares one commit.
	var wg sync.WaitGroup
	running, finish := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		err := db.Write(t.Context(), func(tx *Tx) error { close(running); <-finish; return put(tx, 0) })
		if err != nil {
			t.Error(err)
		}
	})
	<-running
	for n := range 40 {
		wg.Go(func() {
			if err := db.Write(t.Context(), func(tx *Tx) error { return put(tx, n+1) }); err != nil {
				t.Error(err)
			}
		})
	}
	close(finish)
	wg.Wait()
	if got := testutil.ToFloat64(db.metrics.writes.WithLabelValues("done")); got != 41 {
		t.Errorf("%v writes counted, want 41", got)
	}
	if got := testutil.ToFloat64(db.metrics.commits); got < 1 || got > 41 {
		t.Errorf("%v commits", got)
	}
	if n := count(t, db); n != 41 {
		t.Errorf("%d rows", n)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
}

func TestTextMustBeText(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			for _, bad := range []any{"a\x00b", "\xff", inventory.OrgID("\xff")} {
				err := db.Write(t.Context(), func(tx *Tx) error {
					_, err := tx.Exec("INSERT INTO inventory_rows (org, noun, id, doc) VALUES (?, '', '', '')", bad)
					return err
				})
				if !errors.Is(err, inventory.ErrInvalid) {
					t.Errorf("%q gave %v", bad, err)
				}
			}
		})
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("sqlite/writers=%d", writers), func(b *testing.B) {
			db, err := Open(b.Context(), "sqlite://"+filepath.Join(b.TempDir(), "wardnet.db"))
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			numbers := make(chan int)
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for n := range numbers {
						if err := db.Write(b.Context(), func(tx *Tx) error { return put(tx, n) }); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for n := 0; b.Loop(); n++ {
				numbers <- n
			}
			close(numbers)
			wg.Wait()
			b.ReportMetric(testutil.ToFloat64(db.metrics.commits)/float64(b.N), "commits/op")
		})
	}
}
