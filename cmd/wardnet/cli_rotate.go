package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
)

// newCertRotate is "cert rotate": the issuing CAs' generations.
func newCertRotate() *cobra.Command {
	var q client.RotateIssuer
	step := func(action, short, example string) *cobra.Command {
		return verb[client.Issuer]{
			use: action + " ISSUER", short: short, example: example, args: cobra.ExactArgs(1),
			ask: func(ctx context.Context, c *client.Client, args []string) (client.Issuer, error) {
				q.Action = action
				return c.RotateIssuer(ctx, args[0], q)
			},
			show: func(w io.Writer, i client.Issuer) { showIssuers(w, []client.Issuer{i}) },
			flags: func(cmd *cobra.Command) {
				cmd.Flags().StringVar(&q.Reason, "reason", "", "why, for the audit log")
				if action == "next" {
					cmd.Flags().BoolVar(&q.Force, "force", false, "although some are cut off; needs --reason")
				}
			},
		}.command()
	}
	return group(
		"rotate", "Rotate an issuing CA: stage, publish, switch, drain, retire",
		verb[[]client.Issuer]{
			use: "status", short: "Show the issuers' generations, who depends on them and what comes next", example: "wardnet cert rotate status\n  wardnet cert rotate status --json",
			ask: func(ctx context.Context, c *client.Client, _ []string) ([]client.Issuer, error) {
				return c.Issuers(ctx)
			},
			show: showIssuers,
		}.command(),
		step("start", "Make a new generation of devices, services or hub; nobody uses it yet", "wardnet cert rotate start devices --reason 'yearly'"),
		step("next", "Take the next step: publish, switch, or retire the old generation", "wardnet cert rotate next devices\n  wardnet cert rotate next hub --force --reason 'd-26740 is broken and will be enrolled anew'"),
		step("abort", "Give the new generation up, before the switch", "wardnet cert rotate abort devices --reason 'wrong root'"),
		newCertCompromised(),
	)
}

func newCertCompromised() *cobra.Command {
	var q client.DistrustIssuer
	var wait time.Duration
	return verb[client.Distrusted]{
		use: "compromised ISSUER", short: "End the trust in all an issuer has certified, and let its holders fetch new certificates", args: cobra.ExactArgs(1),
		example: "wardnet cert rotate compromised devices --dry-run --reason drill\n  wardnet cert rotate compromised devices --wait 2m --reason 'backup of the CA stolen'\n  wardnet cert rotate compromised devices --staged --reason 'after the ceremony'",
		ask: func(ctx context.Context, c *client.Client, args []string) (client.Distrusted, error) {
			d, err := c.DistrustIssuer(ctx, args[0], q)
			if err != nil || q.DryRun || wait <= 0 {
				return d, err
			}
			waiting, cancel := context.WithTimeout(ctx, wait)
			defer cancel()
			d.Drill, err = c.AwaitRekeyed(waiting, args[0])
			return d, err
		},
		show: func(w io.Writer, d client.Distrusted) {
			verb := "distrusted"
			if d.DryRun {
				verb = "would distrust"
			}
			row(w, verb, d.Issuer, "generations "+numbers(d.Distrusted), fmt.Sprintf("generation %d issues", d.Active))
			row(w, "to fetch new certificates", fmt.Sprint(len(d.Holders)), strings.Join(d.Holders, " "))
			row(w, "root's revocation list", map[bool]string{true: "follows by itself", false: "needs a ceremony"}[d.RootCRL])
			if r := d.Drill; r != nil {
				row(w, "time line", fmt.Sprintf("%d of %d re-keyed", r.Rekeyed, r.Affected), timeline(*r), strings.Join(r.Remaining, " "))
			}
			if d.Note != "" {
				row(w, "note", d.Note)
			}
		},
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&q.Reason, "reason", "", "why, for the audit log (required)")
			cmd.Flags().BoolVar(&q.Staged, "staged", false, "switch to the generation that is staged already (the root's key is elsewhere)")
			cmd.Flags().DurationVar(&wait, "wait", 0, "wait so long for the holders' new certificates, and print the time line")
			cmd.Flags().BoolVar(&q.DryRun, "dry-run", false, "only tell what would happen")
		},
	}.command()
}

func numbers(list []int) string {
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = fmt.Sprint(n)
	}
	return strings.Join(out, ",")
}

func showIssuers(w io.Writer, list []client.Issuer) {
	row(w, "ISSUER", "GENERATION", "STATE", "SINCE", "HOLDERS", "KEY")
	for _, i := range list {
		for _, g := range i.Generations {
			row(w, i.Issuer, g.Generation, g.State, since(g), len(g.Holders), short(g.KeyID))
			if d := g.Drill; d != nil {
				row(w, "", "", "re-keyed", fmt.Sprintf("%d of %d", d.Rekeyed, d.Affected), timeline(*d), strings.Join(d.Remaining, " "))
			}
			if g.CSR != "" {
				row(w, "", "", "waits for the root's signature: wardnet cert ceremony csr "+i.Issuer)
			}
		}
		if i.Next != "" {
			row(w, i.Issuer, "next", i.Next, i.Held, strings.Join(i.Behind, " "))
		}
	}
}

// since is when the generation came to its state.
func since(g client.Generation) time.Time {
	for _, t := range []time.Time{g.EndedAt, g.DrainingAt, g.ActiveAt, g.PublishedAt} {
		if !t.IsZero() {
			return t
		}
	}
	return g.StagedAt
}

func timeline(d client.Drill) string {
	var out []string
	for _, p := range []struct {
		name    string
		seconds float64
	}{{"first", d.First}, {"half", d.Half}, {"95%", d.P95}, {"all", d.Last}} {
		if p.seconds > 0 {
			out = append(out, fmt.Sprintf("%s %.1f s", p.name, p.seconds))
		}
	}
	return strings.Join(out, ", ")
}

func short(id string) string { return id[:min(12, len(id))] }
