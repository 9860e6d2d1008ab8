package netlab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// Down ends the lab's processes and removes its namespaces and, unless keep,
// its files. It touches nothing whose namespace or pid file is not the lab's
// own, and is complete however far Up came; persistent TUN devices and routes
// vanish with their namespaces.
func (l *Lab) Down(keep bool) error {
	if err := Root(); err != nil {
		return err
	}
	prefix := l.Topology.Prefix + "-"
	names, err := l.procs.names()
	if err != nil {
		return err
	}
	if err := l.procs.stop(names...); err != nil {
		return err
	}
	spaces, err := netns.List(prefix)
	if err != nil {
		return err
	}
	if err := endInside(spaces); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), commandTime, fmt.Errorf("took over %s", commandTime))
	defer cancel()
	if len(spaces) > 0 {
		if err := run(ctx, deleteBatch(spaces), l.tools.ip, "-force", "-batch", "-"); err != nil {
			return fmt.Errorf("remove namespaces: %w", err)
		}
	}
	if err := errors.Join(removeSockets(prefix+"*"), os.RemoveAll(l.runDirs())); err != nil {
		return err
	}
	l.say("taken down: %d namespaces", len(spaces))
	if keep {
		return nil
	}
	return l.remove()
}

// remove deletes what the lab keeps in its directory, and the directory when
// nothing else is there.
func (l *Lab) remove() error {
	for _, name := range []string{"run", "people", "bundles", "edges", "frr", "data", "wardnet.yaml", stateFile + ".next", stateFile} {
		if err := os.RemoveAll(l.path(name)); err != nil {
			return fmt.Errorf("remove the lab's files: %w", err)
		}
	}
	if err := os.Remove(l.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return fmt.Errorf("remove the lab's directory: %w", err)
	}
	return nil
}

// endInside kills every process in the namespaces: daemons that an agent
// started and that outlive it on purpose.
func endInside(spaces []string) error {
	deadline := time.Now().Add(termTime)
	for {
		pids, err := netns.Processes(spaces...)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("end process %d: %w", pid, err)
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v in the lab's namespaces do not end", pids)
		}
		time.Sleep(pollTime)
	}
}

// removeSockets removes the run directories of FRR instances, by a pattern of
// their names.
func removeSockets(pattern string) error {
	dirs, err := filepath.Glob(filepath.Join(frrRun, pattern))
	if err != nil {
		return fmt.Errorf("remove FRR's sockets: %w", err)
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove FRR's sockets: %w", err)
		}
	}
	return nil
}
