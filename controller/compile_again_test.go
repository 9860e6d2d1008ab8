package controller

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// alterMore makes a change of the kinds that alter does not, anywhere.
func alterMore(t *rapid.T, inv *inventory.Inventory) {
	pick := func(n int, of string) int { return rapid.IntRange(0, n-1).Draw(t, of) }
	switch pick(8, "more") {
	case 0: // a circuit, of a hub too
		inv.Circuits = slices.Clone(inv.Circuits)
		inv.Circuits[pick(len(inv.Circuits), "circuit")].UpBPS += inventory.Mbps
	case 1:
		inv.Circuits = slices.Clone(inv.Circuits)
		inv.Circuits[pick(len(inv.Circuits), "circuit")].MTU -= 8
	case 2: // a site's device leaves, or comes
		inv.Devices = slices.Clone(inv.Devices)
		if d := &inv.Devices[pick(len(inv.Devices), "device")]; d.Role != inventory.RoleHub {
			d.Intended = map[bool]inventory.IntendedState{true: inventory.Planned, false: inventory.InService}[d.Intended == inventory.InService]
		}
	case 3: // two owners change their blocks
		inv.Allocations = slices.Clone(inv.Allocations)
		i := pick(len(inv.Allocations), "allocation")
		for j := range inv.Allocations {
			if a, b := &inv.Allocations[i], &inv.Allocations[j]; i != j && a.Pool == b.Pool && a.Prefix.Bits() == b.Prefix.Bits() && len(a.Owner) > 0 && a.Owner[0] == b.Owner[0] {
				a.Prefix, b.Prefix = b.Prefix, a.Prefix
				break
			}
		}
	case 4:
		inv.Applications = slices.Clone(inv.Applications)
		a := &inv.Applications[pick(len(inv.Applications), "application")]
		a.Ports = append(slices.Clone(a.Ports), inventory.PortRange{Proto: inventory.TCP, From: 7000, To: 7001})
	case 5:
		inv.Applications = slices.Clone(inv.Applications)
		inv.Applications[pick(len(inv.Applications), "application")].Class.LatencyMS++
	case 6: // timers, of one site
		inv.Sites = slices.Clone(inv.Sites)
		if s := &inv.Sites[pick(len(inv.Sites), "site")]; s.Kind != inventory.Hub {
			s.BFDIntervalMS = 600
		}
	case 7: // the inventory in another order says the same
		inv.Sites, inv.Circuits = slices.Clone(inv.Sites), slices.Clone(inv.Circuits)
		slices.Reverse(inv.Sites)
		slices.Reverse(inv.Circuits)
	}
}

// What is taken from an earlier revision changes nothing: after any changes the
// configs are those of a compilation made anew, to the bytes, and so are the
// errors.
func TestCompileAgainIsCompileAll(t *testing.T) {
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		inv := linux(town(6))
		var before *Compiled
		for n := range 4 {
			for range rapid.IntRange(0, 2).Draw(t, "changes") {
				if rapid.Bool().Draw(t, "elsewhere") {
					alterMore(t, &inv)
				} else {
					inv.Sites, inv.Permits = slices.Clone(inv.Sites), slices.Clone(inv.Permits)
					alter(t, &inv)
				}
			}
			rev := revisionOf(intent.Number(n+1), inv)
			got, err1 := CompileAgain(rev, before)
			want, err2 := CompileAll(rev)
			if fmt.Sprint(err1) != fmt.Sprint(err2) {
				t.Fatalf("again: %v, anew: %v", err1, err2)
			}
			if err1 != nil {
				return
			}
			if before != nil {
				taken += len(unconcerned(before, want.Content))
			}
			if !reflect.DeepEqual(got.Devices, want.Devices) {
				for id, w := range want.Devices {
					if d := edge.Diff(got.Devices[id].Config, w.Config); !d.Empty() || got.Devices[id].Hash != w.Hash {
						t.Errorf("%s: %s", id, d)
					}
				}
				t.Fatal("the configs differ")
			}
			before = got
		}
	})
	if taken == 0 {
		t.Error("nothing was ever taken from an earlier revision")
	}
}

// A change at one ward concerns that ward and the hubs.
func TestCompileAgainTakesTheRest(t *testing.T) {
	inv := town(6)
	before := mustCompile(t, 1, inv)
	inv.Circuits = slices.Clone(inv.Circuits)
	ward := inv.Devices[slices.IndexFunc(inv.Devices, func(d inventory.Device) bool { return d.Role != inventory.RoleHub })]
	i := slices.IndexFunc(inv.Circuits, func(c inventory.Circuit) bool { return c.Site == ward.Site })
	inv.Circuits[i].UpBPS += inventory.Mbps
	known := unconcerned(before, &inv)
	if _, ok := known[ward.ID]; ok || len(known) != 5 {
		t.Errorf("%d devices are taken, the changed one too: %v; want the five other wards", len(known), ok)
	}
	inv.Pools = append(slices.Clone(inv.Pools), inventory.Pool{ID: "more", Kind: inventory.PoolSite4, Prefix: netip.MustParsePrefix("100.64.0.0/16"), Bits: 22})
	if known := unconcerned(before, &inv); len(known) > 0 {
		t.Errorf("a pool more, which every device may send to, and %d devices are taken", len(known))
	}
}

// How a hub is brought from one config to another is what the hashes say.
func TestStagesAreThoseOfTheHashes(t *testing.T) {
	both := town(4)
	for name, alter := range map[string]func(*inventory.Inventory){
		"nothing": func(*inventory.Inventory) {},
		"less":    func(inv *inventory.Inventory) { retire(inv, 0) },
		"swapped": func(inv *inventory.Inventory) { retire(inv, 1) },
		"other":   func(inv *inventory.Inventory) { inv.Circuits[0].MTU -= 8 },
	} {
		for _, first := range []inventory.Inventory{both, clone(both, func(inv *inventory.Inventory) { retire(inv, 0) })} {
			next := clone(both, alter)
			a, b := mustCompile(t, 1, first), mustCompile(t, 2, next)
			hub := hubOf(t, both)
			have, want := a.Devices[hub], b.Devices[hub]
			if have.Hash == want.Hash {
				continue
			}
			kept := keepOld(want.Config, have.Config).Hash()
			wantLate := kept == have.Hash
			wantStaged := !wantLate && kept != want.Hash
			if late, staged := stages(have, want); late != wantLate || staged != wantStaged {
				t.Errorf("%s: late %v, staged %v; want %v, %v", name, late, staged, wantLate, wantStaged)
			}
		}
	}
}

func clone(inv inventory.Inventory, change func(*inventory.Inventory)) inventory.Inventory {
	inv.Sites, inv.Devices, inv.Circuits = slices.Clone(inv.Sites), slices.Clone(inv.Devices), slices.Clone(inv.Circuits)
	change(&inv)
	return inv
}

// retire takes the n-th ward out of service.
func retire(inv *inventory.Inventory, n int) {
	for i := range inv.Devices {
		if inv.Devices[i].Role != inventory.RoleHub {
			if n == 0 {
				inv.Devices[i].Intended = inventory.Retired
			}
			n--
		}
	}
}
