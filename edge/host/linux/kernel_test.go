package linux

import (
	"slices"
	"testing"

	"github.com/wardnet/wardnet/edge"
)

// A hub takes packets by its uplinks before it has routes back; no other port
// is let off the kernel's check.
func TestUplinkCheck(t *testing.T) {
	w := inForce{config: edge.Config{Uplinks: []edge.Uplink{{Name: "a", Port: "up0"}, {Name: "b", Port: "up1"}}}}
	all, port := uplinkCheck(w)
	if !slices.Equal(all, []setting{{"ipv4/conf/all/rp_filter", "0"}}) || !port["up0"] || !port["up1"] || len(port) != 2 {
		t.Errorf("%v, %v", all, port)
	}
	if all, port := uplinkCheck(inForce{}); len(all)+len(port) > 0 {
		t.Errorf("without an uplink: %v, %v", all, port)
	}
}
