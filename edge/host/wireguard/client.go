package wireguard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/host/wireguard/process"
)

const (
	startWithin  = 5 * time.Second  // from exec to the first answer
	helloWithin  = 5 * time.Second  // the answer to hello; later the process hangs
	answerWithin = 10 * time.Second // any other answer
	poll         = 10 * time.Millisecond
)

// client is the backend that talks to `wardnet-edge wg`.
type client struct {
	binary, dir string
	log         *slog.Logger
	starting    sync.Mutex
}

// session is a connection to the process.
type session struct {
	c  *net.UnixConn
	in *bufio.Reader
}

// dial connects. No process is edge.ErrUnreachable.
func (p *client) dial(ctx context.Context) (*session, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", filepath.Join(p.dir, process.Socket))
	if err != nil {
		return nil, fmt.Errorf("%w: WireGuard process of %s: %w", edge.ErrUnreachable, p.dir, err)
	}
	return &session{c: c.(*net.UnixConn), in: bufio.NewReader(c)}, nil
}

// ask sends one request. Errors never quote it: it may hold the private key.
func (s *session) ask(ctx context.Context, req process.Request) (process.Reply, error) {
	deadline, ok := ctx.Deadline()
	if limit := time.Now().Add(answerWithin); !ok || deadline.After(limit) {
		deadline = limit
	}
	if err := s.c.SetDeadline(deadline); err != nil {
		return process.Reply{}, fmt.Errorf("%w: WireGuard process, %s: %w", edge.ErrUnreachable, req.Op, err)
	}
	defer context.AfterFunc(ctx, func() { _ = s.c.SetDeadline(time.Now()) })()
	if err := json.NewEncoder(s.c).Encode(req); err != nil {
		return process.Reply{}, fmt.Errorf("%w: WireGuard process, %s: %w", edge.ErrUnreachable, req.Op, err)
	}
	line, err := s.in.ReadBytes('\n')
	if err != nil {
		return process.Reply{}, fmt.Errorf("%w: WireGuard process, %s: %w", edge.ErrUnreachable, req.Op, err)
	}
	var r process.Reply
	if err := json.Unmarshal(line, &r); err != nil {
		return process.Reply{}, fmt.Errorf("%w: WireGuard process, answer to %s: %w", edge.ErrUnreachable, req.Op, err)
	}
	if r.Error != "" {
		return r, fmt.Errorf("%w: WireGuard process, %s %s: %s", edge.ErrRejected, req.Op, req.Name, r.Error)
	}
	return r, nil
}

// hello asks who is there. Too late an answer is os.ErrDeadlineExceeded.
func (s *session) hello(ctx context.Context) (process.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, helloWithin)
	defer cancel()
	return s.ask(ctx, process.Request{Op: process.Hello})
}

func (p *client) ask(ctx context.Context, req process.Request) (process.Reply, error) {
	s, err := p.dial(ctx)
	if err != nil {
		return process.Reply{}, err
	}
	defer s.c.Close()
	return s.ask(ctx, req)
}

func (p *client) devices(ctx context.Context) (map[string]Device, error) {
	r, err := p.ask(ctx, process.Request{Op: process.List})
	if err != nil {
		return nil, err
	}
	all := map[string]Device{}
	for _, d := range r.Devices {
		dev, err := parse(d.UAPI)
		if err != nil {
			return nil, fmt.Errorf("state of WireGuard device %s: %w", d.Name, err)
		}
		dev.MTU, dev.PublicKey = d.MTU, d.PublicKey
		all[d.Name] = dev
	}
	return all, nil
}

func (p *client) set(ctx context.Context, name, private string, c change) error {
	_, err := p.ask(ctx, process.Request{Op: process.Set, Name: name, MTU: c.MTU, UAPI: c.uapi(private)})
	return err
}

func (p *client) remove(ctx context.Context, name string) error {
	_, err := p.ask(ctx, process.Request{Op: process.Delete, Name: name})
	return err
}

func (p *client) ready(ctx context.Context) error {
	s, err := p.open(ctx)
	if err != nil {
		return err
	}
	return s.c.Close()
}

// open returns a session with a process that speaks our protocol: the one that
// runs, or a new one where none runs, hangs, or speaks another.
func (p *client) open(ctx context.Context) (*session, error) {
	p.starting.Lock()
	defer p.starting.Unlock()
	s, err := p.greet(ctx)
	if err == nil {
		return s, nil
	}
	if ctx.Err() != nil {
		return nil, err
	}
	ended, err := p.start()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, fmt.Errorf("no answer within %s", startWithin))
	defer cancel()
	for {
		if s, err = p.greet(ctx); err == nil {
			return s, nil
		}
		select {
		case <-time.After(poll):
		case how := <-ended:
			return nil, fmt.Errorf("%w: WireGuard process ended at once: %s; see %s", edge.ErrUnreachable, how, p.logFile())
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: start the WireGuard process: %w; see %s", edge.ErrUnreachable, context.Cause(ctx), p.logFile())
		}
	}
}

// greet connects to the process that runs. One that hangs or speaks another
// protocol is ended, so that a new one can start.
func (p *client) greet(ctx context.Context) (*session, error) {
	s, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	who, err := process.Peer(s.c)
	if err != nil {
		_ = s.c.Close()
		return nil, err
	}
	r, err := s.hello(ctx)
	switch {
	case err == nil && r.Protocol == process.Protocol:
		return s, nil
	case err == nil:
		p.log.Warn("replacing a WireGuard process of another version", "have", r.Protocol, "want", process.Protocol)
		_, err = s.ask(ctx, process.Request{Op: process.Stop})
		_ = s.c.Close()
		return nil, errors.Join(fmt.Errorf("%w: WireGuard process of another version", edge.ErrUnreachable), err, p.gone(ctx))
	}
	_ = s.c.Close()
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
		p.log.Warn("WireGuard process hangs; ending it", "process", who.Pid)
		return nil, errors.Join(err, syscall.Kill(int(who.Pid), syscall.SIGKILL), p.gone(ctx))
	}
	return nil, err
}

// gone waits until nothing answers at the socket.
func (p *client) gone(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, fmt.Errorf("the old WireGuard process does not end"))
	defer cancel()
	for {
		s, err := p.dial(ctx)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
			return nil
		}
		if err == nil {
			_ = s.c.Close()
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (p *client) logFile() string { return filepath.Join(p.dir, "wg.log") }

// start runs a new process that outlives this one: its own session, its own
// files, and nothing secret in its arguments. The channel tells how it ended.
func (p *client) start() (<-chan string, error) {
	out, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the WireGuard process's log: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(p.binary, "wg", "--run-dir", p.dir, "--log-file", p.logFile())
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	for _, knob := range []string{"GOMEMLIMIT", "GOMAXPROCS", "GOGC", "GODEBUG"} {
		if v, ok := os.LookupEnv(knob); ok {
			cmd.Env = append(cmd.Env, knob+"="+v)
		}
	}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the WireGuard process: %w", err)
	}
	p.log.Info("started the WireGuard process", "process", cmd.Process.Pid)
	ended := make(chan string, 1)
	go func() {
		_ = cmd.Wait() // nothing but its end is of interest
		ended <- cmd.ProcessState.String()
	}()
	return ended, nil
}
