package controller

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
)

// changedBy is the city as people wrote it, with a variable of the wards'
// profile, after change.
func changedBy(change func(*inventory.Inventory)) inventory.Inventory {
	inv := sample.Written()
	inv.Profiles, inv.Sites, inv.Circuits = slices.Clone(inv.Profiles), slices.Clone(inv.Sites), slices.Clone(inv.Circuits)
	for i := range inv.Profiles {
		if p := &inv.Profiles[i]; p.ID == "ward-standard" {
			p.Variables = []inventory.Variable{{Name: "bfd", Type: inventory.IntegerVariable, Default: "400"}}
			p.BFDIntervalMS = inventory.FromVariable[int]("bfd")
		}
	}
	change(&inv)
	return inv
}

func profileOf(inv *inventory.Inventory, id inventory.ProfileID) *inventory.Profile {
	i := slices.IndexFunc(inv.Profiles, func(p inventory.Profile) bool { return p.ID == id })
	return &inv.Profiles[i]
}

// A change says which profile or variable it came from, and one of the site's
// own says nothing of them.
func TestReasonsNameTheProfile(t *testing.T) {
	const ward = inventory.SiteID("s-25747")
	siteOf := func(inv *inventory.Inventory) *inventory.Site {
		i := slices.IndexFunc(inv.Sites, func(s inventory.Site) bool { return s.ID == ward })
		return &inv.Sites[i]
	}
	const (
		mtu      = "from profile edge-standard: circuits."
		variable = "the site's variable bfd, through profile ward-standard: bfd_interval_ms"
		fallback = "default of variable bfd of profile ward-standard: bfd_interval_ms"
		dropped  = "no longer from profile ward-standard: segments.dmz"
	)
	before := mustCompile(t, 1, changedBy(func(*inventory.Inventory) {}))
	for name, tt := range map[string]struct {
		change func(*inventory.Inventory)
		want   string // in the reasons of the ward
		others bool   // and of others
	}{
		"a literal of the profile that others extend": {func(inv *inventory.Inventory) {
			p := profileOf(inv, "edge-standard")
			p.Circuits = slices.Clone(p.Circuits)
			for i := range p.Circuits {
				if p.Circuits[i].Kind == inventory.FTTH {
					p.Circuits[i].MTU = inventory.Given(1480)
				}
			}
		}, mtu, true},
		"the site's value of a variable": {func(inv *inventory.Inventory) {
			siteOf(inv).Variables = map[string]inventory.VariableValue{"bfd": "600"}
		}, variable, false},
		"a variable's default": {func(inv *inventory.Inventory) {
			profileOf(inv, "ward-standard").Variables[0].Default = "500"
		}, fallback, true},
		"a segment leaves the profile": {func(inv *inventory.Inventory) {
			p := profileOf(inv, "ward-standard")
			p.Segments = slices.DeleteFunc(slices.Clone(p.Segments), func(s inventory.ProfileSegment) bool { return s.Kind == inventory.DMZ })
		}, dropped, true},
		"the site's own circuit": {func(inv *inventory.Inventory) {
			for i := range inv.Circuits {
				if inv.Circuits[i].Site == ward {
					inv.Circuits[i].UpBPS += inventory.Mbps
				}
			}
		}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			to := mustCompile(t, 2, changedBy(tt.change))
			p := MakePlan(before.Devices, to)
			p.because(func(inventory.DeviceID) *Compiled { return before }, to)
			seen, others := false, 0
			for _, d := range p.Devices {
				said := strings.Join(d.Reasons, "; ")
				switch {
				case d.Site == ward:
					seen = true
					if tt.want == "" && strings.Contains(said, "profile") || !strings.Contains(said, tt.want) {
						t.Errorf("%s: %q, want %q in it", d.Device, said, tt.want)
					}
				case tt.want != "" && strings.Contains(said, tt.want):
					others++
				}
			}
			if !seen || (others > 0) != tt.others {
				t.Errorf("the ward is in the plan: %v; %d others name the same", seen, others)
			}
		})
	}
}

// What the controller plans against is what each device is to run now.
func TestPlanNamesTheProfile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := wards(2)
		first := withWards(inv, allOpenings(inv, ""))
		next := first
		next.Profiles = slices.Clone(first.Profiles)
		next.Profiles[0].BFDIntervalMS = inventory.Given(700)
		w := newWorld(t, first, next)
		l := w.start(Config{})
		defer l.end()
		if _, err := l.StartRollout(t.Context(), 1, "lan"); err != nil {
			t.Fatal(err)
		}
		l.wait(1, time.Minute, RolloutDone)
		p, err := l.Plan(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		said := map[inventory.SiteID]bool{}
		for _, d := range p.Devices {
			said[d.Site] = slices.ContainsFunc(d.Reasons, func(r string) bool { return r == "from profile ward-standard: bfd_interval_ms" })
		}
		for _, s := range next.Sites {
			if want := s.Profile != ""; said[s.ID] != want {
				t.Errorf("site %s, profile %q: named %v", s.ID, s.Profile, said[s.ID])
			}
		}
		if len(said) == 0 || !slices.Contains(slices.Collect(maps.Values(said)), true) {
			t.Errorf("the plan names nothing: %+v", p.Devices)
		}
	})
}
