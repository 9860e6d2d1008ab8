package proof

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// What is joined of runs is what sorting gives, equal elements in their order.
func TestMergedIsSorted(t *testing.T) {
	type item struct{ key, place int }
	rapid.Check(t, func(t *rapid.T) {
		var list []item
		for i, key := range rapid.SliceOfN(rapid.IntRange(0, 9), 0, 40).Draw(t, "keys") {
			list = append(list, item{key, i})
		}
		want := slices.Clone(list)
		slices.SortStableFunc(want, func(a, b item) int { return cmp.Compare(a.key, b.key) })
		if got := merged(list, func(a, b item) bool { return a.key < b.key }); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}
