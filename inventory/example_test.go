package inventory_test

import (
	"fmt"
	"strings"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
)

// Rows of a CSV file replace those with their id; all faults come at once,
// with file, line and column.
func ExampleImport() {
	_, err := inventory.Import(sample.City(), inventory.Source{Name: "carriers.csv", R: strings.NewReader("id,name\nviettel,Viettel\nVNPT 2,\n")})
	fmt.Println(err)
	// Output:
	// invalid inventory: 2 faults
	//   carriers.csv:3: id: carrier "VNPT 2": an id is 1 to 63 of a-z, 0-9 and single hyphens inside
	//   carriers.csv:3: name: carrier "VNPT 2": is missing
}

// Search folds tone marks and đ/d; names are never keys, for two units answer
// to the same letters here.
func ExampleIndex_Search() {
	units, _ := sample.City().Index().Search("xa thanh an", 10)
	for _, u := range units {
		fmt.Println(u.ID, u.Codes[0].Name)
	}
	// Output:
	// u-25807 Xã Thanh An
	// u-27676 Xã Thạnh An
}

// What sites have in common is written once; every field can say where it comes
// from.
func ExampleExplain() {
	inv := sample.Written()
	sources, err := inventory.Explain(inv, "b-01")
	if err != nil {
		fmt.Println(err)
	}
	for _, s := range sources {
		if s.Field == "segments.servers.unused" || s.Field == "circuits.c-b-01-1.mtu" {
			fmt.Printf("%s: %s, %s (%s)\n", s.Field, s.Value, s, s.At)
		}
	}
	// Output:
	// segments.servers.unused: chi nhánh không đặt máy chủ, from profile branch-standard (profiles[0].segments[0].unused)
	// circuits.c-b-01-1.mtu: 1492, from profile edge-standard (profiles[1].circuits[0].mtu)
}
