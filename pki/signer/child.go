package signer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"syscall"
	"time"
)

// Child keeps a signing process of the controller's own running. All fields but
// Credential and Restarted are required.
type Child struct {
	Path string   // the program
	Args []string // its arguments, the name first
	// Credential is the user it runs as; nil: the controller's.
	Credential *syscall.Credential
	Stderr     io.Writer
	Log        *slog.Logger
	Restarted  func() // is told when the process had to be started again
}

// Pauses between a death and the next start.
const (
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
	// stopTime is for a signature under way to be journaled.
	stopTime = 7 * time.Second
)

// Run starts the process and starts it again whenever it dies, until ctx ends;
// then it stops it and returns nil. The process lives no longer than ours, even
// if we are killed: it ends when its standard input does.
func (c Child) Run(ctx context.Context) error {
	pause := minPause
	for n := 0; ; n++ {
		if n > 0 && c.Restarted != nil {
			c.Restarted()
		}
		start := time.Now()
		err := c.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(start) > time.Minute {
			pause = minPause
		}
		c.Log.ErrorContext(ctx, "the signing process ended, starting it again; nothing is issued meanwhile", "err", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

func (c Child) once(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, c.Path)
	cmd.Args, cmd.Stderr = c.Args, c.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: c.Credential,
		Setpgid:    true, // a Ctrl-C is for the controller, which stops us in its turn
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	life, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer life.Close()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w", c.Path, err)
	}
	return errors.New("it ended by itself")
}

// Await waits until the signer behind c answers.
func (c *Client) Await(ctx context.Context) (State, error) {
	for {
		st, err := c.State(ctx)
		if !errors.Is(err, ErrUnavailable) {
			return st, err
		}
		select {
		case <-ctx.Done():
			return State{}, errors.Join(err, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
