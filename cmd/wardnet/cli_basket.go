package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

func newBasket() *cobra.Command {
	return group("basket", "Changes that several people prepare before they become a revision",
		newBasketCreate(), newBasketList(), newBasketShow(), newBasketAdd(), newBasketTake(),
		newBasketEnd("submit", "Put the edits in force in the inventory and make a revision of it; nobody who edited may approve it"),
		newBasketEnd("drop", "Give it up"))
}

func newBasketCreate() *cobra.Command {
	return verb[client.BasketView]{
		use: "create TITLE", short: "Make an empty one", example: "wardnet basket create 'kiosks for Bình Dương'", args: cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.BasketView, error) {
			return c.CreateBasket(ctx, args[0])
		},
		show: showBasket,
	}.command()
}

func newBasketList() *cobra.Command {
	return verb[[]intent.Basket]{
		use: "list", short: "List them, newest first", example: "wardnet basket list",
		ask: func(ctx context.Context, c *client.Client, _ []string) ([]intent.Basket, error) {
			return c.Baskets(ctx)
		},
		show: func(w io.Writer, v []intent.Basket) {
			row(w, "ID", "MADE", "STATE", "EDITS", "PEOPLE", "TITLE")
			for _, b := range v {
				row(w, b.ID, b.Made, string(b.State), len(b.Edits), strings.Join(b.People(), ", "), cut(b.Title, 60))
			}
			none(w, len(v), "baskets")
		},
	}.command()
}

func newBasketShow() *cobra.Command {
	return verb[client.BasketView]{
		use: "show ID", short: "Show one: every edit with who made it, and what stands against it", example: "wardnet basket show 019ab2…", args: cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.BasketView, error) {
			return c.Basket(ctx, args[0])
		},
		show: showBasket,
	}.command()
}

func showBasket(w io.Writer, b client.BasketView) {
	row(w, "basket", b.ID)
	row(w, "title", b.Title)
	row(w, "by", b.Author)
	row(w, "state", string(b.State))
	if b.Revision != 0 {
		row(w, "next", fmt.Sprintf("'wardnet plan %d'", b.Revision))
	}
	for _, e := range b.Edits {
		op := "~"
		switch {
		case len(e.Was) == 0:
			op = "+"
		case len(e.Now) == 0:
			op = "-"
		}
		why := ""
		if e.Why != "" {
			why = ": " + e.Why
		}
		fmt.Fprintf(w, "    %s %s, by %s at %s%s\n", op, e.Name(), e.By, shown(e.At), why)
	}
	for _, f := range b.Faults {
		fmt.Fprintf(w, "    fault: %s\n", f)
	}
}

// readSources opens inventory files for an import.
func readSources(paths []string) ([]inventory.Source, func(), error) {
	var out []inventory.Source
	var files []*os.File
	shut := func() {
		for _, f := range files {
			f.Close() // read only
		}
	}
	for _, p := range paths {
		f, err := os.Open(p)
		if err != nil {
			shut()
			return nil, nil, fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
		}
		files = append(files, f)
		out = append(out, inventory.Source{Name: filepath.Base(p), R: f})
	}
	return out, shut, nil
}

// editsOf compares files with base, or with the inventory in force.
func editsOf(ctx context.Context, c *client.Client, base string, files []string) ([]inventory.Edit, error) {
	before, _, err := c.Inventory(ctx)
	if err != nil {
		return nil, err
	}
	if base != "" {
		src, shut, err := readSources([]string{base})
		if err != nil {
			return nil, err
		}
		defer shut()
		if before, err = inventory.Import(inventory.Inventory{}, src...); err != nil {
			return nil, err
		}
	}
	src, shut, err := readSources(files)
	if err != nil {
		return nil, err
	}
	defer shut()
	after, err := inventory.Import(before, src...)
	if err != nil {
		return nil, err
	}
	return inventory.Edits(before, after)
}

func newBasketAdd() *cobra.Command {
	var base, why string
	return verb[client.BasketView]{
		use: "add ID FILE...", short: "Put in what files change: CSV rows of a noun, or a whole YAML document",
		example: "wardnet basket add 019ab2… devices.csv --why 'two new kiosks'\n  wardnet basket add 019ab2… edited.yaml --base exported.yaml", args: cobra.MinimumNArgs(2),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.BasketView, error) {
			edits, err := editsOf(ctx, c, base, args[1:])
			if err != nil {
				return client.BasketView{}, err
			}
			if len(edits) == 0 {
				return client.BasketView{}, fmt.Errorf("%w: the files change nothing", inventory.ErrInvalid)
			}
			return c.ActOnBasket(ctx, args[0], "add", client.BasketAction{Edits: edits, Why: why})
		},
		show: showBasket,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&base, "base", "", "the document as it was exported, for a YAML document that was edited since; default: the inventory in force")
			cmd.Flags().StringVar(&why, "why", "", "what the edits are for")
		},
	}.command()
}

func newBasketTake() *cobra.Command {
	return verb[client.BasketView]{
		use: "take ID NOUN THING", short: "Take an edit out", example: "wardnet basket take 019ab2… devices d-26740", args: cobra.ExactArgs(3),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.BasketView, error) {
			return c.ActOnBasket(ctx, args[0], "take", client.BasketAction{Noun: args[1], Thing: args[2]})
		},
		show: showBasket,
	}.command()
}

func newBasketEnd(name, short string) *cobra.Command {
	var why string
	return verb[client.BasketView]{
		use: name + " ID", short: short, example: "wardnet basket " + name + " 019ab2…", args: cobra.ExactArgs(1),
		ask: func(ctx context.Context, c *client.Client, args []string) (client.BasketView, error) {
			v, err := c.ActOnBasket(ctx, args[0], name, client.BasketAction{Why: why})
			if errors.Is(err, inventory.ErrConflict) {
				err = fmt.Errorf("%w; 'wardnet basket show %s' says what stands against it", err, args[0])
			}
			return v, err
		},
		show: showBasket,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&why, "message", "", "for the revision and the audit log; default: the title")
		},
	}.command()
}
