package controller

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/inventory"
)

// makeWaves orders the pushes of a plan: each hub alone (what a change adds),
// each router of the data centre alone, then edges up to 1 %, 5 % and 10 % of those touched, then the rest, then each
// staged hub alone again (what the change takes away).
func makeWaves(devices []DevicePlan, to *Compiled) []PlannedWave {
	var hubs []DevicePlan
	var edges, routers []inventory.DeviceID
	for _, d := range devices {
		switch {
		case d.Action == Remove:
		case to.Devices[d.Device].Config.Role == inventory.RoleRouter:
			routers = append(routers, d.Device)
		case to.Devices[d.Device].Config.Role == inventory.RoleHub:
			hubs = append(hubs, d)
		default:
			edges = append(edges, d.Device)
		}
	}
	var waves []PlannedWave
	for _, h := range hubs {
		if !h.Late {
			waves = append(waves, PlannedWave{Name: hubWave(h.Site), Devices: []inventory.DeviceID{h.Device}, Additions: h.Staged})
		}
	}
	for _, id := range routers { // after the hubs' ends, and each alone
		waves = append(waves, PlannedWave{Name: "router-" + strings.TrimPrefix(string(id), "router-"), Devices: []inventory.DeviceID{id}})
	}
	waves = append(waves, EdgeWaves(edges, to.Content)...)
	for _, h := range hubs {
		if h.Staged || h.Late {
			waves = append(waves, PlannedWave{Name: hubWave(h.Site) + "-removals", Devices: []inventory.DeviceID{h.Device}})
		}
	}
	return waves
}

// hubWave names a hub's wave after its site, without saying hub twice.
func hubWave(id inventory.SiteID) string { return "hub-" + strings.TrimPrefix(string(id), "hub-") }

// EdgeWaves cuts edges at 1 %, 5 % and 10 %, each at least one device more
// than before. The first ones together show every platform and kind of circuit
// that city has at them. It is pure.
func EdgeWaves(edges []inventory.DeviceID, city *inventory.Inventory) []PlannedWave {
	order := canaryOrder(edges, city)
	var waves []PlannedWave
	from := 0
	for _, percent := range []int{1, 5, 10} {
		end := min(max((len(order)*percent+99)/100, from+1), len(order))
		if end > from {
			waves = append(waves, PlannedWave{Name: fmt.Sprintf("wards-%d", percent), Devices: sorted(order[from:end])})
		}
		from = end
	}
	if from < len(order) {
		waves = append(waves, PlannedWave{Name: "wards-rest", Devices: sorted(order[from:])})
	}
	return waves
}

// canaryOrder puts first the few edges that together show every platform,
// circuit kind, addressing and number of circuits: greedy set cover, the
// smaller site winning a tie. The rest follow by head count.
func canaryOrder(edges []inventory.DeviceID, city *inventory.Inventory) []inventory.DeviceID {
	traits, people := traitsOf(edges, city)
	rest := sorted(edges)
	slices.SortStableFunc(rest, func(a, b inventory.DeviceID) int { return cmp.Compare(people[a], people[b]) })
	seen := map[string]bool{}
	var first []inventory.DeviceID
	for {
		best, gain := -1, 0
		for i, id := range rest {
			n := 0
			for _, t := range traits[id] {
				if !seen[t] {
					n++
				}
			}
			if n > gain {
				best, gain = i, n
			}
		}
		if best < 0 {
			return append(first, rest...)
		}
		for _, t := range traits[rest[best]] {
			seen[t] = true
		}
		first = append(first, rest[best])
		rest = slices.Delete(rest, best, best+1)
	}
}

func traitsOf(edges []inventory.DeviceID, city *inventory.Inventory) (map[inventory.DeviceID][]string, map[inventory.DeviceID]int) {
	device := make(map[inventory.SiteID]inventory.DeviceID, len(edges))
	traits := make(map[inventory.DeviceID][]string, len(edges))
	people := make(map[inventory.DeviceID]int, len(edges))
	wanted := make(map[inventory.DeviceID]bool, len(edges))
	for _, id := range edges {
		wanted[id] = true
	}
	for _, d := range city.Devices {
		if wanted[d.ID] {
			device[d.Site] = d.ID
			traits[d.ID] = append(traits[d.ID], "platform "+string(d.Platform))
		}
	}
	count := map[inventory.DeviceID]int{}
	for _, c := range city.Circuits {
		if id, ok := device[c.Site]; ok {
			count[id]++
			traits[id] = append(traits[id], "kind "+string(c.Kind), "addressing "+string(c.Addressing))
		}
	}
	for _, s := range city.Sites {
		if id, ok := device[s.ID]; ok {
			people[id] = s.People
			traits[id] = append(traits[id], fmt.Sprintf("circuits %d", count[id]))
		}
	}
	for id, ts := range traits {
		slices.Sort(ts)
		traits[id] = slices.Compact(ts)
	}
	return traits, people
}

func sorted(ids []inventory.DeviceID) []inventory.DeviceID {
	out := slices.Clone(ids)
	slices.Sort(out)
	return out
}
