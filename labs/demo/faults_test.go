package demo

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
)

func TestParseFault(t *testing.T) {
	f, err := ParseFault("carrier=vnpt, wards=9,after=40s")
	if err != nil || f != (Fault{"vnpt", 9, 40 * time.Second}) {
		t.Fatalf("%+v, %v", f, err)
	}
	_, err = ParseFault("wards=none,colour=red,after=soon")
	if !errors.Is(err, inventory.ErrInvalid) {
		t.Fatal(err)
	}
	for _, want := range []string{"carrier is missing", "colour", "none", "soon"} { // all at once
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %q", err, want)
		}
	}
}

// Whoever is chosen hangs on the carrier, is no exception, and is as many as
// asked for; some go dark where the city has such wards.
func TestVictimsAreFair(t *testing.T) {
	city := sample.City()
	carriers := map[inventory.SiteID][]inventory.CarrierID{}
	for _, c := range city.Circuits {
		carriers[c.Site] = append(carriers[c.Site], c.Carrier)
	}
	rapid.Check(t, func(rt *rapid.T) {
		f := Fault{
			Carrier: rapid.SampledFrom([]inventory.CarrierID{"viettel", "vnpt", "fpt"}).Draw(rt, "carrier"),
			Wards:   rapid.IntRange(1, 40).Draw(rt, "wards"),
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		except := map[inventory.SiteID]bool{city.Sites[rapid.IntRange(0, len(city.Sites)-1).Draw(rt, "except")].ID: true}
		got, err := victims(city, f, except, rng)
		if err != nil {
			rt.Fatal(err)
		}
		dark := 0
		for _, id := range got {
			if except[id] || !slices.Contains(carriers[id], f.Carrier) {
				rt.Fatalf("%s was chosen", id)
			}
			if !slices.ContainsFunc(carriers[id], func(c inventory.CarrierID) bool { return c != f.Carrier }) {
				dark++
			}
		}
		if len(slices.Compact(slices.Clone(got))) != f.Wards || (f.Wards >= 9 && dark == 0) {
			rt.Fatalf("%d wards, %d of them dark, for %+v", len(got), dark, f)
		}
	})
	if _, err := victims(city, Fault{Carrier: "nobody", Wards: 1}, nil, rand.New(rand.NewPCG(1, 0))); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("a carrier without wards: %v", err)
	}
}

// A smaller city is valid by itself and keeps its addresses.
func TestTrimmedCityIsValid(t *testing.T) {
	city := sample.City()
	before := map[string]inventory.Allocation{}
	for _, a := range city.Allocations {
		before[a.Owner+" "+string(a.Pool)] = a
	}
	for _, n := range []int{2, 3, 24, 40, 207, 208, 500} {
		small := trim(city, n)
		if err := inventory.Validate(small); err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		if want := min(n, 208); len(small.Sites) != want || len(small.Devices) != want {
			t.Errorf("%d: %d sites, %d devices", n, len(small.Sites), len(small.Devices))
		}
		for _, a := range small.Allocations {
			if before[a.Owner+" "+string(a.Pool)] != a {
				t.Errorf("%d: %s moved", n, a.Owner)
			}
		}
		if len(small.Allocations) < 3*len(small.Sites) { // v4, v6, loopback
			t.Errorf("%d: %d allocations", n, len(small.Allocations))
		}
	}
}
