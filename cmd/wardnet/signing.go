package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/signer"
)

// signerUser is the system user that the signing process runs as where the
// controller is root and the user exists.
const signerUser = "wardnet-signer"

// signerStart is how long the signing process may take to answer.
const signerStart = 20 * time.Second

// SignerConfig says where the certificate authorities' keys are.
type SignerConfig struct {
	// Socket of a 'wardnet signer' that runs by itself; empty: serve starts one.
	Socket string `yaml:"socket"`
}

// openSigner gives the signing process: the configured one, or a child that
// lives as long as the plane. Nothing is issued without it.
func (p *plane) openSigner(ctx context.Context, cfg pki.Config) (*signer.Client, error) {
	socket := p.cfg.Signer.Socket
	if socket == "" {
		var err error
		if socket, err = p.startSigner(ctx, cfg); err != nil {
			return nil, err
		}
	}
	c := signer.NewClient(socket)
	wait, cancel := context.WithTimeoutCause(ctx, signerStart, fmt.Errorf("no answer within %s", signerStart))
	defer cancel()
	if _, err := c.Await(wait); err != nil {
		return nil, fmt.Errorf("signer at %s: %w", socket, err)
	}
	return c, nil
}

// startSigner starts the child and gives its socket.
func (p *plane) startSigner(ctx context.Context, cfg pki.Config) (socket string, err error) {
	dir := filepath.Join(p.cfg.Data, "ca")
	there, err := signer.Exists(dir)
	if err != nil {
		return "", fmt.Errorf("open CA: %w", err)
	}
	known, err := p.rootKnown(ctx)
	if err != nil {
		return "", err
	}
	if !there && known != "" {
		return "", pki.MissingCA(dir, known)
	}
	bounds, err := cfg.SignerConfig()
	if err != nil {
		return "", err
	}
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("start the signing process: %w", err)
	}
	socket = filepath.Join(p.cfg.Data, "signer.sock")
	cred, err := signerCredential()
	if err != nil {
		return "", err
	}
	if cred != nil {
		socket = filepath.Join(dir, "signer.sock") // where that user may write
		if err := handToSigner(ctx, exe, dir, bounds.Domain, cred); err != nil {
			return "", err
		}
	} else {
		p.log.InfoContext(ctx, "the signing process runs as the controller's own user; make a system user "+signerUser+" and run as root, or run 'wardnet signer' by itself, to separate them")
	}
	args := []string{
		os.Args[0], "signer", "--child", "--create", "--dir", dir, "--socket", socket, "--domain", bounds.Domain, "--log-level", "warn",
		"--allow-user", strconv.Itoa(os.Geteuid()), "--device-life", bounds.DeviceLife.String(), "--server-life", bounds.ServerLife.String(),
	}
	for _, n := range bounds.Names {
		args = append(args, "--name", n)
	}
	restarts := prometheus.NewCounter(prometheus.CounterOpts{Name: "pki_signer_restarts_total", Help: "Starts of the signing process after it had died."})
	p.reg.MustRegister(restarts)
	child := signer.Child{Path: exe, Args: args, Credential: cred, Stderr: os.Stderr, Log: p.log, Restarted: restarts.Inc}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := child.Run(life); err != nil {
			p.log.Error("signing process not run", "err", err)
		}
	})
	p.stopSigner = func() { stop(); ended.Wait() }
	return socket, nil
}

// rootKnown is the root's key id that the database belongs to, "" for none.
func (p *plane) rootKnown(ctx context.Context) (string, error) {
	id, err := store.NewPKI(p.db, p.cfg.Org).Root(ctx)
	if err != nil {
		return "", fmt.Errorf("open CA: %w", err)
	}
	return id, nil
}

// signerCredential is the user for the signing process; nil: our own.
func signerCredential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(signerUser)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up user %s: %w", signerUser, err)
	}
	uid, errU := strconv.ParseUint(u.Uid, 10, 32)
	gid, errG := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(errU, errG); err != nil {
		return nil, fmt.Errorf("look up user %s: %w", signerUser, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// handToSigner gives the CA's files to the signing user, made first by a process
// of their own where there are none. The controller's signing keys stay ours.
func handToSigner(ctx context.Context, exe, dir, domain string, cred *syscall.Credential) error {
	cmd := exec.CommandContext(ctx, exe)
	cmd.Args = []string{os.Args[0], "signer", "--create-only", "--dir", dir, "--domain", domain}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the CA in %s: %w: %s", dir, err, out)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("hand the CA to %s: %w", signerUser, err)
	}
	var errs []error
	for _, f := range files {
		if f.Type().IsRegular() && !slices.ContainsFunc(pki.Purposes, func(k pki.Purpose) bool { return f.Name() == string(k)+".key" }) {
			errs = append(errs, os.Lchown(filepath.Join(dir, f.Name()), int(cred.Uid), int(cred.Gid)))
		}
	}
	// The user has to pass through the data directory, and reads nothing in it.
	errs = append(errs, os.Lchown(dir, int(cred.Uid), int(cred.Gid)), os.Chmod(filepath.Dir(dir), 0o711))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("hand the CA to %s: %w", signerUser, err)
	}
	return nil
}

// validate checks the signer's part of the configuration.
func (c SignerConfig) validate() error {
	if c.Socket != "" && !filepath.IsAbs(c.Socket) {
		return fmt.Errorf("%w: signer.socket: %q is not an absolute path", inventory.ErrInvalid, c.Socket)
	}
	return nil
}
