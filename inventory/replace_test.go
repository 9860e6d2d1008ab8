package inventory

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Replacing any edge in service, over and over, keeps every address where it
// was: what belonged to the old box is the new one's, and nobody else notices.
func TestReplaceDeviceKeepsTheAddresses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inv, err := Allocate(drawInventory(t))
		if err != nil {
			t.Fatal(err)
		}
		edges := slices.DeleteFunc(slices.Clone(inv.Devices), func(d Device) bool {
			return d.Role == RoleHub || d.Intended != InService
		})
		if len(edges) == 0 {
			t.Skip("no edge in service")
		}
		cur := rapid.SampledFrom(edges).Draw(t, "edge")
		names := []DeviceID{cur.ID}
		for round := range 3 {
			serial := "NEW-" + strings.Repeat("x", round+1)
			r, err := ReplaceDevice(inv, strings.ToLower(cur.Serial), serial, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := cur
			want.ID, want.Serial = r.New.ID, serial
			if r.New != want || r.Old.ID != cur.ID || r.Old.Intended != Retired || slices.Contains(names, r.New.ID) {
				t.Fatalf("%+v became %+v", cur, r.New)
			}
			if err := Validate(r.Inventory); err != nil {
				t.Fatal(err)
			}
			for i, a := range inv.Allocations {
				if a.Owner == DeviceOwner(cur.ID) {
					inv.Allocations[i].Owner = DeviceOwner(r.New.ID)
				}
			}
			inv = inv.Normalize()
			if !slices.Equal(inv.Allocations, r.Inventory.Allocations) {
				t.Fatalf("addresses moved:\n%v\n%v", inv.Allocations, r.Inventory.Allocations)
			}
			if again, err := Adopt(r.Inventory, r.Inventory); err != nil || !Diff(again, r.Inventory).Empty() {
				t.Fatalf("the result cannot be imported again: %v", err)
			}
			inv, cur, names = r.Inventory, r.New, append(names, r.New.ID)
		}
		if got := names[1:]; !slices.Equal(got, []DeviceID{names[0] + "-2", names[0] + "-3", names[0] + "-4"}) {
			t.Fatalf("ids %v", names)
		}
		if _, err := Adopt(inv, revived(inv, names[0])); !errors.Is(err, ErrInvalid) {
			t.Fatalf("the old id came back: %v", err)
		}
	})
}

// revived is inv with the retired device in service again.
func revived(inv Inventory, id DeviceID) Inventory {
	inv = inv.Normalize()
	for i, d := range inv.Devices {
		if d.ID == id {
			inv.Devices[i].Intended = InService
		}
	}
	return inv
}

func TestReplaceDeviceRefuses(t *testing.T) {
	inv := Inventory{Devices: []Device{
		{ID: "e-1", Serial: "A1", Site: "s-1", Role: RoleEdge, Intended: InService},
		{ID: "e-2", Serial: "A2", Site: "s-2", Role: RoleEdge, Intended: InService},
		{ID: "e-3", Serial: "A3", Site: "s-3", Role: RoleEdge, Intended: Planned},
		{ID: "e-4", Serial: "A4", Site: "s-4", Role: RoleEdge, Intended: Retired},
		{ID: "h-1", Serial: "H1", Site: "hub-1", Role: RoleHub, Intended: InService},
	}, Allocations: []Allocation{{Owner: "tunnel/c-1/h-1"}, {Owner: "tunnel/c-2/h-1"}}}
	for _, tt := range []struct {
		old, next string
		is        error
		want      []string
	}{
		{"A9", "N1", ErrNotFound, []string{`"A9"`}},
		{"A4", "N1", ErrNotFound, []string{"not retired"}},
		{"A1", "A2", ErrInvalid, []string{"e-2 at site s-2"}},
		{"A1", "a1", ErrInvalid, []string{"is the old one"}},
		{"A3", "N1", ErrInvalid, []string{"only planned"}},
		{"H1", "no good", ErrInvalid, []string{"is a hub", "2 tunnels", "not a serial"}},
	} {
		_, err := ReplaceDevice(inv, tt.old, tt.next, nil)
		for _, w := range tt.want {
			if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), w) {
				t.Errorf("%s by %s gave %v, want %q", tt.old, tt.next, err, w)
			}
		}
	}
	taken := func(id DeviceID) bool { return id == "e-1-2" || id == "e-1-3" }
	if got := successor(inv, "e-1", taken); got != "e-1-4" {
		t.Errorf("successor %s", got)
	}
	// The number in an id is a name's part unless it counts replacements.
	if got := successor(inv, "x-26740", nil); got != "x-26740-2" {
		t.Errorf("successor %s", got)
	}
}
