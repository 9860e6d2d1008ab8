package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/edge/release"
	"github.com/wardnet/wardnet/inventory"
)

func newAgent() *cobra.Command {
	return group("agent", "The edges' agent: its binaries, and upgrades in waves",
		newAgentAdd(), newAgentList(), newAgentUpgrade(), newAgentStatus(),
		newAgentAct("pause", "Let no further device begin; a try under way is still judged"),
		newAgentAct("resume", "Go on"),
		newAgentAct("abort", "End an upgrade where it is; what is not confirmed goes back by itself"))
}

// readAgent reads a binary, unless it is too large to be one.
func readAgent(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
	}
	if !info.Mode().IsRegular() || info.Size() > release.MaxSize {
		return nil, fmt.Errorf("%w: %s is no file of at most %d MiB; build the agent stripped (-ldflags '-s -w')", inventory.ErrInvalid, path, release.MaxSize>>20)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the agent binary: %w", err)
	}
	return b, nil
}

func newAgentAdd() *cobra.Command {
	var version string
	return verb[client.AgentRelease]{
		use: "add FILE", short: "Upload a binary of the agent (wardnet-edge for linux/amd64 or linux/arm64); the controller signs it",
		example: "wardnet agent add bin/wardnet-edge --version 1.4.0", args: cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.AgentRelease, error) {
			if version == "" {
				return client.AgentRelease{}, fmt.Errorf("%w: --version V says what the binary is", inventory.ErrInvalid)
			}
			b, err := readAgent(args[0])
			if err != nil {
				return client.AgentRelease{}, err
			}
			return c.AddAgent(ctx, version, b)
		},
		show: func(w io.Writer, r client.AgentRelease) {
			row(w, "agent", r.Version, r.GOOS+"/"+r.GOARCH)
			row(w, "sha256", r.SHA256)
			row(w, "signed by", r.KeyID)
			row(w, "next", "'wardnet agent upgrade "+r.Version+"'")
		},
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&version, "version", "", "version of the binary (required)")
		},
	}.command()
}

func newAgentList() *cobra.Command {
	return verb[[]client.AgentRelease]{
		use: "list", short: "List the binaries that the controller keeps, newest first", example: "wardnet agent list --json",
		ask: func(ctx context.Context, c *client.Client, _ []string) ([]client.AgentRelease, error) {
			return c.Agents(ctx)
		},
		show: func(w io.Writer, v []client.AgentRelease) {
			row(w, "VERSION", "PLATFORM", "BYTES", "SHA256", "ADDED", "BY", "FILE")
			for _, r := range v {
				row(w, r.Version, r.GOOS+"/"+r.GOARCH, r.SizeBytes, fmt.Sprintf("%.16s", r.SHA256), r.Added, r.By, map[bool]string{true: "missing, add it again", false: "here"}[r.Missing])
			}
			none(w, len(v), "agents")
		},
	}.command()
}

// deviceList reads "d-1,d-2" or "all", which is no list.
func deviceList(text string) ([]inventory.DeviceID, error) {
	if text == "all" {
		return nil, nil
	}
	var out []inventory.DeviceID
	for _, id := range strings.Split(text, ",") {
		if id = strings.TrimSpace(id); id == "" {
			return nil, fmt.Errorf("%w: --devices %q: write d-1,d-2 or all", inventory.ErrInvalid, text)
		}
		out = append(out, inventory.DeviceID(id))
	}
	return out, nil
}

func newAgentUpgrade() *cobra.Command {
	var devices, reason string
	return verb[client.AgentRollout]{
		use: "upgrade VERSION", short: "Bring a version to the edges in waves, hubs last; a device that is worse for it goes back by itself and halts it",
		example: "wardnet agent upgrade 1.4.0 --reason 'faster failover'\n  wardnet agent upgrade 1.4.0 --devices d-26740,d-26743", args: cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.AgentRollout, error) {
			ids, err := deviceList(devices)
			if err != nil {
				return client.AgentRollout{}, err
			}
			return c.StartAgentRollout(ctx, client.NewAgentRollout{Version: args[0], Devices: ids, Reason: reason})
		},
		show: showAgents,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&devices, "devices", "all", "which, by id with commas; all: every one in service")
			cmd.Flags().StringVar(&reason, "reason", "", "why, for the rollout and the audit log")
		},
	}.command()
}

func newAgentStatus() *cobra.Command {
	return verb[[]client.AgentRollout]{
		use: "status [ID]", short: "Show upgrades, newest first, or one with its devices", example: "wardnet agent status\n  wardnet agent status 019ab2… --json", args: cobra.MaximumNArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) ([]client.AgentRollout, error) {
			if len(args) == 0 {
				return c.AgentRollouts(ctx)
			}
			r, err := c.AgentRollout(ctx, args[0])
			return []client.AgentRollout{r}, err
		},
		show: func(w io.Writer, v []client.AgentRollout) {
			for i, r := range v {
				if i > 0 {
					fmt.Fprintln(w)
				}
				showAgents(w, r)
			}
			none(w, len(v), "upgrades")
		},
	}.command()
}

func newAgentAct(name, short string) *cobra.Command {
	var reason string
	return verb[client.AgentRollout]{
		use: name + " ID", short: short, example: "wardnet agent " + name + " 019ab2… --reason 'storm warning'", args: cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.AgentRollout, error) {
			return c.ActAgentRollout(ctx, args[0], name, reason)
		},
		show:  showAgents,
		flags: func(cmd *cobra.Command) { cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log") },
	}.command()
}

func showAgents(w io.Writer, r client.AgentRollout) {
	row(w, "upgrade", r.ID)
	row(w, "version", r.Version)
	row(w, "state", strings.TrimSpace(r.State+" "+r.Reason))
	row(w, "devices", fmt.Sprintf("%d of %d", r.Done, r.Total))
	row(w, "started", r.Started)
	row(w, "done at about", r.ETA)
	row(w, "ended", r.Ended)
	for _, x := range r.Waves {
		row(w, "wave "+x.Name, fmt.Sprintf("%s, %d of %d verified, %d pending", x.State, x.Verified, len(x.Devices), x.Pending))
	}
	shown := 0
	for _, d := range r.Devices {
		if d.State == "done" && d.Error == "" || d.State == "waiting" && d.Error == "" && d.Online {
			continue
		}
		if shown++; shown > 20 {
			row(w, "", "… --json has them all")
			return
		}
		text := d.State
		if d.SizeBytes > 0 {
			text += fmt.Sprintf(", %d %% sent", 100*d.SentBytes/d.SizeBytes)
		}
		if !d.Online {
			text += ", offline"
		}
		if d.Error != "" {
			text += ": " + d.Error
		}
		row(w, string(d.Device), text)
	}
}
