// Command wardnet-edge is the Wardnet agent of one edge device.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/inventory"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main without the process, so that tests are the same program.
// Exit: 0 done, 1 failed, 2 invalid input. (3, held for a person, is the
// controller's; nothing an edge does waits for one.)
func run(args []string, out, errw io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errw)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(errw, "wardnet-edge: error: %v\n", err)
	if errors.Is(err, inventory.ErrInvalid) {
		return 2
	}
	return 1
}

// app is what all verbs share.
type app struct {
	state string // directory
	json  bool
	level string
}

func newRoot() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:           "wardnet-edge",
		Short:         "The Wardnet agent of one edge device",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%w: unknown command %q; see wardnet-edge --help", inventory.ErrInvalid, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", inventory.ErrInvalid, err) })
	f := root.PersistentFlags()
	f.StringVar(&a.state, "state", "/var/lib/wardnet-edge", "state directory of the device")
	f.BoolVar(&a.json, "json", false, "write JSON")
	f.StringVar(&a.level, "log-level", "info", "debug, info, warn or error")
	root.AddCommand(newEnrol(a), newRun(a), newStatus(a), newVersion(a), newWG(a))
	return root
}

// noArgs refuses positional arguments as invalid input.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: %s takes no argument, got %q", inventory.ErrInvalid, c.CommandPath(), args[0])
	}
	return nil
}

// logger writes to the command's error stream.
func (a *app) logger(c *cobra.Command) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.level)); err != nil {
		return nil, fmt.Errorf("%w: --log-level: %w", inventory.ErrInvalid, err)
	}
	opts := &slog.HandlerOptions{Level: level}
	if a.json {
		return slog.New(slog.NewJSONHandler(c.ErrOrStderr(), opts)), nil
	}
	return slog.New(slog.NewTextHandler(c.ErrOrStderr(), opts)), nil
}

// print writes v as JSON or as text.
func (a *app) print(c *cobra.Command, v fmt.Stringer) error {
	if !a.json {
		_, err := fmt.Fprintln(c.OutOrStdout(), v)
		return err
	}
	return json.NewEncoder(c.OutOrStdout()).Encode(v)
}
