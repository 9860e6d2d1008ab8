package main

import (
	"fmt"
	"testing"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
	"github.com/wardnet/wardnet/inventory/sample"
	"github.com/wardnet/wardnet/labs/netlab"
)

// What the lab builds is proven: real ports, uplinks to a data centre, an old
// prefix that two wards share, the way to the internet, either overlay, one hub.
func TestLabCitiesAreProven(t *testing.T) {
	for _, s := range []netlab.Shape{{Hubs: 2, Wards: 4}, {Hubs: 2, Wards: 2, Overlay: inventory.OverlayIPsec}, {Hubs: 1, Wards: 2}, {Hubs: 2, Wards: 6, Circuits: 1}} {
		t.Run(fmt.Sprintf("%d hubs, %d wards %s", s.Hubs, s.Wards, s.Overlay), func(t *testing.T) {
			city, _, err := netlab.City(sample.City(), s)
			if err != nil {
				t.Fatal(err)
			}
			c, err := controller.CompileAll(intent.Revision{Number: 1, Content: city})
			if err != nil {
				t.Fatal(err)
			}
			r, err := controller.Prove(c)
			if err != nil || !r.Holds || r.Reached == 0 {
				t.Errorf("%v; passes: %v; cut off: %v", err, r.Counterexamples, r.Unreached)
			}
		})
	}
}
