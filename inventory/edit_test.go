package inventory

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Edits are the difference: applied to what was before they give what is after,
// and applied again they change nothing.
func TestEditsAreTheDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after := drawInventory(t), drawInventory(t)
		after.Org = before.Org
		edits, err := Edits(before, after)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			got, err := Apply(before, edits)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, after.Normalize()) {
				t.Fatalf("applied: %s", Diff(got, after))
			}
			before = got
		}
	})
}

// Two people who edit different things need not know of each other; of the same
// thing, the second is told.
func TestEditsOfTwoPeople(t *testing.T) {
	base := Inventory{Org: "hcmc", Carriers: []Carrier{{ID: "a", Name: "A"}, {ID: "b", Name: "B"}, {ID: "c", Name: "C"}}}.Normalize()
	edited := func(change func(*Inventory)) []Edit {
		inv := base.Normalize()
		change(&inv)
		edits, err := Edits(base, inv)
		if err != nil || len(edits) != 1 {
			t.Fatalf("%+v, %v", edits, err)
		}
		return edits
	}
	one := edited(func(inv *Inventory) { inv.Carriers[0].Name = "A one" })
	two := edited(func(inv *Inventory) { inv.Carriers[1].Name = "B two" })
	gone := edited(func(inv *Inventory) { inv.Carriers = inv.Carriers[:2] })
	clash := edited(func(inv *Inventory) { inv.Carriers[0].Name = "A three" })
	all, err := Apply(base, append(append(append([]Edit{}, one...), two...), gone...))
	if err != nil || len(all.Carriers) != 2 || all.Carriers[0].Name != "A one" || all.Carriers[1].Name != "B two" {
		t.Fatalf("%+v, %v", all.Carriers, err)
	}
	_, err = Apply(all, append(append([]Edit{}, clash...), edited(func(inv *Inventory) { inv.Carriers[1].Name = "B four" })...))
	if !errors.Is(err, ErrConflict) || strings.Count(err.Error(), "changed it since") != 2 || !strings.Contains(err.Error(), "carriers a") {
		t.Errorf("a conflict: %v", err)
	}
	if base.Carriers[0].Name != "A" || len(base.Carriers) != 3 {
		t.Errorf("the base was written to: %+v", base.Carriers)
	}
	for what, e := range map[string]Edit{
		"no noun":       {Noun: "cats", ID: "x"},
		"organisation":  {Noun: "org", ID: "x"},
		"unknown field": {Noun: "carriers", ID: "x", Now: json.RawMessage(`{"id":"x","name":"X","colour":"red"}`)},
		"another id":    {Noun: "carriers", ID: "x", Now: json.RawMessage(`{"id":"y","name":"X"}`)},
		"not JSON":      {Noun: "carriers", ID: "x", Now: json.RawMessage(`{"id":`)},
	} {
		if _, err := Apply(base, []Edit{e}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzApply(f *testing.F) {
	f.Add("carriers", "a", `{"id":"a","name":"A"}`, `{"id":"a","name":"B"}`)
	f.Add("allocations", "site/s pool", ``, `{"owner":"site/s","pool":"pool","prefix":"10.0.0.0/20"}`)
	base := Inventory{Org: "hcmc", Carriers: []Carrier{{ID: "a", Name: "A"}}}
	f.Fuzz(func(t *testing.T, noun, id, was, now string) {
		got, err := Apply(base, []Edit{{Noun: noun, ID: id, Was: json.RawMessage(was), Now: json.RawMessage(now)}})
		if err != nil && !reflect.DeepEqual(got, Inventory{}) {
			t.Errorf("half a result beside %v", err)
		}
	})
}
