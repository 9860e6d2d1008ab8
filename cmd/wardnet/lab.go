package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/sim"
)

func newLab() *cobra.Command {
	return group("lab", "The real lab in network namespaces, and simulated edges (labelled so)",
		newLabUp(), newLabDown(), newLabStatus(), newLabHost(), newLabProbe(), newLabFault(), newLabRun(), newLabForward(), newLabSim(), newLabClab())
}

func newLabSim() *cobra.Command {
	var cfg sim.Config
	var edges string
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Run SIMULATED edges: real agents over simulated data planes",
		Long: `Run simulated edges in the foreground until SIGINT or SIGTERM.

Each has its own key, certificate, mTLS connection, agent and on-disk state; its
data plane is computed, no tunnel packet is sent. The file lists devices,
circuits with their carriers, and enrolment bundles; carriers are known to the
simulator only and are never sent to the controller.`,
		Example: "  wardnet lab sim --edges edges.json --state /var/tmp/edges --control /var/tmp/sim.sock",
		Args:    invalidArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if edges == "" {
				return fmt.Errorf("%w: --edges is missing; name the file with the devices to simulate", inventory.ErrInvalid)
			}
			file, err := sim.Load(edges)
			if err != nil {
				return err
			}
			cfg.Edges = file.Edges
			if cfg.Log, err = logger(cmd.ErrOrStderr(), "warn"); err != nil {
				return err
			}
			if cfg.StateDir, err = filepath.Abs(cfg.StateDir); err != nil {
				return err
			}
			return sim.Run(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&edges, "edges", "", "file with the devices to simulate, 0600 (required)")
	cmd.Flags().StringVar(&cfg.StateDir, "state", "edges", "directory; one below it per device")
	cmd.Flags().StringVar(&cfg.Control, "control", "", "unix socket that takes faults, see 'wardnet lab fault'")
	cmd.Flags().Uint64Var(&cfg.Seed, "seed", 1, "of traffic and start order")
	return cmd
}
