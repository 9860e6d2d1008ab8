package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
	"github.com/wardnet/wardnet/labs/impair/forward"
	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/probe"
	"github.com/wardnet/wardnet/labs/scenario"
)

// openWorld finds the lab in a directory, with what faults are made with.
func openWorld(cmd *cobra.Command, dir string) (*scenario.World, error) {
	if err := netlab.Root(); err != nil {
		return nil, labError{err, "packets and faults need root; try sudo"}
	}
	l, err := netlab.Open(dir, sample.City())
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return scenario.NewWorld(l, self, cmd.ErrOrStderr())
}

func newLabProbe() *cobra.Command {
	var dir string
	var cfg probe.Config
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Send real packets from every segment of every ward and compare with the intent",
		Long: `Send real packets from every segment of every ward of the lab and compare what
passes with what the inventory permits: every port range of every application,
every other segment of the ward and of the next one, and the internet, over TCP,
UDP and ICMP, IPv4 and IPv6, permitted or not. The expectation is computed from
the inventory document alone, not from what was compiled of it.

The list holds the pairs that differ; with any, the exit code is 1. "refused"
means that a packet passed and nobody served there.`,
		Example: "  wardnet lab probe --json",
		Args:    invalidArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := openWorld(cmd, dir)
			if err != nil {
				return err
			}
			r, err := w.Probe(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd, r)
			} else {
				err = showProbe(cmd, r)
			}
			if err == nil && r.Differences > 0 {
				err = labError{fmt.Errorf("%d of %d pairs differ from the intent", r.Differences, r.Pairs), "'wardnet lab status' says whether the lab is well, 'wardnet lab fault list' what is broken on purpose"}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", netlab.DefaultDir, "directory of the lab")
	f.DurationVar(&cfg.Timeout, "timeout", 700*time.Millisecond, "how long one attempt waits for an answer")
	f.IntVar(&cfg.Attempts, "attempts", 3, "how often a flow that must pass is tried")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func showProbe(cmd *cobra.Command, r probe.Report) error {
	tw := tabwriter.NewWriter(cmd.OutOrStdout(), 2, 4, 2, ' ', 0)
	if r.Differences > 0 {
		row(tw, "WARD", "SEGMENT", "APPLICATION", "TO", "PROTOCOL", "PORT", "WANT", "GOT")
	}
	for _, d := range r.List {
		row(tw, string(d.Ward), string(d.Segment), d.Application, d.To, string(d.Proto), d.Port, string(d.Want), string(d.Got))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d pairs, %d of them permitted, in %.1f s: %d differences\n", r.Pairs, r.Allowed, r.Seconds, r.Differences)
	return err
}

func newLabRun() *cobra.Command {
	var dir string
	var steady time.Duration
	var slack int
	var agent string
	var asJSON bool
	var about strings.Builder
	for _, s := range scenario.All {
		fmt.Fprintf(&about, "  %-17s %s\n", s.Name, s.About)
	}
	cmd := &cobra.Command{
		Use:   "run SCENARIO",
		Short: "Play a scripted fault on the lab and measure what packets see of it",
		Long: `Play a scripted fault on the lab, which must be healthy, and measure what a ping
every 10 ms from a ward's host to an application sees of it, against what is
expected. Afterwards, also after Ctrl-C, everything is healed. Exit 1 when the
scenario does not pass.

` + about.String(),
		Example: "  wardnet lab run failover-hub --json",
		Args:    invalidArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := scenario.Find(args[0])
			if err != nil {
				return err
			}
			w, err := openWorld(cmd, dir)
			if err != nil {
				return err
			}
			w.Steady, w.Slack, w.Agent = steady, slack, agent
			r, err := scenario.Run(cmd.Context(), s, w)
			var shown error
			if asJSON {
				shown = printJSON(cmd, r)
			} else {
				shown = showRun(cmd, r)
			}
			if err == nil && !r.Passed {
				err = fmt.Errorf("scenario %s did not pass", s.Name)
			}
			return errors.Join(err, shown)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", netlab.DefaultDir, "directory of the lab")
	f.IntVar(&slack, "slack", 1, "multiplies the outages that a fault may cost, for a machine that does other work meanwhile")
	f.StringVar(&agent, "agent", "", "second build of wardnet-edge, with a version of its own, for the scenario upgrade")
	f.DurationVar(&steady, "for", time.Minute, "how long the scenario steadiness looks")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func showRun(cmd *cobra.Command, r scenario.Report) error {
	tw := tabwriter.NewWriter(cmd.OutOrStdout(), 2, 4, 2, ' ', 0)
	row(tw, "EVENT", "OUTAGE MS", "EXPECTED MS", "LOST", "OK", "DETAIL")
	for _, e := range r.Events {
		row(tw, e.Name, e.OutageMS, e.ExpectedMS, e.Lost, e.OK, e.Detail)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	verdict := map[bool]string{true: "passed", false: "FAILED"}[r.Passed]
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s in %.0f s; load %s on %d CPUs, %.0f %% of them taken by the hypervisor; the machine stood still for %d ms at most\n",
		r.Scenario, verdict, r.Seconds, r.Load, r.CPUs, 100*r.StolenRatio, r.StillMS)
	return err
}

// newLabForward is the process that delays and slows one port of the lab's
// routers; people use 'lab fault delay'.
func newLabForward() *cobra.Command {
	var port forward.Port
	var shape forward.Shape
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "forward",
		Short:   "Delay and slow what passes a port (started by lab fault)",
		Hidden:  true,
		Example: "  wardnet lab forward --namespace wn-c-vnpt --port s-26740.0 --delay 40ms --jitter 10ms --rate 20000000",
		Args:    invalidArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := forward.Run(cmd.Context(), port, shape, func() {
				if asJSON {
					fmt.Fprintln(cmd.OutOrStdout(), `{"ready":true}`)
				} else {
					fmt.Fprintln(cmd.OutOrStdout(), "ready")
				}
			})
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&port.Namespace, "namespace", "", "namespace of the router")
	f.StringVar(&port.Name, "port", "", "the router's port")
	f.DurationVar(&shape.Delay, "delay", 0, "one way")
	f.DurationVar(&shape.Jitter, "jitter", 0, "one way, at random around the delay")
	f.Uint64Var((*uint64)(&shape.Rate), "rate", 0, "bits per second each way; 0: no limit")
	f.Float64Var(&shape.Loss, "loss", 0, "lost each way, a ratio in [0,1]")
	f.BoolVar(&asJSON, "json", false, "say that packets pass as one JSON line")
	return cmd
}

// bitRate reads "20mbit", "500kbit", "1gbit" or plain bits per second.
func bitRate(text string) (inventory.BitRate, error) {
	unit := inventory.BitRate(1)
	for suffix, u := range map[string]inventory.BitRate{"kbit": inventory.Kbps, "mbit": inventory.Mbps, "gbit": inventory.Gbps} {
		if rest, ok := strings.CutSuffix(strings.ToLower(text), suffix); ok {
			text, unit = rest, u
			break
		}
	}
	var n float64
	if _, err := fmt.Sscanf(text, "%g", &n); err != nil || n <= 0 {
		return 0, fmt.Errorf("%w: rate %q; write 20mbit, 500kbit or bits per second", inventory.ErrInvalid, text)
	}
	return inventory.BitRate(n * float64(unit)), nil
}
