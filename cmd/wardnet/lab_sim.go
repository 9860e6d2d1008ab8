package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/sim"
	"github.com/wardnet/wardnet/pki/enrol"
)

func newLabSim() *cobra.Command {
	var cfg sim.Config
	var edges, file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Run SIMULATED edges: real agents over simulated data planes",
		Long: `Run simulated edges in the foreground until SIGINT or SIGTERM.

Each has its own key, certificate, mTLS connection, agent and on-disk state, and
runs the code of a real edge; its data plane is computed, no tunnel packet is
sent, and its platform says "simulated-edge". Carriers are known to the
simulator only and are never sent to the controller.

--edges N takes N devices in service of an inventory (the hubs first, 0: all),
asks the controller for their one-time tokens and enrols them; those that have
an identity in --state already need none, so a fleet that was interrupted goes
on where it was. --inventory is the document; without it, what the controller
has. --edges FILE takes devices, circuits and enrolment bundles from a file
instead and asks nobody.

Progress goes to standard error; --json prints one line when all edges have
been connected and one at the end. Thousands of edges on the controller's own
machine need --spread, for a controller bounds what one address may hold.`,
		Example: "  wardnet lab sim --edges 208 --inventory city.yaml --state /var/tmp/edges\n" +
			"  wardnet lab sim --edges 10000 --spread --flap 0.01 --json --server https://127.0.0.1:8443 --ca root.pem --token-file engineer.token\n" +
			"  wardnet lab sim --edges edges.json --state /var/tmp/edges --control /var/tmp/sim.sock",
		Args: invalidArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if edges == "" {
				return fmt.Errorf("%w: --edges is missing; say how many devices to simulate, or name the file that lists them", inventory.ErrInvalid)
			}
			var err error
			if cfg.Log, err = logger(cmd.ErrOrStderr(), "warn"); err != nil {
				return err
			}
			if cfg.StateDir, err = filepath.Abs(cfg.StateDir); err != nil {
				return err
			}
			if cfg.Edges, err = cast(cmd, edges, file, cfg.StateDir); err != nil {
				return advise(err)
			}
			if err := roomForFiles(len(cfg.Edges)); err != nil {
				return err
			}
			told := &telling{out: cmd.OutOrStdout(), progress: cmd.ErrOrStderr(), asJSON: asJSON, start: time.Now()}
			cfg.Watch = told.watch
			return errors.Join(sim.Run(cmd.Context(), cfg), told.end())
		},
	}
	f := cmd.Flags()
	f.StringVar(&edges, "edges", "", "how many devices of the inventory to simulate, 0: all; or a file that lists them, 0600 (required)")
	f.StringVar(&file, "inventory", "", "inventory document that the devices are taken from; empty: the controller's")
	f.StringVar(&cfg.StateDir, "state", "edges", "directory; one below it per device")
	f.StringVar(&cfg.Control, "control", "", "unix socket that takes faults, see 'wardnet lab fault'")
	f.Uint64Var(&cfg.Seed, "seed", 1, "of traffic, start order and drops")
	f.DurationVar(&cfg.Ramp, "ramp", 0, "spread the starts over so long; 0: 20 ms per edge")
	f.BoolVar(&cfg.Spread, "spread", false, "dial from one address of 127.0.0.0/8 for each edge; for a controller on this machine")
	f.Float64Var(&cfg.Flap, "flap", 0, "once all were connected, drop this ratio of the management connections per minute")
	f.BoolVar(&asJSON, "json", false, "print a JSON line when all edges have been connected, and one at the end")
	return cmd
}

// cast makes the edges that --edges and --inventory mean.
func cast(cmd *cobra.Command, edges, file, state string) ([]sim.Edge, error) {
	n, err := strconv.Atoi(edges)
	if err != nil {
		if file != "" {
			return nil, fmt.Errorf("%w: --edges %s is a file of devices, so --inventory has no meaning; give a number with it", inventory.ErrInvalid, edges)
		}
		f, err := sim.Load(edges)
		return f.Edges, err
	}
	c, err := dial(cmd)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	inv, err := declaredIn(cmd.Context(), c, file)
	if err != nil {
		return nil, err
	}
	all, err := sim.Pick(inv, n)
	if err != nil {
		return nil, err
	}
	return all, bundles(cmd.Context(), c, all, state, cmd.ErrOrStderr())
}

// declaredIn reads the document, or asks the controller when there is none.
func declaredIn(ctx context.Context, c *client.Client, file string) (inventory.Inventory, error) {
	if file == "" {
		inv, _, err := c.Inventory(ctx)
		return inv, err
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return inventory.Inventory{}, fmt.Errorf("%w: --inventory: %w", inventory.ErrInvalid, err)
	}
	return inventory.Decode(file, bytes.NewReader(raw))
}

// tokensPerCall keeps one call to the controller short, for the progress.
const tokensPerCall = 500

// bundles gives each edge without an identity below state an enrolment bundle.
// Tokens stay in memory.
func bundles(ctx context.Context, c *client.Client, all []sim.Edge, state string, progress io.Writer) error {
	var fresh []*sim.Edge
	for i := range all {
		_, err := enrol.Load(agent.IdentityDir(filepath.Join(state, string(all[i].Device))))
		switch {
		case errors.Is(err, inventory.ErrNotFound):
			fresh = append(fresh, &all[i])
		case err != nil:
			return fmt.Errorf("identity of %s below %s: %w", all[i].Device, state, err)
		}
	}
	done := 0
	for some := range slices.Chunk(fresh, tokensPerCall) {
		ids := make([]inventory.DeviceID, len(some))
		for i, e := range some {
			ids[i] = e.Device
		}
		got, err := c.Enrol(ctx, ids...)
		if err != nil {
			return err
		}
		if len(got.Tokens) != len(some) {
			return fmt.Errorf("the controller made %d tokens for %d devices", len(got.Tokens), len(some))
		}
		byDevice := map[inventory.DeviceID]client.EnrolmentToken{}
		for _, t := range got.Tokens {
			byDevice[t.Device] = t
		}
		for _, e := range some {
			e.Bundle = &enrol.Bundle{
				EnrolURL: got.EnrolURL, Channel: got.Channel, CAURL: got.CAURL, RootPEM: got.RootPEM,
				Device: e.Device, Serial: e.Serial, Token: byDevice[e.Device].Token,
			}
		}
		done += len(some)
		fmt.Fprintf(progress, "tokens: %d of %d\n", done, len(fresh))
	}
	return nil
}

// roomForFiles raises the limit of open files to what n edges need: a
// connection each, more while some enrol, and some.
func roomForFiles(n int) error {
	var have syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &have); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	need := uint64(n + n/10 + 256)
	if have.Cur >= need {
		return nil
	}
	want := syscall.Rlimit{Cur: need, Max: max(have.Max, need)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want); err != nil {
		return labError{fmt.Errorf("%w: %d edges need %d open files, at most %d are allowed: %w", inventory.ErrInvalid, n, need, have.Max, err), fmt.Sprintf("raise the hard limit (ulimit -Hn %d, or LimitNOFILE= of the service) or simulate fewer", need)}
	}
	return nil
}

// telling says how the edges are: a line of progress when something moved, and
// the two results.
type telling struct {
	out, progress io.Writer
	asJSON        bool
	start         time.Time

	last  sim.Stats
	said  string
	whole bool
}

// told is one line of --json.
type told struct {
	Event   string  `json:"event"` // connected, ended
	Seconds float64 `json:"seconds"`
	sim.Stats
}

// watch is called by one goroutine.
func (t *telling) watch(s sim.Stats) {
	t.last = s
	line := fmt.Sprintf("%d edges: %d enrolled, %d connected, %d failed, %d of %d tunnel ends up", s.Edges, s.Enrolled, s.Connected, s.Failed, s.TunnelsUp, s.Tunnels)
	if line != t.said {
		t.said = line
		fmt.Fprintf(t.progress, "%6.1f s  %s\n", time.Since(t.start).Seconds(), line)
	}
	if !t.whole && s.Connected >= s.Edges {
		t.whole = true
		_ = t.print("connected") // the end says it again
	}
}

// end is called when nobody watches any more.
func (t *telling) end() error { return t.print("ended") }

func (t *telling) print(event string) error {
	took := time.Since(t.start).Seconds()
	if t.asJSON {
		return json.NewEncoder(t.out).Encode(told{event, took, t.last})
	}
	_, err := fmt.Fprintf(t.out, "%s: %d of %d simulated edges connected after %.1f s, %.0f MiB resident\n", event, t.last.Connected, t.last.Edges, took, t.last.RSSMB)
	return err
}
