package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/netlab/service"
)

// labError adds what to do next.
type labError struct {
	error
	hint string
}

func (e labError) Unwrap() error { return e.error }

// Hint says what to do next.
func (e labError) Hint() string { return e.hint }

func newLabUp() *cobra.Command {
	var cfg netlab.Config
	var asJSON bool
	var sites []string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Build a real city in network namespaces: controller, hubs, wards, hosts",
		Long: `Build a real city in network namespaces (root) and wait until all is well.

Carriers with DHCP and CGNAT, an exchange, hubs and wards of the demo inventory,
one host per segment and a data centre with real services are made of network
namespaces; the controller and one wardnet-edge per site run in theirs. The
agents enrol by themselves and get everything from the controller: nothing of
the overlay is configured by the lab.

A healthy lab of the same shape is left as it is, any other one in the
directory is taken down first. What an interrupted run leaves behind, 'wardnet
lab down' removes.`,
		Example: "  wardnet lab up --hubs 2 --wards 4\n  wardnet lab up --wards 2 --overlay ipsec --dir /tmp/lab --prefix t1",
		Args:    invalidArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			cfg.Wardnet, cfg.Edge = self, filepath.Join(filepath.Dir(self), "wardnet-edge")
			if _, err := os.Stat(cfg.Edge); err != nil {
				return fmt.Errorf("%w: wardnet-edge must stand beside wardnet, run 'make build': %w", inventory.ErrInvalid, err)
			}
			for _, s := range sites {
				cfg.Sites = append(cfg.Sites, inventory.SiteID(s))
			}
			cfg.Sample, cfg.Progress = sample.City(), cmd.ErrOrStderr()
			l, err := netlab.Up(cmd.Context(), cfg)
			switch {
			case errors.Is(err, netlab.ErrNotRoot):
				return labError{err, "network namespaces are made by root only; try sudo"}
			case err != nil && l != nil:
				return labError{err, "look at the logs in " + filepath.Join(l.Dir, "run") + "; 'wardnet lab down' removes what is there"}
			case err != nil:
				return err
			}
			return showLab(cmd, l, asJSON)
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Hubs, "hubs", 2, "hub sites, 1 or 2")
	f.IntVar(&cfg.Wards, "wards", 4, "wards of the demo inventory, spread over the ways they are attached")
	f.StringSliceVar(&sites, "site", nil, "further sites of the demo inventory")
	f.StringVar((*string)(&cfg.Overlay), "overlay", "", "technology of all tunnels: wireguard or ipsec (default wireguard)")
	f.DurationVar(&cfg.BFD, "bfd", 0, "interval of BFD on all tunnels, for many wards on a small machine (default 300ms)")
	f.IntVar(&cfg.Circuits, "circuits", 0, "how many circuits each ward keeps, its preferred ones first, for many wards on a small machine (default all)")
	f.StringVar(&cfg.Prefix, "prefix", "wn", "begins the name of every namespace")
	f.StringVar(&cfg.Dir, "dir", netlab.DefaultDir, "directory of the lab")
	f.BoolVar(&asJSON, "json", false, "print the lab's status as JSON")
	return cmd
}

func showLab(cmd *cobra.Command, l *netlab.Lab, asJSON bool) error {
	s, err := l.Status(cmd.Context())
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd, s)
	}
	fmt.Fprintln(cmd.OutOrStdout(), s)
	switch {
	case !s.Healthy:
		fmt.Fprintln(cmd.OutOrStdout(), "NOT healthy")
	case s.SecondsUp == 0:
		fmt.Fprintln(cmd.OutOrStdout(), "healthy")
	default:
		fmt.Fprintf(cmd.OutOrStdout(), "healthy; came up in %.1f s\n", s.SecondsUp)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "logs in %s; ask the controller with --data %s\n", filepath.Join(l.Dir, "run"), l.Data())
	return nil
}

func newLabDown() *cobra.Command {
	var dir string
	var keep, asJSON bool
	cmd := &cobra.Command{
		Use:     "down",
		Short:   "Take the lab down: its processes, namespaces and files",
		Example: "  wardnet lab down\n  wardnet lab down --dir /tmp/lab --keep",
		Args:    invalidArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := netlab.Open(dir, sample.City())
			switch {
			case errors.Is(err, inventory.ErrNotFound):
				return sayDown(cmd, asJSON, false)
			case err != nil:
				return err
			}
			if err := l.Down(keep); errors.Is(err, netlab.ErrNotRoot) {
				return labError{err, "network namespaces are removed by root only; try sudo"}
			} else if err != nil {
				return err
			}
			return sayDown(cmd, asJSON, true)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", netlab.DefaultDir, "directory of the lab")
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the files: logs, state of the devices and of the controller")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func sayDown(cmd *cobra.Command, asJSON, was bool) error {
	if asJSON {
		return printJSON(cmd, map[string]bool{"taken_down": was})
	}
	text := "there is no lab; nothing to do"
	if was {
		text = "the lab is down"
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}

func newLabStatus() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether the lab is well",
		Long: `Say whether the lab is well: exit 0 when it is healthy, 1 when not.

Tunnels and devices in sync are what the controller says; BGP sessions are read
from the routing daemons of the boxes themselves. seconds_up is how long the
lab took to come up.`,
		Example: "  wardnet lab status --json",
		Args:    invalidArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := netlab.Open(dir, sample.City())
			if err != nil {
				return err
			}
			if err := showLab(cmd, l, asJSON); err != nil {
				return err
			}
			if s, err := l.Status(cmd.Context()); err != nil || !s.Healthy {
				return labError{errors.Join(errors.New("the lab is not healthy"), err), "logs are in " + filepath.Join(l.Dir, "run")}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", netlab.DefaultDir, "directory of the lab")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// newLabHost is the process behind the lab's sockets; people have no use for it.
func newLabHost() *cobra.Command {
	var path string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "host",
		Short:   "Serve what listens in the lab (started by lab up)",
		Hidden:  true,
		Example: "  wardnet lab host --services services.json --json",
		Args:    invalidArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("%w: read the list of services: %w", inventory.ErrInvalid, err)
			}
			var all []netlab.Service
			if err := json.Unmarshal(b, &all); err != nil {
				return fmt.Errorf("%w: %s: %w", inventory.ErrInvalid, path, err)
			}
			log, err := logger(cmd.ErrOrStderr(), "info")
			if err != nil {
				return err
			}
			return service.Run(cmd.Context(), all, log, func() error {
				if asJSON {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]int{"sockets": len(all)})
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d sockets\n", len(all))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&path, "services", "", "file with the sockets to open")
	cmd.Flags().BoolVar(&asJSON, "json", false, "say that all sockets are open as one JSON line")
	return cmd
}
