package impair

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/wardnet/wardnet/labs/impair/forward"
)

// shapeOf is what the forwarder does for a fault.
func shapeOf(f Fault) forward.Shape {
	return forward.Shape{
		Delay:  time.Duration(f.DelayMS * float64(time.Millisecond)),
		Jitter: time.Duration(f.JitterMS * float64(time.Millisecond)),
		Rate:   f.RateBPS,
	}
}

func (b *Bench) pidFile(p forward.Port) string {
	return filepath.Join(b.deps.Dir, "forward-"+p.Shadow()+".pid")
}

// startForwarder starts the forwarder of a port as a process of its own, for it
// must outlive this one, and waits until packets pass through it.
func (b *Bench) startForwarder(ctx context.Context, p forward.Port, f Fault) error {
	s := shapeOf(f)
	log, err := os.OpenFile(filepath.Join(b.deps.Dir, "forward.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of the forwarder: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(b.deps.Wardnet, "lab", "forward", "--namespace", p.Namespace, "--port", p.Name,
		"--delay", s.Delay.String(), "--jitter", s.Jitter.String(), "--rate", strconv.FormatUint(uint64(s.Rate), 10))
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the forwarder of port %s: %w", p.Name, err)
	}
	if err := os.WriteFile(b.pidFile(p), fmt.Appendf(nil, "%d %s\n", cmd.Process.Pid, birth(cmd.Process.Pid)), 0o600); err != nil {
		return errors.Join(fmt.Errorf("pid file of the forwarder: %w", err), cmd.Process.Kill())
	}
	ready := make(chan error, 1)
	go func() {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err == nil && strings.TrimSpace(line) != "ready" {
			err = fmt.Errorf("it said %q", strings.TrimSpace(line))
		}
		ready <- err
		_ = cmd.Wait() // collects it when it ends while we live
	}()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("start the forwarder of port %s, see %s: %w", p.Name, log.Name(), errors.Join(err, b.endForwarder(context.WithoutCancel(ctx), p)))
	}
	return nil
}

// endForwarder ends a port's forwarder and leaves the port as it was, also when
// the forwarder is gone already.
func (b *Bench) endForwarder(ctx context.Context, p forward.Port) error {
	pid := alive(b.pidFile(p))
	if pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended since
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Second); pid != 0 && alive(b.pidFile(p)) == pid; {
		if time.Now().After(deadline) || ctx.Err() != nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			break
		}
		<-tick.C
	}
	err := os.Remove(b.pidFile(p))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if _, gone := os.Stat(filepath.Join("/run/netns", p.Namespace)); gone != nil {
		return err
	}
	return errors.Join(err, forward.Remove(p))
}

// alive reads a pid file; 0 when that very process is gone.
func alive(file string) int {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	number, born, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	pid, err := strconv.Atoi(number)
	if err != nil || born == "" || birth(pid) != born {
		return 0
	}
	return pid
}

// birth is a process's start time in clock ticks since boot (proc(5), stat
// field 22), which with its pid is never another process; "" when it is gone.
func birth(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	f := strings.Fields(string(b)[strings.LastIndexByte(string(b), ')')+1:])
	if len(f) < 20 || f[0] == "Z" {
		return ""
	}
	return f[19]
}
