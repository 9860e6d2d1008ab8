package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one child of the demo. Its standard error goes to a log file in
// the demo's directory; it is ended by its own pid only.
type process struct {
	name string
	cmd  *exec.Cmd
	out  *bufio.Reader
	log  *os.File
	done chan struct{}
	err  error
}

func start(dir, name string, argv ...string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // no child outlives a killed demo
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return &process{name: name, cmd: cmd, out: bufio.NewReader(pipe), log: log, done: make(chan struct{})}, nil
}

// first reads the process's first line of output as JSON into v.
func (p *process) first(ctx context.Context, v any) error {
	got := make(chan error, 1)
	go func() {
		line, err := p.out.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, v)
		}
		got <- err
		p.reap()
	}()
	select {
	case err := <-got:
		if err != nil {
			return fmt.Errorf("%s said nothing usable, see %s: %w", p.name, p.log.Name(), err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %s, see %s: %w", p.name, p.log.Name(), context.Cause(ctx))
	}
}

// reap reads the rest of the output and collects the process when it ends.
func (p *process) reap() {
	_, _ = io.Copy(io.Discard, p.out)
	p.err = p.cmd.Wait()
	_ = p.log.Close()
	close(p.done)
}

// watch is first for a process that prints nothing.
func (p *process) watch() { go p.reap() }

// stop asks the process to end and kills it when it does not.
func (p *process) stop(grace time.Duration) {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// kill is a power switch: no warning, no goodbye.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// peakMB is the highest resident memory so far (VmHWM), in MB.
func (p *process) peakMB() int64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "VmHWM:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return kb * 1024 / 1e6
		}
	}
	return 0
}
