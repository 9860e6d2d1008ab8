package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/edge/host/capacity"
	"github.com/wardnet/wardnet/edge/host/detour"
	"github.com/wardnet/wardnet/edge/host/linux"
	"github.com/wardnet/wardnet/edge/host/probe"
	"github.com/wardnet/wardnet/edge/host/service"
	"github.com/wardnet/wardnet/edge/host/shape"
	"github.com/wardnet/wardnet/edge/host/steer"
	"github.com/wardnet/wardnet/edge/host/wireguard"
	"github.com/wardnet/wardnet/edge/tool"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// box is the composition of an agent on a real Linux box.
type box struct {
	state     string
	ports     agent.Ports
	bundle    *enrol.Bundle // nil: enrolled
	root      string        // PEM, that bundles must be signed under; "": the bundle's own
	pathspace string
	runDir    string
	keys      enrol.Keystore // nil: the identity's file
	sshKey    string         // file of the public SSH host key to certify; "": none
	metrics   metricsAddr
	log       *slog.Logger
}

// newBox reads what the flags name.
func (f runFlags) newBox(state string, log *slog.Logger) (box, error) {
	b := box{state: state, pathspace: f.pathspace, runDir: f.runDir, sshKey: f.sshKey, log: log}
	if f.edges != "" || f.control != "" {
		return b, fmt.Errorf("%w: --edges and --control are for --host simulated", inventory.ErrInvalid)
	}
	if f.bundle != "" {
		bundle, err := enrol.LoadBundle(f.bundle)
		if err != nil {
			return b, err
		}
		b.bundle = &bundle
	}
	var err error
	if b.keys, err = keystore(f.keys); err != nil {
		return b, err
	}
	if b.metrics, err = parseMetrics(f.metrics); err != nil {
		return b, err
	}
	if b.root, err = rootOf(f.root); err != nil {
		return b, err
	}
	if b.bundle != nil && b.root != "" {
		if err := b.bundle.Verify(b.root); err != nil { // before its ports are used
			return b, err
		}
	}
	if f.ports != "" {
		b.ports, err = agent.LoadPorts(f.ports)
	} else {
		b.ports, err = agent.KeptPorts(state, b.bundle)
	}
	return b, err
}

// device is the box's name; empty with neither identity nor bundle.
func (b box) device() (inventory.DeviceID, error) {
	id, err := enrol.Load(agent.IdentityDir(b.state))
	switch {
	case err == nil:
		return id.Device(), nil
	case b.bundle != nil:
		return b.bundle.Device, nil
	case errors.Is(err, inventory.ErrNotFound):
		return "", fmt.Errorf("%w: %s holds no identity; enrol the device with its bundle first, or give --bundle", inventory.ErrInvalid, b.state)
	}
	return "", err
}

// run is the agent's life on the box until ctx ends. The data plane stays as it
// is when the agent goes. adjust changes what the agent runs with.
func (b box) run(ctx context.Context, adjust func(*agent.RunConfig)) error {
	if _, chosen := os.LookupEnv("GOGC"); !chosen {
		debug.SetGCPercent(200) // the heap is small; looking through it is a sixth of what an idle agent does
	}
	if _, chosen := os.LookupEnv("GOMAXPROCS"); !chosen {
		runtime.GOMAXPROCS(1) // it mostly waits, and waking a second processor costs more than it saves
	}
	if os.Getuid() != 0 {
		return fmt.Errorf("%w: --host linux changes the machine's network and needs root", inventory.ErrInvalid)
	}
	tunnels, err := wireguard.Open(wireguard.Config{RunDir: filepath.Join(b.runDir, "wg"), Log: b.log})
	if err != nil {
		return err
	}
	prober, err := probe.Open(probe.Config{Log: b.log})
	if err != nil {
		return err
	}
	tables, err := detour.Open()
	if err != nil {
		return err
	}
	defer tables.Close()
	services, err := service.Open(service.Config{
		RunDir: filepath.Join(b.runDir, "services"), StateDir: b.state, Log: b.log,
		Clock: b.pathspace == "", // a box beside others on one machine leaves the clock alone
	})
	if err != nil {
		return err
	}
	queues, err := shape.Open(b.log)
	if err != nil {
		return err
	}
	reg := newRegistry()
	meter, err := capacity.Open(capacity.Config{RunDir: b.runDir, Adjust: queues.Follow, Log: b.log, Reg: reg})
	if err != nil {
		return err
	}
	var identity atomic.Pointer[enrol.Identity]
	tunnelsIPsec, err := b.openIPsec(&identity)
	if err != nil {
		return err
	}
	host, err := linux.Open(ctx, tunnelsIPsec.deps(linux.Deps{
		Tunnels: tunnels, Prober: prober, Parts: []linux.Part{services, meter, queues}, Leases: services.Leases,
		Upload: meter.Upload, Log: b.log, Reg: reg,
	}), linux.Config{
		Ports: b.ports.Circuits, Pathspace: b.pathspace, RunDir: b.runDir,
		Key: func() string {
			if id := identity.Load(); id != nil {
				return base64.StdEncoding.EncodeToString(id.WireGuardKey().Bytes())
			}
			return ""
		},
	})
	if err != nil {
		return err
	}
	plane := steer.NewPlane(host)
	outer := ctx
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return prober.Run(ctx) })
	g.Go(func() error { return host.Run(ctx) })
	g.Go(func() error { return meter.Run(ctx, host.State) })
	g.Go(func() error { return b.metrics.serve(ctx, reg, b.log) })
	g.Go(func() error {
		tunnels.Supervise(ctx, func() {})
		return nil
	})
	g.Go(func() error {
		tunnelsIPsec.run(ctx)
		return nil
	})
	g.Go(func() error {
		services.Supervise(ctx, host.Changed)
		return nil
	})
	g.Go(func() error {
		return steer.Run(ctx, steer.Deps{Plane: plane, Quality: quality(prober), Detour: tables.Set, Routed: tables.Main, Ridden: prober.Ride, Log: b.log})
	})
	cfg := agent.RunConfig{
		Dir: b.state, Bundle: b.bundle, Dial: host.Dial, Log: b.log, Enrol: enrol.Client{Root: b.root, Journal: enrol.OpenJournal(b.state), SSHHostKey: b.sshKey, Keys: b.keys},
		Services: []func(*grpc.Server){tool.New(host, b.log).Register},
		Host: func(id *enrol.Identity) (agent.Host, error) {
			identity.Store(id)
			return plane, nil
		},
	}
	adjust(&cfg)
	if _, err := enrol.Load(agent.IdentityDir(b.state)); errors.Is(err, inventory.ErrNotFound) {
		first, enrolled := context.WithCancel(ctx)
		defer enrolled()
		cfg.OnEnrolled = func(*enrol.Identity) { enrolled() }
		g.Go(func() error {
			b.watchPorts(first, cfg.Enrol.Journal)
			return nil
		})
	}
	g.Go(func() error { return agent.Run(ctx, cfg) })
	if err := g.Wait(); outer.Err() == nil {
		return err
	}
	return nil // told to end, wherever it was
}

// quality gives the prober's window in the words of package steer.
func quality(p *probe.Prober) func(string) steer.Quality {
	return func(tunnel string) steer.Quality {
		s := p.Window(tunnel)
		return steer.Quality{Sent: s.Sent, Lost: s.Lost, LatencyMS: s.LatencyMS, JitterMS: s.JitterMS, LostSince: s.LostSince}
	}
}

// hostKind is the data plane the flags ask for: a real box for root that names
// no simulator file.
func (f runFlags) hostKind(uid int) (string, error) {
	kind := f.host
	if f.edges == "" && uid == 0 {
		kind = cmp.Or(kind, "linux")
	}
	if kind == "linux" || kind == "simulated" && f.edges != "" {
		return kind, nil
	}
	return "", fmt.Errorf("%w: give --host linux as root, or --host simulated and --edges FILE", inventory.ErrInvalid)
}
