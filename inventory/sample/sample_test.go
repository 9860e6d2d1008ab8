package sample

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/inventory"
)

// The demo's numbers are a contract: 208 sites, one device each.
func TestCityHasItsNumbers(t *testing.T) {
	inv := City()
	if err := inventory.Validate(inv); err != nil {
		t.Fatal(err)
	}
	kinds := map[inventory.SiteKind]int{}
	for _, s := range inv.Sites {
		kinds[s.Kind]++
	}
	if kinds[inventory.WardOffice] != 168 || kinds[inventory.Branch] != 38 || kinds[inventory.Hub] != 2 || len(inv.Devices) != 208 {
		t.Errorf("sites %v, %d devices; want 168 ward offices, 38 branches, 2 hubs, 208 devices", kinds, len(inv.Devices))
	}
	units := 0
	for _, u := range inv.Units {
		if u.Kind != inventory.Department {
			units++
		}
	}
	if units != 168 {
		t.Errorf("%d wards, communes and special zones, want 168", units)
	}
	if size := len(Document()); size > 600_000 {
		t.Errorf("the document has %d bytes, want less than 600,000", size)
	}
	x := inv.Index()
	for _, s := range inv.Sites {
		if n := len(x.SiteDevices(s.ID)); n != 1 {
			t.Errorf("%s has %d devices", s.ID, n)
		}
		if len(x.SiteCircuits(s.ID)) == 0 {
			t.Errorf("%s has no circuit", s.ID)
		}
		if s.Modelled != (s.Kind != inventory.WardOffice) {
			t.Errorf("%s (%s): modelled is %v", s.ID, s.Kind, s.Modelled)
		}
	}
}

// A carrier outage must be able to hit enough wards, and cut some off wholly.
func TestCarriersReachEnoughWards(t *testing.T) {
	inv := City()
	x := inv.Index()
	with, only := map[inventory.CarrierID]int{}, map[inventory.CarrierID]int{}
	for _, s := range inv.Sites {
		if s.Kind != inventory.WardOffice {
			continue
		}
		var carriers []inventory.CarrierID
		for _, k := range x.SiteCircuits(s.ID) {
			carriers = append(carriers, k.Carrier)
		}
		slices.Sort(carriers)
		carriers = slices.Compact(carriers)
		for _, c := range carriers {
			with[c]++
		}
		if len(carriers) == 1 {
			only[carriers[0]]++
		}
	}
	for _, c := range []inventory.CarrierID{"vnpt", "viettel", "fpt"} {
		if with[c] < 20 || only[c] < 3 {
			t.Errorf("%s: %d wards, %d with this carrier only; want at least 20 and 3", c, with[c], only[c])
		}
	}
	for _, s := range x.UnitSites("u-26732") {
		if n := len(x.SiteCircuits(s.ID)); n != 1 {
			t.Errorf("%s on Côn Đảo has %d circuits, want a single path", s.ID, n)
		}
	}
	t.Logf("wards with %v, only %v, counts %v", with, only, inv.Count())
}

// Citizens' devices reach their portal and the names, and no segment.
func TestPublicSegmentIsConfined(t *testing.T) {
	for _, p := range City().Permits {
		if slices.Contains(p.From, inventory.Public) && p.ToApp != "wifi-cong-dan" && !strings.HasPrefix(string(p.ToApp), "dns-") {
			t.Errorf("permit %s lets the public segment reach %s%s", p.ID, p.ToApp, p.ToSeg)
		}
	}
}

// What the demo exports can be imported again.
func TestCityRoundTrip(t *testing.T) {
	for name, want := range map[string]inventory.Inventory{"as written": Written(), "written out": City()} {
		t.Run(name, func(t *testing.T) { roundTrip(t, want) })
	}
}

func roundTrip(t *testing.T, want inventory.Inventory) {
	var buf bytes.Buffer
	if err := inventory.Encode(&buf, want); err != nil {
		t.Fatal(err)
	}
	got, err := inventory.Decode("export.yaml", &buf)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("export and import differ: %v", inventory.Diff(want, got))
	}
	sources := make([]inventory.Source, 0, len(inventory.Nouns()))
	for _, noun := range inventory.Nouns() {
		var table bytes.Buffer
		if err := inventory.EncodeCSV(&table, want, noun); err != nil {
			t.Fatal(err)
		}
		sources = append(sources, inventory.Source{Name: noun + ".csv", R: &table})
	}
	got, err = inventory.Import(inventory.Inventory{}, sources...)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("CSV export and import differ: %v", inventory.Diff(want, got))
	}
}

// Wards have nothing of their own in their segments, and the profiles say the
// same as the document that had it all at every site (its digest is of the
// revision before profiles).
func TestProfilesSayWhatSitesSaid(t *testing.T) {
	for _, s := range Written().Sites {
		if s.Kind != inventory.Hub && (s.Profile == "" || len(s.Segments) > 0) {
			t.Errorf("%s: profile %q, %d segments of its own", s.ID, s.Profile, len(s.Segments))
		}
	}
	city := City()
	for i := range city.Sites {
		if city.Sites[i].Profile != "" || len(city.Sites[i].Segments) != len(inventory.SegmentKinds) {
			t.Errorf("%s is not written out", city.Sites[i].ID)
		}
	}
	var doc bytes.Buffer
	if err := inventory.Encode(&doc, city); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(doc.Bytes())); got != beforeProfiles {
		t.Errorf("the city is another one: %s", got)
	}
}

// beforeProfiles is the SHA-256 of the encoded city, every address allocated,
// when each site had its segments and each circuit its MTU.
const beforeProfiles = "e4e89a7e41e67ccad92115ce519f080eeed4c61638fbf01d20429bbad5449393"

// The caller owns what it gets.
func TestCityIsACopy(t *testing.T) {
	inv := City()
	inv.Sites[0].Name = "changed"
	inv.Sites[0].Segments[0].Unused = "changed"
	if again := City(); again.Sites[0].Name == "changed" || again.Sites[0].Segments[0].Unused == "changed" {
		t.Error("a change of one copy shows in the next")
	}
}
