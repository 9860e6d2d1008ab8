package frr

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/wardnet/wardnet/edge/host/program"
)

// daemonOrder is the order of start: the others speak to zebra.
var daemonOrder = []string{"zebra", "bfdd", "bgpd"}

// detector finds dead paths: a box short of time must not find any that live.
const detector = "bfdd"

// arguments of each daemon beside its instance. None listens for people on TCP
// (-P 0). A zebra that comes back keeps the routes it finds for 10 s, so that
// its death costs no packet while bgpd sends them again.
var arguments = map[string][]string{
	"zebra": {"-d", "-A", "127.0.0.1", "-P", "0", "-s", "90000000", "-K", "10"},
	"bfdd":  {"-d", "-A", "127.0.0.1", "-P", "0"},
	"bgpd":  {"-d", "-A", "127.0.0.1", "-P", "0"},
}

// Ensure starts the daemons that do not run and, where others did, gives the
// new one its part of text, the configuration in force.
func (i *Instance) Ensure(ctx context.Context, text string) error {
	down := i.down()
	if len(down) == 0 {
		return nil
	}
	if err := i.makeVtyDir(); err != nil {
		return err
	}
	for _, name := range down {
		if err := i.start(ctx, name); err != nil {
			return err
		}
	}
	if len(down) == len(daemonOrder) || empty(text) {
		return nil // all are new: Load gives them the whole
	}
	// vtysh merges what the daemons say, so the part that a new daemon lacks
	// may not show in the running configuration.
	path, err := i.file(text)
	if err != nil {
		return err
	}
	for _, name := range down {
		if out, err := i.shell(ctx, reloadLimit, "-d", name, "-f", path); err != nil {
			return fmt.Errorf("load FRR configuration into the restarted %s: %w", name, withOutput(err, out))
		}
	}
	return nil
}

// Down lists the daemons that do not run.
func (i *Instance) Down() []string { return i.down() }

func (i *Instance) down() []string {
	var down []string
	for _, name := range daemonOrder {
		if i.pid(name) == 0 {
			down = append(down, name)
		}
	}
	return down
}

func (i *Instance) start(ctx context.Context, name string) error {
	if err := i.endStray(ctx, name); err != nil {
		return err
	}
	i.hangUp(name)
	args := arguments[name]
	if i.cfg.Pathspace != "" {
		args = append([]string{"-N", i.cfg.Pathspace}, args...)
	}
	if _, err := program.Run(ctx, shortLimit, nil, i.daemons[name], args...); err != nil {
		return fmt.Errorf("start FRR: %w; look into the system log for %s", err, name)
	}
	if err := i.wait(ctx, name, func() bool { return i.pid(name) != 0 && i.answers(name) }, "does not answer"); err != nil {
		return err
	}
	if name == detector {
		_ = program.Urgent(i.pid(name)) // where we may not, it waits its turn
	}
	return nil
}

// endStray ends a daemon of our own instance that was left in another network
// namespace: it holds the pid file and serves nobody. The system's FRR is never
// ended.
func (i *Instance) endStray(ctx context.Context, name string) error {
	pid := i.process(name)
	if pid == 0 || i.cfg.Pathspace == "" || program.SameNamespace(pid) {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("start FRR: end the %s left in another namespace: %w", name, err)
	}
	return i.wait(ctx, name, func() bool { return i.process(name) == 0 }, "does not end")
}

// Stop ends the daemons of an instance of our own; the system's FRR is left.
func (i *Instance) Stop(ctx context.Context) error {
	if i.cfg.Pathspace == "" {
		return nil
	}
	var errs []error
	for n := len(daemonOrder) - 1; n >= 0; n-- {
		name := daemonOrder[n]
		i.hangUp(name)
		pid := i.process(name)
		if pid == 0 {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("stop FRR: end %s: %w", name, err))
			continue
		}
		errs = append(errs, i.wait(ctx, name, func() bool { return i.process(name) == 0 }, "does not end"))
	}
	return errors.Join(errs...)
}

func (i *Instance) wait(ctx context.Context, name string, ok func() bool, complaint string) error {
	return program.Wait(ctx, shortLimit, fmt.Sprintf("FRR's %s %s", name, complaint), ok)
}

// pid returns the daemon that serves this namespace, 0: none.
func (i *Instance) pid(name string) int {
	pid := i.process(name)
	if pid != 0 && i.cfg.Pathspace != "" && !program.SameNamespace(pid) {
		return 0
	}
	return pid
}

// process returns the process its pid file names, if it is still that daemon.
func (i *Instance) process(name string) int {
	return program.Process(filepath.Join(i.vty, name+".pid"), name, "")
}
