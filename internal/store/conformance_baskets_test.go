package store

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

var _ intent.Baskets = (*Revisions)(nil)

func TestBasketsAreKept(t *testing.T) {
	at := time.Date(2026, 11, 1, 8, 0, 0, 7, time.UTC)
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s, ctx := NewRevisions(open(t), "hcmc"), t.Context()
			if _, err := s.Basket(ctx, "01"); !errors.Is(err, inventory.ErrNotFound) {
				t.Fatalf("Basket() of nothing: %v", err)
			}
			b := intent.Basket{ID: "01", Title: "kiosk mới", Author: "an", Made: at, State: intent.BasketOpen, Version: 1}
			if err := s.SaveBasket(ctx, b); err != nil {
				t.Fatal(err)
			}
			two, err := b.Add([]inventory.Edit{{Noun: "carriers", ID: "a", Now: json.RawMessage(`{"id":"a","name":"A"}`)}}, "binh", "vì", at)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.SaveBasket(ctx, two); err != nil {
				t.Fatal(err)
			}
			if err := s.SaveBasket(ctx, two); !errors.Is(err, inventory.ErrConflict) {
				t.Errorf("the same version twice: %v", err)
			}
			if got, err := s.Basket(ctx, "01"); err != nil || !reflect.DeepEqual(got, two) {
				t.Errorf("Basket() = %+v, %v", got, err)
			}
			if got, err := s.Baskets(ctx); err != nil || len(got) != 1 {
				t.Errorf("Baskets() = %+v, %v", got, err)
			}
			if got, err := NewRevisions(s.db, "national").Baskets(ctx); err != nil || len(got) != 0 {
				t.Errorf("another organisation sees %+v, %v", got, err)
			}
		})
	}
}
