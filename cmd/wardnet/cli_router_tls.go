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

func newRouterCertifyTLS() *cobra.Command {
	var csr string
	var days int
	return verb[client.ServiceCertificate]{
		use: "certify-tls ID", short: "Sign the TLS certificate of a router that is dialled by gNMI; print its chain, and the root that it must trust",
		example: "wardnet router certify-tls r-dc-2 --csr r.csr",
		args:    cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.ServiceCertificate, error) {
			b, err := os.ReadFile(csr)
			if err != nil {
				return client.ServiceCertificate{}, fmt.Errorf("%w: --csr: %w", inventory.ErrInvalid, err)
			}
			return c.CertifyServer(ctx, inventory.DeviceID(args[0]), client.NewServerCertificate{CSR: string(b), Days: days})
		},
		show: func(w io.Writer, s client.ServiceCertificate) {
			fmt.Fprintf(w, "%s# the root, for the router's list of client CAs\n%s", s.ChainPEM, s.RootPEM)
		},
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&csr, "csr", "", "file with the router's request, PEM; its only name is the host of the management address (required)")
			cmd.Flags().IntVar(&days, "days", 0, "life of the certificate; default and at most 90")
		},
	}.command()
}
