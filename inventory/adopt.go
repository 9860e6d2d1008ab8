package inventory

import "fmt"

// Adopt makes next the successor of prev, ready to be put in force: it keeps
// every allocation of prev that next does not state itself, allocates for new
// owners, refuses the reuse of a device id, and validates the whole. The
// result is normalized; the error wraps [ErrInvalid].
func Adopt(prev, next Inventory) (Inventory, error) {
	if err := Validate(next); err != nil {
		return Inventory{}, err
	}
	if err := reused(prev, next); err != nil {
		return Inventory{}, err
	}
	type slot struct {
		owner string
		kind  PoolKind
	}
	kinds := map[PoolID]PoolKind{}
	for _, p := range prev.Pools {
		kinds[p.ID] = p.Kind
	}
	for _, p := range next.Pools {
		kinds[p.ID] = p.Kind
	}
	stated := map[slot]bool{}
	for _, a := range next.Allocations {
		stated[slot{a.Owner, kinds[a.Pool]}] = true
	}
	kept := append([]Allocation{}, next.Allocations...)
	for _, a := range prev.Allocations {
		if !stated[slot{a.Owner, kinds[a.Pool]}] {
			kept = append(kept, a)
		}
	}
	next.Allocations = kept
	if err := Validate(next); err != nil {
		return Inventory{}, fmt.Errorf("keep the addresses already allocated: %w", err)
	}
	next, err := Allocate(next)
	if err != nil {
		return Inventory{}, err
	}
	if err := Validate(next); err != nil {
		return Inventory{}, fmt.Errorf("allocate addresses: %w", err)
	}
	return next, nil
}

// reused finds device ids that mean another device than before.
func reused(prev, next Inventory) error {
	var faults faultList
	was := prev.Index()
	for i, d := range next.Devices {
		old, ok := was.Device(d.ID)
		if !ok || old.Intended == Planned {
			continue
		}
		if old.Serial != d.Serial {
			faults.add(Fault{Field: fmt.Sprintf("devices[%d].serial", i), Text: fmt.Sprintf("device %q is serial %q; ids are never reused, so retire it and declare %q under a new id", d.ID, old.Serial, d.Serial)})
		}
		if old.Intended == Retired && d.Intended != Retired {
			faults.add(Fault{Field: fmt.Sprintf("devices[%d].intended", i), Text: fmt.Sprintf("device %q is retired; ids are never reused, so declare it under a new one", d.ID)})
		}
	}
	return faults.err()
}
