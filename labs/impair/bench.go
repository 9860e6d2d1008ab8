package impair

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// Processes are what the lab runs, by name: "controller", "agent <site>" and
// "wg <site>".
type Processes interface {
	// PID of a running process; an error wraps inventory.ErrNotFound when it
	// does not run.
	PID(name string) (int, error)
	// Start starts it again, unless it runs or somebody else restarts it.
	Start(ctx context.Context, name string) error
}

// Deps are what a [Bench] works with; all are required but Processes, without
// which processes cannot be killed.
type Deps struct {
	Dir       string // of the lab; the journal and the forwarders' files are here
	Wardnet   string // path of the wardnet program, which is the forwarder too
	Processes Processes
}

// Bench makes and heals faults.
type Bench struct {
	deps    Deps
	journal journal
	nft     string
}

// New finds what faults are made with.
func New(deps Deps) (*Bench, error) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		return nil, fmt.Errorf("%w: nft is missing: install the package nftables", inventory.ErrNotFound)
	}
	if nft, err = filepath.Abs(nft); err != nil {
		return nil, err
	}
	return &Bench{deps: deps, journal: journal{filepath.Join(deps.Dir, "faults.json")}, nft: nft}, nil
}

// List reads the faults there are.
func (b *Bench) List() ([]Fault, error) { return b.journal.read() }

// Make puts a fault in force. One of the same kind and target is replaced.
func (b *Bench) Make(ctx context.Context, f Fault) error {
	if err := check(f); err != nil {
		return err
	}
	f.At = time.Now().UTC()
	pid := 0
	if f.Kind == Killed {
		var err error
		if pid, err = b.pid(f.Process); err != nil {
			return err // nothing was there to kill: nothing to heal
		}
	}
	return b.journal.locked(func(faults []Fault) ([]Fault, error) {
		after := append(slices.DeleteFunc(slices.Clone(faults), f.same), f)
		if err := b.journal.write(after); err != nil {
			return faults, err
		}
		if f.Kind == Killed {
			return after, end(f.Process, pid)
		}
		return after, b.converge(ctx, namespacesOf(f), faults, after)
	})
}

func (f Fault) same(x Fault) bool { return x.Kind == f.Kind && x.Target == f.Target }

func check(f Fault) error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{inventory.ErrInvalid}, args...)...))
	}
	if f.Target == "" {
		bad("the fault has no target")
	}
	switch f.Kind {
	case Silence, Down:
	case Loss:
		if f.LossRatio <= 0 || f.LossRatio > 1 {
			bad("a loss ratio of %v; want more than 0, at most 1", f.LossRatio)
		}
	case Slow:
		if f.DelayMS <= 0 && f.RateBPS == 0 {
			bad("neither delay nor rate is given")
		}
		if err := shapeOf(f).Validate(); err != nil {
			errs = append(errs, err)
		}
	case Killed:
		if f.Process == "" {
			bad("no process is named")
		}
	default:
		bad("fault %q is not cut, down, loss, delay or kill", f.Kind)
	}
	if f.Kind != Killed && len(f.Ports) == 0 {
		bad("%s touches no port", f)
	}
	return errors.Join(errs...)
}

// Heal ends the faults that match and returns them; what cannot be healed
// stays in the journal and in the error.
func (b *Bench) Heal(ctx context.Context, match func(Fault) bool) ([]Fault, error) {
	var healed []Fault
	err := b.journal.locked(func(faults []Fault) ([]Fault, error) {
		var after []Fault
		for _, f := range faults {
			if match(f) {
				healed = append(healed, f)
			} else {
				after = append(after, f)
			}
		}
		if len(healed) == 0 {
			return faults, nil
		}
		err := b.converge(ctx, namespacesOf(healed...), faults, after)
		for _, f := range healed {
			if f.Kind == Killed {
				err = errors.Join(err, b.deps.Processes.Start(ctx, f.Process))
			}
		}
		if err != nil {
			return faults, err
		}
		return after, nil
	})
	if err != nil {
		return nil, fmt.Errorf("heal faults: %w", err)
	}
	return healed, nil
}

// All matches every fault.
func All(Fault) bool { return true }

// On matches the faults of a target; of a site also its killed processes.
func On(t Target) func(Fault) bool {
	name, site := t.String(), string(t.Ward+t.Hub)
	return func(f Fault) bool {
		_, of, _ := strings.Cut(f.Process, " ")
		return f.Target == name || strings.HasPrefix(f.Target, name+" ") || (site != "" && of == site)
	}
}

// converge makes the namespaces carry exactly the faults of after. A namespace
// that is gone carries none.
func (b *Bench) converge(ctx context.Context, namespaces []string, before, after []Fault) error {
	var errs []error
	for _, ns := range namespaces {
		if !netns.Exists(ns) {
			continue
		}
		errs = append(errs, b.load(ctx, ns, filterText(ns, after)))
		down, was := downPorts(ns, after), downPorts(ns, before)
		errs = append(errs, netns.Do(ns, func() error {
			var errs []error
			for name := range was {
				if !down[name] {
					errs = append(errs, setLink(name, true))
				}
			}
			for name := range down {
				errs = append(errs, setLink(name, false))
			}
			return errors.Join(errs...)
		}))
	}
	want, have := shapes(after), shapes(before)
	for port, old := range have {
		if now, ok := want[port]; !ok || shapeOf(now) != shapeOf(old) {
			errs = append(errs, b.endForwarder(ctx, port))
		}
	}
	for port, f := range want {
		if old, ok := have[port]; !ok || shapeOf(old) != shapeOf(f) {
			errs = append(errs, b.startForwarder(ctx, port, f))
		}
	}
	return errors.Join(errs...)
}

func setLink(name string, up bool) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find port %s: %w", name, err)
	}
	if up {
		err = netlink.LinkSetUp(l)
	} else {
		err = netlink.LinkSetDown(l)
	}
	if err != nil {
		return fmt.Errorf("set port %s up=%v: %w", name, up, err)
	}
	return nil
}

// load gives text to nft, which takes all of it or nothing.
func (b *Bench) load(ctx context.Context, namespace, text string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var errs strings.Builder
	cmd := exec.CommandContext(ctx, b.nft, "-f", "-")
	cmd.Stdin, cmd.Stderr = strings.NewReader(text), &errs
	err := netns.Do(namespace, cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("load faults into namespace %s: %w: %s", namespace, err, strings.TrimSpace(errs.String()))
	}
	return nil
}

func (b *Bench) pid(process string) (int, error) {
	if b.deps.Processes == nil {
		return 0, fmt.Errorf("%w: this lab has no processes to kill", inventory.ErrNotFound)
	}
	return b.deps.Processes.PID(process)
}

func end(process string, pid int) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill %s (%d): %w", process, pid, err)
	}
	return nil
}
