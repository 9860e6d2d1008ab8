package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

func newRouter() *cobra.Command {
	return group("router", "Routers of the data centre: devices without our agent, which the controller dials",
		newRouterList(), newRouterTrust(), newRouterCertify(), newRouterCertifyTLS())
}

func newRouterList() *cobra.Command {
	return verb[[]client.Router]{
		use: "list", short: "List the routers, how they are, and what they cannot do or tell", example: "wardnet router list",
		ask: func(ctx context.Context, c *client.Client, _ []string) ([]client.Router, error) {
			return c.Routers(ctx)
		},
		show: func(w io.Writer, v []client.Router) {
			row(w, "ID", "SITE", "PLATFORM", "MANAGEMENT", "SERIAL", "STATE", "REVISION")
			for _, r := range v {
				row(w, string(r.ID), string(r.Site), string(r.Platform), r.Management, r.Serial, string(r.State), r.Revision)
			}
			for _, r := range v {
				if r.Error != "" {
					fmt.Fprintf(w, "%s: %s\n", r.ID, r.Error)
				}
				for _, l := range r.Limits {
					fmt.Fprintf(w, "%s: %s\n", r.ID, l)
				}
			}
			none(w, len(v), "routers")
		},
	}.command()
}

func newRouterTrust() *cobra.Command {
	return verb[client.SSHTrust]{
		use: "trust", short: "Print what a router must trust: lines for its sshd", example: "wardnet router trust",
		ask: func(ctx context.Context, c *client.Client, _ []string) (client.SSHTrust, error) {
			return c.SSHTrust(ctx)
		},
		show: func(w io.Writer, t client.SSHTrust) {
			fmt.Fprintf(w, "# TrustedUserCAKeys: a file with this line; user %s logs in\n%s\n# signs host keys ('wardnet router certify')\n%s\n", t.Principal, t.UserCA, t.HostCA)
		},
	}.command()
}

func newRouterCertify() *cobra.Command {
	var key string
	var days int
	return verb[client.HostCertificate]{
		use: "certify ID", short: "Certify a router's SSH host key, for its sshd's HostCertificate", example: "wardnet router certify r-core-1 --key ssh_host_ed25519_key.pub", args: cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.HostCertificate, error) {
			b, err := os.ReadFile(key)
			if err != nil {
				return client.HostCertificate{}, fmt.Errorf("%w: --key: %w", inventory.ErrInvalid, err)
			}
			return c.CertifyHost(ctx, inventory.DeviceID(args[0]), client.NewHostCertificate{PublicKey: string(b), Days: days})
		},
		show: func(w io.Writer, h client.HostCertificate) { fmt.Fprintln(w, h.Certificate) },
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&key, "key", "", "file with the router's public host key (required)")
			cmd.Flags().IntVar(&days, "days", 0, "life of the certificate; default and at most 366")
		},
	}.command()
}
