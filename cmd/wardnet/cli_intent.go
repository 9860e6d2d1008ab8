package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
	"github.com/wardnet/wardnet/inventory/sample"
)

// sources opens the named files, and every .csv of a named directory.
func sources(paths []string) (out []inventory.Source, closeAll func(), err error) {
	var files []*os.File
	closeAll = func() {
		for _, f := range files {
			_ = f.Close()
		}
	}
	for _, p := range paths {
		names := []string{p}
		if info, err := os.Stat(p); err == nil && info.IsDir() {
			if names, err = filepath.Glob(filepath.Join(p, "*.csv")); err != nil || len(names) == 0 {
				return nil, closeAll, fmt.Errorf("%w: %s holds no .csv file", inventory.ErrInvalid, p)
			}
		}
		for _, n := range names {
			f, err := os.Open(n)
			if err != nil {
				return nil, closeAll, fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
			}
			files = append(files, f)
			out = append(out, inventory.Source{Name: filepath.Base(n), R: f})
		}
	}
	return out, closeAll, nil
}

func newInventory() *cobra.Command {
	return group("inventory", "What the city has: sites, devices, circuits, segments, applications, addresses",
		newInventoryImport(), newInventoryCheck(), newInventoryExport(), newInventoryShow())
}

func newInventoryImport() *cobra.Command {
	return verb[client.ImportResult]{
		use: "import FILE…", short: "Import a YAML document, or CSV files named after their noun, in one step", example: "wardnet inventory import city.yaml\n  wardnet inventory import circuits.csv devices.csv",
		args: cobra.MinimumNArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.ImportResult, error) {
			src, closeAll, err := sources(args)
			defer closeAll()
			if err != nil {
				return client.ImportResult{}, err
			}
			base, version, err := c.Inventory(ctx)
			if err != nil {
				return client.ImportResult{}, err
			}
			inv, err := inventory.Import(base, src...)
			if err != nil {
				return client.ImportResult{}, err
			}
			var doc bytes.Buffer
			if err := inventory.Encode(&doc, inv); err != nil {
				return client.ImportResult{}, err
			}
			return c.ImportInventory(ctx, doc.Bytes(), version)
		},
		show: func(w io.Writer, r client.ImportResult) {
			if !r.Changed {
				fmt.Fprintf(w, "no change; version %d stays in force\n", r.Version)
				return
			}
			fmt.Fprintf(w, "version %d is in force\n", r.Version)
			for _, noun := range inventory.Nouns() {
				if n, ok := r.Counts[noun]; ok {
					row(w, noun, n)
				}
			}
		},
	}.command()
}

func newInventoryCheck() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "check FILE…", Short: "Find every fault of an inventory; nothing is sent or changed", Example: "  wardnet inventory check city.yaml",
		Args: invalidArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			src, closeAll, err := sources(args)
			defer closeAll()
			if err != nil {
				return err
			}
			inv, err := inventory.Import(inventory.Inventory{}, src...)
			if err != nil {
				return err
			}
			if inv, err = inventory.Allocate(inv); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, inv.Count())
			}
			for _, noun := range inventory.Nouns() {
				fmt.Fprintf(cmd.OutOrStdout(), "%-14s %d\n", noun, inv.Count()[noun])
			}
			fmt.Fprintln(cmd.OutOrStdout(), "no fault found")
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newInventoryExport() *cobra.Command {
	var useSample, asJSON bool
	var noun string
	cmd := &cobra.Command{
		Use: "export", Short: "Print the inventory in force as YAML, or one noun as CSV", Example: "  wardnet inventory export > city.yaml\n  wardnet inventory export --noun circuits > circuits.csv\n  wardnet inventory export --sample > sample.yaml",
		Args: invalidArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			inv := sample.City()
			if !useSample {
				c, err := dial(cmd)
				if err != nil {
					return err
				}
				defer c.Close()
				if inv, _, err = c.Inventory(cmd.Context()); err != nil {
					return advise(err)
				}
			}
			switch {
			case asJSON && noun != "":
				return fmt.Errorf("%w: --noun is CSV and --json is the whole document; choose one", inventory.ErrInvalid)
			case asJSON:
				return printJSON(cmd, jsonDocument{inventory.APIVersion, inventory.DocumentKind, inv})
			case noun != "":
				return inventory.EncodeCSV(cmd.OutOrStdout(), inv, noun)
			}
			return inventory.Encode(cmd.OutOrStdout(), inv)
		},
	}
	cmd.Flags().BoolVar(&useSample, "sample", false, "the embedded sample city instead of the one in force")
	cmd.Flags().StringVar(&noun, "noun", "", "print one noun as CSV: "+strings.Join(inventory.Nouns(), ", "))
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the document as JSON, which import reads too")
	return cmd
}

// jsonDocument is a whole inventory document as JSON.
type jsonDocument struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	inventory.Inventory
}

func newInventoryShow() *cobra.Command {
	type shown struct {
		Version uint64         `json:"version"`
		Org     string         `json:"org"`
		Counts  map[string]int `json:"counts"`
	}
	return verb[shown]{
		use: "show", short: "Count what the inventory in force holds", example: "wardnet inventory show --json",
		ask: func(ctx context.Context, c *client.Client, _ []string) (shown, error) {
			inv, v, err := c.Inventory(ctx)
			return shown{v, string(inv.Org), inv.Count()}, err
		},
		show: func(w io.Writer, s shown) {
			row(w, "version", s.Version)
			row(w, "organisation", s.Org)
			for _, noun := range inventory.Nouns() {
				row(w, noun, s.Counts[noun])
			}
		},
	}.command()
}

// revision finds the revision a command means: the given number, or a new one
// of the inventory in force unless the newest already holds it.
func revision(ctx context.Context, c *client.Client, args []string, message string) (intent.Number, error) {
	if len(args) == 1 {
		n, err := strconv.ParseUint(args[0], 10, 64)
		if err != nil || n == 0 {
			return 0, fmt.Errorf("%w: %q is not a revision number", inventory.ErrInvalid, args[0])
		}
		return intent.Number(n), nil
	}
	r, err := c.CreateRevision(ctx, client.NewRevision{Message: message})
	return r.Number, err
}

func newPlan() *cobra.Command {
	var message string
	return verb[client.Plan]{
		use: "plan [REVISION]", short: "Say what a revision changes, where and in which order; nothing is pushed", example: "wardnet plan --message 'new kiosks in Bình Dương'\n  wardnet plan 12 --json",
		args: cobra.MaximumNArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.Plan, error) {
			n, err := revision(ctx, c, args, message)
			if err != nil {
				return client.Plan{}, err
			}
			return c.Plan(ctx, n)
		},
		show: showPlan,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&message, "message", "plan", "why, for the new revision")
		},
	}.command()
}

func showPlan(w io.Writer, p client.Plan) {
	fmt.Fprintf(w, "revision %d (%.12s): %d to create, %d to change, %d to remove; %d people at the sites\n", p.Revision, p.Hash, p.Counts["create"], p.Counts["change"], p.Counts["remove"], p.People)
	showProof(w, p.Proof)
	if len(p.Devices) == 0 {
		fmt.Fprintln(w, "no change")
		return
	}
	for _, wave := range p.Waves {
		fmt.Fprintf(w, "wave %s: %d devices\n", wave.Name, len(wave.Devices))
	}
	for _, d := range p.Devices {
		fmt.Fprintf(w, "%s %s at %s\n", d.Action, d.Device, d.Site)
		for _, r := range d.Reasons {
			fmt.Fprintf(w, "    because %s\n", r)
		}
		for i, c := range d.Changes {
			if i == 12 {
				fmt.Fprintf(w, "    … %d more lines; --json has them all\n", len(d.Changes)-i)
				break
			}
			fmt.Fprintf(w, "    %s\n", c)
		}
	}
}

func showProof(w io.Writer, p client.Proof) {
	switch {
	case p.Why != "":
		fmt.Fprintf(w, "NOT PROVEN: %s\n", p.Why)
	case p.Holds:
		fmt.Fprintf(w, "proven in %.1f s: nothing passes that the %d permits do not name (%d pairs of sites, IPv4 and IPv6)\n", p.Seconds, p.Intents, p.Pairs)
	default:
		fmt.Fprintln(w, "DISPROVEN: packets pass that no permit names")
	}
	for _, x := range p.Counterexamples {
		fmt.Fprintf(w, "    %s\n        protocol %d, %s port %d → %s port %d\n", x.Intent, x.Packet.Proto, x.Packet.Src, x.Packet.SPort, x.Packet.Dst, x.Packet.DPort)
		for _, s := range x.Path {
			fmt.Fprintf(w, "        %s, line %d: %s\n", s.Device, s.Line, s.Text)
		}
	}
}

func newApprove() *cobra.Command {
	var hash, comment string
	return verb[intent.Approval]{
		use: "approve REVISION", short: "Approve a revision; its author cannot", example: "wardnet approve 12 --hash 9f2c… --comment 'checked with the district'", args: cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (intent.Approval, error) {
			n, err := revision(ctx, c, args, "")
			if err != nil {
				return intent.Approval{}, err
			}
			return c.Approve(ctx, n, client.NewApproval{Hash: hash, Comment: comment})
		},
		show: func(w io.Writer, a intent.Approval) {
			fmt.Fprintf(w, "revision %d approved by %s until %s\n", a.Revision, a.Approver, shown(a.Expires))
		},
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&hash, "hash", "", "hash of the revision that was looked at (see wardnet plan)")
			cmd.Flags().StringVar(&comment, "comment", "", "what was checked")
		},
	}.command()
}

func newApply() *cobra.Command {
	var message string
	var detach bool
	return verb[client.Rollout]{
		use: "apply [REVISION]", short: "Roll a revision out in waves and wait for its end", example: "wardnet apply 12",
		args: cobra.MaximumNArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.Rollout, error) {
			n, err := revision(ctx, c, args, message)
			if err != nil {
				return client.Rollout{}, err
			}
			r, err := c.StartRollout(ctx, n)
			if err != nil || detach {
				return r, err
			}
			return follow(ctx, c, r.ID)
		},
		show: showRollout,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&message, "message", "apply", "why, for the new revision")
			cmd.Flags().BoolVar(&detach, "detach", false, "start and do not wait")
		},
	}.command()
}

// follow shows progress on standard error until the rollout ends. Leaving it
// does not stop the rollout.
func follow(ctx context.Context, c *client.Client, id string) (client.Rollout, error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		r, err := c.Rollout(ctx, id)
		if err != nil {
			return r, err
		}
		eta := ""
		if r.ETA != nil {
			eta = ", done at about " + shown(*r.ETA)
		}
		fmt.Fprintf(os.Stderr, "\r%s: %d of %d devices%s   ", r.State, r.Done, r.Total, eta)
		if r.Ended != nil {
			fmt.Fprintln(os.Stderr)
			if r.State != "done" {
				return r, fmt.Errorf("rollout %s ended as %s: %s", r.ID, r.State, r.Reason)
			}
			return r, nil
		}
		select {
		case <-ctx.Done():
			fmt.Fprintln(os.Stderr)
			return r, fmt.Errorf("stopped watching; the rollout goes on, see 'wardnet rollout status': %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func showRollout(w io.Writer, r client.Rollout) {
	row(w, "rollout", r.ID)
	row(w, "revision", r.Revision)
	row(w, "state", r.State+" "+r.Reason)
	row(w, "devices", fmt.Sprintf("%d of %d", r.Done, r.Total))
	row(w, "started", r.Started)
	row(w, "ended", r.Ended)
	for _, x := range r.Waves {
		row(w, "wave "+x.Name, fmt.Sprintf("%s, %d of %d, %d pending", x.State, x.Done, len(x.Devices), x.Pending))
	}
}

func newRollout() *cobra.Command {
	var reason string
	act := func(name, short string, do func(ctx context.Context, c *client.Client, id string) (client.Rollout, error)) *cobra.Command {
		return verb[client.Rollout]{
			use: name + " ID", short: short, example: "wardnet rollout " + name + " 019ab2… --reason 'storm warning'", args: cobra.ExactArgs(1),
			ask: func(ctx context.Context, c *client.Client, args []string) (client.Rollout, error) {
				return do(ctx, c, args[0])
			},
			show:  showRollout,
			flags: func(cmd *cobra.Command) { cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log") },
		}.command()
	}
	return group(
		"rollout", "Rollouts under way and done",
		verb[[]client.Rollout]{
			use: "status", short: "Show rollouts, newest first", example: "wardnet rollout status --json",
			ask: func(ctx context.Context, c *client.Client, _ []string) ([]client.Rollout, error) {
				return c.Rollouts(ctx)
			},
			show: func(w io.Writer, v []client.Rollout) {
				for _, r := range v {
					showRollout(w, r)
				}
				none(w, len(v), "rollouts")
			},
		}.command(),
		act("pause", "Stop before the next device", func(ctx context.Context, c *client.Client, id string) (client.Rollout, error) {
			return c.PauseRollout(ctx, id, reason)
		}),
		act("resume", "Go on", func(ctx context.Context, c *client.Client, id string) (client.Rollout, error) {
			return c.ResumeRollout(ctx, id, reason)
		}),
		act("abort", "End a rollout where it is", func(ctx context.Context, c *client.Client, id string) (client.Rollout, error) {
			return c.AbortRollout(ctx, id, reason)
		}),
	)
}
