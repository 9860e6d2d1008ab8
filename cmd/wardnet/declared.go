package main

import (
	"fmt"
	"strings"

	"github.com/wardnet/wardnet/incident"
	"github.com/wardnet/wardnet/inventory"
)

// declared is what the parts look up in the inventory in force, made once per
// version.
type declared struct {
	inv      inventory.Inventory
	devices  map[inventory.DeviceID]inventory.Device
	routers  map[inventory.DeviceID]inventory.Router
	carriers map[string]inventory.CarrierID // by circuit
	topology *incident.Topology
}

func declare(inv inventory.Inventory) *declared {
	d := &declared{
		inv:      inv,
		devices:  make(map[inventory.DeviceID]inventory.Device, len(inv.Devices)),
		routers:  make(map[inventory.DeviceID]inventory.Router, len(inv.Routers)),
		carriers: make(map[string]inventory.CarrierID, len(inv.Circuits)),
		topology: incident.NewTopology(inv),
	}
	for _, x := range inv.Devices {
		d.devices[x.ID] = x
	}
	for _, x := range inv.Routers {
		d.routers[x.ID] = x
	}
	for _, c := range inv.Circuits {
		d.carriers[string(c.ID)] = c.Carrier
	}
	return d
}

func (d *declared) device(id inventory.DeviceID) (inventory.Device, error) {
	x, ok := d.devices[id]
	if r, is := d.routers[id]; is && !ok {
		return r.Device(), nil
	}
	if !ok {
		return x, fmt.Errorf("device %s: %w", id, inventory.ErrNotFound)
	}
	return x, nil
}

// labels are a series' site and, for a circuit or a tunnel over it, carrier.
func (d *declared) labels(id inventory.DeviceID, object string) (inventory.SiteID, inventory.CarrierID) {
	circuit, _, _ := strings.Cut(object, "--")
	return d.devices[id].Site, d.carriers[circuit]
}
