package controller

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/controller/proof"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
)

// The city by its profiles gives every box the bytes that it gives written out.
func TestProfilesCompileToTheSameBytes(t *testing.T) {
	short, long := mustCompile(t, 1, sample.Written()), mustCompile(t, 1, city())
	if len(short.Devices) != 208 || len(short.Intent.Profiles) == 0 || len(short.Content.Profiles) != 0 {
		t.Fatalf("%d devices, %d profiles written, %d left", len(short.Devices), len(short.Intent.Profiles), len(short.Content.Profiles))
	}
	for id, want := range long.Devices {
		got := short.Devices[id]
		if got.Hash != want.Hash || !reflect.DeepEqual(got.Config, want.Config) {
			t.Errorf("%s: %s, want %s", id, got.Hash, want.Hash)
		}
	}
	ward := wardOf(t, sample.Written())
	one, err := Compile(revisionOf(1, sample.Written()), ward)
	if err != nil || one.Hash() != long.Devices[ward].Hash {
		t.Errorf("compiled alone: %v", err)
	}
}

// A revision whose profiles cannot be written out compiles to nothing.
func TestBrokenProfileDoesNotCompile(t *testing.T) {
	inv := sample.Written()
	inv.Profiles[1].Extends = inv.Profiles[0].ID
	_, err := CompileAll(revisionOf(3, inv))
	if !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), "compile revision 3: write the profiles out:") || !strings.Contains(err.Error(), "extends itself") {
		t.Errorf("got %v", err)
	}
	if _, err := Compile(revisionOf(3, inv), wardOf(t, inv)); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("alone: %v", err)
	}
}

// withWards gives every ward office of inv a profile that opens what openings
// says.
func withWards(inv inventory.Inventory, openings []inventory.Opening) inventory.Inventory {
	inv = inv.Normalize()
	p := inventory.Profile{ID: "ward-standard", Opens: openings}
	for _, k := range inventory.SegmentKinds {
		p.Segments = append(p.Segments, inventory.ProfileSegment{Kind: k})
	}
	inv.Profiles = []inventory.Profile{p}
	for i := range inv.Sites {
		if s := &inv.Sites[i]; s.Kind == inventory.WardOffice {
			s.Profile = p.ID
			if !slices.ContainsFunc(s.Segments, func(g inventory.Segment) bool { return g.Port != "" }) {
				s.Segments = nil
			}
		}
	}
	return inv
}

// wards is a town of ward offices; the sample's first sites are branches.
func wards(n int) inventory.Inventory {
	inv := town(38 + n)
	drop := map[inventory.SiteID]bool{}
	for _, s := range inv.Sites {
		drop[s.ID] = s.Kind == inventory.Branch
	}
	inv.Sites = slices.DeleteFunc(inv.Sites, func(s inventory.Site) bool { return drop[s.ID] })
	inv.Devices = slices.DeleteFunc(inv.Devices, func(d inventory.Device) bool { return drop[d.Site] })
	inv.Circuits = slices.DeleteFunc(inv.Circuits, func(c inventory.Circuit) bool { return drop[c.Site] })
	return inv
}

// allOpenings open what inv permits, but not what without names of a segment.
func allOpenings(inv inventory.Inventory, without inventory.SegmentKind, to ...inventory.PermitID) []inventory.Opening {
	var out []inventory.Opening
	for _, p := range inv.Permits {
		o := inventory.Opening{Permit: p.ID}
		if slices.Contains(to, p.ID) {
			o.From = slices.DeleteFunc(slices.Clone(p.From), func(k inventory.SegmentKind) bool { return k == without })
			if len(o.From) == 0 {
				continue
			}
		}
		out = append(out, o)
	}
	return out
}

// A template that opens all that is permitted says the same as none; one that
// cuts the staff of all wards off from the data centre is a valid inventory, is
// compiled, and is refused by the proof, which shows the packet.
func TestProofRefusesAWrongSharedTemplate(t *testing.T) {
	for name, inv := range map[string]inventory.Inventory{"simulated boxes": wards(4), "Linux boxes": linux(wards(4))} {
		t.Run(name, func(t *testing.T) {
			plain := mustCompile(t, 1, inv)
			right := withWards(inv, allOpenings(inv, ""))
			if err := inventory.Validate(right); err != nil {
				t.Fatal(err)
			}
			good := mustCompile(t, 2, right)
			for id := range plain.Devices {
				if plain.Devices[id].Hash != good.Devices[id].Hash {
					t.Errorf("%s changed", id)
				}
			}
			if r, err := Prove(good); err != nil || !r.Holds {
				t.Fatalf("the right template: %v, %v, %v", err, r.Counterexamples, r.Unreached)
			}

			wrong := withWards(inv, allOpenings(inv, inventory.Staff, "p-dich-vu-cong", "p-ho-tich", "p-van-ban"))
			if err := inventory.Validate(wrong); err != nil {
				t.Fatal(err)
			}
			bad := mustCompile(t, 3, wrong)
			r, err := Prove(bad)
			if err != nil || r.Holds || len(r.Counterexamples) > 0 {
				t.Fatalf("the wrong template: holds %v, %v, %v", r.Holds, err, r.Counterexamples)
			}
			var said []string
			for _, x := range r.Unreached {
				said = append(said, x.String())
				if len(x.Path) == 0 || !x.Packet.Src.IsValid() {
					t.Errorf("no packet: %s", x)
				}
			}
			for _, app := range []string{"p-dich-vu-cong", "p-ho-tich", "p-van-ban"} {
				if !slices.ContainsFunc(r.Unreached, func(x proof.Counterexample) bool {
					return strings.Contains(x.Intent, "segment staff must be able to open") && strings.Contains(x.Intent, app)
				}) {
					t.Errorf("%s is not named: %s", app, strings.Join(said, "\n"))
				}
			}
			for _, d := range bad.Content.Devices {
				changes := bad.Devices[d.ID].Hash != plain.Devices[d.ID].Hash
				if changes != (d.Role == inventory.RoleEdge) {
					t.Errorf("%s: changed %v", d.ID, changes)
				}
			}
			// The plan can say where a box's change comes from.
			site := bad.Devices[wardOf(t, inv)].Config.Site
			sources, err := inventory.Explain(*bad.Intent, site)
			if err != nil || !slices.ContainsFunc(sources, func(s inventory.Derivation) bool {
				return s.Field == "opens" && s.String() == "from profile ward-standard" && s.At == "profiles[0].opens"
			}) {
				t.Errorf("%v, %v", sources, err)
			}
		})
	}
}

// A box opens what its site lists and no more; hubs stay exact for all.
func TestOpeningsOfOneSite(t *testing.T) {
	inv := wards(3)
	ward := wardOf(t, inv)
	for i := range inv.Sites {
		if s := &inv.Sites[i]; s.Kind != inventory.Hub {
			s.Opens = []inventory.Opening{{Permit: "p-dich-vu-cong", From: []inventory.SegmentKind{inventory.Kiosk}}, {Permit: "p-thoai-truc-tiep"}}
			break
		}
	}
	before, after := mustCompile(t, 1, wards(3)), mustCompile(t, 2, inv)
	rules := map[string]bool{}
	for _, r := range after.Devices[ward].Config.Rules {
		rules[string(r.Permit)+" "+string(r.From)] = true
	}
	if want := []string{"p-dich-vu-cong kiosk", "p-thoai-truc-tiep ", "p-thoai-truc-tiep voice"}; !slices.Equal(slices.Sorted(maps.Keys(rules)), want) {
		t.Errorf("rules %v, want %v", slices.Sorted(maps.Keys(rules)), want)
	}
	for id := range before.Devices {
		if (before.Devices[id].Hash != after.Devices[id].Hash) != (id == ward) {
			t.Errorf("%s: another config", id)
		}
	}
}
