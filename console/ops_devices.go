package console

import (
	"context"
	"fmt"
	"net/http"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

func (c *Console) registerDevices() {
	read(c, get("/devices", "list-devices", "inventory", "Devices, declared and observed"), func(ctx context.Context, _ *nothing) (*answer[[]client.Device], error) {
		return listed(c.deps.Devices.Devices(ctx))
	})
	read(c, get("/devices/{id}", "get-device", "inventory", "One device"), func(ctx context.Context, in *byID) (*answer[client.Device], error) {
		return answered(c.deps.Devices.Device(ctx, inventory.DeviceID(in.ID)))
	})
	read(c, get("/devices/{id}/timeline", "get-device-timeline", "inventory", "How a device came up: each step of its first boot, with the cause where it stopped"), c.timeline)
	op := post("/replacements", "replace-device", "inventory", "Put a box in the place of another: same site, circuits and addresses; the old one is refused at once")
	op.DefaultStatus = http.StatusCreated
	write(c, op, c.replace)
}

func (c *Console) timeline(ctx context.Context, in *byID) (*answer[client.Timeline], error) {
	id := inventory.DeviceID(in.ID)
	if c.deps.Boots == nil {
		return nil, fmt.Errorf("%w: this controller keeps no boot timelines", inventory.ErrNotFound)
	}
	if _, err := c.deps.Devices.Device(ctx, id); err != nil {
		return nil, err
	}
	return answered(c.deps.Boots.Timeline(ctx, id))
}

func (c *Console) replace(ctx context.Context, in *struct{ Body client.NewReplacement }) (*answer[client.Replacement], error) {
	about(ctx, "serial/"+clip(in.Body.OldSerial))
	if c.deps.Replacements == nil {
		return nil, fmt.Errorf("%w: this controller cannot replace devices", inventory.ErrNotFound)
	}
	r, err := c.deps.Replacements.Replace(ctx, in.Body, principal(ctx).Name)
	if err == nil {
		about(ctx, "device/"+string(r.Old))
		changed(ctx, map[string]any{"device": r.Old, "serial": in.Body.OldSerial},
			map[string]any{"device": r.Device, "serial": in.Body.NewSerial, "revision": r.Revision.Number, "inventory_version": r.Inventory, "revoked": r.Revoked, "reason": in.Body.Reason}) // never the token
	}
	return answered(r, err)
}
