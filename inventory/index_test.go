package inventory

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestFold(t *testing.T) {
	for in, want := range map[string]string{
		"Phường Đông Hòa":          "phuong dong hoa",
		"Phường Đông Hoà":          "phuong dong hoa",
		"  XÃ  Thạnh\tAn ":         "xa thanh an",
		"Phu\u031bo\u031b\u0300ng": "phuong",
		"Công viên số 2":           "cong vien so 2",
		"":                         "",
	} {
		if got := Fold(in); got != want {
			t.Errorf("Fold(%q) = %q, want %q", in, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := drawText.Draw(t, "text")
		if f := Fold(s); Fold(f) != f {
			t.Fatalf("Fold(%q) = %q folds further to %q", s, f, Fold(f))
		}
	})
}

func TestIndex(t *testing.T) {
	inv, err := Decode("x", strings.NewReader(base))
	if err != nil {
		t.Fatal(err)
	}
	inv.Devices = []Device{
		{ID: "d-hub-1", Site: "hub-1", Role: RoleHub, Intended: InService},
		{ID: "d-hub-old", Site: "hub-1", Role: RoleHub, Intended: Retired},
	}
	inv.Sites[0].Segments = []Segment{{Kind: DMZ}, {Kind: Staff}, {Kind: IoT, Unused: "không có"}}
	if inv, err = Allocate(inv); err != nil {
		t.Fatal(err)
	}
	x := inv.Index()
	if units, sites := x.Search("sai gon", 5); len(units) != 1 || units[0].ID != "u-1" || len(sites) != 0 {
		t.Errorf("search found %v, %v", units, sites)
	}
	if _, sites := x.Search("tam du l", 5); len(sites) != 1 || sites[0].ID != "hub-1" {
		t.Errorf("search found %v", sites)
	}
	if d := x.HubDevices("b-1"); len(d) != 1 || d[0].ID != "d-hub-1" {
		t.Errorf("hub devices %v; the retired one does not count", d)
	}
	if _, ok := x.Site("nowhere"); ok {
		t.Error("an unknown site was found")
	}
	if s := x.Served("hub-1"); len(s) != 1 || s[0].ID != "b-1" || len(x.HubSites()) != 1 {
		t.Errorf("hub-1 serves %v", s)
	}
	blocks, err := x.SegmentBlocks("b-1")
	if err != nil || len(blocks) != 2 || blocks[0].Kind != Staff || blocks[1].Kind != DMZ || !blocks[1].V4.IsValid() || blocks[1].V6.IsValid() {
		t.Errorf("segments %v, %v; want staff and dmz with IPv4 only, for there is no site6 pool", blocks, err)
	}
	if _, err := x.SegmentBlocks("nowhere"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown site: %v", err)
	}
}

func TestCodeAt(t *testing.T) {
	u := Unit{Codes: []UnitCode{{Code: "1", ValidFrom: "2025-07-01", ValidTo: "2026-07-01"}, {Code: "2", ValidFrom: "2026-07-01"}}}
	for day, want := range map[string]string{"2026-06-30": "1", "2026-07-01": "2", "2020-01-01": "2"} {
		at, _ := time.Parse(time.DateOnly, day)
		if got := u.CodeAt(at).Code; got != want {
			t.Errorf("on %s the code is %s, want %s", day, got, want)
		}
	}
}

// Adopt keeps addresses when an inventory is imported without them, and
// refuses to give a device id to another box.
func TestAdopt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := drawInventory(t)
		one, err := Adopt(Inventory{}, first)
		if err != nil {
			t.Fatal(err)
		}
		two, err := Adopt(one, first) // no allocations in it
		if err != nil {
			t.Fatal(err)
		}
		if d := Diff(one, two); !d.Empty() {
			t.Fatalf("a repeated import changes %s", d)
		}
	})
	prev, err := Decode("x", strings.NewReader(change("devices: []", `devices:
  - {id: d-1, serial: A, site: b-1, platform: linux-edge, role: edge, intended: in-service}
  - {id: d-2, serial: B, site: b-1, platform: linux-edge, role: edge, intended: retired}
  - {id: d-3, serial: C, site: b-1, platform: linux-edge, role: edge, intended: planned}`)))
	if err != nil {
		t.Fatal(err)
	}
	next := prev.Normalize()
	next.Devices[2].Serial = "C2" // a planned device may still be corrected
	if _, err := Adopt(prev, next); err != nil {
		t.Error(err)
	}
	next.Devices[0].Serial, next.Devices[1].Intended = "A2", InService
	_, err = Adopt(prev, next)
	if faults, ok := errors.AsType[Faults](err); !ok || len(faults) != 2 || !strings.Contains(err.Error(), "ids are never reused") {
		t.Errorf("got %v, want both reused ids refused", err)
	}
}
