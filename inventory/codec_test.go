package inventory

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Export and import is identity, by YAML and by CSV, with allocations and
// without.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawInventory(t).Normalize()
		if rapid.Bool().Draw(t, "with profiles") {
			want = drawProfiles(t, want)
			drawOpenings(t, &want)
		}
		if rapid.Bool().Draw(t, "allocated") {
			var err error
			if want, err = Allocate(want); err != nil {
				t.Fatal(err)
			}
		}
		reserve(t, &want)
		if err := Validate(want); err != nil {
			t.Fatalf("the generator drew an invalid inventory: %v", err)
		}
		var doc bytes.Buffer
		if err := Encode(&doc, want); err != nil {
			t.Fatal(err)
		}
		text := doc.String()
		got, err := Decode("x.yaml", &doc)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		same(t, "YAML", got, want)

		var parts Inventory
		for _, noun := range Nouns() {
			var table bytes.Buffer
			if err := EncodeCSV(&table, want, noun); err != nil {
				t.Fatal(err)
			}
			text := table.String()
			part, err := DecodeCSV(noun, noun+".csv", &table)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			parts = Merge(parts, part)
		}
		same(t, "CSV", parts, want)
	})
}

func same(t interface{ Fatalf(string, ...any) }, how string, got, want Inventory) {
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s round trip: %v\n got %+v\nwant %+v", how, Diff(want, got), got, want)
	}
}

// Merging a part of an inventory into itself changes nothing; merging into
// nothing gives the part.
func TestMergeIsUpsert(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inv := drawInventory(t).Normalize()
		same(t, "merge with itself", Merge(inv, inv), inv)
		same(t, "merge into nothing", Merge(Inventory{}, inv), inv)
		part := Inventory{Sites: []Site{inv.Sites[0], inv.Sites[0]}}
		part.Sites[0].Name = "overwritten"
		part.Sites[1].ID, part.Sites[1].Name = "z-new", "new"
		d := Diff(inv, Merge(inv, part))
		if got := d.String(); got != "sites +1 ~1 -0" {
			t.Fatalf("diff is %q, want one site added and one changed", got)
		}
	})
}

// base is a small valid document for the tests of bad input.
const base = `apiVersion: wardnet/v1
kind: Inventory
org: hcmc
units:
  - id: u-1
    kind: ward
    codes:
      - {code: "26740", name: Phường Sài Gòn, valid_from: "2025-07-01"}
    lat: 10.78
    lon: 106.7
carriers:
  - {id: vnpt, name: VNPT}
sites:
  - id: hub-1
    unit: u-1
    kind: hub
    name: Trung tâm dữ liệu
    lat: 10.8
    lon: 106.6
  - id: b-1
    unit: u-1
    kind: branch
    name: Chi nhánh 1
    hubs: [hub-1]
    lat: 10.8
    lon: 106.6
devices: []
circuits:
  - id: c-1
    site: b-1
    kind: ftth
    carrier: vnpt
    role: primary
    down_bps: 100000000
    up_bps: 100000000
    addressing: pppoe
    mtu: 1492
applications: []
pools:
  - {id: s4, kind: site4, prefix: 10.64.0.0/10, bits: 20}
permits: []
`

// change applies old→new pairs to the base document.
func change(pairs ...string) string {
	return strings.NewReplacer(pairs...).Replace(base)
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(base))
	f.Add([]byte(change("sites:", "sites: &a", "devices: []", "devices: *a")))
	f.Add([]byte(profiledBase()))
	f.Add([]byte("{apiVersion: wardnet/v1, kind: Inventory, org: [1, {a: b}]}"))
	f.Add([]byte("\xff\xfea\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		inv, err := Decode("fuzz.yaml", bytes.NewReader(data))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := Encode(&again, inv); err != nil {
			t.Fatal(err)
		}
		got, err := Decode("again.yaml", &again)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "accepted document", got, inv)
	})
}

func FuzzDecodeCSV(f *testing.F) {
	noun := func(name string) uint8 { return uint8(slices.Index(Nouns(), name)) }
	f.Add(noun("sites"), "id,unit,kind,name,hubs,lat,lon,segments\ns-1,u-1,branch,\"A, B\",hub-1;hub-2,1,2,staff;dmz|không có\n")
	f.Add(noun("sites"), "id,unit,kind,name,hubs,lat,lon,profile,variables,opens\ns-1,u-1,branch,B,hub-1,1,2,w,a=1;b=x\\;y,p|staff\\;iot;q\n")
	f.Add(noun("profiles"), "id,variables,bfd_interval_ms,segments,circuits\nw,a|integer|5,${a},staff||${p},ftth|${a};|1400\n")
	f.Add(noun("carriers"), "id,name\nvnpt,VNPT\n")
	f.Add(noun("allocations"), "owner,pool,prefix\nsite/s-1,p,10.0.0.0/20\n")
	f.Fuzz(func(t *testing.T, n uint8, text string) {
		noun := Nouns()[int(n)%len(Nouns())]
		inv, err := DecodeCSV(noun, noun+".csv", strings.NewReader(text))
		if err != nil {
			return
		}
		_ = Validate(inv) // must not panic on what the form lets through
		var again bytes.Buffer
		if err := EncodeCSV(&again, inv, noun); err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeCSV(noun, "again.csv", &again); err != nil {
			t.Fatalf("%v\nfrom %q", err, text)
		}
	})
}

// Text that looks like something else to YAML stays text.
func TestRoundTripOfOddText(t *testing.T) {
	for _, name := range []string{"<<", "=", "~", "null", "yes", "no", "on", "0x10", "1_000", "1e3", ".inf", ".nan", "2026-01-01", "- a", "a: b", "a #b", "*a", "&a", "!a", "%a", "@a", "`a", "|", ">", "?", "'", "\"", "[]", "{}", "12:30:45"} {
		inv := Inventory{Org: "a", Carriers: []Carrier{{ID: "c", Name: name}}}.Normalize()
		var b bytes.Buffer
		if err := Encode(&b, inv); err != nil {
			t.Fatal(err)
		}
		got, err := Decode("x.yaml", &b)
		if err != nil || len(got.Carriers) != 1 || got.Carriers[0].Name != name {
			t.Errorf("%q came back as %+v, %v", name, got.Carriers, err)
		}
	}
}
