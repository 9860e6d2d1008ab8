package upgrade

import (
	"slices"
	"strings"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/inventory"
)

// makeWaves orders devices: wards up to 1 %, 5 % and 10 %, the first ones
// covering every platform and kind of circuit, then the rest, then each hub
// alone. It is pure; every device of chosen that city has is in one wave.
func makeWaves(chosen []inventory.DeviceID, city *inventory.Inventory) []Wave {
	var edges, hubs []inventory.DeviceID
	site := map[inventory.DeviceID]inventory.SiteID{}
	for _, d := range city.Devices {
		if !slices.Contains(chosen, d.ID) {
			continue
		}
		site[d.ID] = d.Site
		if d.Role == inventory.RoleHub {
			hubs = append(hubs, d.ID)
		} else {
			edges = append(edges, d.ID)
		}
	}
	var waves []Wave
	for _, w := range controller.EdgeWaves(edges, city) {
		waves = append(waves, Wave{Name: w.Name, Devices: w.Devices, State: WaveWaiting})
	}
	slices.Sort(hubs)
	for _, id := range hubs {
		name := "hub-" + strings.TrimPrefix(string(site[id]), "hub-")
		waves = append(waves, Wave{Name: name, Devices: []inventory.DeviceID{id}, State: WaveWaiting})
	}
	return waves
}
