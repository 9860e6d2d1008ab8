package inventory_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
)

// What is explained of many sites is what is explained of each alone, in any
// order and again.
func TestExplainerAgreesWithExplain(t *testing.T) {
	inv := sample.Written()
	e := inventory.NewExplainer(inv)
	for range 2 {
		for i := len(inv.Sites) - 1; i >= 0; i-- {
			id := inv.Sites[i].ID
			want, err := inventory.Explain(inv, id)
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.Explain(id)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%s: %v, %v; want %v", id, got, err, want)
			}
		}
	}
	if _, err := e.Explain("nowhere"); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("a site that is not there: %v", err)
	}
}
