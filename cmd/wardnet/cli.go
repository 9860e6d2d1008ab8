package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// zone is how times are shown to people.
var zone = time.FixedZone("+07", 7*3600) // Asia/Ho_Chi_Minh, no daylight saving since 1975

// dial makes the API client from the persistent flags.
func dial(cmd *cobra.Command) (*client.Client, error) {
	f := cmd.Flags()
	server, err := f.GetString("server")
	if err != nil {
		return nil, err
	}
	token, err := f.GetString("token-file")
	if err != nil {
		return nil, err
	}
	ca, err := f.GetString("ca")
	if err != nil {
		return nil, err
	}
	data, err := f.GetString("data")
	if err != nil {
		return nil, err
	}
	if server == "" {
		abs, err := filepath.Abs(data)
		if err != nil {
			return nil, err
		}
		server = "unix://" + filepath.Join(abs, "wardnet.sock")
	}
	return client.New(client.Config{Server: server, TokenFile: token, RootCA: ca})
}

func printJSON(cmd *cobra.Command, v any) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// verb is one command that asks the API once and prints what came back, as a
// table for people or as JSON for programs.
type verb[T any] struct {
	use, short, example string
	args                cobra.PositionalArgs
	ask                 func(ctx context.Context, c *client.Client, args []string) (T, error)
	show                func(w io.Writer, v T)
	flags               func(cmd *cobra.Command)
}

func (v verb[T]) command() *cobra.Command {
	var asJSON bool
	args := v.args
	if args == nil {
		args = cobra.NoArgs
	}
	cmd := &cobra.Command{
		Use: v.use, Short: v.short, Example: "  " + v.example, Args: invalidArgs(args),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			out, err := v.ask(cmd.Context(), c, args)
			if err != nil {
				return advise(err)
			}
			if asJSON {
				return printJSON(cmd, out)
			}
			tw := tabwriter.NewWriter(cmd.OutOrStdout(), 2, 4, 2, ' ', 0)
			v.show(tw, out)
			return tw.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	if v.flags != nil {
		v.flags(cmd)
	}
	return cmd
}

// row prints cells of one table row.
func row(w io.Writer, cells ...any) {
	text := make([]string, len(cells))
	for i, c := range cells {
		switch c := c.(type) {
		case time.Time:
			text[i] = shown(c)
		case *time.Time:
			text[i] = "-"
			if c != nil {
				text[i] = shown(*c)
			}
		case bool:
			text[i] = map[bool]string{true: "yes", false: "no"}[c]
		case string:
			text[i] = c
			if c == "" {
				text[i] = "-"
			}
		default:
			text[i] = fmt.Sprint(c)
		}
	}
	fmt.Fprintln(w, strings.Join(text, "\t"))
}

func shown(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.In(zone).Format("2006-01-02 15:04:05 -07")
}

// limited refuses a --limit that means nothing.
func limited(n int) error {
	if n < 1 {
		return fmt.Errorf("%w: --limit %d: ask for at least 1", inventory.ErrInvalid, n)
	}
	return nil
}

// none says that a list is empty, rather than printing nothing.
func none(w io.Writer, n int, what string) {
	if n == 0 {
		fmt.Fprintf(w, "no %s\n", what)
	}
}

// group is a noun with its verbs. Alone it says what it has; an unknown verb is
// invalid input, where cobra by itself would show the help and call it success.
func group(use, short string, cmds ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: invalidArgs(cobra.NoArgs), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(cmds...)
	return cmd
}

// unreachable is an error of a controller that does not answer, with what to do.
type unreachable struct{ error }

func (e unreachable) Unwrap() error { return e.error }

// Hint says what to do next.
func (unreachable) Hint() string {
	return "is 'wardnet serve' running? give its --data directory (as root), or --server with --ca and --token-file"
}

// advise adds a hint to an error that came without an answer.
func advise(err error) error {
	if errors.Is(err, client.ErrUnavailable) && client.HintOf(err) == "" {
		return unreachable{err}
	}
	return err
}
