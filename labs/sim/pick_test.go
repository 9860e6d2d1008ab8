package sim

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
)

func TestPickTakesHubsAndSpreadsTheRest(t *testing.T) {
	city := sample.City()
	for _, n := range []int{0, 1, 2, 3, 40, 207, len(city.Devices)} {
		edges, err := Pick(city, n)
		if err != nil {
			t.Fatalf("%d edges: %v", n, err)
		}
		want := n
		if n == 0 {
			want = len(city.Devices)
		}
		if len(edges) != want {
			t.Errorf("%d edges: %d picked", n, len(edges))
		}
		if err := (File{Edges: edges}).Validate(); err != nil {
			t.Errorf("%d edges: %v", n, err)
		}
		for i, e := range edges[:min(2, len(edges))] {
			if e.Role != inventory.RoleHub {
				t.Errorf("%d edges: number %d is %s, want the hubs first", n, i, e.Device)
			}
		}
	}
	if few, err := Pick(city, 4); err != nil || few[3].Device < "d-26" {
		t.Errorf("2 wards are %s and %s, %v; want them apart", few[2].Device, few[3].Device, err)
	}
}

func TestPickRefuses(t *testing.T) {
	city := sample.City()
	for name, tt := range map[string]struct {
		inv inventory.Inventory
		n   int
	}{
		"too many":      {city, len(city.Devices) + 1},
		"negative":      {city, -1},
		"nobody serves": {inventory.Inventory{}, 0},
	} {
		if _, err := Pick(tt.inv, tt.n); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

func TestSourcesAreLoopbackAndDistinct(t *testing.T) {
	edges := make([]Edge, 70_000) // over the carry into the second byte
	for i := range edges {
		edges[i].Device = inventory.DeviceID(fmt.Sprint(i))
	}
	from := sources(edges)
	seen := map[netip.Addr]bool{}
	for _, e := range edges {
		a := from(e.Device)
		if !a.IsLoopback() || a.As4()[3] == 0 || a.As4()[3] == 255 || a == netip.MustParseAddr("127.0.0.1") || seen[a] {
			t.Fatalf("device %s dials from %s", e.Device, a)
		}
		seen[a] = true
	}
}
