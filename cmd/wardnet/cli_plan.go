package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

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

// sitesOf names a few sites.
func sitesOf(ids []inventory.SiteID) string {
	var parts []string
	for i, id := range ids {
		if i == 5 {
			return strings.Join(parts, ", ") + fmt.Sprintf(" and %d more", len(ids)-i)
		}
		parts = append(parts, string(id))
	}
	return strings.Join(parts, ", ")
}

// mostLines is how many lines of one device's change a plan prints.
const mostLines = 12

func showPlan(w io.Writer, p client.Plan) {
	base := "nothing is in force yet"
	if p.Base != 0 {
		base = fmt.Sprintf("revision %d is in force", p.Base)
	}
	fmt.Fprintf(w, "revision %d (%.12s); %s\n", p.Revision, p.Hash, base)
	fmt.Fprintf(w, "%d to create, %d to change, %d to remove, %d stay as they are; %d sites with %d people\n", p.Devices.Create, p.Devices.Change, p.Devices.Remove, p.Devices.Unchanged, p.Sites, p.People)
	for _, x := range p.Interims {
		fmt.Fprintf(w, "after wave %s and until their own, %d sites are cut off: %s\n", x.After, len(x.Sites), sitesOf(x.Sites))
	}
	for _, d := range p.Drifts {
		fmt.Fprintf(w, "writes over drift %s of %s (%s): %s\n", d.ID, d.Device, d.State, strings.Join(d.Changes, "; "))
	}
	showProof(w, p.Proof)
	if x := p.Waiver; x != nil {
		fmt.Fprintf(w, "waived by %s until %s: %s\n", x.By, shown(x.Until), x.Reason)
	}
	showFlows(w, "newly allows", p.Reachability.Allows)
	showFlows(w, "newly denies", p.Reachability.Denies)
	if p.Reachability.Why != "" {
		fmt.Fprintf(w, "what it newly allows and denies is not known: %s\n", p.Reachability.Why)
	}
	if len(p.Changes) == 0 {
		fmt.Fprintln(w, "no change")
		return
	}
	for _, wave := range p.Waves {
		fmt.Fprintf(w, "wave %s: %d devices\n", wave.Name, len(wave.Devices))
	}
	for _, d := range p.Changes {
		fmt.Fprintf(w, "%s %s at %s: %s\n", d.Op, d.Device, d.Site, d.Reason)
		for _, f := range d.Flaps {
			fmt.Fprintf(w, "    ! %s\n", f)
		}
		for i, c := range d.Lines {
			if i == mostLines {
				fmt.Fprintf(w, "    … %d more lines; --json has them all\n", len(d.Lines)-i)
				break
			}
			fmt.Fprintf(w, "    %s\n", c)
		}
	}
}

func showFlows(w io.Writer, verb string, all []client.FlowChange) {
	for _, f := range all {
		from, to := "segment "+string(f.From), ""
		if f.From == "" {
			from = "the data centre"
		}
		if f.ToSites > 0 {
			to = fmt.Sprintf(" at %d sites", f.ToSites)
		}
		fmt.Fprintf(w, "%s %s at %d sites → %s%s: %s (as %s → %s)\n", verb, from, f.FromSites, f.To, to, f.Services, f.Src, f.Dst)
	}
}

func showProof(w io.Writer, p client.Proof) {
	switch {
	case p.Why != "":
		fmt.Fprintf(w, "NOT PROVEN: %s\n", p.Why)
	case p.Holds:
		fmt.Fprintf(w, "proven in %.1f s: nothing passes that the %d permits do not name, and what they name does pass, in %d states (%d pairs of sites, IPv4 and IPv6)\n", p.Seconds, p.Intents, p.States, p.Pairs)
	default:
		fmt.Fprintf(w, "DISPROVEN: %d counterexamples\n", len(p.Counterexamples))
	}
	for _, x := range p.Counterexamples {
		verdict := "is stopped"
		if x.Passes {
			verdict = "passes"
		}
		fmt.Fprintf(w, "    %s\n", x.Intent)
		if k := x.Packet; k != nil {
			fmt.Fprintf(w, "        %s: protocol %d, %s port %d → %s port %d\n", verdict, k.Proto, k.Src, k.SPort, k.Dst, k.DPort)
		}
		for _, s := range x.Path {
			where := s.Part
			if s.Line > 0 {
				where = fmt.Sprintf("%s line %d", s.Part, s.Line)
			}
			fmt.Fprintf(w, "        %s, %s: %s\n", s.Device, where, s.Text)
		}
	}
	for _, r := range p.Risks {
		some := ""
		if n := len(r.Sites) - 1; n > 0 {
			some = fmt.Sprintf(" and %d more", n)
		}
		fmt.Fprintf(w, "accepted: when %s, site %s%s cut off from %s (no other circuit)\n", r.Failure, r.Sites[0], some, r.From)
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

// endOf reads the end of a waiver: a date, which lasts to its last second in
// the city's time, or a time of RFC 3339.
func endOf(until string) (time.Time, error) {
	if day, err := time.ParseInLocation(time.DateOnly, until, zone); err == nil {
		return day.AddDate(0, 0, 1), nil
	}
	t, err := time.Parse(time.RFC3339, until)
	if err != nil {
		return t, fmt.Errorf("%w: --until %q is neither a date (2026-12-31) nor a time of RFC 3339", inventory.ErrInvalid, until)
	}
	return t, nil
}

// waive signs a waiver in the name of who is signed in.
func waive(ctx context.Context, c *client.Client, n intent.Number, hash, reason, until string) (intent.Waiver, error) {
	end, err := endOf(until)
	if err != nil {
		return intent.Waiver{}, err
	}
	return c.Waive(ctx, n, client.NewWaiver{Hash: hash, Reason: reason, Until: end})
}

func newWaive() *cobra.Command {
	var hash, reason, until string
	return verb[intent.Waiver]{
		use: "waive REVISION", short: "Take the risk of a revision whose proof does not hold, until a date", args: cobra.ExactArgs(1),
		example: "wardnet waive 12 --hash 9f2c… --reason 'old cameras, replaced in December' --until 2026-12-31",
		ask: func(ctx context.Context, c *client.Client, args []string) (intent.Waiver, error) {
			n, err := revision(ctx, c, args, "")
			if err != nil {
				return intent.Waiver{}, err
			}
			return waive(ctx, c, n, hash, reason, until)
		},
		show: func(w io.Writer, x intent.Waiver) {
			fmt.Fprintf(w, "the proof of revision %d is waived by %s until %s\n%s\n", x.Revision, x.By, shown(x.Until), x.Finding)
		},
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&hash, "hash", "", "hash of the revision that was looked at (see wardnet plan)")
			cmd.Flags().StringVar(&reason, "reason", "", "why the risk is taken")
			cmd.Flags().StringVar(&until, "until", "", "last day of the waiver (2026-12-31), or a time; at most 90 days from now")
		},
	}.command()
}

func newApply() *cobra.Command {
	var message, reason, until, urgent string
	var detach bool
	return verb[client.Rollout]{
		use: "apply [REVISION]", short: "Roll a revision out in waves and wait for its end",
		example: "wardnet apply 12\n  wardnet apply 12 --waive 'old cameras, replaced in December' --until 2026-12-31",
		args:    cobra.MaximumNArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.Rollout, error) {
			n, err := revision(ctx, c, args, message)
			if err != nil {
				return client.Rollout{}, err
			}
			if reason != "" || until != "" {
				if len(args) == 0 {
					return client.Rollout{}, fmt.Errorf("%w: --waive needs the number of a revision whose plan was looked at", inventory.ErrInvalid)
				}
				p, err := c.Plan(ctx, n)
				if err != nil {
					return client.Rollout{}, err
				}
				if _, err := waive(ctx, c, n, p.Hash, reason, until); err != nil {
					return client.Rollout{}, err
				}
			}
			r, err := c.StartUrgent(ctx, n, urgent)
			if err != nil || detach {
				return r, err
			}
			return follow(ctx, c, r.ID)
		},
		show: showRollout,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&message, "message", "apply", "why, for the new revision")
			cmd.Flags().StringVar(&urgent, "urgent", "", "do not wait for a maintenance window, for this reason")
			cmd.Flags().BoolVar(&detach, "detach", false, "start and do not wait")
			cmd.Flags().StringVar(&reason, "waive", "", "take the risk of a proof that does not hold, for this reason and in your name; needs --until")
			cmd.Flags().StringVar(&until, "until", "", "last day of that waiver (2026-12-31), or a time; at most 90 days from now")
		},
	}.command()
}
