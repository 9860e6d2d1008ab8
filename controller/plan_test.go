package controller

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/internal/golden"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
)

func configs(c *Compiled) map[inventory.DeviceID]Want {
	return c.Devices
}

func (p Plan) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "revision %d: %d people\n", p.Revision, p.People)
	for _, w := range p.Waves {
		fmt.Fprintf(&b, "wave %s: %d devices, additions %t\n", w.Name, len(w.Devices), w.Additions)
	}
	for _, d := range p.Devices {
		fmt.Fprintf(&b, "%s %s in %q: %s\n", d.Action, d.Device, d.Wave, strings.Join(slices.Concat(d.Reasons[:1], d.Flaps, d.Reasons[1:]), "; "))
		for _, c := range d.Changes {
			fmt.Fprintf(&b, "  %s\n", c)
		}
	}
	return b.Bytes()
}

func TestFirstPlanOfTheCity(t *testing.T) {
	p := MakePlan(nil, mustCompile(t, 1, sample.City()))
	var names []string
	total := 0
	for _, w := range p.Waves {
		names = append(names, w.Name)
		total += len(w.Devices)
	}
	want := []string{"hub-1", "hub-2", "wards-1", "wards-5", "wards-10", "wards-rest"}
	if !slices.Equal(names, want) || total != 208 || p.Counts[Create] != 208 || p.Counts[Modify] != 0 || p.People == 0 {
		t.Errorf("waves %v with %d devices, counts %v, %d people", names, total, p.Counts, p.People)
	}
	// The canaries show every kind of circuit.
	inv, kinds, all := sample.City(), map[inventory.CircuitKind]bool{}, map[inventory.CircuitKind]bool{}
	first := map[inventory.SiteID]bool{}
	for _, d := range inv.Devices {
		if slices.Contains(p.Waves[2].Devices, d.ID) || slices.Contains(p.Waves[3].Devices, d.ID) {
			first[d.Site] = true
		}
	}
	for _, c := range inv.Circuits {
		if !strings.HasPrefix(string(c.Site), "hub-") {
			all[c.Kind] = true
		}
		if first[c.Site] {
			kinds[c.Kind] = true
		}
	}
	if len(kinds) != len(all) {
		t.Errorf("the first wards show %v of %v", kinds, all)
	}
}

func TestPlanGolden(t *testing.T) {
	before := mustCompile(t, 1, town(4))
	inv := town(4)
	ward := wardOf(t, inv)
	for i := range inv.Devices {
		if inv.Devices[i].ID == ward {
			inv.Devices[i].Intended = inventory.Retired
		}
	}
	golden.Check(t, "plan", string(MakePlan(configs(before), mustCompile(t, 2, inv)).text()))
}

func TestAdditionIsNotStaged(t *testing.T) {
	small, large := mustCompile(t, 1, town(3)), mustCompile(t, 2, town(4))
	p := MakePlan(configs(small), large)
	if len(p.Devices) != 3 || p.Counts[Create] != 1 || p.Counts[Modify] != 2 {
		t.Fatalf("a new site touches %v, want itself and two hubs", p.Counts)
	}
	for _, d := range p.Devices {
		if d.Staged {
			t.Errorf("%s is staged though nothing is taken away", d.Device)
		}
	}
}

// Between any two intents: the additions stage takes nothing of the old from a
// hub, contains all of the new, and every device that changes is in a wave.
func TestPlanProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		draw := func() *Compiled {
			inv := town(8)
			for i := range inv.Devices {
				if inv.Devices[i].Role == inventory.RoleEdge && r.IntN(3) == 0 {
					inv.Devices[i].Intended = inventory.Retired
				}
			}
			inv.Permits = slices.DeleteFunc(inv.Permits, func(inventory.Permit) bool { return r.IntN(3) == 0 })
			c, err := CompileAll(revisionOf(1, inv))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		old, now := draw(), draw()
		p := MakePlan(configs(old), now)
		pushed := map[inventory.DeviceID]int{}
		for _, w := range p.Waves {
			for _, id := range w.Devices {
				pushed[id]++
			}
		}
		for _, d := range p.Devices {
			want := map[bool]int{false: 1, true: 2}[d.Staged]
			have, goal := old.Devices[d.Device].Config, now.Devices[d.Device].Config
			for _, op := range edge.Diff(have, goal) {
				if d.Late && op.Verb == edge.Add {
					t.Fatalf("%s goes after the wards but has %s", d.Device, op)
				}
			}
			if d.Action == Remove {
				want = 0
			}
			if pushed[d.Device] != want {
				t.Fatalf("%s (%s, staged %t) is pushed %d times", d.Device, d.Action, d.Staged, pushed[d.Device])
			}
			delete(pushed, d.Device)
			if !d.Staged {
				continue
			}
			mid := keepOld(goal, have)
			for _, op := range edge.Diff(have, mid) {
				if op.Verb == edge.Del {
					t.Fatalf("the additions stage removes: %s", op)
				}
			}
			for _, op := range edge.Diff(mid, goal) {
				if op.Verb == edge.Add {
					t.Fatalf("the removals stage adds: %s", op)
				}
			}
			if !edge.Diff(mid, keepOld(mid, have)).Empty() {
				t.Fatal("keeping the old twice differs from once")
			}
		}
		if len(pushed) != 0 {
			t.Fatalf("pushed without a reason: %v", pushed)
		}
	})
}
