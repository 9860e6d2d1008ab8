package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/impair"
	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/netlab/netns"
	"github.com/wardnet/wardnet/labs/probe"
	"github.com/wardnet/wardnet/labs/probe/respond"
)

// World is a lab with what scenarios do to it.
type World struct {
	Lab      *netlab.Lab
	Bench    *impair.Bench
	Progress io.Writer     // one line per step; nil: silent
	Steady   time.Duration // how long "steadiness" looks; default 1 min
	// Slack multiplies the outages that a fault may cost, for a machine that does
	// other work meanwhile; default 1.
	Slack int
	Agent string // path of a second build of the agent, for "upgrade"
}

// NewWorld makes the world of a lab; wardnet is the path of the program.
func NewWorld(lab *netlab.Lab, wardnet string, progress io.Writer) (*World, error) {
	b, err := impair.New(impair.Deps{Dir: filepath.Join(lab.Dir, "run"), Wardnet: wardnet, Processes: Processes{lab}})
	if err != nil {
		return nil, err
	}
	return &World{Lab: lab, Bench: b, Progress: progress}, nil
}

func cpus() int { return runtime.NumCPU() }

func (w *World) say(format string, args ...any) {
	if w.Progress != nil {
		fmt.Fprintf(w.Progress, "%s  %s\n", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
	}
}

// wards are the sites that are no hub.
func (w *World) wards() []netlab.Site {
	return slices.DeleteFunc(slices.Clone(w.Lab.Topology.Sites), func(s netlab.Site) bool { return s.Role == inventory.RoleHub })
}

// Probe compares all packets with the intent.
func (w *World) Probe(ctx context.Context, cfg probe.Config) (probe.Report, error) {
	pairs, err := w.Pairs()
	if err != nil {
		return probe.Report{}, err
	}
	r, err := respond.Start(ctx, probe.Responders(w.Lab.City, w.Lab.Topology))
	if err != nil {
		return probe.Report{}, err
	}
	report, err := probe.Run(ctx, pairs, cfg)
	return report, errors.Join(err, r.Close())
}

// Pairs are all that is probed: from the wards' hosts.
func (w *World) Pairs() ([]probe.Pair, error) {
	hosts, err := probe.Hosts(w.Lab.City, w.Lab.Topology)
	if err != nil {
		return nil, err
	}
	hubs := map[inventory.SiteID]bool{}
	for _, s := range w.Lab.Topology.Sites {
		hubs[s.ID] = s.Role == inventory.RoleHub
	}
	hosts = slices.DeleteFunc(hosts, func(h probe.Host) bool { return hubs[h.Site] })
	return probe.Plan(w.Lab.City, hosts, []netip.Addr{w.Lab.Topology.Internet})
}

// flow is the ping of a ward: from the staff's host, or the first segment that
// may, to an application in the data centre.
func (w *World) flow(s netlab.Site) (probe.Flow, error) {
	var errs []error
	for _, kind := range inventory.SegmentKinds {
		h, ok := w.Lab.Topology.Host(s.ID, kind)
		if !ok {
			continue
		}
		to, port, _, err := probe.Choose(w.Lab.City, kind)
		if err == nil {
			return probe.Flow{Namespace: h.NS, To: to, Port: port}, nil
		}
		errs = append(errs, err)
	}
	return probe.Flow{}, fmt.Errorf("choose what to ping from %s: %w", s.ID, errors.Join(errs...))
}

// primary is the circuit that a ward prefers, and its carrier.
func (w *World) primary(s netlab.Site) inventory.Circuit {
	all := slices.Clone(w.Lab.City.Index().SiteCircuits(s.ID))
	slices.SortStableFunc(all, func(a, b inventory.Circuit) int {
		if a.Role != b.Role {
			return map[bool]int{true: -1, false: 1}[a.Role == inventory.Primary]
		}
		return a.Cost - b.Cost
	})
	return all[0]
}

// hubOf is the hub that a ward prefers.
func (w *World) hubOf(s netlab.Site) inventory.SiteID {
	site, _ := w.Lab.City.Index().Site(s.ID)
	return site.Hubs[0]
}

// as calls fn with a client that speaks for a person.
func (w *World) as(p netlab.Person, fn func(*client.Client) error) error {
	c, err := w.Lab.Client(p)
	if err != nil {
		return err
	}
	defer c.Close()
	return fn(c)
}

// until polls done every 100 ms; what it waits for is in the error when limit
// passes.
func (w *World) until(ctx context.Context, limit time.Duration, what string, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s took over %s", what, limit))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done(ctx)
		if err == nil && ok {
			return nil
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, client.ErrUnavailable) {
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// Processes are a lab's, for faults: "controller", "agent <site>", and those of
// the tunnels, which the agent watches: "wg <site>", "ike <site>".
type Processes struct{ Lab *netlab.Lab }

func (p Processes) site(name string) (netlab.Site, error) {
	kind, id, _ := strings.Cut(name, " ")
	s, ok := p.Lab.Topology.Site(inventory.SiteID(id))
	if !ok || (kind != "agent" && kind != "wg" && kind != "ike") {
		return s, fmt.Errorf("%w: the lab has no process %q; there are \"controller\", \"agent SITE\", \"wg SITE\" and \"ike SITE\"", inventory.ErrNotFound, name)
	}
	return s, nil
}

// PID finds a process.
func (p Processes) PID(name string) (int, error) {
	if name == "controller" {
		return pidIn(netlab.Name(p.Lab.Topology.Prefix, "ctl"), "serve")
	}
	s, err := p.site(name)
	if err != nil {
		return 0, err
	}
	switch kind, _, _ := strings.Cut(name, " "); kind {
	case "wg":
		return pidIn(s.NS, "wg")
	case "ike":
		return pidIn(s.NS, "")
	}
	if pid := p.Lab.AgentPID(s); pid != 0 {
		return pid, nil
	}
	return 0, fmt.Errorf("%w: the agent of %s does not run", inventory.ErrNotFound, s.ID)
}

// Start starts what was killed; the agent itself starts those of its tunnels.
func (p Processes) Start(ctx context.Context, name string) error {
	if name == "controller" {
		_, err := p.Lab.StartController(ctx)
		return err
	}
	s, err := p.site(name)
	if err != nil || !strings.HasPrefix(name, "agent ") {
		return err
	}
	return p.Lab.StartEdge(s)
}

// ikeDaemon is strongSwan's, in a namespace of its own for each box.
const ikeDaemon = "charon-systemd"

// pidIn finds the process of ours that runs a verb in a namespace; no verb: the
// daemon of the IPsec tunnels.
func pidIn(namespace, verb string) (int, error) {
	pids, err := netns.Processes(namespace)
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // ended since
		}
		words := strings.Split(string(b), "\x00")
		program := filepath.Base(words[0])
		if verb == "" && program == ikeDaemon || len(words) > 1 && strings.HasPrefix(program, "wardnet") && words[1] == verb {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%w: no %q runs in namespace %s", inventory.ErrNotFound, cmp.Or(verb, ikeDaemon), namespace)
}
