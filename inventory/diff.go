package inventory

import (
	"fmt"
	"reflect"
	"strings"
)

// NounDiff lists by id (allocations: owner and pool) what differs in one noun.
type NounDiff struct {
	Noun    string   `json:"noun"`
	Added   []string `json:"added,omitempty"`
	Changed []string `json:"changed,omitempty"`
	Removed []string `json:"removed,omitempty"`
}

// InventoryDiff is what lies between two inventories, in the order of
// [Nouns], without the nouns that are equal.
type InventoryDiff []NounDiff

// Empty says whether nothing differs.
func (d InventoryDiff) Empty() bool { return len(d) == 0 }

// Counts is the number of differences by noun.
func (d InventoryDiff) Counts() map[string]int {
	out := make(map[string]int, len(d))
	for _, n := range d {
		out[n.Noun] = len(n.Added) + len(n.Changed) + len(n.Removed)
	}
	return out
}

// String is one line: "sites +2 ~1 -0, circuits +4 ~0 -0", or "no change".
func (d InventoryDiff) String() string {
	parts := make([]string, len(d))
	for i, n := range d {
		parts[i] = fmt.Sprintf("%s +%d ~%d -%d", n.Noun, len(n.Added), len(n.Changed), len(n.Removed))
	}
	if len(parts) == 0 {
		return "no change"
	}
	return strings.Join(parts, ", ")
}

// Diff compares two inventories by id.
func Diff(before, after Inventory) InventoryDiff {
	var out InventoryDiff
	if before.Org != after.Org {
		out = append(out, NounDiff{Noun: orgNoun, Changed: []string{string(after.Org)}})
	}
	a, b := reflect.ValueOf(before.Normalize()), reflect.ValueOf(after.Normalize())
	for _, noun := range Nouns() {
		if noun == orgNoun {
			continue
		}
		old, now := list(a, noun), list(b, noun)
		d := NounDiff{Noun: noun}
		had := make(map[string]reflect.Value, old.Len())
		for i := range old.Len() {
			had[key(old.Index(i))] = old.Index(i)
		}
		for i := range now.Len() {
			k := key(now.Index(i))
			switch prev, ok := had[k]; {
			case !ok:
				d.Added = append(d.Added, k)
			case !reflect.DeepEqual(prev.Interface(), now.Index(i).Interface()):
				d.Changed = append(d.Changed, k)
			}
			delete(had, k)
		}
		for i := range old.Len() {
			if k := key(old.Index(i)); had[k].IsValid() {
				d.Removed = append(d.Removed, k)
			}
		}
		if len(d.Added)+len(d.Changed)+len(d.Removed) > 0 {
			out = append(out, d)
		}
	}
	return out
}

// Count is the number of elements by noun, without allocations.
func (inv Inventory) Count() map[string]int {
	out := map[string]int{}
	for _, noun := range Nouns() {
		if rows := list(reflect.ValueOf(inv), noun); rows.IsValid() && noun != "allocations" {
			out[noun] = rows.Len()
		}
	}
	return out
}
