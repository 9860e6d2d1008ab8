package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the "sqlite" driver: no cgo, nothing to install
)

// sqliteOptions are for the durability tests; the zero value is the product.
type sqliteOptions struct {
	vfs         string             // name of a registered VFS; "" is the operating system's
	synchronous string             // default FULL: sync at every commit
	syncDir     func(string) error // default: fsync of the directory
}

// sqliteReaders bounds concurrent readers; more would only fight for the CPUs.
const sqliteReaders = 8

func openSQLite(ctx context.Context, path string, o sqliteOptions) (*DB, error) {
	if o.synchronous == "" {
		o.synchronous = "FULL"
	}
	if o.syncDir == nil {
		o.syncDir = syncDir
	}
	if err := createFile(path, o.syncDir); err != nil {
		return nil, fmt.Errorf("create database %s: %w", path, err)
	}
	q := url.Values{"_pragma": {
		"busy_timeout(10000)", // for another process: a second server, or a person with the sqlite3 shell
		"foreign_keys(1)",
		"recursive_triggers(1)", // else INSERT OR REPLACE would delete past the append-only triggers
		"synchronous(" + o.synchronous + ")",
		"cell_size_check(1)",
		"journal_size_limit(67108864)", // give the log's space back after a burst
	}}
	if o.vfs != "" {
		q.Set("vfs", o.vfs)
	}
	writer, err := openPool(path, q, 1, url.Values{"_txlock": {"immediate"}, "_pragma": {"journal_mode(WAL)"}})
	if err != nil {
		return nil, err
	}
	var mode string
	if err := writer.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), writer.Close())
	}
	if mode != "wal" {
		return nil, errors.Join(fmt.Errorf("open database %s: journal mode is %q, not wal; put it on a local file system", path, mode), writer.Close())
	}
	readers, err := openPool(path, q, sqliteReaders, url.Values{"_pragma": {"query_only(1)"}})
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	m := newMetrics(nil)
	return &DB{dialect: SQLite, writer: writer, readers: readers, group: newGroup(writer, m.commits), metrics: m}, nil
}

func openPool(path string, common url.Values, conns int, own url.Values) (*sql.DB, error) {
	q := url.Values{}
	for _, vs := range []url.Values{common, own} {
		for k, v := range vs {
			q[k] = append(q[k], v...)
		}
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// createFile makes an empty database file, readable by its owner alone, and
// makes its name durable: SQLite syncs the directory for its journals only, so
// without this a power cut could take the whole new file. An existing file is
// left alone; SQLite gives its journals the same mode.
func createFile(path string, sync func(string) error) error {
	dir := filepath.Dir(path)
	missing := dir
	for ; missing != filepath.Dir(missing); missing = filepath.Dir(missing) {
		if _, err := os.Stat(filepath.Dir(missing)); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	_, err := os.Stat(dir)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for d := dir; fresh; d = filepath.Dir(d) {
		if err := sync(filepath.Dir(d)); err != nil {
			return err
		}
		if d == missing {
			break
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	// Always: a file found here may be from a start that was cut before its sync.
	return sync(dir)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
