package netlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/wardnet/wardnet/labs/netlab/netns"
)

const (
	termTime = 5 * time.Second // a process gets this long to end by itself
	pollTime = 20 * time.Millisecond
)

// processes are the lab's children. Each has a file with its pid and start
// time, which together are never another process, and a file with what it
// said; they outlive the program that started them.
type processes struct {
	dir string // of the lab

	mu    sync.Mutex
	ended map[string]error // our children that ended, by name
}

func (p *processes) path(name, suffix string) string { return filepath.Join(p.dir, "run", name+suffix) }

// LogFile is where a process of the lab writes: its name is "serve",
// "services", "dhcp-<carrier>" or the device's id.
func (l *Lab) LogFile(name string) string { return l.procs.path(name, ".log") }

// start starts argv in a namespace; "" is the machine's own.
func (p *processes) start(ns, name string, argv ...string) error {
	log, err := os.OpenFile(p.path(name, ".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of %s: %w", name, err)
	}
	defer log.Close()
	out, err := os.OpenFile(p.path(name, ".out"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("output of %s: %w", name, err)
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, log, p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if ns == "" {
		err = cmd.Start()
	} else {
		err = netns.Do(ns, cmd.Start)
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	p.mu.Lock()
	delete(p.ended, name)
	p.mu.Unlock()
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ended[name] = fmt.Errorf("%s ended: %w; see %s", name, orEnded(err), p.path(name, ".log"))
	}()
	birth, err := birthOf(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("%s ended at once; see %s", name, p.path(name, ".log"))
	}
	return os.WriteFile(p.path(name, ".pid"), fmt.Appendf(nil, "%d %s\n", cmd.Process.Pid, birth), 0o600)
}

var errEnded = errors.New("exit status 0")

func orEnded(err error) error {
	if err == nil {
		return errEnded
	}
	return err
}

// dead says why a child of ours is not there any more; nil: it is.
func (p *processes) dead(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended[name]
}

// said waits for the process's first line of output and reads it as JSON.
func (p *processes) said(ctx context.Context, name string, v any) error {
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	for {
		b, err := os.ReadFile(p.path(name, ".out"))
		if err != nil {
			return fmt.Errorf("output of %s: %w", name, err)
		}
		if line, _, whole := strings.Cut(string(b), "\n"); whole {
			if err := json.Unmarshal([]byte(line), v); err != nil {
				return fmt.Errorf("%s said nothing usable, see %s: %w", name, p.path(name, ".log"), err)
			}
			return nil
		}
		if err := p.dead(name); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s, see %s: %w", name, p.path(name, ".log"), context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// pid reads a pid file; 0 when that process is gone.
func (p *processes) pid(name string) int {
	b, err := os.ReadFile(p.path(name, ".pid"))
	if err != nil {
		return 0
	}
	number, birth, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	pid, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	if now, err := birthOf(pid); err != nil || now != birth {
		return 0
	}
	return pid
}

// names lists the processes that were started.
func (p *processes) names() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(p.dir, "run", "*.pid"))
	if err != nil {
		return nil, err
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".pid")
	}
	return files, nil
}

// stop ends processes: asked first, then killed.
func (p *processes) stop(names ...string) error {
	pids := map[string]int{}
	for _, n := range names {
		if pid := p.pid(n); pid != 0 {
			pids[n] = pid
			_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended since
		}
	}
	deadline := time.Now().Add(termTime)
	for len(pids) > 0 {
		for n := range pids {
			if p.pid(n) == 0 {
				delete(pids, n)
			}
		}
		if len(pids) > 0 && time.Now().After(deadline) {
			for n, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				delete(pids, n)
			}
		}
		time.Sleep(pollTime)
	}
	for _, n := range names {
		if err := os.Remove(p.path(n, ".pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("stop %s: %w", n, err)
		}
	}
	return nil
}

// kill ends a process without a warning and waits until it is gone.
func (p *processes) kill(name string) error {
	if pid := p.pid(name); pid != 0 {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill %s: %w", name, err)
		}
	}
	return p.stop(name)
}

// birthOf is the start time of a process in clock ticks since boot, field 22 of
// proc(5)'s stat; an error when there is none, or only its corpse.
func birthOf(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	i := strings.LastIndexByte(string(b), ')') // the name before it may hold anything
	f := strings.Fields(string(b)[i+1:])
	if len(f) < 20 || f[0] == "Z" {
		return "", fs.ErrNotExist
	}
	return f[19], nil
}
