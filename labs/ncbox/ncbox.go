// Package ncbox runs a router that is driven over NETCONF: Debian's netconfd
// (yuma123) with the module wardnet-router, behind an OpenSSH server that lets
// holders of a user certificate into its subsystem and into nothing else. It
// routes nothing; what is real is its datastores, locks and commits. It needs
// root, and listens on the loopback interface only.
package ncbox

import (
	"bytes"
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
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/edge/host/program"
	"github.com/wardnet/wardnet/edge/yang"
)

const startLimit = 20 * time.Second

// Config says what box it is. UserCA and Certify are required.
type Config struct {
	UserCA ssh.PublicKey // signs the logins
	// Certify signs the host key.
	Certify func(ctx context.Context, pub ssh.PublicKey) (*ssh.Certificate, error)
	// Port of 127.0.0.1 that sshd listens at; default a free one, see [FreePort].
	Port string
	// Principal is what user certificates must name to be let in as root; default
	// root.
	Principal string
	// Modules are loaded beside wardnet-router, e.g. ietf-system.
	Modules []string
	// Subsystem is what a login gets instead of netconfd's own, given the socket;
	// nil: that.
	Subsystem func(socket string) string
}

// Box is a running router.
type Box struct {
	cfg     Config
	dir     string
	port    string
	sub     string // netconfd's subsystem
	running []*exec.Cmd
	said    tail
}

// Missing names the programs that [Start] needs and that are not here.
func Missing() []string {
	var out []string
	for _, name := range []string{"sshd", "netconfd", "netconf-subsystem", "unshare"} {
		if _, err := program.Find(name, "/usr/sbin"); err != nil {
			out = append(out, name)
		}
	}
	return out
}

// Start starts netconfd and sshd.
func Start(ctx context.Context, cfg Config) (*Box, error) {
	if cfg.Principal == "" {
		cfg.Principal = User
	}
	b := &Box{cfg: cfg}
	for _, step := range []func(context.Context) error{b.prepare, b.startNetconfd, b.startSSH} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("start a NETCONF router: %w", err), b.Stop())
		}
	}
	return b, nil
}

// User is the account that is logged in: the only one that every machine has.
const User = "root"

func (b *Box) prepare(context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "nc"); err != nil { // short: it holds a unix socket
		return err
	}
	if b.port = b.cfg.Port; b.port == "" {
		if b.port, err = FreePort(); err != nil {
			return err
		}
	}
	b.sub, err = program.Find("netconf-subsystem", "/usr/sbin")
	return err
}

// FreePort is a port of 127.0.0.1 at which nobody listens now.
func FreePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), l.Close()
}

func (b *Box) at(name string) string { return filepath.Join(b.dir, name) }

// socket is netconfd's, as its subsystem wants it named.
func (b *Box) socket() string { return b.port + "@" + b.at("sock") }

// startNetconfd gives netconfd a home of its own: it keeps files in its user's,
// whatever HOME says.
func (b *Box) startNetconfd(ctx context.Context) error {
	path, err := program.Find("netconfd", "/usr/sbin")
	if err != nil {
		return err
	}
	self, err := user.Current()
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.at("wardnet-router.yang"), []byte(yang.Router), 0o600); err != nil {
		return err
	}
	args := []string{
		"--mount", "--propagation", "private", "sh", "-c", `mount -t tmpfs tmpfs "$0" && exec "$@"`, self.HomeDir,
		path, "--no-startup", "--superuser=" + User, "--port=" + b.port, "--ncxserver-sockname=" + b.at("sock"), "--target=candidate", "--log-level=warn",
	}
	for _, m := range append([]string{"wardnet-router"}, b.cfg.Modules...) {
		args = append(args, "--module="+m)
	}
	if err := b.run([]string{"YUMA_MODPATH=" + b.dir + ":/usr/share/yuma/modules"}, "unshare", args...); err != nil {
		return err
	}
	return b.wait(ctx, "netconfd does not listen", "unix", b.at("sock"))
}

func (b *Box) startSSH(ctx context.Context) error {
	path, err := program.Find("sshd", "/usr/sbin")
	if err != nil {
		return err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return err
	}
	cert, err := b.cfg.Certify(ctx, signer.PublicKey())
	if err != nil {
		return err
	}
	private, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return err
	}
	sub := b.sub + " --ncxserver-sockname=" + b.socket()
	if b.cfg.Subsystem != nil {
		sub = b.cfg.Subsystem(b.socket())
	}
	conf := strings.Join([]string{
		"ListenAddress " + b.Addr(), "HostKey " + b.at("host"), "HostCertificate " + b.at("host-cert.pub"),
		"TrustedUserCAKeys " + b.at("user-ca.pub"), "AuthorizedPrincipalsFile " + b.at("principals"), "AuthorizedKeysFile none",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password", "UsePAM no", "StrictModes no",
		"AllowTcpForwarding no", "PidFile none", "LogLevel ERROR", "Subsystem netconf " + sub, "",
	}, "\n")
	var errs []error
	for name, content := range map[string][]byte{
		"host": pem.EncodeToMemory(private), "host-cert.pub": ssh.MarshalAuthorizedKey(cert), "user-ca.pub": ssh.MarshalAuthorizedKey(b.cfg.UserCA),
		"principals": []byte(b.cfg.Principal + "\n"), "sshd_config": []byte(conf),
	} {
		errs = append(errs, os.WriteFile(b.at(name), content, 0o600))
	}
	errs = append(errs, os.MkdirAll("/run/sshd", 0o755)) // where sshd locks itself in; made at boot elsewhere
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := b.run(nil, path, "-D", "-e", "-f", b.at("sshd_config")); err != nil {
		return err
	}
	return b.wait(ctx, "sshd does not listen", "tcp", b.Addr())
}

func (b *Box) wait(ctx context.Context, complaint, network, addr string) error {
	err := program.Wait(ctx, startLimit, complaint, func() bool {
		c, err := net.Dial(network, addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	if err != nil {
		return fmt.Errorf("%w: %s", err, b.Said())
	}
	return nil
}

// run starts a program that ends with the box.
func (b *Box) run(env []string, path string, args ...string) error {
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env = b.dir, append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &b.said, &b.said
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(path), err)
	}
	b.running = append(b.running, cmd)
	return nil
}

// Addr is where sshd listens.
func (b *Box) Addr() string { return net.JoinHostPort("127.0.0.1", b.port) }

// Said is the end of what the programs wrote.
func (b *Box) Said() string { return b.said.String() }

// SSH is sshd's process.
func (b *Box) SSH() *os.Process { return b.running[len(b.running)-1].Process }

// Stop ends what Start started, and removes its files.
func (b *Box) Stop() error {
	for i := len(b.running) - 1; i >= 0; i-- {
		_ = b.running[i].Process.Kill() // it may have ended
		_ = b.running[i].Wait()
	}
	b.running = nil
	if b.dir == "" {
		return nil
	}
	return os.RemoveAll(b.dir)
}

// tail keeps the end of what was written.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	const most = 4000
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	t.b = t.b[max(0, len(t.b)-most):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.b))
}
