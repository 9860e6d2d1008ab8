package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/sim"
	"github.com/wardnet/wardnet/pki/enrol"
)

// started is what run tells once before it stays in the foreground.
type started struct {
	Device  inventory.DeviceID `json:"device"`
	Host    string             `json:"host"`
	State   string             `json:"state"`
	Control string             `json:"control,omitempty"`
}

func (s started) String() string {
	return fmt.Sprintf("device %s on a %s host, state in %s", s.Device, s.Host, s.State)
}

// runFlags are the flags of run.
type runFlags struct {
	host, bundle, root       string
	sshKey, keys             string // linux
	ports, pathspace, runDir string // linux
	metrics                  string // linux
	edges, device, control   string // simulated
	seed                     uint64
}

func newRun(a *app) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the agent in the foreground",
		Long: `Run the agent in the foreground until SIGINT or SIGTERM.

It enrols when there is no identity yet, puts the last confirmed configuration
in force without waiting for the controller, and then stays connected to it. The
controller may replace the agent's binary: a signed one runs from the state
directory, in the same process, and the one that was started is its fallback.

The host "linux" is this machine: its interfaces, routes, packet filter, FRR and
WireGuard. It works in the network namespace it is started in. Until it has a
configuration it runs only the WAN ports of --ports, or of the bundle, behind a
filter that denies everything:

  {"circuits": [{"name": "c-26740-a", "kind": "ftth", "port": "eth0", "mtu": 1500}]}

with "addressing": "static", "address" and "gateway" where there is no DHCP.
When the agent ends the network stays as it is.

The host "simulated" is a computed data plane for labs: no tunnel packet is
sent, and the device reports the platform "simulated-edge". Its circuits come
from the file given with --edges; see wardnet lab sim.`,
		Example: `  wardnet-edge run --bundle /media/usb/e-26740.json --ports /etc/wardnet-edge/ports.json
  wardnet-edge run --metrics unix:/run/wardnet-edge/metrics.sock
  wardnet-edge run --host simulated --edges edges.json --device e-26740 --state /tmp/e-26740`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := a.logger(c)
			if err != nil {
				return err
			}
			kind, err := f.hostKind(os.Getuid())
			if err != nil {
				return err
			}
			if kind == "linux" {
				b, err := f.newBox(a.state, log)
				if err != nil {
					return err
				}
				device, err := b.device()
				if err != nil {
					return err
				}
				tell := func() error { return a.print(c, started{Device: device, Host: kind, State: a.state}) }
				return a.live(c.Context(), log, tell, b.run)
			}
			e, err := f.edge()
			if err != nil {
				return err
			}
			e.Dir = a.state
			tell := func() error {
				return a.print(c, started{Device: e.Device, Host: kind, State: a.state, Control: f.control})
			}
			return a.live(c.Context(), log, tell, func(ctx context.Context, adjust func(*agent.RunConfig)) error {
				return sim.Run(ctx, sim.Config{Edges: []sim.Edge{e}, StateDir: a.state, Seed: f.seed, Control: f.control, Log: log, Adjust: adjust})
			})
		},
	}
	c.Flags().StringVar(&f.host, "host", "", `data plane: "linux" (default for root without --edges) or "simulated"`)
	c.Flags().StringVar(&f.ports, "ports", "", "linux: file with the WAN ports of the first boot; default those of the bundle")
	c.Flags().StringVar(&f.pathspace, "frr-pathspace", "", "linux: name of an FRR instance of its own (FRR's -N); default the system's")
	c.Flags().StringVar(&f.runDir, "run-dir", "/run/wardnet-edge", "linux: directory for what a boot may forget, root's alone")
	c.Flags().StringVar(&f.metrics, "metrics", "", "linux: serve the agent's own metrics at unix:PATH or at a port of the loopback; default nowhere")
	c.Flags().StringVar(&f.sshKey, "ssh-host-key", "", "linux: public SSH host key to have certified with the device's own certificate; see docs/pki.md")
	c.Flags().StringVar(&f.keys, "keys", "", "linux: "+keysHelp)
	c.Flags().StringVar(&f.edges, "edges", "", "simulated: file with the device's circuits (required)")
	c.Flags().StringVar(&f.device, "device", "", "simulated: which device of the file; not needed when it has one only")
	c.Flags().StringVar(&f.bundle, "bundle", "", "enrolment bundle, for a device that is not enrolled")
	c.Flags().StringVar(&f.root, "root", "", "root certificate given to the device beforehand: only a bundle signed under it is taken")
	c.Flags().StringVar(&f.control, "control", "", "simulated: unix socket for injecting faults")
	c.Flags().Uint64Var(&f.seed, "seed", 1, "simulated: of the traffic")
	return c
}

// edge reads the device to run.
func (f runFlags) edge() (sim.Edge, error) {
	file, err := sim.Load(f.edges)
	if err != nil {
		return sim.Edge{}, err
	}
	i := slices.IndexFunc(file.Edges, func(e sim.Edge) bool { return e.Device == inventory.DeviceID(f.device) })
	switch {
	case f.device == "" && len(file.Edges) == 1:
		i = 0
	case f.device == "":
		return sim.Edge{}, fmt.Errorf("%w: %s has %d devices; choose one with --device", inventory.ErrInvalid, f.edges, len(file.Edges))
	case i < 0:
		return sim.Edge{}, fmt.Errorf("%w: device %q is not in %s", inventory.ErrInvalid, f.device, f.edges)
	}
	e := file.Edges[i]
	if f.bundle != "" {
		b, err := enrol.LoadBundle(f.bundle)
		if err != nil {
			return sim.Edge{}, err
		}
		e.Bundle = &b
	}
	root, err := rootOf(f.root)
	if err == nil && e.Bundle != nil && root != "" {
		err = e.Bundle.Verify(root)
	}
	return e, err
}
