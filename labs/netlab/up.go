package netlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// ErrNotRoot is wrapped by what needs root.
var ErrNotRoot = errors.New("network namespaces need root")

// Root says whether a lab can be built by this process, and if not, why.
func Root() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w; run it as root", ErrNotRoot)
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("%w and TUN devices: %w; load the kernel's tun module", ErrNotRoot, err)
	}
	return nil
}

// Up brings a lab up and waits until all its tunnels, BGP sessions and health
// contracts are well. A healthy lab of the same shape is left as it is; any
// other one in the directory is taken down first. What a failed or interrupted
// Up leaves behind, [Lab.Down] removes.
func Up(ctx context.Context, cfg Config) (*Lab, error) {
	if err := Root(); err != nil {
		return nil, err
	}
	cfg.Shape = cfg.Shape.withDefaults()
	if cfg.Dir == "" {
		cfg.Dir = DefaultDir
	}
	s := state{Shape: cfg.Shape, Wardnet: cfg.Wardnet, Edge: cfg.Edge, Began: time.Now().UTC()}
	l, err := newLab(cfg.Dir, s, cfg.Sample, cfg.Progress)
	if err != nil {
		return nil, err
	}
	if old, err := l.reuse(ctx, cfg); old != nil || err != nil {
		return old, err
	}
	for _, dir := range []string{"", "run", "people"} {
		if err := os.MkdirAll(l.path(dir), 0o700); err != nil {
			return nil, fmt.Errorf("directory of the lab: %w", err)
		}
	}
	if err := l.save(); err != nil {
		return nil, err
	}
	if err := l.build(ctx); err != nil {
		return l, err
	}
	return l, l.save()
}

// reuse returns the lab that is up already when it is what cfg asks for, and
// takes down any other.
func (l *Lab) reuse(ctx context.Context, cfg Config) (*Lab, error) {
	spaces, err := netns.List(cfg.Prefix + "-")
	if err != nil {
		return nil, err
	}
	old, err := Open(cfg.Dir, cfg.Sample)
	switch {
	case errors.Is(err, inventory.ErrNotFound) && len(spaces) == 0:
		return nil, nil
	case errors.Is(err, inventory.ErrNotFound):
		return nil, fmt.Errorf("%w: there are namespaces of a lab (%s, …) that is not in %s; take it down with its own --dir, or choose another --prefix", inventory.ErrConflict, spaces[0], cfg.Dir)
	case err != nil:
		return nil, err
	}
	old.progress = l.progress
	if old.same(cfg.Shape) {
		if s, err := old.Status(ctx); err == nil && s.Healthy {
			l.say("the lab is up and healthy already")
			return old, nil
		}
	}
	l.say("taking down the lab that is there")
	return nil, old.Down(false)
}

// build does the work of Up, step by step; each says what it did.
func (l *Lab) build(ctx context.Context) error {
	t := l.Topology
	if err := l.tools.plumb(ctx, t); err != nil {
		return err
	}
	l.say("plumbed: %d namespaces, %d links", len(t.Namespaces), len(t.Links))
	var serving client.Serving
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.underlay(gctx) })
	g.Go(func() error { return l.startServices(gctx, "services", t.Services) })
	g.Go(func() (err error) {
		serving, err = l.StartController(gctx)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	l.say("started: %d carriers, the data centre, %d sockets, the controller", len(t.Carriers), len(t.Services))
	if err := l.makePeople(ctx, serving.Setup); err != nil {
		return err
	}
	return l.admit(ctx, t.Sites, "Cấu hình đầu tiên của mạng thử nghiệm")
}

// underlay starts the carriers and the data centre's router.
func (l *Lab) underlay(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range l.Topology.Carriers {
		g.Go(func() error { return l.startCarrier(ctx, c) })
	}
	g.Go(func() error { return l.startRouter(ctx) })
	return g.Wait()
}

// startCarrier starts what a carrier does beside routing: DHCP and CGNAT.
func (l *Lab) startCarrier(ctx context.Context, c Carrier) error {
	if c.NAT.IsValid() {
		err := netns.Do(c.NS, func() error { return run(ctx, c.natText(), l.tools.nft, "-f", "-") })
		if err != nil {
			return fmt.Errorf("CGNAT of %s: %w", c.ID, err)
		}
	}
	if len(c.Leases) == 0 {
		return nil
	}
	conf := l.path("run", "dhcp-"+string(c.ID)+".conf")
	if err := os.WriteFile(conf, []byte(c.dhcpText(l.path("run", "dnsmasq-"+string(c.ID)))), 0o600); err != nil {
		return fmt.Errorf("DHCP of %s: %w", c.ID, err)
	}
	return l.procs.start(c.NS, dhcpName(c), l.tools.dnsmasq, "--conf-file="+conf)
}

func dhcpName(c Carrier) string { return "dhcp-" + string(c.ID) }

// startServices starts one process for all of these sockets.
func (l *Lab) startServices(ctx context.Context, name string, all []Service) error {
	file := l.path("run", name+".json")
	b, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("services: %w", err)
	}
	if err := l.procs.start("", name, l.state.Wardnet, "lab", "host", "--services", file, "--json"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, commandTime, fmt.Errorf("took over %s", commandTime))
	defer cancel()
	var n struct{ Sockets int }
	return l.procs.said(ctx, name, &n)
}

// admit puts the inventory in force, lets the sites' devices enrol, rolls out
// and waits until all is well.
func (l *Lab) admit(ctx context.Context, sites []Site, message string) error {
	engineer, err := l.Client(Engineer)
	if err != nil {
		return err
	}
	defer engineer.Close()
	document, err := l.document()
	if err != nil {
		return err
	}
	now, err := engineer.Summary(ctx)
	if err != nil {
		return fmt.Errorf("ask for the inventory's version: %w", err)
	}
	if _, err := engineer.ImportInventory(ctx, document, now.InventoryV); err != nil {
		return fmt.Errorf("import the inventory: %w", err)
	}
	if err := l.writeBundles(ctx, engineer, sites); err != nil {
		return err
	}
	if err := inParallel(sites, l.StartEdge); err != nil {
		return err
	}
	l.say("imported the inventory, started %d agents", len(sites))
	if err := l.enrolled(ctx, engineer, sites); err != nil {
		return err
	}
	l.say("enrolled and connected: %d devices", len(sites))
	if err := l.Roll(ctx, message); err != nil {
		return err
	}
	l.say("rolled out")
	if err := l.Healthy(ctx, l.patience(time.Minute)); err != nil {
		return err
	}
	l.say("all is well")
	if l.state.Seconds == 0 {
		l.state.Seconds = time.Since(l.begin).Seconds()
	}
	if err := l.askAddresses(ctx, sites); err != nil {
		l.say("NOT all hosts have an address: %v", err) // the overlay stands; a probe will show it
	}
	return nil
}

// Healthy waits until every tunnel, BGP session and health contract is well.
func (l *Lab) Healthy(ctx context.Context, limit time.Duration) error {
	return l.wait(ctx, limit, "convergence", func(ctx context.Context) (bool, string, error) {
		s, err := l.Status(ctx)
		return s.Healthy, s.String(), err
	})
}
