package console

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/controller/archive"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// DriftSources are what the drifts are made from; all are required.
type DriftSources struct {
	Controller *controller.Controller
	Intents    *Intents
	Inventory  Inventory
	// Running reads what a device runs now.
	Running func(ctx context.Context, id inventory.DeviceID) (edge.Config, error)
}

// DriftBook is [Drifts] over the controller.
type DriftBook struct {
	src DriftSources

	mu   sync.Mutex
	read []client.Drift // never changed once made
	at   time.Time
	seen map[inventory.DeviceID]int // times that each device had drifted then
}

// driftAge is how long drifts that are over are used again.
const driftAge = time.Minute

// AdaptDrifts serves the controller's drifts.
func AdaptDrifts(src DriftSources) *DriftBook { return &DriftBook{src: src} }

// Drifts implements [Drifts]. An open page asks every second, and drifts are kept
// for ever: they are read again only when a device has drifted since, or while
// one is not over.
func (b *DriftBook) Drifts(ctx context.Context) ([]client.Drift, error) {
	seen := map[inventory.DeviceID]int{} // counted before reading: what comes meanwhile is read the next time
	for _, st := range b.src.Controller.Statuses() {
		if st.Drifts > 0 {
			seen[st.Device] = st.Drifts
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.still(seen, now) {
		return b.read, nil
	}
	all, err := b.src.Controller.Drifts(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]client.Drift, len(all))
	for i, d := range all {
		out[i] = driftView(d)
	}
	b.read, b.at, b.seen = out, now, seen
	return out, nil
}

// still says whether what was read holds: each device has drifted as often as
// then, and no drift is left to change.
func (b *DriftBook) still(seen map[inventory.DeviceID]int, now time.Time) bool {
	return b.seen != nil && now.Sub(b.at) < driftAge && maps.Equal(b.seen, seen) && !slices.ContainsFunc(b.read, client.Drift.Active)
}

// Drift implements [Drifts].
func (b *DriftBook) Drift(ctx context.Context, id string) (client.Drift, error) {
	all, err := b.Drifts(ctx)
	if err != nil {
		return client.Drift{}, err
	}
	for _, d := range all {
		if d.ID == id {
			return d, nil
		}
	}
	return client.Drift{}, fmt.Errorf("drift %q: %w", id, inventory.ErrNotFound)
}

// RevertDrift implements [Drifts].
func (b *DriftBook) RevertDrift(ctx context.Context, id string, why client.DriftDecision, by string) (client.Drift, error) {
	d, err := b.src.Controller.RevertDrift(ctx, id, by, why.Reason)
	return driftView(d), err
}

// WaiveDrift implements [Drifts].
func (b *DriftBook) WaiveDrift(ctx context.Context, id string, why client.DriftDecision, by string) (client.Drift, error) {
	if why.Until == nil {
		return client.Drift{}, fmt.Errorf("waive drift %s: %w: say until when", id, inventory.ErrInvalid)
	}
	d, err := b.src.Controller.WaiveDrift(ctx, id, by, why.Reason, *why.Until)
	return driftView(d), err
}

// AdoptDrift implements [Drifts]. What the device runs becomes an override in
// the inventory, and the inventory a revision; asked again after a failure it
// goes on where it was.
func (b *DriftBook) AdoptDrift(ctx context.Context, id string, why client.DriftDecision, by string) (client.Drift, error) {
	fail := func(err error) (client.Drift, error) {
		return client.Drift{}, fmt.Errorf("adopt drift %s: %w", id, err)
	}
	d, _, err := b.src.Controller.Adrift(id)
	if err != nil {
		return fail(err)
	}
	have, err := b.src.Running(ctx, d.Device)
	if err != nil {
		return fail(err)
	}
	if h := have.Hash(); h != d.Have {
		return fail(fmt.Errorf("%w: %s runs %.12s by now, not %.12s; look at it again", inventory.ErrConflict, d.Device, h, d.Have))
	}
	inv, version, err := b.src.Inventory.Load(ctx)
	if err != nil {
		return fail(err)
	}
	plain, err := b.src.Intents.plain(inv, d.Device)
	if err != nil {
		return fail(err)
	}
	text, err := controller.OverrideOf(plain, have)
	if err != nil {
		return fail(err)
	}
	reason := clip(strings.TrimSpace(why.Reason))
	if text == "null" { // the inventory says the same already
		text, reason = "", ""
	}
	inv = overridden(inv, d.Device, text, reason)
	var doc bytes.Buffer
	if err := inventory.Encode(&doc, inv); err != nil {
		return fail(err)
	}
	// What does not compile is refused before the inventory is touched.
	again, err := controller.Compile(intent.Revision{Number: 1, Org: inv.Org, Content: inv}, d.Device)
	if err == nil && again.Hash() != d.Have {
		err = fmt.Errorf("%w: the override does not give what %s runs", inventory.ErrConflict, d.Device)
	}
	if err != nil {
		return fail(err)
	}
	if _, err := b.src.Inventory.Import(ctx, doc.Bytes(), version, false); err != nil {
		return fail(err)
	}
	rev, err := b.src.Intents.Propose(ctx, client.NewRevision{Message: fmt.Sprintf("adopt drift %s of %s: %s", d.ID, d.Device, why.Reason)}, by)
	if err != nil {
		return fail(err)
	}
	d, err = b.src.Controller.AdoptDrift(ctx, id, by, why.Reason, rev.Number)
	return driftView(d), err
}

// plain is the config that inv asks of a device without its override.
func (i *Intents) plain(inv inventory.Inventory, id inventory.DeviceID) (edge.Config, error) {
	inv = overridden(inv, id, "", "")
	return controller.Compile(intent.Revision{Number: 1, Org: i.src.Org, Content: inv}, id)
}

// overridden is inv with the override of one device or router.
func overridden(inv inventory.Inventory, id inventory.DeviceID, text, reason string) inventory.Inventory {
	inv.Devices, inv.Routers = slices.Clone(inv.Devices), slices.Clone(inv.Routers)
	for i := range inv.Devices {
		if d := &inv.Devices[i]; d.ID == id {
			d.Override, d.OverrideReason = text, reason
		}
	}
	for i := range inv.Routers {
		if r := &inv.Routers[i]; r.ID == id {
			r.Override, r.OverrideReason = text, reason
		}
	}
	return inv
}

func driftView(d controller.Drift) client.Drift {
	return client.Drift{
		ID: d.ID, Device: d.Device, Found: d.Found, Revision: d.Revision, State: string(d.State), Want: d.Want, Have: d.Have,
		Changes: append([]string{}, d.Changes...), Who: d.Who, How: d.How, By: d.By, Reason: d.Reason,
		Decided: timeOrNil(d.Decided), Until: timeOrNil(d.Until), Adopts: d.Adopts,
	}
}

// ConfigArchive is [Configs] over the archive.
type ConfigArchive struct{ keeper *archive.Keeper }

// AdaptConfigs serves what k keeps.
func AdaptConfigs(k *archive.Keeper) *ConfigArchive { return &ConfigArchive{k} }

// Configs implements [Configs].
func (a *ConfigArchive) Configs(ctx context.Context, device inventory.DeviceID) ([]client.ConfigVersion, error) {
	heads, err := a.keeper.Heads(ctx, device)
	out := make([]client.ConfigVersion, len(heads))
	for i, h := range heads {
		out[i] = versionView(archive.Version{Head: h})
	}
	return out, err
}

// Config implements [Configs].
func (a *ConfigArchive) Config(ctx context.Context, device inventory.DeviceID, n uint64) (client.ConfigVersion, error) {
	v, err := a.keeper.Get(ctx, device, n)
	return versionView(v), err
}

// DiffConfigs implements [Configs].
func (a *ConfigArchive) DiffConfigs(ctx context.Context, device inventory.DeviceID, from, to uint64) (client.ConfigDiff, error) {
	x, y, text, err := a.keeper.Diff(ctx, device, from, to)
	return client.ConfigDiff{From: versionView(archive.Version{Head: x}), To: versionView(archive.Version{Head: y}), Diff: text}, err
}

func versionView(v archive.Version) client.ConfigVersion {
	return client.ConfigVersion{
		Device: v.Device, N: v.N, At: v.At, Revision: v.Revision, Hash: v.Hash, Source: v.Source, Complete: v.Complete, Bytes: v.Bytes, Note: v.Note, Text: v.Text,
	}
}
