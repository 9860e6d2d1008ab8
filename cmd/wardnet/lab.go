package main

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/sim"
)

func newLab() *cobra.Command {
	return group("lab", "Simulated edges (labelled so) and fault injection", newLabSim(), newLabFault())
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

func newLabFault() *cobra.Command {
	var control string
	var req sim.Request
	var sites []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "fault cut|heal|impair|stats",
		Short:   "Cut, impair or heal circuits inside a simulator, or ask how it does",
		Example: "  wardnet lab fault cut --control sim.sock --carrier viettel --site s-26740\n  wardnet lab fault heal --control sim.sock --carrier viettel",
		Args:    invalidArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Op = args[0]
			switch {
			case control == "":
				return fmt.Errorf("%w: --control is missing; name the simulator's control socket", inventory.ErrInvalid)
			case !slices.Contains([]string{sim.OpCut, sim.OpHeal, sim.OpImpair, sim.OpStats}, req.Op):
				return fmt.Errorf("%w: %q is not cut, heal, impair or stats", inventory.ErrInvalid, req.Op)
			}
			for _, s := range sites {
				req.Sites = append(req.Sites, inventory.SiteID(s))
			}
			res, err := sim.Send(cmd.Context(), control, req)
			if err != nil {
				return err
			}
			if asJSON || res.Stats != nil {
				return printJSON(cmd, res)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d circuits\n", req.Op, len(res.Circuits))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&control, "control", "", "control socket of the simulator (required)")
	f.StringVar((*string)(&req.Circuit), "circuit", "", "one circuit")
	f.StringVar((*string)(&req.Carrier), "carrier", "", "all circuits of a carrier")
	f.StringSliceVar(&sites, "site", nil, "only at these sites")
	f.Float64Var(&req.LossRatio, "loss", 0, "impair: added loss, a ratio in [0,1]")
	f.Float64Var(&req.LatencyMS, "latency-ms", 0, "impair: added round trip in ms")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
