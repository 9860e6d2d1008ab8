package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"github.com/wardnet/wardnet/inventory"
)

// inventoryShown is the answer of 'inventory show': the counts, or one site.
type inventoryShown struct {
	Version  uint64              `json:"version"`
	Org      string              `json:"org"`
	Counts   map[string]int      `json:"counts,omitempty"`
	Site     *inventory.Site     `json:"site,omitempty"`
	Circuits []inventory.Circuit `json:"circuits,omitempty"`
	// Sources say where the fields of an expanded site come from.
	Sources []inventory.Derivation `json:"sources,omitempty"`
}

// showSite picks one site of inv with its circuits; expanded: with what its
// profile gives it, and where each field comes from.
func showSite(inv inventory.Inventory, version uint64, id inventory.SiteID, expanded bool) (inventoryShown, error) {
	out := inventoryShown{Version: version, Org: string(inv.Org)}
	var err error
	if expanded {
		if out.Sources, err = inventory.Explain(inv, id); err != nil {
			return out, err
		}
		if inv, err = inventory.Expand(inv); err != nil {
			return out, err
		}
		inv = inv.Normalize()
	}
	i := slices.IndexFunc(inv.Sites, func(s inventory.Site) bool { return s.ID == id })
	if i < 0 {
		return out, fmt.Errorf("%w: site %q is not in version %d of the inventory", inventory.ErrNotFound, id, version)
	}
	out.Site, out.Circuits = &inv.Sites[i], []inventory.Circuit{}
	for _, k := range inv.Circuits {
		if k.Site == id {
			out.Circuits = append(out.Circuits, k)
		}
	}
	return out, nil
}

// showInventory prints the counts, or the site as the document has it.
func showInventory(w io.Writer, s inventoryShown) {
	if s.Site == nil {
		row(w, "version", s.Version)
		row(w, "organisation", s.Org)
		for _, noun := range inventory.Nouns() {
			row(w, noun, s.Counts[noun])
		}
		return
	}
	var doc bytes.Buffer
	if err := inventory.EncodeSite(&doc, *s.Site, s.Circuits); err != nil {
		fmt.Fprintln(w, err) // a value that has been read can be written
		return
	}
	_, _ = w.Write(doc.Bytes())
	if len(s.Sources) == 0 {
		return
	}
	fmt.Fprintln(w)
	row(w, "FIELD", "VALUE", "COMES FROM", "WRITTEN AT")
	for _, from := range s.Sources {
		row(w, from.Field, from.Value, from.String(), from.At)
	}
}
