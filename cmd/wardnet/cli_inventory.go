package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
)

// sources opens the named files, and every .csv of a named directory.
func sources(paths []string) (out []inventory.Source, closeAll func(), err error) {
	var files []*os.File
	closeAll = func() {
		for _, f := range files {
			_ = f.Close()
		}
	}
	for _, p := range paths {
		names := []string{p}
		if info, err := os.Stat(p); err == nil && info.IsDir() {
			if names, err = filepath.Glob(filepath.Join(p, "*.csv")); err != nil || len(names) == 0 {
				return nil, closeAll, fmt.Errorf("%w: %s holds no .csv file", inventory.ErrInvalid, p)
			}
		}
		for _, n := range names {
			f, err := os.Open(n)
			if err != nil {
				return nil, closeAll, fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
			}
			files = append(files, f)
			out = append(out, inventory.Source{Name: filepath.Base(n), R: f})
		}
	}
	return out, closeAll, nil
}

func newInventory() *cobra.Command {
	return group("inventory", "What the city has: sites, devices, circuits, segments, applications, addresses",
		newInventoryImport(), newInventoryCheck(), newInventoryExport(), newInventoryShow())
}

func newInventoryImport() *cobra.Command {
	return verb[client.ImportResult]{
		use: "import FILE…", short: "Import a YAML document, or CSV files named after their noun, in one step", example: "wardnet inventory import city.yaml\n  wardnet inventory import circuits.csv devices.csv",
		args: cobra.MinimumNArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.ImportResult, error) {
			src, closeAll, err := sources(args)
			defer closeAll()
			if err != nil {
				return client.ImportResult{}, err
			}
			base, version, err := c.Inventory(ctx)
			if err != nil {
				return client.ImportResult{}, err
			}
			inv, err := inventory.Import(base, src...)
			if err != nil {
				return client.ImportResult{}, err
			}
			var doc bytes.Buffer
			if err := inventory.Encode(&doc, inv); err != nil {
				return client.ImportResult{}, err
			}
			return c.ImportInventory(ctx, doc.Bytes(), version)
		},
		show: func(w io.Writer, r client.ImportResult) {
			if !r.Changed {
				fmt.Fprintf(w, "no change; version %d stays in force\n", r.Version)
				return
			}
			fmt.Fprintf(w, "version %d is in force\n", r.Version)
			for _, noun := range inventory.Nouns() {
				if n, ok := r.Counts[noun]; ok {
					row(w, noun, n)
				}
			}
		},
	}.command()
}

func newInventoryCheck() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "check FILE…", Short: "Find every fault of an inventory; nothing is sent or changed", Example: "  wardnet inventory check city.yaml",
		Args: invalidArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			src, closeAll, err := sources(args)
			defer closeAll()
			if err != nil {
				return err
			}
			inv, err := inventory.Import(inventory.Inventory{}, src...)
			if err != nil {
				return err
			}
			if inv, err = inventory.Allocate(inv); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, inv.Count())
			}
			for _, noun := range inventory.Nouns() {
				fmt.Fprintf(cmd.OutOrStdout(), "%-14s %d\n", noun, inv.Count()[noun])
			}
			fmt.Fprintln(cmd.OutOrStdout(), "no fault found")
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newInventoryExport() *cobra.Command {
	var useSample, asJSON bool
	var noun string
	cmd := &cobra.Command{
		Use: "export", Short: "Print the inventory in force as YAML, or one noun as CSV", Example: "  wardnet inventory export > city.yaml\n  wardnet inventory export --noun circuits > circuits.csv\n  wardnet inventory export --sample > sample.yaml",
		Args: invalidArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			inv := sample.Written()
			if !useSample {
				c, err := dial(cmd)
				if err != nil {
					return err
				}
				defer c.Close()
				if inv, _, err = c.Inventory(cmd.Context()); err != nil {
					return advise(err)
				}
			}
			switch {
			case asJSON && noun != "":
				return fmt.Errorf("%w: --noun is CSV and --json is the whole document; choose one", inventory.ErrInvalid)
			case asJSON:
				return printJSON(cmd, jsonDocument{inventory.APIVersion, inventory.DocumentKind, inv})
			case noun != "":
				return inventory.EncodeCSV(cmd.OutOrStdout(), inv, noun)
			}
			return inventory.Encode(cmd.OutOrStdout(), inv)
		},
	}
	cmd.Flags().BoolVar(&useSample, "sample", false, "the embedded sample city instead of the one in force")
	cmd.Flags().StringVar(&noun, "noun", "", "print one noun as CSV: "+strings.Join(inventory.Nouns(), ", "))
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the document as JSON, which import reads too")
	return cmd
}

// jsonDocument is a whole inventory document as JSON.
type jsonDocument struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	inventory.Inventory
}

func newInventoryShow() *cobra.Command {
	var site string
	var expanded bool
	cmd := verb[inventoryShown]{
		use: "show", short: "Count what the inventory in force holds, or show one of its sites", example: "wardnet inventory show --json\n  wardnet inventory show --site s-26740\n  wardnet inventory show --site s-26740 --expanded",
		ask: func(ctx context.Context, c *client.Client, _ []string) (inventoryShown, error) {
			if expanded && site == "" {
				return inventoryShown{}, fmt.Errorf("%w: --expanded shows one site; name it with --site", inventory.ErrInvalid)
			}
			inv, v, err := c.Inventory(ctx)
			if err != nil || site == "" {
				return inventoryShown{Version: v, Org: string(inv.Org), Counts: inv.Count()}, err
			}
			return showSite(inv, v, inventory.SiteID(site), expanded)
		},
		show: showInventory,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&site, "site", "", "the site to show, with its circuits")
			cmd.Flags().BoolVar(&expanded, "expanded", false, "write out what the profile of the site gives it, and say where each field comes from")
		},
	}.command()
	return cmd
}
