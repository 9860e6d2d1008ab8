package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

func newSite() *cobra.Command {
	return group(
		"site", "Sites",
		verb[[]client.SiteView]{
			use: "list", short: "List sites with their state", example: "wardnet site list",
			ask: func(ctx context.Context, c *client.Client, _ []string) ([]client.SiteView, error) {
				return c.Sites(ctx)
			},
			show: func(w io.Writer, v []client.SiteView) {
				row(w, "SITE", "KIND", "STATE", "CIRCUITS", "NAME")
				for _, s := range v {
					row(w, string(s.ID), string(s.Kind), string(s.State), len(s.Circuits), s.Name)
				}
				none(w, len(v), "sites")
			},
		}.command(),
		verb[client.SiteView]{
			use: "show SITE", short: "Show one site with its devices and circuits", example: "wardnet site show s-26740", args: cobra.ExactArgs(1),
			ask: func(ctx context.Context, c *client.Client, args []string) (client.SiteView, error) {
				return c.Site(ctx, inventory.SiteID(args[0]))
			},
			show: func(w io.Writer, s client.SiteView) {
				row(w, "site", string(s.ID))
				row(w, "name", s.Name)
				row(w, "kind", string(s.Kind))
				row(w, "state", string(s.State))
				for _, d := range s.Devices {
					row(w, "device", string(d.ID)+" "+string(d.State))
				}
				for _, c := range s.Circuits {
					row(w, "circuit", fmt.Sprintf("%s %s by %s, %s", c.ID, c.Kind, c.Carrier, c.Role))
				}
			},
		}.command(),
	)
}

func newCircuit() *cobra.Command {
	return group(
		"circuit", "Circuits",
		verb[[]inventory.Circuit]{
			use: "list", short: "List circuits", example: "wardnet circuit list --json",
			ask: func(ctx context.Context, c *client.Client, _ []string) ([]inventory.Circuit, error) {
				return c.Circuits(ctx)
			},
			show: func(w io.Writer, v []inventory.Circuit) {
				row(w, "CIRCUIT", "SITE", "KIND", "CARRIER", "ROLE", "DOWN Mbit/s", "UP Mbit/s", "MTU")
				for _, c := range v {
					row(w, string(c.ID), string(c.Site), string(c.Kind), string(c.Carrier), string(c.Role), uint64(c.DownBPS/inventory.Mbps), uint64(c.UpBPS/inventory.Mbps), c.MTU)
				}
				none(w, len(v), "circuits")
			},
		}.command(),
	)
}

func newAudit() *cobra.Command {
	var f client.AuditFilter
	return group(
		"audit", "The audit log",
		verb[[]client.AuditEntry]{
			use: "list", short: "List writes, newest first", example: "wardnet audit list --limit 20",
			ask: func(ctx context.Context, c *client.Client, _ []string) ([]client.AuditEntry, error) {
				if err := limited(f.Limit); err != nil {
					return nil, err
				}
				return c.Audit(ctx, f)
			},
			show: func(w io.Writer, v []client.AuditEntry) {
				row(w, "SEQ", "AT", "WHO", "FROM", "WHAT", "OBJECT", "OUTCOME", "REASON")
				for _, a := range v {
					row(w, a.Seq, a.At, a.Who, a.From, a.What, a.Object, a.Outcome, strings.ReplaceAll(a.Reason, "\n", "; "))
				}
				none(w, len(v), "audit entries")
			},
			flags: func(cmd *cobra.Command) { cmd.Flags().IntVar(&f.Limit, "limit", 100, "at most so many") },
		}.command(),
	)
}
