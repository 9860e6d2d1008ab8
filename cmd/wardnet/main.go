// Command wardnet is the centre: the controller (serve), the CLI that talks to
// it, the demo and the lab.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/inventory"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// Exit codes (docs/cli.md).
const (
	exitDone    = 0
	exitFailed  = 1
	exitInvalid = 2
	exitHeld    = 3
)

// run is main without the process, so that tests are the same program.
func run(args []string, out, errw io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errw)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(errw, "wardnet: error: %v\n", err)
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(errw, "wardnet: hint: %s\n", hint)
	}
	switch {
	case errors.Is(err, inventory.ErrInvalid):
		return exitInvalid
	case errors.Is(err, controller.ErrHeld), errors.Is(err, client.ErrHeld):
		return exitHeld
	}
	return exitFailed
}

// hintOf finds what to do next: the API's hint, or the error's own.
func hintOf(err error) string {
	if h := client.HintOf(err); h != "" {
		return h
	}
	if h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		return h.Hint()
	}
	return ""
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "wardnet",
		Short:         "Central management of a city's SD-WAN and Zero Trust access",
		Long:          "Wardnet joins every office of a city by SD-WAN in a hub-and-spoke layout and\nprotects it by Zero Trust. One controller (wardnet serve) keeps the inventory,\npushes and proves configuration, runs the PKI, decides access, watches telemetry\nand opens one incident for each cause.\n\nExit codes: 0 done, 1 failed, 2 invalid input, 3 held (waits for a person).",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().String("server", "", "URL of the controller, e.g. https://wardnet.example:8443; empty: its unix socket (root)")
	root.PersistentFlags().String("token-file", "", "file that holds an API token (0600)")
	root.PersistentFlags().String("ca", "", "file with the controller's root certificate, for --server")
	root.PersistentFlags().String("data", defaultData, "data directory of the controller; its unix socket is there")
	root.Args = invalidArgs(cobra.NoArgs) // an unknown verb is invalid input
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
	})
	root.AddCommand(
		newServe(), newSigner(), newConfig(), newDemo(), newLab(),
		newInventory(), newBasket(), newPlan(), newApply(), newApprove(), newWaive(), newRollout(), newDrift(),
		newDevice(), newRouter(), newAgent(), newSite(), newCircuit(), newCert(), newUser(), newToken(),
		newDecision(), newIncident(), newAudit(), newBackup(), newRestore(), newVersion(),
	)
	return root
}
