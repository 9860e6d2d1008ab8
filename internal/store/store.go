// Package store keeps Wardnet's state in one SQL database: SQLite by default,
// PostgreSQL to scale out. Each noun's package declares the small interface it
// needs; the types here implement them over one [DB].
//
// "Written" means durable: Write returns after the commit has reached the disk
// and would survive a power cut.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Dialect names the SQL engine behind a [DB].
type Dialect string

// The two engines.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
)

// DB is one open database with its schema migrated. It is safe for concurrent
// use. Close it last: a Write or Read after Close fails.
type DB struct {
	dialect Dialect
	writer  *sql.DB // SQLite: one connection; PostgreSQL: the pool
	readers *sql.DB // PostgreSQL: the same pool
	group   *group  // SQLite only: commits several Writes with one sync
	metrics *metrics
}

// Open opens the database named by dsn, creates it where it is a SQLite file
// that does not exist, and brings its schema up to date:
//
//	sqlite:///var/lib/wardnet/wardnet.db
//	postgres://user@host/database?sslmode=verify-full
//
// A malformed dsn wraps [inventory.ErrInvalid]. No error holds a password.
func Open(ctx context.Context, dsn string) (*DB, error) {
	db, err := connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	if err := db.migrate(ctx, 0); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// connect opens dsn and leaves the schema as it is.
func connect(ctx context.Context, dsn string) (*DB, error) {
	target, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	if target.dialect == Postgres {
		return openPostgres(ctx, target)
	}
	return openSQLite(ctx, target.path, sqliteOptions{})
}

// Dialect says which engine is behind the database.
func (db *DB) Dialect() Dialect { return db.dialect }

// Close ends all connections. It waits for transactions under way.
func (db *DB) Close() error {
	var err error
	if db.readers != db.writer {
		err = db.readers.Close() // first: the last SQLite connection to close folds the log into the file
	}
	return errors.Join(err, db.writer.Close())
}

// Write runs fn in one transaction and returns after the commit is durable;
// when fn returns an error, or the commit fails, nothing of it remains. Errors
// of fn come back as they are.
//
// fn must touch nothing but its Tx: it may run again when PostgreSQL finds two
// writers in conflict, and it must not call Write itself. Reads in fn see its
// own writes and nobody else's half-done ones. On SQLite, writers wait in line;
// several of them may share one commit.
func (db *DB) Write(ctx context.Context, fn func(*Tx) error) (err error) {
	defer func(start time.Time) { db.metrics.wrote(start, err) }(time.Now())
	if db.group != nil {
		return db.group.write(ctx, fn)
	}
	return db.retry(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable}, fn)
}

// Read runs fn in one transaction that sees a single state of the whole
// database and cannot write.
func (db *DB) Read(ctx context.Context, fn func(*Tx) error) error {
	opts := &sql.TxOptions{ReadOnly: true}
	if db.dialect == Postgres {
		opts.Isolation = sql.LevelRepeatableRead
	}
	return db.once(ctx, db.readers, opts, fn)
}

// once runs fn in one transaction of its own.
func (db *DB) once(ctx context.Context, pool *sql.DB, opts *sql.TxOptions, fn func(*Tx) error) error {
	tx, err := pool.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer tx.Rollback() // after a commit this does nothing; after a panic in fn it is needed
	if err := fn(&Tx{ctx: ctx, tx: tx, dialect: db.dialect}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	return nil
}
