package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

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
		row(w, "wave "+x.Name, fmt.Sprintf("%s, %d of %d verified, %d failed, %d pending", x.State, x.Verified, len(x.Devices), x.Failed, x.Pending))
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
		verb[client.Rollout]{
			use: "status [ID]", short: "Show one rollout with its waves; without an id the newest", example: "wardnet rollout status --json", args: cobra.MaximumNArgs(1),
			ask: func(ctx context.Context, c *client.Client, args []string) (client.Rollout, error) {
				if len(args) == 1 {
					return c.Rollout(ctx, args[0])
				}
				all, err := c.Rollouts(ctx)
				if err == nil && len(all) == 0 {
					err = fmt.Errorf("%w: there is no rollout yet; 'wardnet apply' starts one", inventory.ErrNotFound)
				}
				if err != nil {
					return client.Rollout{}, err
				}
				return all[0], nil
			},
			show: showRollout,
		}.command(),
		verb[[]client.Rollout]{
			use: "list", short: "Show all rollouts, newest first", example: "wardnet rollout list --json",
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
