package console

import (
	"slices"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// severity orders states from best to worst for a site or a unit: something
// that works beside something planned counts as working.
var severity = []client.DeviceState{client.StatePlanned, client.StateOK, client.StateDegraded, client.StateQuarantined, client.StateDown}

// worst is the state a group of devices shows; an empty group is planned.
func worst(states ...client.DeviceState) client.DeviceState {
	w := client.StatePlanned
	for _, s := range states {
		if slices.Index(severity, s) > slices.Index(severity, w) {
			w = s
		}
	}
	return w
}

// siteViews joins sites with their devices and circuits.
func siteViews(inv inventory.Inventory, devices []client.Device) []client.SiteView {
	at := make(map[inventory.SiteID]int, len(inv.Sites))
	out := make([]client.SiteView, len(inv.Sites))
	for i, s := range inv.Sites {
		at[s.ID] = i
		out[i] = client.SiteView{Site: s, State: client.StatePlanned, Devices: []client.Device{}, Circuits: []inventory.Circuit{}}
	}
	for _, d := range devices {
		if i, ok := at[d.Site]; ok {
			out[i].Devices = append(out[i].Devices, d)
			out[i].State = worst(out[i].State, d.State)
		}
	}
	for _, ci := range inv.Circuits {
		if i, ok := at[ci.Site]; ok {
			out[i].Circuits = append(out[i].Circuits, ci)
		}
	}
	return out
}

// unitViews joins units with their sites' states; name and code are those valid
// at now.
func unitViews(inv inventory.Inventory, devices []client.Device, now time.Time) []client.UnitView {
	at := make(map[inventory.UnitID]int, len(inv.Units))
	out := make([]client.UnitView, len(inv.Units))
	for i, u := range inv.Units {
		at[u.ID] = i
		code := codeAt(u, now)
		out[i] = client.UnitView{Unit: u, Name: code.Name, Code: code.Code, State: client.StatePlanned, Sites: []inventory.SiteID{}}
	}
	for _, s := range siteViews(inv, devices) {
		if i, ok := at[s.Unit]; ok {
			out[i].Sites = append(out[i].Sites, s.ID)
			out[i].State = worst(out[i].State, s.State)
		}
	}
	return out
}

// codeAt is the unit's code valid at now, else its newest.
func codeAt(u inventory.Unit, now time.Time) inventory.UnitCode {
	day := now.Format(time.DateOnly)
	for _, c := range slices.Backward(u.Codes) {
		if c.ValidFrom <= day && (c.ValidTo == "" || day <= c.ValidTo) {
			return c
		}
	}
	if n := len(u.Codes); n > 0 {
		return u.Codes[n-1]
	}
	return inventory.UnitCode{}
}
