package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
)

var _ inventory.Store = (*Inventory)(nil)

// cityOf draws an inventory; it need not be valid, the store does not validate.
func cityOf(t *rapid.T) inventory.Inventory {
	name := rapid.StringMatching(`[a-zđô"?' ]{0,8}`)
	inv := inventory.Inventory{Org: "hcmc"}
	for i := range rapid.IntRange(0, 5).Draw(t, "sites") {
		id := inventory.SiteID(fmt.Sprintf("s-%d", i))
		inv.Sites = append(inv.Sites, inventory.Site{
			ID: id, Name: name.Draw(t, "name"), Kind: inventory.WardOffice, Lat: rapid.Float64Range(8, 12).Draw(t, "lat"),
			Hubs: []inventory.SiteID{"hub-2", "hub-1"}, People: rapid.IntRange(0, 99).Draw(t, "people"),
		})
		inv.Devices = append(inv.Devices, inventory.Device{ID: inventory.DeviceID("d-" + string(id)), Site: id, Serial: name.Draw(t, "serial")})
		inv.Circuits = append(inv.Circuits, inventory.Circuit{
			ID: inventory.CircuitID("c-" + string(id)), DownBPS: inventory.BitRate(rapid.Uint64().Draw(t, "bps")),
			Address: netip.MustParsePrefix("192.0.2.1/30"),
		})
		inv.Allocations = append(inv.Allocations, inventory.Allocation{Owner: "site/" + string(id), Pool: "p", Prefix: netip.MustParsePrefix("10.64.16.0/20")})
	}
	if rapid.Bool().Draw(t, "profile") {
		inv.Profiles = []inventory.Profile{{
			ID: "w", Variables: []inventory.Variable{{Name: "port", Type: inventory.TextVariable, Default: "eth2"}}, BFDIntervalMS: inventory.Given(300),
			Segments: []inventory.ProfileSegment{{
				Kind: inventory.Staff, Port: inventory.FromVariable[string]("port"), DHCP: inventory.Given(inventory.DHCPRelay), Relay: inventory.Given(netip.MustParseAddr("192.0.2.7")),
			}},
			Circuits: []inventory.ProfileCircuit{{MTU: inventory.Given(1492), Overlay: inventory.Given(inventory.OverlayIPsec)}},
			Uplinks:  []inventory.ProfileUplink{{Name: "dc", Address: inventory.Given(netip.MustParsePrefix("192.0.2.1/30")), PeerASN: inventory.Given(uint32(64512))}},
			Opens:    []inventory.Opening{{Permit: "p", From: []inventory.SegmentKind{inventory.Staff}}},
		}}
		for i := range inv.Sites {
			inv.Sites[i].Profile = "w"
			inv.Sites[i].Variables = map[string]inventory.VariableValue{"port": inventory.VariableValue(name.Draw(t, "port"))}
		}
	}
	inv.Permits = []inventory.Permit{{ID: "p", From: []inventory.SegmentKind{inventory.Staff}, Reason: name.Draw(t, "reason")}}
	return inv.Normalize()
}

func TestInventoryReturnsWhatWasReplaced(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s := NewInventory(open(t), "hcmc")
			if inv, v, err := s.Load(t.Context()); err != nil || v != 0 || !reflect.DeepEqual(inv, inventory.Inventory{}) {
				t.Fatalf("an empty store gave %+v, %d, %v", inv, v, err)
			}
			base := uint64(0)
			rapid.Check(t, func(rt *rapid.T) {
				want := cityOf(rt)
				v, err := s.Replace(context.Background(), base, want)
				if err != nil || v != base+1 {
					rt.Fatalf("replace gave %d, %v", v, err)
				}
				base = v
				if v, err := s.Version(context.Background()); err != nil || v != base {
					rt.Fatalf("version is %d, %v, want %d", v, err, base)
				}
				got, v, err := s.Load(context.Background())
				if err != nil || v != base || !reflect.DeepEqual(got, want) {
					rt.Fatalf("load gave version %d, %v\n got %+v\nwant %+v", v, err, got, want)
				}
			})
		})
	}
}

func TestInventoryRefusesALateWriter(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			s, first := NewInventory(db, "hcmc"), inventory.Inventory{Org: "hcmc", Carriers: []inventory.Carrier{{ID: "vnpt"}}}.Normalize()
			if _, err := s.Replace(t.Context(), 0, first); err != nil {
				t.Fatal(err)
			}
			for what, err := range map[string]error{
				"a stale base":   replaceErr(s, 0, inventory.Inventory{Org: "hcmc"}),
				"a future base":  replaceErr(s, 2, inventory.Inventory{Org: "hcmc"}),
				"another's base": replaceErr(NewInventory(db, "hanoi"), 1, inventory.Inventory{Org: "hanoi"}),
			} {
				if !errors.Is(err, inventory.ErrConflict) {
					t.Errorf("%s gave %v", what, err)
				}
			}
			twice := inventory.Inventory{Org: "hcmc", Carriers: []inventory.Carrier{{ID: "a"}, {ID: "a"}}}
			for what, err := range map[string]error{
				"another organisation": replaceErr(s, 1, inventory.Inventory{Org: "hanoi"}),
				"an id twice":          replaceErr(s, 1, twice),
			} {
				if !errors.Is(err, inventory.ErrInvalid) {
					t.Errorf("%s gave %v", what, err)
				}
			}
			if got, v, err := s.Load(t.Context()); err != nil || v != 1 || !reflect.DeepEqual(got, first) {
				t.Errorf("after refusals: %+v, %d, %v", got, v, err)
			}
		})
	}
}

func replaceErr(s *Inventory, base uint64, inv inventory.Inventory) error {
	_, err := s.Replace(context.Background(), base, inv)
	return err
}

func TestInventoryHasOneWinner(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s := NewInventory(open(t), "hcmc")
			errs := make([]error, 6)
			var wg sync.WaitGroup
			for i := range errs {
				wg.Go(func() { errs[i] = replaceErr(s, 0, inventory.Inventory{Org: "hcmc"}) })
			}
			wg.Wait()
			won := 0
			for _, err := range errs {
				if err == nil {
					won++
				} else if !errors.Is(err, inventory.ErrConflict) {
					t.Error(err)
				}
			}
			if won != 1 {
				t.Errorf("%d writers of version 1", won)
			}
		})
	}
}
