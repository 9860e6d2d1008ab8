package proof

import (
	"reflect"
	"testing"

	"github.com/wardnet/wardnet/inventory/sample"
)

// What the proof cuts the blocks of sites into is what an index says.
func TestZonesAreThoseOfTheIndex(t *testing.T) {
	city := sample.City()
	index := city.Index()
	zones, err := zonesOf(city)
	if err != nil || len(zones) != len(city.Sites) {
		t.Fatalf("%d sites of %d, %v", len(zones), len(city.Sites), err)
	}
	for _, s := range city.Sites {
		want, err := index.SegmentBlocks(s.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got := zones[s.ID]; len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", s.ID, got, want)
		}
	}
}
