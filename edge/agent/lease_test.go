package agent

import (
	"net/netip"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// A segment whose addresses the device assigns has a leaf of its leases, which
// is sent when they change.
func TestLeases(t *testing.T) {
	run := edge.Signed{Config: edge.Config{Segments: []edge.Segment{
		{Kind: inventory.Staff, DHCP: edge.DHCP{From: netip.MustParseAddr("10.64.0.10")}},
		{Kind: inventory.Voice, DHCP: edge.DHCP{Relay: netip.MustParseAddr("10.64.10.67")}},
	}}}
	snap := snapshot{host: HostState{Leases: map[inventory.SegmentKind][]Lease{inventory.Staff: {
		{Addr: netip.MustParseAddr("10.64.0.11"), MAC: "02:00:00:00:00:05", Until: time.Unix(1_800_000_000, 0).UTC()},
	}}}}
	var got []any
	for _, l := range newTree(run).leaves {
		if l.object != perSegment {
			continue
		}
		if kind := l.path.Elem[1].Key["kind"]; kind != "staff" || l.counter {
			t.Errorf("leaf %v", l.path)
		}
		got = append(got, l.value(snapshot{}, l.name), l.value(snap, l.name))
	}
	want := []any{"[]", `[{"addr":"10.64.0.11","mac":"02:00:00:00:00:05","until":"2027-01-15T08:00:00Z"}]`}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %v, want %v", got, want)
	}
}
