package main

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// A router that is only planned, or retired, is not dialled; the driver of one
// that leaves is closed, and of one that stays is not.
func TestRoutersInServiceOnly(t *testing.T) {
	closed := make(chan inventory.DeviceID, 3)
	rs := &routers{log: slog.New(slog.DiscardHandler), known: map[inventory.DeviceID]*dialled{}}
	for _, id := range []inventory.DeviceID{"stays", "retires", "leaves"} {
		rs.known[id] = &dialled{of: inventory.Router{ID: id}, close: []func() error{func() error { closed <- id; return nil }}}
	}
	for _, state := range []inventory.IntendedState{inventory.Planned, inventory.Retired} {
		if _, err := rs.driver(t.Context(), inventory.Router{ID: "r", Intended: state}); !errors.Is(err, edge.ErrUnreachable) {
			t.Errorf("a %s router: %v", state, err)
		}
	}
	rs.keep(map[inventory.DeviceID]inventory.Router{"stays": {ID: "stays", Intended: inventory.InService}, "retires": {ID: "retires", Intended: inventory.Retired}})
	rs.ending.Wait()
	close(closed)
	got := map[inventory.DeviceID]bool{}
	for id := range closed {
		got[id] = true
	}
	if len(got) != 2 || got["stays"] || rs.known["stays"] == nil || len(rs.known) != 1 {
		t.Errorf("closed %v, kept %v", got, rs.known)
	}
}
