package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(writeLoopEnv); dsn != "" {
		writeLoop(dsn) // this process is a child of TestKilledWriter
		return
	}
	if job := os.Getenv(presentEnv); job != "" {
		presentTokens(job) // this process is a child of TestThousandTokens
		return
	}
	code := m.Run()
	pg.down()
	os.Exit(code)
}

// engines gives, by name, a function that makes a fresh and migrated database
// on each engine. Every store is tested on all of them:
//
//	for name, open := range engines(t) {
//		t.Run(name, func(t *testing.T) { s := NewThing(open(t)); … })
//	}
func engines(*testing.T) map[string]func(*testing.T) *DB {
	return map[string]func(*testing.T) *DB{
		"sqlite": func(t *testing.T) *DB {
			t.Helper()
			return opened(t, sqliteDSN(t))
		},
		"postgres": func(t *testing.T) *DB {
			t.Helper()
			return opened(t, pg.database(t, "migrated"))
		},
	}
}

// blank gives the DSN of a database of that engine that holds no table yet.
func blank(t *testing.T, engine string) string {
	t.Helper()
	if engine == "postgres" {
		return pg.database(t, "template0")
	}
	return sqliteDSN(t)
}

func sqliteDSN(t *testing.T) string {
	t.Helper()
	return "sqlite://" + filepath.Join(t.TempDir(), "wardnet.db")
}

func opened(t *testing.T, dsn string) *DB {
	t.Helper()
	db, err := Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

// put adds a row to a table that every schema has; n is its key.
func put(tx *Tx, n int) error {
	_, err := tx.Exec("INSERT INTO inventory_rows (org, noun, id, doc) VALUES (?, 'test', ?, ?)", "o", fmt.Sprint(n), "{}")
	return err
}

func count(t *testing.T, db *DB) (n int) {
	t.Helper()
	err := db.Read(t.Context(), func(tx *Tx) error {
		return tx.QueryRow("SELECT count(*) FROM inventory_rows").Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWriteKeepsAllOrNothing(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db, boom := open(t), errors.New("boom")
			if err := db.Write(t.Context(), func(tx *Tx) error { return put(tx, 1) }); err != nil {
				t.Fatal(err)
			}
			err := db.Write(t.Context(), func(tx *Tx) error { return errors.Join(put(tx, 2), boom) })
			if !errors.Is(err, boom) {
				t.Errorf("got %v, want the function's own error", err)
			}
			func() {
				defer func() { _ = recover() }()
				_ = db.Write(t.Context(), func(tx *Tx) error { put(tx, 3); panic("in a write") })
			}()
			gone, cancel := context.WithCancelCause(t.Context())
			cancel(boom)
			if err := db.Write(gone, func(tx *Tx) error { return put(tx, 4) }); !errors.Is(err, boom) && !errors.Is(err, context.Canceled) {
				t.Errorf("a cancelled write gave %v", err)
			}
			if err := db.Read(t.Context(), func(tx *Tx) error { return put(tx, 5) }); err == nil {
				t.Error("a Read could write")
			}
			if n := count(t, db); n != 1 {
				t.Errorf("%d rows, want the 1 acknowledged", n)
			}
		})
	}
}

func TestConcurrentWritesLoseNothing(t *testing.T) {
	const writers, each = 8, 25
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := range each {
						// Read, then write what depends on it: a lost update shows as a missing number.
						err := db.Write(t.Context(), func(tx *Tx) error {
							if err := tx.Lock("inventory_rows"); err != nil {
								return err
							}
							var n int
							if err := tx.QueryRow("SELECT count(*) FROM inventory_rows").Scan(&n); err != nil {
								return err
							}
							if err := put(tx, n); err != nil {
								return err
							}
							if i%5 == 4 {
								return errRefused // must not take the others of its batch along
							}
							return nil
						})
						if i%5 == 4 != errors.Is(err, errRefused) || i%5 != 4 && err != nil {
							t.Errorf("writer %d, write %d: %v", w, i, err)
						}
					}
				})
			}
			wg.Wait()
			if n, want := count(t, db), writers*each*4/5; n != want {
				t.Errorf("%d rows, want %d", n, want)
			}
		})
	}
}

var errRefused = errors.New("refused")

func TestConflictingWritesAreRetried(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for range 5 {
						err := db.Write(t.Context(), func(tx *Tx) error { // no Lock
							var n int
							if err := tx.QueryRow("SELECT count(*) FROM inventory_rows").Scan(&n); err != nil {
								return err
							}
							return put(tx, n)
						})
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if n := count(t, db); n != 20 {
				t.Errorf("%d rows, want 20", n)
			}
		})
	}
}

func TestReadSeesOneState(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			err := db.Read(t.Context(), func(tx *Tx) error {
				var before, after int
				if err := tx.QueryRow("SELECT count(*) FROM inventory_rows").Scan(&before); err != nil {
					return err
				}
				if err := db.Write(t.Context(), func(tx *Tx) error { return put(tx, 1) }); err != nil {
					return err
				}
				if err := tx.QueryRow("SELECT count(*) FROM inventory_rows").Scan(&after); err != nil {
					return err
				}
				if before != after {
					return fmt.Errorf("%d rows, then %d in the same Read", before, after)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if n := count(t, db); n != 1 {
				t.Errorf("%d rows after the write", n)
			}
		})
	}
}

func TestReopenKeepsData(t *testing.T) {
	for name := range engines(t) {
		t.Run(name, func(t *testing.T) {
			dsn := blank(t, name)
			for want := range 3 {
				db, err := Open(t.Context(), dsn)
				if err != nil {
					t.Fatal(err)
				}
				if n := count(t, db); n != want {
					t.Errorf("start %d: %d rows", want, n)
				}
				if err := db.Write(t.Context(), func(tx *Tx) error { return put(tx, want) }); err != nil {
					t.Fatal(err)
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
