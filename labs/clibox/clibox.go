// Package clibox runs routers that are driven by their command line: each is
// FRR's zebra, bgpd and bfdd in a network namespace of its own, and an OpenSSH
// server that lets holders of a user certificate into vtysh and into nothing
// else.
package clibox

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/edge/host/program"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// Principal is what user certificates must name to be let in as [User].
const (
	Principal = "wardnet"
	User      = "root" // the only account that every machine has
	Port      = "22"
)

// startLimit bounds the start of one program.
const startLimit = 20 * time.Second

// Config says what box it is. All but Address and Shell are required.
type Config struct {
	Space string // the namespace, which exists; also FRR's name of the instance
	Dir   string // for sshd's files, the box's own
	// UserCA signs the logins.
	UserCA ssh.PublicKey
	// Certify signs the host key for the names that HostNames has.
	Certify func(ctx context.Context, pub ssh.PublicKey) (*ssh.Certificate, error)
	// Address is what sshd listens at; default 127.0.0.1.
	Address string
	// Shell is what a login gets instead of vtysh.
	Shell string
}

// Box is a running router.
type Box struct {
	cfg   Config
	sshd  *exec.Cmd
	vtysh string
}

// Start starts FRR and sshd in the namespace.
func Start(ctx context.Context, cfg Config) (*Box, error) {
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1"
	}
	if cfg.Space == "" || strings.ContainsAny(cfg.Space, "/ ") || strings.HasPrefix(cfg.Space, ".") {
		return nil, fmt.Errorf("%w: namespace %q", inventory.ErrInvalid, cfg.Space) // its folders are removed in the end
	}
	b := &Box{cfg: cfg}
	var err error
	if b.vtysh, err = program.Find("vtysh"); err != nil {
		return nil, err
	}
	if err := b.startFRR(ctx); err != nil {
		return nil, errors.Join(err, b.Stop())
	}
	if err := b.StartSSH(ctx); err != nil {
		return nil, errors.Join(err, b.Stop())
	}
	return b, nil
}

// folders are FRR's: its sockets, and what it stores.
func (b *Box) folders() []string {
	return []string{filepath.Join("/run/frr", b.cfg.Space), filepath.Join("/etc/frr", b.cfg.Space)}
}

func (b *Box) startFRR(ctx context.Context) error {
	owner, err := user.Lookup("frr")
	if err != nil {
		return fmt.Errorf("start FRR: %w; install the package frr", err)
	}
	uid, err1 := strconv.Atoi(owner.Uid)
	gid, err2 := strconv.Atoi(owner.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	for _, dir := range b.folders() {
		if err := errors.Join(os.MkdirAll(dir, 0o750), os.Chown(dir, uid, gid)); err != nil {
			return fmt.Errorf("start FRR: %w", err)
		}
	}
	// Its absence makes vtysh greet with an error.
	conf := filepath.Join("/etc/frr", b.cfg.Space, "vtysh.conf")
	if err := os.WriteFile(conf, []byte("no service integrated-vtysh-config\n"), 0o640); err != nil {
		return fmt.Errorf("start FRR: %w", err)
	}
	if err := os.Chown(conf, uid, gid); err != nil {
		return fmt.Errorf("start FRR: %w", err)
	}
	for _, name := range []string{"zebra", "bfdd", "bgpd"} {
		path, err := program.Find(name, "/usr/lib/frr")
		if err != nil {
			return err
		}
		if _, err := netns.Output(ctx, b.cfg.Space, path, "-d", "-N", b.cfg.Space, "-A", "127.0.0.1", "-P", "0"); err != nil {
			return err
		}
	}
	return program.Wait(ctx, startLimit, "FRR does not answer", func() bool {
		out, err := b.Vtysh(ctx, "show version")
		return err == nil && strings.Contains(out, "FRRouting")
	})
}

// Vtysh runs commands on the box, beside its SSH server.
func (b *Box) Vtysh(ctx context.Context, commands ...string) (string, error) {
	args := []string{"-N", b.cfg.Space}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	return netns.Output(ctx, b.cfg.Space, b.vtysh, args...)
}

// StartSSH makes a new host key and starts sshd with it; one that runs is ended
// first.
func (b *Box) StartSSH(ctx context.Context) error {
	if err := b.StopSSH(); err != nil {
		return err
	}
	path, err := program.Find("sshd")
	if err != nil {
		return err
	}
	// Where sshd's children live before they have logged in.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		return err
	}
	conf, err := b.sshConfig(ctx)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(b.cfg.Dir, "sshd.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	b.sshd = exec.Command(path, "-D", "-e", "-f", conf)
	b.sshd.Stderr = log
	b.sshd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what ends a test is not for it
	if err := netns.Do(b.cfg.Space, b.sshd.Start); err != nil {
		b.sshd = nil
		return fmt.Errorf("start sshd in %s: %w", b.cfg.Space, err)
	}
	return program.Wait(ctx, startLimit, "sshd does not listen, see "+log.Name(), func() bool {
		conn, err := b.Dial(ctx, "tcp", b.Addr())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// sshConfig writes sshd's files.
func (b *Box) sshConfig(ctx context.Context) (string, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return "", err
	}
	cert, err := b.cfg.Certify(ctx, signer.PublicKey())
	if err != nil {
		return "", err
	}
	private, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return "", err
	}
	shell := b.cfg.Shell
	if shell == "" {
		shell = b.vtysh + " -N " + b.cfg.Space
	}
	at := func(name string) string { return filepath.Join(b.cfg.Dir, name) }
	text := strings.Join([]string{
		"ListenAddress " + net.JoinHostPort(b.cfg.Address, Port),
		"HostKey " + at("host"), "HostCertificate " + at("host-cert.pub"),
		"TrustedUserCAKeys " + at("user-ca.pub"), "AuthorizedPrincipalsFile " + at("principals"),
		"AuthorizedKeysFile none", "PasswordAuthentication no", "KbdInteractiveAuthentication no", "UsePAM no",
		"PermitRootLogin prohibit-password", "AllowTcpForwarding no", "PrintMotd no", "PrintLastLog no", "PidFile none", "StrictModes no",
		"MaxStartups 100:30:200", "ForceCommand " + shell, "",
	}, "\n")
	var errs []error
	for name, content := range map[string][]byte{
		"host": pem.EncodeToMemory(private), "host-cert.pub": ssh.MarshalAuthorizedKey(cert),
		"user-ca.pub": ssh.MarshalAuthorizedKey(b.cfg.UserCA), "principals": []byte(Principal + "\n"), "sshd_config": []byte(text),
	} {
		errs = append(errs, os.WriteFile(at(name), content, 0o600))
	}
	return at("sshd_config"), errors.Join(errs...)
}

// StopSSH ends sshd and the sessions it has.
func (b *Box) StopSSH() error {
	if b.sshd == nil {
		return nil
	}
	_ = b.sshd.Process.Kill() // it may have ended
	_ = b.sshd.Wait()
	b.sshd = nil
	return b.EndSessions()
}

// EndSessions kills the logins of the box, as a device that runs out of memory
// does.
func (b *Box) EndSessions() error {
	pids, err := netns.Processes(b.cfg.Space)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil || b.sshd != nil && pid == b.sshd.Process.Pid {
			continue
		}
		switch strings.TrimSpace(string(name)) {
		case "sshd", "vtysh":
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
	}
	return nil
}

// Addr is where sshd listens, within the namespace.
func (b *Box) Addr() string { return net.JoinHostPort(b.cfg.Address, Port) }

// Processes are those of the box now.
func (b *Box) Processes() ([]int, error) { return netns.Processes(b.cfg.Space) }

// Space is the namespace.
func (b *Box) Space() string { return b.cfg.Space }

// Dial connects from inside the namespace.
func (b *Box) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return netns.Dial(ctx, b.cfg.Space, network, addr)
}

// Stop ends what Start started, and removes FRR's folders of the box.
func (b *Box) Stop() error {
	errs := []error{b.StopSSH()}
	for _, name := range []string{"bgpd", "bfdd", "zebra"} {
		file := filepath.Join("/run/frr", b.cfg.Space, name+".pid")
		pid := program.Process(file, name, b.cfg.Space)
		if pid == 0 {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
	}
	for _, dir := range b.folders() {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}
