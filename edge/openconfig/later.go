package openconfig

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/foreign"
)

// Later is a device that is opened when it is first used, so that it may be
// down when the controller starts, and again after it could not be reached: it
// may come back with other software. It satisfies [foreign.Box],
// [foreign.Confirmer] and [foreign.Emulator], and is safe for concurrent use.
type Later struct {
	conn grpc.ClientConnInterface
	cfg  Config

	mu    sync.Mutex
	box   foreign.Box // nil: not open
	plain bool        // had no Commit Confirmed when last opened
}

// OpenLater makes a [Later]; the error is of the quirks. conn stays the caller's.
func OpenLater(conn grpc.ClientConnInterface, cfg Config) (*Later, error) {
	if err := cfg.Quirks.Validate(); err != nil {
		return nil, err
	}
	return &Later{conn: conn, cfg: cfg, plain: cfg.Quirks.Commit == "emulated"}, nil
}

// with runs fn on the open device.
func (l *Later) with(ctx context.Context, fn func(foreign.Box) error) error {
	box, err := l.open(ctx)
	if err != nil {
		return err
	}
	if err = fn(box); errors.Is(err, edge.ErrUnreachable) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.box == box {
			l.box = nil
		}
	}
	return err
}

func (l *Later) open(ctx context.Context) (foreign.Box, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.box != nil {
		return l.box, nil
	}
	box, err := Open(ctx, l.conn, l.cfg)
	if err != nil {
		return nil, err
	}
	_, native := box.(foreign.Confirmer)
	l.box, l.plain = box, !native
	return box, nil
}

// confirmer is the open device, or [foreign.ErrEmulate].
func (l *Later) confirmer(ctx context.Context, fn func(foreign.Confirmer) error) error {
	return l.with(ctx, func(box foreign.Box) error {
		c, ok := box.(foreign.Confirmer)
		if !ok {
			return foreign.ErrEmulate
		}
		return fn(c)
	})
}

// Holds lists the parts that the device can hold; before it was opened, those
// that the models have.
func (l *Later) Holds() []edge.Kind {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.box != nil {
		return l.box.Holds()
	}
	return l.cfg.Quirks.kinds()
}

// Left implements [foreign.Leaver].
func (l *Later) Left(c edge.Config) []string {
	l.mu.Lock()
	box := l.box
	l.mu.Unlock()
	if b, ok := box.(foreign.Leaver); ok {
		return b.Left(c)
	}
	return Left(c, l.cfg.Quirks)
}

// Emulated says that the device has no Commit Confirmed, as far as is known.
func (l *Later) Emulated() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.plain
}

// Read implements [foreign.Box].
func (l *Later) Read(ctx context.Context, c edge.Config) (got edge.Config, err error) {
	err = l.with(ctx, func(box foreign.Box) (err error) {
		got, err = box.Read(ctx, c)
		return err
	})
	return got, err
}

// Write implements [foreign.Box].
func (l *Later) Write(ctx context.Context, have, want edge.Config) error {
	return l.with(ctx, func(box foreign.Box) error { return box.Write(ctx, have, want) })
}

// Tunnels implements [foreign.Box].
func (l *Later) Tunnels(ctx context.Context, c edge.Config) (states []edge.TunnelState, err error) {
	err = l.with(ctx, func(box foreign.Box) (err error) {
		states, err = box.Tunnels(ctx, c)
		return err
	})
	return states, err
}

// Try implements [foreign.Confirmer].
func (l *Later) Try(ctx context.Context, id edge.CommitID, have, want edge.Config, revert time.Duration) error {
	return l.confirmer(ctx, func(c foreign.Confirmer) error { return c.Try(ctx, id, have, want, revert) })
}

// Keep implements [foreign.Confirmer].
func (l *Later) Keep(ctx context.Context, id edge.CommitID) error {
	return l.confirmer(ctx, func(c foreign.Confirmer) error { return c.Keep(ctx, id) })
}

// Cancel implements [foreign.Confirmer].
func (l *Later) Cancel(ctx context.Context, id edge.CommitID) error {
	return l.confirmer(ctx, func(c foreign.Confirmer) error { return c.Cancel(ctx, id) })
}
