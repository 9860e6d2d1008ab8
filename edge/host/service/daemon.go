package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/wardnet/wardnet/edge/host/program"
	"github.com/wardnet/wardnet/inventory"
)

// daemon is one process that puts itself in the background. The file it was
// started with always holds what it runs: it is written while none runs.
type daemon struct {
	name    string // of its files
	comm    string // what the kernel calls it
	program string // absolute path
	dir     string
	ports   []string
	text    string
	run     []string                   // arguments
	try     func(path string) []string // arguments that check a file
}

func (d daemon) confFile() string { return filepath.Join(d.dir, d.name+".conf") }
func (d daemon) pidFile() string  { return filepath.Join(d.dir, d.name+".pid") }

// check says whether the program would take the text.
func (d daemon) check(ctx context.Context) error {
	f, err := os.CreateTemp(d.dir, d.name+".try") // its own: checks may run side by side
	if err != nil {
		return fmt.Errorf("check %s: %w", d.name, err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(d.text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("check %s: %w", d.name, err)
	}
	if _, err := program.Run(ctx, limit, nil, d.program, d.try(f.Name())...); err != nil {
		return fmt.Errorf("%w: check %s: %w", inventory.ErrInvalid, d.name, err)
	}
	return nil
}

// loaded is the text the process was started with.
func (d daemon) loaded() string {
	b, err := os.ReadFile(d.confFile())
	if err != nil {
		return ""
	}
	return string(b)
}

// runs says whether the process lives and serves this network namespace.
func (d daemon) runs() bool {
	pid := d.pid()
	return pid != 0 && program.SameNamespace(pid)
}

// pid is the process of our pid file, 0: none.
func (d daemon) pid() int { return program.Process(d.pidFile(), d.comm, d.confFile()) }

// restart ends the old process, writes text down, and starts anew.
func (d daemon) restart(ctx context.Context, text string) error {
	if err := d.stop(ctx); err != nil {
		return err
	}
	path := d.confFile()
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		return fmt.Errorf("start %s: %w", d.name, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("start %s: %w", d.name, err)
	}
	if _, err := program.Run(ctx, limit, nil, d.program, d.run...); err != nil {
		return fmt.Errorf("start %s: %w", d.name, err)
	}
	return program.Wait(ctx, endLimit, d.name+" does not come up", d.runs)
}

// stop ends the process, if it runs, and forgets its files.
func (d daemon) stop(ctx context.Context) error {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		pid := d.pid()
		if pid == 0 {
			break
		}
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end %s: %w", d.name, err)
		}
		if program.Wait(ctx, endLimit, d.name+" does not end", func() bool { return d.pid() == 0 }) == nil {
			break
		}
	}
	if d.pid() != 0 {
		return fmt.Errorf("end %s: it does not end", d.name)
	}
	for _, path := range []string{d.confFile(), d.pidFile()} {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("end %s: %w", d.name, err)
		}
	}
	return nil
}

// strays are the processes whose files lie in dir and that are not in want.
func strays(dir string, want []daemon) []daemon {
	paths, err := filepath.Glob(filepath.Join(dir, "*.conf"))
	if err != nil {
		return nil // a directory name that is a bad pattern has no files of ours
	}
	var out []daemon
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".conf")
		comm, _, _ := strings.Cut(name, "-")
		if !slices.ContainsFunc(want, func(d daemon) bool { return d.name == name }) {
			out = append(out, daemon{name: name, comm: comm, dir: dir})
		}
	}
	return out
}

// endLimit is what a process gets to come up or to end.
const endLimit = 3 * time.Second
