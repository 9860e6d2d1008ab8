package wireguard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	askEvery = 2 * time.Second        // whether the process still answers
	minPause = 100 * time.Millisecond // after a failed start, doubling
	maxPause = 5 * time.Second
)

// Supervise keeps the process running until ctx ends: one that died or hangs
// is started again, and what was applied last is applied again. onRestart is
// called after that. The process stays when Supervise returns. With the
// kernel's WireGuard there is nothing to do.
func (d *Driver) Supervise(ctx context.Context, onRestart func()) {
	if d.process == nil {
		<-ctx.Done()
		return
	}
	pause, said := minPause, ""
	for first := true; ctx.Err() == nil; first = false {
		s, err := d.process.open(ctx)
		if err == nil && !first {
			err = d.restore(ctx)
		}
		if err != nil {
			if s != nil {
				_ = s.c.Close()
			}
			if ctx.Err() == nil && err.Error() != said {
				said = err.Error()
				d.log.Error("WireGuard process cannot be brought back", "err", err)
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, maxPause)
			continue
		}
		if !first {
			d.log.Info("WireGuard tunnels restored")
			onRestart()
		}
		pause, said = minPause, ""
		err = s.watch(ctx)
		_ = s.c.Close()
		if ctx.Err() == nil {
			d.log.Warn("WireGuard process is lost", "err", err)
		}
	}
}

// watch returns when the process ends, hangs, or ctx ends.
func (s *session) watch(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.c.Close() })
	defer stop()
	for {
		if err := s.c.SetReadDeadline(time.Now().Add(askEvery)); err != nil {
			return fmt.Errorf("watch the process: %w", err)
		}
		_, err := s.in.Peek(1)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded): // nothing said, nothing ended
		case err != nil:
			return fmt.Errorf("watch the process: %w", err)
		default:
			return errors.New("watch the process: it spoke out of turn")
		}
		if _, err := s.hello(ctx); err != nil {
			return err
		}
	}
}
