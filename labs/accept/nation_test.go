package main

import (
	"testing"

	"github.com/wardnet/wardnet/inventory"
)

// The nation must be one that a controller takes: valid, with room for every
// address, and as many devices in service as asked for.
func TestNationIsValid(t *testing.T) {
	for _, n := range []int{3, 208, 1003, 10_000} {
		inv, err := nation(n)
		if err != nil {
			t.Fatal(err)
		}
		got, err := inventory.Adopt(inventory.Inventory{}, inv)
		if err != nil {
			t.Fatalf("%d devices: %v", n, err)
		}
		hubs, sites := 0, map[inventory.SiteID]bool{}
		for _, d := range got.Devices {
			sites[d.Site] = true
			if d.Role == inventory.RoleHub {
				hubs++
			}
		}
		if len(got.Devices) != n || len(sites) != n || hubs%2 != 0 || n-hubs > hubs/2*(edgesPerPair+1) {
			t.Errorf("%d devices asked for: %d at %d sites, %d hubs", n, len(got.Devices), len(sites), hubs)
		}
	}
	if _, err := nation(2); err == nil {
		t.Error("a nation of hubs alone")
	}
}
