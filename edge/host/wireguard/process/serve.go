package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/inventory"
)

// Config is what the process is started with.
type Config struct {
	RunDir string // for the control socket, the owner's alone; made when missing
	Log    *slog.Logger
	// Bounded lets the number of devices set the runtime's memory limit. Off,
	// the operator's GOMEMLIMIT holds.
	Bounded bool
	// Processors are the operator's to choose: the number of packets does not.
	Processors bool
}

// server answers drivers.
type server struct {
	log     *slog.Logger
	tunnels *tunnels
	stop    context.CancelFunc
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
}

// Serve hosts WireGuard devices until ctx ends or a driver says stop. The
// interfaces stay. There is one process per run directory: a second one gets an
// error that wraps inventory.ErrConflict.
func Serve(ctx context.Context, cfg Config) error {
	lis, release, err := listen(cfg.RunDir)
	if err != nil {
		return err
	}
	defer release()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	t := &tunnels{log: cfg.Log, in: newGate(inFlight), out: newGate(inFlight), bounded: cfg.Bounded, all: map[string]*tunnel{}}
	t.cpus = newProcessors(cfg.Processors)
	t.in.tell, t.out.tell = t.cpus, t.cpus
	defer t.closeAll()
	t.remember(0, 0)
	s := &server{log: cfg.Log, tunnels: t, stop: stop, conns: map[net.Conn]struct{}{}}
	context.AfterFunc(ctx, func() { _ = lis.Close() })
	cfg.Log.Info("hosting WireGuard devices", "run_dir", cfg.RunDir, "protocol", Protocol)
	var all sync.WaitGroup
	defer all.Wait()
	defer s.hangUp()
	defer stop()
	all.Go(func() { t.drain(ctx) })
	for {
		c, err := lis.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept on the control socket: %w", err)
		}
		if err := trusted(c); err != nil {
			cfg.Log.Warn("control connection refused", "err", err)
			_ = c.Close()
			continue
		}
		s.track(c, true)
		all.Go(func() { s.talk(c) })
	}
}

// listen takes the run directory and opens the control socket in it.
func listen(dir string) (*net.UnixListener, func(), error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make run directory: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("close run directory to others: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "wg.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, nil, fmt.Errorf("%w: another process hosts the devices of %s; stop it first", inventory.ErrConflict, dir)
	}
	path := filepath.Join(dir, Socket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		_ = lock.Close()
		return nil, nil, fmt.Errorf("remove old control socket: %w", err)
	}
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		_ = lock.Close()
		return nil, nil, fmt.Errorf("open control socket: %w", err)
	}
	return lis, func() { _ = lis.Close(); _ = lock.Close() }, nil
}

// trusted lets only our own user in, which is root.
func trusted(c *net.UnixConn) error {
	who, err := Peer(c)
	if err != nil {
		return err
	}
	if int(who.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: user %d of process %d is not user %d", inventory.ErrInvalid, who.Uid, who.Pid, os.Geteuid())
	}
	return nil
}

// Peer returns the process at the other end of a unix socket.
func Peer(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("read peer credentials: %w", err)
	}
	var who *unix.Ucred
	var operr error
	err = raw.Control(func(fd uintptr) { who, operr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, operr); err != nil {
		return nil, fmt.Errorf("read peer credentials: %w", err)
	}
	return who, nil
}

func (s *server) track(c net.Conn, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.conns[c] = struct{}{}
	} else {
		delete(s.conns, c)
	}
}

func (s *server) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

// talk answers one connection until it ends.
func (s *server) talk(c net.Conn) {
	defer s.track(c, false)
	defer c.Close()
	in, out := json.NewDecoder(c), json.NewEncoder(c)
	for {
		var req Request
		if err := in.Decode(&req); err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.log.Warn("control connection broken") // the error could quote a key
			}
			return
		}
		if err := out.Encode(s.answer(req)); err != nil {
			return
		}
		if req.Op == Stop {
			s.stop()
			return
		}
	}
}

func (s *server) answer(req Request) Reply {
	r := Reply{Protocol: Protocol, PID: os.Getpid()}
	var err error
	switch req.Op {
	case Hello, Stop:
	case List:
		r.Devices, err = s.tunnels.list("")
	case Get:
		r.Devices, err = s.tunnels.list(req.Name)
	case Set:
		err = s.tunnels.set(req.Name, req.MTU, req.UAPI)
	case Delete:
		err = s.tunnels.delete(req.Name)
	default:
		err = fmt.Errorf("%w: unknown operation %q; operations are %s, %s, %s, %s, %s, %s", inventory.ErrInvalid, req.Op, Hello, List, Get, Set, Delete, Stop)
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}
