package strongswan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge"
)

const (
	startWithin = 15 * time.Second // charon opens its socket; a busy machine needs seconds
	stopWithin  = 5 * time.Second
	maxLog      = 1 << 20 // bytes of charon.log kept, in memory
)

// charon is the IKE daemon of this box: started apart, so that it outlives us,
// and adopted by whoever has the run directory.
type charon struct {
	program string
	dir     string
	userESP bool // the kernel has no ESP
}

func (c charon) socket() string  { return filepath.Join(c.dir, "charon.vici") }
func (c charon) logFile() string { return filepath.Join(c.dir, "charon.log") }

// settings is charon's strongswan.conf. Sixteen threads: with eight, userspace
// ESP was seen to take them all and hang. The constraints plugin stays out, as
// 5.9 refuses every certificate under a name constraint on URIs, which our
// issuer has: instead each connection names the issuer's very certificate, which
// we verify ourselves. Our connections name their addresses, so charon need not
// follow the many changes of a routing daemon.
func (c charon) settings() string {
	plugins := "random nonce x509 openssl aes sha1 sha2 hmac gcm kdf pem pkcs1 pkcs8 pubkey"
	if c.userESP {
		plugins += " kernel-libipsec"
	}
	plugins += " kernel-netlink socket-default vici"
	return fmt.Sprintf(`charon-systemd {
	load_modular = no
	load = %s
	threads = 16
	port = 0
	make_before_break = yes
	close_ike_on_child_failure = yes
	retransmit_timeout = 0.4
	retransmit_base = 1.4
	retransmit_tries = 4
	cookie_threshold = 100
	block_threshold = 50
	process_route = no
	filelog {
		file {
			path = %s
			append = yes
			flush_line = yes
			default = 0
		}
	}
	plugins {
		kernel-libipsec {
			load = yes
		}
		kernel-netlink {
			roam_events = no
		}
		vici {
			socket = unix://%s
		}
	}
}
`, plugins, c.logFile(), c.socket())
}

// connect returns a session with the running charon, started if need be, and
// its process id.
func (c charon) connect(ctx context.Context) (*client, int, error) {
	s, err := dial(ctx, c.socket())
	if err != nil {
		if err := c.start(ctx); err != nil {
			return nil, 0, err
		}
		if s, err = dial(ctx, c.socket()); err != nil {
			return nil, 0, err
		}
	}
	pid, err := s.pid()
	if err == nil {
		err = c.check(ctx, s)
	}
	if err != nil {
		s.close()
		return nil, 0, err
	}
	return s, pid, nil
}

// check asks for the plugins without which no tunnel comes up: charon itself
// runs without them and only logs it.
func (c charon) check(ctx context.Context, s *client) error {
	stats, err := s.call(ctx, "stats", nil)
	if err != nil {
		return err
	}
	kernel := "kernel-netlink"
	if c.userESP {
		kernel = "kernel-libipsec"
	}
	var missing []string
	for _, p := range []string{"openssl", "gcm", "x509", "socket-default", kernel} {
		if !slices.Contains(stats.lists["plugins"], p) {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: charon runs without %s; install libstrongswan-standard-plugins and libcharon-extra-plugins, and see that nothing else has UDP port 4500 (log: %s)",
			edge.ErrRejected, strings.Join(missing, ", "), c.logFile())
	}
	return nil
}

// start runs charon in a session of its own and waits until it answers.
func (c charon) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, fmt.Errorf("it did not answer within %s; see %s", startWithin, c.logFile()))
	defer cancel()
	conf := filepath.Join(c.dir, "strongswan.conf")
	if err := os.WriteFile(conf, []byte(c.settings()), 0o600); err != nil {
		return fmt.Errorf("start charon: %w", err)
	}
	if err := os.Remove(c.socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("start charon: %w", err)
	}
	out, err := os.OpenFile(c.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start charon: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(c.program) // not CommandContext: it outlives us
	cmd.Dir = "/"
	cmd.Env = []string{"STRONGSWAN_CONF=" + conf, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start charon: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return fmt.Errorf("start charon: it ended at once (%v); see %s", err, c.logFile())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("start charon: %w", context.Cause(ctx)), cmd.Process.Kill())
		case <-tick.C:
		}
		if s, err := dial(ctx, c.socket()); err == nil {
			_, err = s.call(ctx, "version", nil)
			s.close()
			if err == nil {
				return nil
			}
		}
	}
}

// stop ends charon, with its SAs, if it runs. One that does not answer is
// killed.
func (c charon) stop(ctx context.Context) error {
	s, err := dial(ctx, c.socket())
	if err != nil {
		return nil // nothing listens
	}
	defer s.close()
	pid, err := s.pid()
	if err != nil {
		return fmt.Errorf("stop charon: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("stop charon: %w", err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for running(pid) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return c.kill(pid)
		}
	}
	return nil
}

func (c charon) kill(pid int) error {
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill charon: %w", err)
	}
	return nil
}

// running reports whether pid is a process that still runs. One that ended and
// is not yet waited for has no command line.
func running(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && len(b) > 0
}

// trimLog keeps charon's log from filling memory. charon appends, so what it
// writes next goes to the start.
func (c charon) trimLog() error {
	st, err := os.Stat(c.logFile())
	if err != nil || st.Size() < maxLog {
		return nil
	}
	return os.Truncate(c.logFile(), 0)
}

// kernelHasESP tries to add a security association to the loopback and takes
// it away again: the kernel says so if it cannot.
func kernelHasESP() bool {
	sa := &netlink.XfrmState{
		Src: []byte{127, 0, 0, 1}, Dst: []byte{127, 0, 0, 1}, Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TUNNEL, Spi: 0x57415244,
		Aead: &netlink.XfrmStateAlgo{Name: "rfc4106(gcm(aes))", Key: bytes.Repeat([]byte{1}, 36), ICVLen: 128},
	}
	if netlink.XfrmStateAdd(sa) != nil {
		return false
	}
	return netlink.XfrmStateDel(sa) == nil
}
