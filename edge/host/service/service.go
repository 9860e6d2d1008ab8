// Package service runs what a box serves its segments with: dnsmasq for
// addresses and names, chrony for the time. The processes outlive the agent,
// which adopts those it finds, starts those that died, and restarts one only
// when its configuration changed; leases are kept through all of it.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wardnet/wardnet/edge/host/program"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

const (
	limit = 10 * time.Second // of one call of a program
	look  = 2 * time.Second  // between looks whether the processes live
)

// Config is where the services keep their files; all required but Clock.
type Config struct {
	RunDir string // configurations and pid files
	// StateDir holds the leases, which must survive a boot.
	StateDir string
	// Clock lets chrony set the machine's clock. Never in a network namespace:
	// the clock is everybody's.
	Clock bool
	Log   *slog.Logger
}

// Services are the processes of one box, in the network namespace of this one.
type Services struct {
	cfg              Config
	dnsmasq, chronyd string // absolute paths; empty: not installed

	mu   sync.Mutex // held while processes are changed
	want []daemon   // as Apply was last asked for
}

// Open returns the services of this box; nothing is started or ended yet.
func Open(cfg Config) (*Services, error) {
	if cfg.RunDir == "" || cfg.StateDir == "" || cfg.Log == nil {
		return nil, fmt.Errorf("open services: %w: Config has an empty field", inventory.ErrInvalid)
	}
	s := &Services{cfg: cfg}
	for _, dir := range []string{cfg.RunDir, s.leaseDir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("open services: make directory: %w", err)
		}
	}
	// A box that serves nothing needs neither; Check says so to one that does.
	s.dnsmasq, _ = program.Find("dnsmasq")
	s.chronyd, _ = program.Find("chronyd")
	return s, nil
}

// Name says what part of the box this is.
func (s *Services) Name() string { return "services" }

// Check says whether the programs would take the configuration, changing
// nothing. The error lists all faults.
func (s *Services) Check(ctx context.Context, in render.Input) error {
	var errs []error
	for _, d := range s.daemons(in) {
		if d.program == "" {
			errs = append(errs, fmt.Errorf("%w: %s cannot run: its program is not installed; install dnsmasq-base and chrony", inventory.ErrInvalid, d.name))
			continue
		}
		errs = append(errs, d.check(ctx))
	}
	return errors.Join(errs...)
}

// Apply makes the box run exactly the services of in. What runs already as it
// should is not touched.
func (s *Services) Apply(ctx context.Context, in render.Input) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = s.daemons(in)
	return s.converge(ctx)
}

// converge ends what should not run and starts what should; s.mu is held.
func (s *Services) converge(ctx context.Context) error {
	var errs []error
	for _, d := range s.stray() {
		s.cfg.Log.Info("ending a service of the segments", "service", d.name)
		errs = append(errs, d.stop(ctx))
	}
	for _, d := range s.want {
		ports := d.stamp()
		if ports == "" {
			continue // waits for a port; the host looks again when one appears
		}
		if d.runs() && d.loaded() == ports+d.text {
			continue
		}
		s.cfg.Log.Info("starting a service of the segments", "service", d.name)
		if err := d.restart(ctx, ports+d.text); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Diff lists how what runs differs from in; none: it does not.
func (s *Services) Diff(_ context.Context, in render.Input) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	want := s.daemons(in)
	var diff []string
	for _, d := range want {
		ports := d.stamp()
		switch {
		case ports == "":
		case !d.runs():
			diff = append(diff, d.name+" does not run")
		case d.loaded() != ports+d.text:
			diff = append(diff, d.name+" runs with another configuration")
		}
	}
	for _, d := range strays(s.cfg.RunDir, want) {
		diff = append(diff, d.name+" runs and should not")
	}
	return diff, nil
}

// Supervise starts again what died, within two seconds or three, until ctx ends, and
// calls changed after a lease came, went or was renewed. The processes stay when
// it returns.
func (s *Services) Supervise(ctx context.Context, changed func()) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	said, leases := "", s.leaseStamp()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := s.leaseStamp(); now != leases {
			leases = now
			changed()
		}
		err := s.revive(ctx)
		text := ""
		if err != nil && ctx.Err() == nil {
			if text = err.Error(); text != said {
				s.cfg.Log.Error("service of the segments cannot be brought back", "err", err)
			}
		}
		said = text
	}
}

func (s *Services) revive(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dead := slices.ContainsFunc(s.want, func(d daemon) bool { return !d.runs() && d.stamp() != "" })
	if !dead {
		return nil
	}
	return s.converge(ctx)
}

// Stop ends all services of the box.
func (s *Services) Stop(ctx context.Context) error {
	return s.Apply(ctx, render.Input{})
}

func (s *Services) stray() []daemon { return strays(s.cfg.RunDir, s.want) }

func (s *Services) leaseDir() string { return filepath.Join(s.cfg.StateDir, "leases") }

func (s *Services) leaseFile(name string) string { return filepath.Join(s.leaseDir(), name) }

// daemons are the processes that in asks for.
func (s *Services) daemons(in render.Input) []daemon {
	var out []daemon
	for _, m := range render.DNSMasq(in) {
		d := daemon{name: "dnsmasq-" + m.Name, comm: "dnsmasq", program: s.dnsmasq, dir: s.cfg.RunDir, ports: m.Ports}
		d.text = m.Text + "pid-file=" + d.pidFile() + "\n"
		if m.Leases {
			d.text += "dhcp-leasefile=" + s.leaseFile(m.Name) + "\n"
		}
		d.run = []string{"--conf-file=" + d.confFile()}
		d.try = func(path string) []string { return []string{"--test", "--conf-file=" + path} }
		out = append(out, d)
	}
	if text := render.Chrony(in); text != "" {
		d := daemon{name: "chronyd", comm: "chronyd", program: s.chronyd, dir: s.cfg.RunDir}
		d.text = text + "pidfile " + d.pidFile() + "\nbindcmdaddress /\n"
		d.run = []string{"-f", d.confFile()}
		if s.cfg.Clock {
			d.text += "makestep 1 3\nrtcsync\n"
		} else {
			d.run = append(d.run, "-x")
		}
		d.try = func(path string) []string { return []string{"-p", "-f", path} }
		out = append(out, d)
	}
	return out
}

// stamp names the ports a process is bound to, as a comment: a port that is
// plugged in anew is another one, and the process has to start again. Empty: a
// port is missing.
func (d daemon) stamp() string {
	var b strings.Builder
	b.WriteString("# ports")
	for _, name := range d.ports {
		p, err := net.InterfaceByName(name)
		if err != nil {
			return ""
		}
		fmt.Fprintf(&b, " %s=%d", name, p.Index)
	}
	b.WriteString("\n")
	return b.String()
}
