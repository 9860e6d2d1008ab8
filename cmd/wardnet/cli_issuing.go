package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
)

// newCertRoot is "cert root": what a client needs before its first contact.
func newCertRoot() *cobra.Command {
	return verb[client.CA]{
		use: "root", short: "Print the root certificate, its fingerprint, and where the CA API answers",
		example: "wardnet cert root\n  wardnet cert root --json",
		ask:     func(ctx context.Context, c *client.Client, _ []string) (client.CA, error) { return c.CA(ctx) },
		show: func(w io.Writer, x client.CA) {
			row(w, "fingerprint", x.Fingerprint)
			row(w, "CA", x.URL)
			row(w, "ACME", strings.TrimSpace(x.ACMEDirectory))
			row(w, "CRL, OCSP", x.StatusURL)
			fmt.Fprintf(w, "\n%s", x.RootPEM)
		},
	}.command()
}

// newTokenService is "cert token service": a token for the step CLI.
func newTokenService() *cobra.Command {
	var n client.NewServiceToken
	return verb[client.ServiceToken]{
		use: "service NAME", short: "Make a one-time token for 'step ca certificate' (10 minutes); NAME is a host name, or a service's short name",
		example: "wardnet cert token service app.hcmc.example\n  wardnet cert token service pep1 --json",
		args:    cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.ServiceToken, error) {
			n.Name = args[0]
			return c.ServiceToken(ctx, n)
		},
		show: func(w io.Writer, t client.ServiceToken) { fmt.Fprintln(w, t.Token) },
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringSliceVar(&n.Names, "san", nil, "a name of the certificate, repeatable: host name, address or spiffe://…; default NAME")
			cmd.Flags().StringVar(&n.CSRSHA256, "csr-sha256", "", "bind the token to the CSR with this SHA-256 (base64url of the DER's hash)")
		},
	}.command()
}

// newTokenRegistrar is "cert token registrar".
func newTokenRegistrar() *cobra.Command {
	return verb[client.ServiceToken]{
		use: "registrar NAME", short: "Make a one-time token for a registrar's certificate, whose holder makes tokens for services himself",
		example: "wardnet cert token registrar deploy",
		args:    cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.ServiceToken, error) {
			return c.ServiceToken(ctx, client.NewServiceToken{Name: args[0], Registrar: true})
		},
		show: func(w io.Writer, t client.ServiceToken) { fmt.Fprintln(w, t.Token) },
	}.command()
}

// newCertACMEKey is "cert acme-key".
func newCertACMEKey() *cobra.Command {
	return verb[client.ACMEKey]{
		use: "acme-key WHOM", short: "Make a key that binds one ACME account (external account binding); it is shown once",
		example: "wardnet cert acme-key 'web team'",
		args:    cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.ACMEKey, error) {
			return c.ACMEKey(ctx, client.NewACMEKey{Reference: args[0]})
		},
		show: func(w io.Writer, k client.ACMEKey) {
			row(w, "kid", k.ID)
			row(w, "hmac key", k.HMACKey)
			row(w, "directory", k.Directory)
		},
	}.command()
}
