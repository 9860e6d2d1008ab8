package console

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// inventoryAge is how long a read inventory is shown again without asking
// whether another replica has replaced it. A write looks at the stored one.
const inventoryAge = time.Second

// KeptInventory is [Inventory] over the store of package inventory.
type KeptInventory struct {
	store   inventory.Store
	org     inventory.OrgID
	changed func(context.Context, inventory.Inventory, uint64)

	mu      sync.Mutex
	inv     inventory.Inventory
	version uint64
	read    time.Time
}

// AdaptInventory keeps the inventory of one organisation in store. changed is
// called after every import that changed something; nil: nobody asks.
func AdaptInventory(store inventory.Store, org inventory.OrgID, changed func(context.Context, inventory.Inventory, uint64)) *KeptInventory {
	if changed == nil {
		changed = func(context.Context, inventory.Inventory, uint64) {}
	}
	return &KeptInventory{store: store, org: org, changed: changed}
}

// Load implements [Inventory]. The result is shared: do not change it.
func (k *KeptInventory) Load(ctx context.Context) (inventory.Inventory, uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.read) < inventoryAge {
		return k.inv, k.version, nil
	}
	version, err := k.store.Version(ctx)
	if err != nil {
		return inventory.Inventory{}, 0, fmt.Errorf("read the inventory: %w", err)
	}
	if k.read.IsZero() || version != k.version { // it is large, and seldom replaced
		if k.inv, k.version, err = k.store.Load(ctx); err != nil {
			k.read = time.Time{}
			return inventory.Inventory{}, 0, fmt.Errorf("read the inventory: %w", err)
		}
	}
	k.read = time.Now()
	return k.inv, k.version, nil
}

// Import implements [Inventory].
func (k *KeptInventory) Import(ctx context.Context, doc []byte, base uint64, dryRun bool) (client.ImportResult, error) {
	next, err := inventory.Decode("inventory.yaml", bytes.NewReader(doc))
	if err != nil {
		return client.ImportResult{}, err
	}
	if next.Org != k.org {
		return client.ImportResult{}, inventory.Faults{{File: "inventory.yaml", Field: "org", Text: fmt.Sprintf("organisation %q; this controller belongs to %q", next.Org, k.org)}}
	}
	inForce, version, err := k.fresh(ctx)
	if err != nil {
		return client.ImportResult{}, err
	}
	if !dryRun && base != version {
		return client.ImportResult{}, fmt.Errorf("import the inventory: version %d is in force, not %d: %w", version, base, inventory.ErrConflict)
	}
	if next, err = inventory.Adopt(inForce, next); err != nil {
		return client.ImportResult{}, err
	}
	res := client.ImportResult{Version: version, Counts: next.Count(), Changed: !inventory.Diff(inForce, next).Empty()}
	if dryRun || !res.Changed {
		return res, nil
	}
	if res.Version, err = k.store.Replace(ctx, base, next); err != nil {
		return client.ImportResult{}, fmt.Errorf("import the inventory: %w", err)
	}
	k.replaced(ctx, next, res.Version)
	return res, nil
}

// replaced takes up what has been stored and tells those who keep something of
// it.
func (k *KeptInventory) replaced(ctx context.Context, inv inventory.Inventory, version uint64) {
	k.mu.Lock()
	k.inv, k.version, k.read = inv, version, time.Now()
	k.mu.Unlock()
	k.changed(ctx, inv, version)
}

// fresh reads the inventory from the store, for a write.
func (k *KeptInventory) fresh(ctx context.Context) (inventory.Inventory, uint64, error) {
	inv, version, err := k.store.Load(ctx)
	if err != nil {
		return inventory.Inventory{}, 0, fmt.Errorf("read the inventory: %w", err)
	}
	return inv, version, nil
}
