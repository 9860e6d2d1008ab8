package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wardnet/wardnet/inventory"
)

const (
	// pgConns bounds the pool of one process; PostgreSQL's own default is 100
	// connections for all.
	pgConns = 16
	// pgAttempts bounds the retries of a transaction that met another: with
	// the backoff below about 3 s, after which the load, not luck, is at fault.
	pgAttempts = 12
)

func openPostgres(ctx context.Context, t target) (*DB, error) {
	cfg, err := pgx.ParseConfig(t.url)
	if err != nil {
		// The parser's text may quote the DSN; its cause does not.
		var parse *pgconn.ParseConfigError
		if errors.As(err, &parse) && parse.Unwrap() != nil {
			err = parse.Unwrap()
		} else {
			err = errors.New("it cannot be parsed")
		}
		return nil, fmt.Errorf("%w: database DSN: %w; %s", inventory.ErrInvalid, err, dsnHint)
	}
	switch cfg.RuntimeParams["synchronous_commit"] {
	case "remote_apply", "remote_write":
	default: // a server or role set to "off" would acknowledge what a power cut takes
		cfg.RuntimeParams["synchronous_commit"] = "on"
	}
	pool := stdlib.OpenDB(*cfg)
	pool.SetMaxOpenConns(pgConns)
	pool.SetMaxIdleConns(pgConns)
	if err := checkServer(ctx, pool); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %q on %s: %w", cfg.Database, cfg.Host, err), pool.Close())
	}
	return &DB{dialect: Postgres, writer: pool, readers: pool, metrics: newMetrics(nil)}, nil
}

// checkServer refuses a server on which a commit is not durable.
func checkServer(ctx context.Context, pool *sql.DB) error {
	for _, name := range []string{"fsync", "full_page_writes"} {
		var value string
		if err := pool.QueryRowContext(ctx, "SHOW "+name).Scan(&value); err != nil {
			return err
		}
		if value != "on" {
			return fmt.Errorf("the server runs with %s=%s and would lose data at a power cut; set it to on", name, value)
		}
	}
	return nil
}

// retry runs fn until its transaction meets no other, within bounds.
func (db *DB) retry(ctx context.Context, opts *sql.TxOptions, fn func(*Tx) error) error {
	for n := 1; ; n++ {
		err := db.once(ctx, db.writer, opts, fn)
		if err == nil {
			db.metrics.commits.Inc()
		}
		if !conflicts(err) {
			return err
		}
		db.metrics.conflicts.Inc()
		if n == pgAttempts {
			return fmt.Errorf("%w: gave up after %d attempts against concurrent writers: %w", inventory.ErrConflict, n, err)
		}
		d := min(time.Millisecond<<n, 500*time.Millisecond)
		select {
		case <-time.After(d/2 + rand.N(d)):
		case <-ctx.Done():
			return fmt.Errorf("retry transaction: %w (after: %w)", context.Cause(ctx), err)
		}
	}
}

// conflicts says whether PostgreSQL undid the transaction for the sake of
// another one: serialization failure or deadlock. Nothing of it was kept.
func conflicts(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}
