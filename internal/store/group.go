package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// groupMax bounds how many Writes share one commit, and so how long the first
// of them waits.
const groupMax = 64

var errAborted = errors.New("function left the transaction without returning") // panic or runtime.Goexit

// group is SQLite's one writer. Writers take turns; each runs its function on
// its own goroutine, inside a savepoint of a transaction they share, and then
// stands in line again to commit. The line is first come, first served, so
// whoever waited meanwhile has joined before the commit, and one sync serves
// them all.
type group struct {
	db   *sql.DB
	turn chan struct{} // holds one token while a writer has its turn
	open *batch        // the transaction under way; guarded by turn

	commits prometheus.Counter
}

// batch is one shared transaction.
type batch struct {
	tx      *sql.Tx
	members int // functions that ran well
	done    chan struct{}
	err     error // valid once done is closed
}

func newGroup(db *sql.DB, commits prometheus.Counter) *group {
	return &group{db: db, turn: make(chan struct{}, 1), commits: commits}
}

func (g *group) write(ctx context.Context, fn func(*Tx) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for the writer: %w", context.Cause(ctx))
	}
	b, err := g.join(ctx, fn)
	if err != nil {
		return err
	}
	// Once the function has run there is no way out but the commit: a caller
	// that gave up here could not know whether its write is kept.
	select {
	case <-b.done:
	case g.turn <- struct{}{}:
		g.commit(b)
		<-g.turn
	}
	return b.err
}

// join runs fn in the batch under way, or a new one, and ends the turn.
func (g *group) join(ctx context.Context, fn func(*Tx) error) (*batch, error) {
	defer func() { <-g.turn }()
	if g.open == nil {
		// Not the caller's context: its end would roll the others back.
		tx, err := g.db.BeginTx(context.WithoutCancel(ctx), nil)
		if err != nil {
			return nil, fmt.Errorf("begin transaction: %w", err)
		}
		g.open = &batch{tx: tx, done: make(chan struct{})}
	}
	b := g.open
	if err := g.run(ctx, b, fn); err != nil {
		return nil, err
	}
	if b.members++; b.members == groupMax {
		g.commit(b)
	}
	return b, nil
}

// run calls fn inside a savepoint. Whatever fn does, by error, panic or
// Goexit, takes back only its own work.
func (g *group) run(ctx context.Context, b *batch, fn func(*Tx) error) (err error) {
	if _, err := b.tx.Exec("SAVEPOINT member"); err != nil {
		return g.fail(b, fmt.Errorf("begin savepoint: %w", err))
	}
	err = errAborted
	defer func() {
		switch {
		case err != nil:
			if back := execAll(b.tx, "ROLLBACK TO member", "RELEASE member"); back != nil {
				g.fail(b, fmt.Errorf("roll back to savepoint: %w (after: %w)", back, err))
			} else if b.members == 0 {
				g.fail(b, nil) // nobody is left to end it
			}
		default:
			if end := execAll(b.tx, "RELEASE member"); end != nil {
				err = g.fail(b, fmt.Errorf("end savepoint: %w", end))
			}
		}
	}()
	return fn(&Tx{ctx: ctx, tx: b.tx, dialect: SQLite, shared: true})
}

// commit ends b, unless it has ended already, and tells its members.
func (g *group) commit(b *batch) {
	if g.open != b {
		return
	}
	g.open = nil
	if err := b.tx.Commit(); err != nil {
		b.err = fmt.Errorf("commit transaction: %w", err)
	} else {
		g.commits.Inc()
	}
	close(b.done)
}

// fail drops b with all its members' work and returns err. SQLite ends a whole
// transaction by itself when the disk is full or fails.
func (g *group) fail(b *batch, err error) error {
	g.open = nil
	b.err = err
	if back := b.tx.Rollback(); err != nil && back != nil {
		b.err = errors.Join(err, back)
	}
	close(b.done)
	return b.err
}

func execAll(tx *sql.Tx, statements ...string) error {
	for _, s := range statements {
		if _, err := tx.Exec(s); err != nil {
			return err
		}
	}
	return nil
}
