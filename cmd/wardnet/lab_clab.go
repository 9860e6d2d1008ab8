package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
	"github.com/wardnet/wardnet/inventory/sample"
	"github.com/wardnet/wardnet/labs/clab"
	"github.com/wardnet/wardnet/labs/netlab"
)

// clabDone is what lab containerlab tells.
type clabDone struct {
	Dir      string   `json:"dir"`
	Topology string   `json:"topology"` // path of the topology file
	Files    []string `json:"files"`    // relative to dir
}

func newLabClab() *cobra.Command {
	var shape netlab.Shape
	var cfg clab.Config
	var out string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "containerlab",
		Short: "Write the lab as a containerlab topology, for people with vendors' images (not run)",
		Long: `Write the lab as a containerlab topology, for people with vendors' images.

NOT RUN by Wardnet's makers: written after containerlab's documentation, on a
machine that has neither containerlab nor Docker.

The topology has the same carriers, exchange, hubs, wards, hosts and controller
as 'wardnet lab up', as containers of one image whose Dockerfile is written too.
--dc-kind and --dc-image put a vendor's router into the data centre; its
configuration (eBGP with BFD to the hubs) is written for arista_ceos and
nokia_srlinux, for other kinds the facts it must hold. README.md says what
to do with the files; they hold no secret.`,
		Example: "  wardnet lab containerlab --hubs 2 --wards 4 --out clab\n" +
			"  wardnet lab containerlab --wards 2 --out clab --dc-kind arista_ceos --dc-image ceos:4.32.0F",
		Args: invalidArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return fmt.Errorf("%w: --out is missing; name the directory to write to", inventory.ErrInvalid)
			}
			if err := errors.Join(shape.Validate(), cfg.Validate()); err != nil {
				return err
			}
			city, top, err := netlab.City(sample.City(), shape)
			if err != nil {
				return err
			}
			if cfg.ASN, err = asns(city); err != nil {
				return err
			}
			files, err := clab.Render(city, top, cfg)
			if err != nil {
				return err
			}
			if err := clab.Write(out, files); err != nil {
				return err
			}
			done := clabDone{Dir: out, Topology: filepath.Join(out, clab.TopologyFile)}
			for _, f := range files {
				done.Files = append(done.Files, f.Path)
			}
			if asJSON {
				return printJSON(cmd, done)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "topology  %s, %d files (NOT RUN)\nread      %s\n", done.Topology, len(files), filepath.Join(out, "README.md"))
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&shape.Hubs, "hubs", 2, "hub sites, 1 or 2")
	f.IntVar(&shape.Wards, "wards", 4, "wards of the demo inventory, spread over the ways they are attached")
	f.StringVar((*string)(&shape.Overlay), "overlay", "", "technology of all tunnels: wireguard or ipsec (default wireguard)")
	f.StringVar(&cfg.Name, "name", "wardnet", "of the lab at containerlab")
	f.StringVar(&cfg.DCKind, "dc-kind", "", "containerlab's kind of the data centre's router, e.g. arista_ceos, nokia_srlinux (default FRR on Linux)")
	f.StringVar(&cfg.DCImage, "dc-image", "", "image of the data centre's router")
	f.StringVar(&out, "out", "", "directory to write to (required)")
	f.BoolVar(&asJSON, "json", false, "print the list of files as JSON")
	return cmd
}

// asns are the AS numbers that the controller gives the devices of a city.
func asns(city inventory.Inventory) (map[inventory.DeviceID]uint32, error) {
	all, err := controller.CompileAll(intent.Revision{Content: city})
	if err != nil {
		return nil, fmt.Errorf("AS numbers of the lab: %w", err)
	}
	out := map[inventory.DeviceID]uint32{}
	for id, want := range all.Devices {
		out[id] = want.Config.BGP.ASN
	}
	return out, nil
}
