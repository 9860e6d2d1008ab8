package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

func newDrift() *cobra.Command {
	return group("drift", "Devices that were changed past the controller",
		newDriftList(), newDriftShow(),
		newDriftDecide("revert", "Put the device back to what was assigned to it", "wardnet drift revert 019ab2… --reason 'nobody ordered it'"),
		newDriftDecide("adopt", "Make a revision that says what the device runs; it is approved and applied as any other", "wardnet drift adopt 019ab2… --reason 'the carrier moved the router'"),
		newDriftDecide("waive", "Leave the device as it is until a date", "wardnet drift waive 019ab2… --reason 'fault ticket 88' --until 2026-12-31"))
}

func newDriftList() *cobra.Command {
	var all bool
	return verb[[]client.Drift]{
		use: "list", short: "List them, newest first", example: "wardnet drift list\n  wardnet drift list --all --json",
		ask: func(ctx context.Context, c *client.Client, _ []string) ([]client.Drift, error) {
			list, err := c.Drifts(ctx)
			out := []client.Drift{}
			for _, d := range list {
				if all || d.State == "open" || d.State == "waived" || d.State == "adopting" || d.State == "returning" {
					out = append(out, d)
				}
			}
			return out, err
		},
		show: func(w io.Writer, v []client.Drift) {
			row(w, "ID", "DEVICE", "FOUND", "STATE", "CHANGES", "FIRST")
			for _, d := range v {
				first := ""
				if len(d.Changes) > 0 {
					first = d.Changes[0]
				}
				row(w, d.ID, string(d.Device), d.Found, d.State, len(d.Changes), cut(first, 60))
			}
			none(w, len(v), "drifts")
		},
		flags: func(cmd *cobra.Command) {
			cmd.Flags().BoolVar(&all, "all", false, "also those that are over")
		},
	}.command()
}

// cut shortens a text for a table.
func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func showDrift(w io.Writer, d client.Drift) {
	row(w, "drift", d.ID)
	row(w, "device", string(d.Device))
	row(w, "found", d.Found)
	row(w, "how", d.How)
	row(w, "who", d.Who)
	row(w, "should run", fmt.Sprintf("%.12s of revision %d", d.Want, d.Revision))
	row(w, "runs", fmt.Sprintf("%.12s", d.Have))
	row(w, "state", d.State)
	if d.By != "" {
		row(w, "decided", fmt.Sprintf("by %s: %s", d.By, d.Reason))
	}
	if d.Until != nil {
		row(w, "until", *d.Until)
	}
	if d.Adopts != 0 {
		row(w, "next", fmt.Sprintf("'wardnet plan %d', have it approved, 'wardnet apply %d'", d.Adopts, d.Adopts))
	}
	for _, line := range d.Changes {
		fmt.Fprintf(w, "    %s\n", line)
	}
}

func newDriftShow() *cobra.Command {
	return verb[client.Drift]{
		use: "show ID", short: "Show one, with every changed line", example: "wardnet drift show 019ab2…", args: cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.Drift, error) {
			return c.Drift(ctx, args[0])
		},
		show: showDrift,
	}.command()
}

func newDriftDecide(name, short, example string) *cobra.Command {
	var reason, until string
	return verb[client.Drift]{
		use: name + " ID", short: short, example: example, args: cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.Drift, error) {
			if reason == "" {
				return client.Drift{}, fmt.Errorf("%w: --reason says why; it goes into the audit log", inventory.ErrInvalid)
			}
			why := client.DriftDecision{Reason: reason}
			if name == "waive" {
				end, err := endOf(until)
				if err != nil {
					return client.Drift{}, err
				}
				why.Until = &end
			}
			return c.DecideDrift(ctx, args[0], name, why)
		},
		show: showDrift,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log (required)")
			if name == "waive" {
				cmd.Flags().StringVar(&until, "until", "", "last day (2026-12-31), or a time; at most 90 days from now (required)")
			}
		},
	}.command()
}

// versionArg reads the number of an archived configuration; none: 0.
func versionArg(args []string, i int) (uint64, error) {
	if len(args) <= i {
		return 0, nil
	}
	n, err := strconv.ParseUint(args[i], 10, 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%w: version %q: want a number from 1 on, as 'wardnet config list DEVICE' shows them", inventory.ErrInvalid, args[i])
	}
	return n, nil
}

func showVersion(w io.Writer, v client.ConfigVersion) {
	odd := v.Note
	if !v.Complete && odd == "" {
		odd = "incomplete"
	}
	row(w, v.N, v.At, v.Revision, fmt.Sprintf("%.12s", v.Hash), v.Source, v.Bytes, odd)
}

func newConfigList() *cobra.Command {
	return verb[[]client.ConfigVersion]{
		use: "list DEVICE", short: "List the configurations that a device ran, oldest first", example: "wardnet config list d-26740", args: cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) ([]client.ConfigVersion, error) {
			return c.Configs(ctx, inventory.DeviceID(args[0]))
		},
		show: func(w io.Writer, v []client.ConfigVersion) {
			row(w, "N", "READ", "REVISION", "HASH", "SOURCE", "BYTES", "NOTE")
			for _, x := range v {
				showVersion(w, x)
			}
			none(w, len(v), "configurations")
		},
	}.command()
}

func newConfigDiff() *cobra.Command {
	return verb[client.ConfigDiff]{
		use: "diff DEVICE [FROM [TO]]", short: "Compare two configurations that a device ran; by default the last two", example: "wardnet config diff d-26740\n  wardnet config diff d-26740 3 7",
		args: cobra.RangeArgs(1, 3),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.ConfigDiff, error) {
			from, err := versionArg(args, 1)
			if err != nil {
				return client.ConfigDiff{}, err
			}
			to, err := versionArg(args, 2)
			if err != nil {
				return client.ConfigDiff{}, err
			}
			return c.ConfigDiff(ctx, inventory.DeviceID(args[0]), from, to)
		},
		show: func(w io.Writer, d client.ConfigDiff) {
			if d.Diff == "" {
				fmt.Fprintf(w, "versions %d and %d are equal\n", d.From.N, d.To.N)
				return
			}
			fmt.Fprint(w, d.Diff)
		},
	}.command()
}

// showConfig prints a device's configuration.
func showConfig(cmd *cobra.Command, args []string, asJSON bool) error {
	n, err := versionArg(args, 1)
	if err != nil {
		return err
	}
	c, err := dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	v, err := c.Config(cmd.Context(), inventory.DeviceID(args[0]), n)
	if err != nil {
		return advise(err)
	}
	if asJSON {
		return printJSON(cmd, v)
	}
	errw := cmd.ErrOrStderr()
	fmt.Fprintf(errw, "%s version %d, read %s, revision %d\n", v.Device, v.N, shown(v.At), v.Revision)
	if v.Note != "" {
		fmt.Fprintf(errw, "note: %s\n", v.Note)
	}
	_, err = fmt.Fprint(cmd.OutOrStdout(), v.Text)
	return err
}
