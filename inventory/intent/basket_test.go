package intent

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

func edit(id, was, now string) inventory.Edit {
	text := func(name string) json.RawMessage {
		if name == "" {
			return nil
		}
		return json.RawMessage(`{"id":"` + id + `","name":"` + name + `"}`)
	}
	return inventory.Edit{Noun: "carriers", ID: id, Was: text(was), Now: text(now)}
}

func TestBasketOfTwoPeople(t *testing.T) {
	now := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	b := Basket{ID: "01", State: BasketOpen, Version: 1}
	must := func(next Basket, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		b = next
	}
	must(b.Add([]inventory.Edit{edit("a", "A", "A1"), edit("c", "", "C1")}, "an", "", now))
	must(b.Add([]inventory.Edit{edit("b", "B", "B1")}, "binh", "", now))
	if _, err := b.Add([]inventory.Edit{edit("a", "A", "A2"), edit("b", "B", "B2")}, "binh", "", now); !errors.Is(err, inventory.ErrConflict) || !strings.Contains(err.Error(), "carriers a by an") {
		t.Errorf("the same thing by another person: %v", err)
	}
	must(b.Add([]inventory.Edit{edit("a", "A1", "A3")}, "an", "", now)) // the own one again
	if got := b.Edits[0]; string(got.Was) != string(edit("a", "A", "").Was) || !strings.Contains(string(got.Now), "A3") {
		t.Errorf("two edits of one thing must become one: %+v", got)
	}
	base := inventory.Inventory{Org: "hcmc", Carriers: []inventory.Carrier{{ID: "a", Name: "A"}, {ID: "b", Name: "B"}}}
	inv, err := b.Over(base)
	if err != nil || len(inv.Carriers) != 3 || inv.Carriers[0].Name != "A3" || inv.Carriers[2].Name != "C1" {
		t.Errorf("Over() = %+v, %v", inv.Carriers, err)
	}
	base.Carriers[1].Name = "B by an import"
	if _, err := b.Over(base); !errors.Is(err, inventory.ErrConflict) || !strings.Contains(err.Error(), "carriers b") {
		t.Errorf("changed since: %v", err)
	}
	if p := b.People(); len(p) != 2 || p[0] != "an" {
		t.Errorf("People() = %q", p)
	}
	must(b.Add([]inventory.Edit{edit("a", "A3", "A")}, "an", "", now)) // back to where it was
	if len(b.Edits) != 2 {
		t.Errorf("an edit that comes to nothing stays: %+v", b.Edits)
	}
	must(b.Take("carriers", "c"))
	if _, err := b.Take("carriers", "c"); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("Take() of nothing: %v", err)
	}
	version := b.Version
	must(b.End(7, now))
	if b.State != BasketSubmitted || b.Revision != 7 || b.Version != version+1 {
		t.Errorf("End() = %+v", b)
	}
	if _, err := b.Add([]inventory.Edit{edit("x", "", "X")}, "an", "", now); !errors.Is(err, inventory.ErrConflict) {
		t.Errorf("Add() to a submitted one: %v", err)
	}
}

func TestNobodyApprovesWhatTheyPrepared(t *testing.T) {
	r := Revision{Number: 2, Hash: "h", Author: "an", Others: []string{"binh"}}
	now := time.Now()
	for who, ok := range map[string]bool{"an": false, "binh": false, "minh": true} {
		err := Approval{Revision: 2, Hash: "h", Approver: who, Expires: now.Add(time.Hour)}.Valid(r, now)
		if (err == nil) != ok {
			t.Errorf("approval by %s: %v", who, err)
		}
	}
	without := r
	without.Others = nil
	a, err1 := ContentHash(r)
	b, err2 := ContentHash(without)
	if err1 != nil || err2 != nil || a == b {
		t.Errorf("who prepared it is not part of the hash: %v, %v", err1, err2)
	}
}
