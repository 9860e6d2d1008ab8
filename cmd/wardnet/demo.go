package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
	"github.com/wardnet/wardnet/labs/demo"
)

func newDemo() *cobra.Command {
	var cfg demo.Config
	var once, asJSON bool
	var faults []string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Tell the whole story once on the city's inventory",
		Long: `Import 208 sites, enrol 208 edges, push their configuration in waves, decide
access requests, cut a carrier at 12 wards, show the one incident, heal, and see
it resolve itself. The controller and the edges are processes of their own that
speak mTLS; the edges' data planes are SIMULATED. Nothing about a fault's cause
is sent to the controller; results are read through its public API.

Without --once everything stays up afterwards, with the address of the console.`,
		Example: "  wardnet demo\n  wardnet demo --once --json --seed 7 --fault carrier=fpt,wards=9\n  wardnet demo --once --fault carrier=viettel,wards=12 --fault carrier=vnpt,wards=9,after=40s",
		Args:    invalidArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, text := range faults {
				f, err := demo.ParseFault(text)
				if err != nil {
					return err
				}
				cfg.Faults = append(cfg.Faults, f)
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			cfg.Wardnet, cfg.Edge = self, filepath.Join(filepath.Dir(self), "wardnet-edge")
			if _, err := os.Stat(cfg.Edge); err != nil {
				return fmt.Errorf("%w: wardnet-edge must stand beside wardnet, run 'make build': %w", inventory.ErrInvalid, err)
			}
			if !cmd.Flags().Changed("data") {
				if cfg.Dir, err = os.MkdirTemp("", "wardnet-demo-"); err != nil {
					return err
				}
				if once {
					defer os.RemoveAll(cfg.Dir)
				}
			} else if cfg.Dir, err = cmd.Flags().GetString("data"); err != nil {
				return err
			}
			cfg.Progress, cfg.Document, cfg.City = cmd.ErrOrStderr(), sample.Document(), sample.City()
			var report *demo.Report
			if !once {
				cfg.Ready = func(ctx context.Context, s demo.Stage, r *demo.Report) error {
					if !asJSON {
						showReport(cmd, r)
					}
					return stay(ctx, cmd, s)
				}
			}
			report, err = demo.Run(cmd.Context(), cfg)
			switch {
			case report == nil:
				return err
			case asJSON:
				err = firstOf(err, printJSON(cmd, report))
			case once:
				showReport(cmd, report)
			}
			return firstOf(err, report.Err())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&once, "once", false, "exit when the story is told")
	f.BoolVar(&asJSON, "json", false, "print the report as one JSON object")
	f.IntVar(&cfg.Edges, "edges", 0, "how many edges; 0: all 208")
	f.Uint64Var(&cfg.Seed, "seed", 1, "chooses wards, requests and traffic")
	f.StringArrayVar(&faults, "fault", nil, "carrier=C,wards=N[,after=40s]; may be repeated (default carrier=viettel,wards=12)")
	f.StringSliceVar(&cfg.Chaos, "chaos", nil, "kill the controller in the middle of: enrol, push, telemetry")
	return cmd
}

func firstOf(errs ...error) error {
	for _, e := range errs {
		if e != nil {
			return e
		}
	}
	return nil
}

// stay tells where to look and waits for Ctrl-C.
func stay(ctx context.Context, cmd *cobra.Command, s demo.Stage) error {
	w := cmd.ErrOrStderr()
	fmt.Fprintf(w, "\nThe story is told; everything stays up until Ctrl-C.\n")
	fmt.Fprintf(w, "  console   %s   (its certificate is signed by %s)\n", s.Console, s.Root)
	fmt.Fprintf(w, "  sign in   %s, password in %s\n", s.User, s.Password)
	fmt.Fprintf(w, "  break it  wardnet lab fault cut --control %s --carrier vnpt --site s-26740\n", s.Control)
	<-ctx.Done()
	return nil
}

func showReport(cmd *cobra.Command, r *demo.Report) {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%d sites, %d devices: %d enrolled, %d in sync, %d of %d tunnels up\n", r.Sites, r.Devices, r.Enrolled, r.InSync, r.TunnelsUp, r.Tunnels)
	for _, x := range r.Waves {
		fmt.Fprintf(w, "  wave %-12s %3d devices %6.1f s\n", x.Name, x.Devices, x.Seconds)
	}
	fmt.Fprintf(w, "decisions: %d allowed, %d denied; %d samples; %d findings\n", r.Decisions.Allow, r.Decisions.Deny, r.Samples, r.Findings)
	for _, i := range r.Incidents {
		resolved := "open"
		if i.Resolved != nil {
			resolved = "resolved " + shown(*i.Resolved)
		}
		fmt.Fprintf(w, "incident %s: %s, %d members, opened %s, %s\n", i.Ticket, i.Cause, i.Members, shown(i.Opened), resolved)
	}
	s := r.Seconds
	fmt.Fprintf(w, "seconds: import %.1f, enrol %.1f, push %.1f, detect %.1f, resolve %.1f, total %.1f (load %s)\n", s.Import, s.Enrol, s.Push, s.Detect, s.Resolve, s.Total, r.Load)
	fmt.Fprintf(w, "memory: controller %d MB, simulators %d MB\n", r.RSSMB.Controller, r.RSSMB.Sim)
	for _, f := range r.Failures {
		fmt.Fprintf(w, "FAILED: %s\n", f)
	}
	if r.OK {
		fmt.Fprintf(w, "everything held (%s)\n", time.Now().In(zone).Format(time.RFC3339))
	}
}
