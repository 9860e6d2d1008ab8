// Package frr drives the routing daemons of a Linux box (FRRouting): it starts
// or adopts zebra, bfdd and bgpd, brings their configuration to a given text
// without touching what is unchanged, reads it back, and reads the sessions.
package frr

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wardnet/wardnet/edge/host/program"
	"github.com/wardnet/wardnet/inventory"
)

// Where a distribution's FRR keeps its daemons and its sockets.
const (
	daemonDir = "/usr/lib/frr"
	vtyDir    = "/run/frr"
	owner     = "frr" // the user the daemons become
)

// Time limits of one call each. A reload runs vtysh a dozen times.
const (
	shortLimit  = 10 * time.Second
	reloadLimit = 25 * time.Second
)

// Config chooses an FRR instance.
type Config struct {
	// Pathspace is FRR's -N name of an instance of its own, as in a network
	// namespace; empty: the system's FRR.
	Pathspace string
	Dir       string // for our files; must exist
}

// Instance is one set of FRR daemons. Load, Ensure and Stop are for one caller
// at a time; the others for any.
type Instance struct {
	cfg     Config
	vty     string // directory of pid files and sockets
	vtysh   string
	reload  string            // frr-reload.py
	daemons map[string]string // absolute paths by name
	slow    int               // times that frr-reload.py was needed

	mu    sync.Mutex // guards below
	conns map[string]*conn
	good  string // the last text that passed Check
}

var validPathspace = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// Open finds FRR's programs; it starts nothing.
func Open(cfg Config) (*Instance, error) {
	if cfg.Pathspace != "" && !validPathspace.MatchString(cfg.Pathspace) {
		return nil, fmt.Errorf("open FRR: %w: pathspace %q has other than letters, digits, - and _", inventory.ErrInvalid, cfg.Pathspace)
	}
	i := &Instance{cfg: cfg, vty: filepath.Join(vtyDir, cfg.Pathspace), daemons: map[string]string{}, conns: map[string]*conn{}}
	var errs []error
	find := func(name string) string {
		path, err := program.Find(name, daemonDir)
		if err != nil {
			errs = append(errs, err)
		}
		return path
	}
	i.vtysh, i.reload = find("vtysh"), find("frr-reload.py")
	for _, name := range daemonOrder {
		i.daemons[name] = find(name)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("open FRR (packages frr and frr-pythontools): %w", err)
	}
	return i, i.prepare()
}

// prepare makes the configuration directory: vtysh and frr-reload.py look into
// it, but what they find says nothing but that there is one configuration for
// all daemons.
func (i *Instance) prepare() error {
	dir := filepath.Join(i.cfg.Dir, i.cfg.Pathspace)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("open FRR: make configuration directory: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vtysh.conf"), []byte("service integrated-vtysh-config\n"), 0o644); err != nil {
		return fmt.Errorf("open FRR: write vtysh.conf: %w", err)
	}
	return nil
}

// makeVtyDir makes the directory of sockets, which the daemons' user owns.
func (i *Instance) makeVtyDir() error {
	u, err := user.Lookup(owner)
	if err != nil {
		return fmt.Errorf("start FRR: its user is missing: %w", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("start FRR: user %s: %w", owner, err)
	}
	for _, dir := range []string{vtyDir, i.vty} {
		if _, err := os.Stat(dir); err == nil {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("start FRR: make socket directory: %w", err)
		}
		if err := os.Chown(dir, uid, gid); err != nil {
			return fmt.Errorf("start FRR: give socket directory to %s: %w", owner, err)
		}
	}
	return nil
}

// shell runs vtysh on this instance.
func (i *Instance) shell(ctx context.Context, limit time.Duration, args ...string) (string, error) {
	base := []string{"--config_dir", i.cfg.Dir}
	if i.cfg.Pathspace != "" {
		base = append(base, "-N", i.cfg.Pathspace)
	}
	out, err := program.Run(ctx, limit, nil, i.vtysh, append(base, args...)...)
	return string(out), err
}

// file writes text for FRR's programs to read. The name is the one
// frr-reload.py takes for the start-up configuration, so that it does not write
// another.
func (i *Instance) file(text string) (string, error) {
	path := filepath.Join(i.cfg.Dir, "frr.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write FRR configuration: %w", err)
	}
	return path, nil
}

// Check says whether FRR understands text, changing nothing and needing no
// running daemon. Values that only a daemon can judge pass. FRR is asked about
// a text once, unless it is asked about another between.
func (i *Instance) Check(ctx context.Context, text string) error {
	i.mu.Lock()
	good := i.good == text && text != ""
	i.mu.Unlock()
	if good {
		return nil
	}
	path := filepath.Join(i.cfg.Dir, "check.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("check FRR configuration: %w", err)
	}
	out, err := i.shell(ctx, shortLimit, "-C", "-f", path)
	if err != nil {
		return fmt.Errorf("check FRR configuration: %w", withOutput(err, out))
	}
	i.mu.Lock()
	i.good = text
	i.mu.Unlock()
	return nil
}

// Diff lists what differs between the running configuration and text: "+" is
// missing, "-" is too much. Daemons that are down are a difference.
func (i *Instance) Diff(ctx context.Context, text string) ([]string, error) {
	if down := i.down(); len(down) > 0 {
		return []string{"FRR is down: " + strings.Join(down, ", ")}, nil
	}
	var have strings.Builder
	for _, name := range daemonOrder { // each its part: vtysh would cost a process that learns all their commands
		part, err := i.ask(ctx, name, wholeConf)
		if err != nil {
			return nil, fmt.Errorf("read FRR configuration: %w", err)
		}
		have.WriteString(part + "\n")
	}
	return compare(have.String(), text), nil
}

func (i *Instance) running(ctx context.Context) (string, error) {
	out, err := i.shell(ctx, shortLimit, "-c", "show running-config no-header")
	if err != nil {
		return "", fmt.Errorf("read FRR configuration: %w", withOutput(err, out))
	}
	return out, nil
}

// Load brings the daemons to text and starts those that are missing. What is
// unchanged is not touched: an unchanged session does not flap. It is done when
// the daemons say that they run text.
func (i *Instance) Load(ctx context.Context, text string) error {
	if err := i.Ensure(ctx, text); err != nil {
		return err
	}
	diff, err := i.Diff(ctx, text)
	if err != nil || len(diff) == 0 {
		return err
	}
	have, err := i.running(ctx)
	if err != nil {
		return err
	}
	text = strings.TrimRight(text, "\n") + "\n"
	said := i.commands(ctx, deltaText(have, text))
	if diff, err = i.Diff(ctx, text); err != nil {
		return errors.Join(said, err)
	}
	if len(diff) == 0 {
		return nil // FRR grumbles at some lines that it takes
	}
	if have, err = i.running(ctx); err != nil {
		return errors.Join(said, err)
	}
	i.slow++ // by far, and knows all of FRR's special cases.
	if err := i.reloadDelta(ctx, have, text); err != nil {
		return errors.Join(said, err)
	}
	if diff, err = i.Diff(ctx, text); err != nil {
		return err
	}
	if len(diff) > 0 {
		return errors.Join(said, fmt.Errorf("load FRR configuration: %w: FRR runs something else: %s",
			inventory.ErrInvalid, strings.Join(diff, "; ")))
	}
	return nil
}

// commands has vtysh carry out a file of commands.
func (i *Instance) commands(ctx context.Context, text string) error {
	path, err := i.file(text)
	if err != nil {
		return err
	}
	out, err := i.shell(ctx, reloadLimit, "-f", path)
	if err != nil {
		return fmt.Errorf("load FRR configuration: %w", withOutput(err, out))
	}
	return nil
}

// reloadDelta lets frr-reload.py work out and apply the difference between have
// and text. It would also remove what have says of the box itself, and so
// switch on forwarding: those lines are kept.
func (i *Instance) reloadDelta(ctx context.Context, have, text string) error {
	path, err := i.file(ofTheBox(have) + text)
	if err != nil {
		return err
	}
	args := []string{"--reload", "--stdout", "--log-level", "error", "--confdir", i.cfg.Dir, "--rundir", i.cfg.Dir}
	if i.cfg.Pathspace != "" {
		args = append(args, "-N", i.cfg.Pathspace)
	}
	out, err := program.Run(ctx, reloadLimit, nil, i.reload, append(args, path)...)
	if err != nil {
		return fmt.Errorf("reload FRR configuration: %w", withOutput(err, string(out)))
	}
	return nil
}

// Remove stops an instance of our own and removes its directory of sockets.
func (i *Instance) Remove(ctx context.Context) error {
	if i.cfg.Pathspace == "" {
		return nil
	}
	if err := i.Stop(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(i.vty); err != nil {
		return fmt.Errorf("remove FRR instance: %w", err)
	}
	return nil
}

// withOutput adds what vtysh said to a bare exit status: it complains on its
// standard output.
func withOutput(err error, out string) error {
	var said []string
	for _, line := range strings.Split(out, "\n") {
		if line = strings.TrimSpace(line); strings.Contains(line, "%") || strings.Contains(strings.ToLower(line), "error") || strings.HasPrefix(line, "line ") {
			said = append(said, line)
		}
	}
	if len(said) == 0 || strings.Contains(err.Error(), said[0]) {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.Join(said, "; "))
}
