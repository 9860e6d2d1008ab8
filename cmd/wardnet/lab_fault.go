package main

import (
	"cmp"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/impair"
	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/scenario"
	"github.com/wardnet/wardnet/labs/sim"
)

// faultFlags are those of "lab fault"; a simulator takes some, the real lab
// others.
type faultFlags struct {
	control, dir                string
	circuit, carrier, hub, ward string
	sites                       []string
	controller                  bool
	process, rate               string
	loss, latencyMS             float64
	delay, jitter               time.Duration
	asJSON                      bool
}

func newLabFault() *cobra.Command {
	var f faultFlags
	cmd := &cobra.Command{
		Use:   "fault cut|down|loss|delay|kill|heal|list|impair|stats",
		Short: "Break something in the lab or, with --control, in a simulator, and heal it",
		Long: `Break something in the real lab (root) on purpose, or heal it again.

  cut    nothing passes, and nobody is told: a circuit, a carrier (at some sites), a hub, a ward
  down   the far port goes down: the box sees that it lost its carrier
  loss   packets are lost at random each way: --loss 0.05
  delay  --delay, --jitter and --rate, each way, by a forwarder in userspace
  kill   SIGKILL: --controller, or the agent (or --process wg) of --ward or --hub
  heal   ends the faults of a target, or all of them
  list   lists the faults there are

Faults are made on the lab's own routers, never inside a hub or an edge. All are
journalled in the lab's directory, so that heal mends them whatever happened.

With --control the verbs are those of a simulator: cut, heal, impair, stats.`,
		Example: "  wardnet lab fault cut --circuit c-26740-1\n  wardnet lab fault cut --carrier viettel --site s-26740\n  wardnet lab fault delay --circuit c-26740-1 --delay 40ms --jitter 10ms --rate 20mbit\n  wardnet lab fault kill --ward s-26740 --process wg\n  wardnet lab fault heal\n  wardnet lab fault cut --control sim.sock --carrier viettel --site s-26740",
		Args:    invalidArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.control != "" || slices.Contains([]string{sim.OpImpair, sim.OpStats}, args[0]) {
				return f.simulated(cmd, args[0])
			}
			return f.real(cmd, args[0])
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.control, "control", "", "control socket of a simulator; empty: the real lab")
	fl.StringVar(&f.dir, "dir", netlab.DefaultDir, "directory of the real lab")
	fl.StringVar(&f.circuit, "circuit", "", "one circuit")
	fl.StringVar(&f.carrier, "carrier", "", "all circuits of a carrier")
	fl.StringSliceVar(&f.sites, "site", nil, "only at these sites")
	fl.StringVar(&f.hub, "hub", "", "a hub with all its circuits and uplinks")
	fl.StringVar(&f.ward, "ward", "", "a ward with all its circuits")
	fl.BoolVar(&f.controller, "controller", false, "the controller")
	fl.StringVar(&f.process, "process", "agent", "kill: agent or wg")
	fl.Float64Var(&f.loss, "loss", 0, "lost each way, a ratio in [0,1]")
	fl.DurationVar(&f.delay, "delay", 0, "delay: one way")
	fl.DurationVar(&f.jitter, "jitter", 0, "delay: at random around it, one way")
	fl.StringVar(&f.rate, "rate", "", "delay: the most that passes each way, e.g. 20mbit")
	fl.Float64Var(&f.latencyMS, "latency-ms", 0, "impair, with --control: added round trip in ms")
	fl.BoolVar(&f.asJSON, "json", false, "print JSON")
	return cmd
}

// simulated sends the fault to a simulator.
func (f *faultFlags) simulated(cmd *cobra.Command, op string) error {
	switch {
	case f.control == "":
		return fmt.Errorf("%w: --control is missing; name the simulator's control socket", inventory.ErrInvalid)
	case !slices.Contains([]string{sim.OpCut, sim.OpHeal, sim.OpImpair, sim.OpStats}, op):
		return fmt.Errorf("%w: %q is not cut, heal, impair or stats", inventory.ErrInvalid, op)
	}
	res, err := sim.Send(cmd.Context(), f.control, sim.Request{
		Op: op, Circuit: inventory.CircuitID(f.circuit), Carrier: inventory.CarrierID(f.carrier), Sites: f.siteIDs(),
		LossRatio: f.loss, LatencyMS: f.latencyMS,
	})
	if err != nil {
		return err
	}
	if f.asJSON || res.Stats != nil {
		return printJSON(cmd, res)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %d circuits\n", op, len(res.Circuits))
	return nil
}

func (f *faultFlags) siteIDs() []inventory.SiteID {
	var out []inventory.SiteID
	for _, s := range f.sites {
		out = append(out, inventory.SiteID(s))
	}
	return out
}

func (f *faultFlags) target() impair.Target {
	return impair.Target{
		Circuit: inventory.CircuitID(f.circuit), Carrier: inventory.CarrierID(f.carrier), Hub: inventory.SiteID(f.hub),
		Ward: inventory.SiteID(f.ward), Wards: f.siteIDs(), Controller: f.controller,
	}
}

// real makes or heals a fault of the lab.
func (f *faultFlags) real(cmd *cobra.Command, op string) error {
	if !slices.Contains([]string{"cut", "down", "loss", "delay", "kill", "heal", "list"}, op) {
		return fmt.Errorf("%w: %q is not cut, down, loss, delay, kill, heal or list", inventory.ErrInvalid, op)
	}
	target := f.target() // none named: all, for heal and list
	if none := target.String() == "" && len(f.sites) == 0; op != "list" && (op != "heal" || !none) {
		if err := target.Validate(); err != nil {
			return err
		}
	}
	if op == "kill" && f.ward == "" && f.hub == "" && !f.controller {
		return fmt.Errorf("%w: kill whose process? give --ward, --hub or --controller", inventory.ErrInvalid)
	}
	made, err := f.fault(op)
	if err != nil {
		return err
	}
	w, err := openWorld(cmd, f.dir)
	if err != nil {
		return err
	}
	var faults []impair.Fault
	switch op {
	case "list":
		faults, err = w.Bench.List()
	case "heal":
		match := impair.All
		if target.String() != "" {
			match = impair.On(target)
		}
		faults, err = w.Bench.Heal(cmd.Context(), match)
	default:
		faults, err = f.put(cmd, w, made)
	}
	if err != nil {
		return err
	}
	return f.show(cmd, op, faults)
}

// fault is what the flags ask for.
func (f *faultFlags) fault(op string) (impair.Fault, error) {
	out := impair.Fault{
		Kind: impair.Kind(op), LossRatio: f.loss,
		DelayMS: float64(f.delay) / float64(time.Millisecond), JitterMS: float64(f.jitter) / float64(time.Millisecond),
	}
	var err error
	if f.rate != "" {
		out.RateBPS, err = bitRate(f.rate)
	}
	return out, err
}

func (f *faultFlags) put(cmd *cobra.Command, w *scenario.World, made impair.Fault) ([]impair.Fault, error) {
	target := f.target()
	made.Target = target.String()
	if made.Kind == impair.Killed {
		made.Process = "controller"
		if !f.controller {
			made.Process = f.process + " " + cmp.Or(f.ward, f.hub)
		}
		made.Target = made.Process
	} else {
		var err error
		if made.Ports, err = impair.Ports(w.Lab.Topology, target); err != nil {
			return nil, err
		}
	}
	return []impair.Fault{made}, w.Bench.Make(cmd.Context(), made)
}

func (f *faultFlags) show(cmd *cobra.Command, op string, faults []impair.Fault) error {
	if f.asJSON {
		if faults == nil {
			faults = []impair.Fault{}
		}
		return printJSON(cmd, map[string]any{"op": op, "faults": faults})
	}
	tw := tabwriter.NewWriter(cmd.OutOrStdout(), 2, 4, 2, ' ', 0)
	for _, x := range faults {
		row(tw, op, x.String(), fmt.Sprintf("%d ports", len(x.Ports)), x.At)
	}
	none(tw, len(faults), "faults")
	return tw.Flush()
}
