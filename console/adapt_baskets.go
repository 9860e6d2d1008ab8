package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

func (i *Intents) baskets() (intent.Baskets, error) {
	if i.src.Baskets == nil {
		return nil, fmt.Errorf("%w: this controller keeps no baskets", inventory.ErrNotFound)
	}
	return i.src.Baskets, nil
}

// Baskets implements [Baskets].
func (i *Intents) Baskets(ctx context.Context) ([]intent.Basket, error) {
	kept, err := i.baskets()
	if err != nil {
		return nil, err
	}
	all, err := kept.Baskets(ctx)
	slices.Reverse(all)
	return all, err
}

// Basket implements [Baskets]: with what stands against it now.
func (i *Intents) Basket(ctx context.Context, id string) (client.BasketView, error) {
	kept, err := i.baskets()
	if err != nil {
		return client.BasketView{}, err
	}
	b, err := kept.Basket(ctx, id)
	if err != nil {
		return client.BasketView{}, err
	}
	return i.view(ctx, b)
}

func (i *Intents) view(ctx context.Context, b intent.Basket) (client.BasketView, error) {
	out := client.BasketView{Basket: b, Faults: []string{}, People: append([]string{}, b.People()...)}
	if out.Edits == nil {
		out.Edits = []intent.Entry{}
	}
	if b.State != intent.BasketOpen {
		return out, nil
	}
	_, _, err := i.applied(ctx, b)
	switch {
	case errors.Is(err, inventory.ErrInvalid), errors.Is(err, inventory.ErrConflict):
		if faults, ok := errors.AsType[inventory.Faults](err); ok {
			for _, f := range faults {
				out.Faults = append(out.Faults, f.String())
			}
			return out, nil
		}
		out.Faults = strings.Split(err.Error(), "\n")
		return out, nil
	}
	return out, err
}

// applied is the inventory in force with the basket's edits, valid and with its
// addresses allocated, and the version it was made from.
func (i *Intents) applied(ctx context.Context, b intent.Basket) (inventory.Inventory, uint64, error) {
	inv, version, err := i.src.Inventory.Load(ctx)
	if err != nil {
		return inv, 0, err
	}
	next, err := b.Over(inv)
	if err == nil {
		err = inventory.Validate(next)
	}
	return next, version, err
}

// ActOnBasket implements [Baskets].
func (i *Intents) ActOnBasket(ctx context.Context, id, action string, what client.BasketAction, by string) (client.BasketView, error) {
	kept, err := i.baskets()
	if err != nil {
		return client.BasketView{}, err
	}
	now := time.Now()
	if action == "create" {
		return i.newBasket(ctx, kept, what, by, now)
	}
	b, err := kept.Basket(ctx, id)
	if err != nil {
		return client.BasketView{}, err
	}
	if what.Version != 0 && what.Version != b.Version {
		return client.BasketView{}, fmt.Errorf("basket %s: %w: it has version %d by now, not %d", id, inventory.ErrConflict, b.Version, what.Version)
	}
	switch action {
	case "add":
		if b, err = b.Add(what.Edits, by, what.Why, now); err == nil {
			if _, _, err = i.applied(ctx, b); !errors.Is(err, inventory.ErrConflict) {
				err = nil // faults may be mended by who comes after
			}
		}
	case "take":
		b, err = b.Take(what.Noun, what.Thing)
	case "drop":
		b, err = b.End(0, now)
	case "submit":
		b, err = i.submit(ctx, b, what.Why, by, now)
	default:
		err = fmt.Errorf("%w: basket action %q", inventory.ErrInvalid, action)
	}
	if err == nil {
		err = kept.SaveBasket(ctx, b)
	}
	if err != nil {
		return client.BasketView{}, err
	}
	return i.view(ctx, b)
}

func (i *Intents) newBasket(ctx context.Context, kept intent.Baskets, what client.BasketAction, by string, now time.Time) (client.BasketView, error) {
	if strings.TrimSpace(what.Why) == "" {
		return client.BasketView{}, fmt.Errorf("%w: a basket needs a title that says what it is for", inventory.ErrInvalid)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return client.BasketView{}, fmt.Errorf("make a basket id: %w", err)
	}
	b := intent.Basket{ID: id.String(), Title: what.Why, Author: by, Made: now.UTC(), State: intent.BasketOpen, Version: 1}
	if err := kept.SaveBasket(ctx, b); err != nil {
		return client.BasketView{}, err
	}
	return i.view(ctx, b)
}

// submit puts the edits in force in the inventory and makes a revision of it.
// After a crash between the two it goes on where it was: what is done is no
// conflict.
func (i *Intents) submit(ctx context.Context, b intent.Basket, message, by string, now time.Time) (intent.Basket, error) {
	if len(b.Edits) == 0 {
		return b, fmt.Errorf("submit basket %s: %w: it is empty", b.ID, inventory.ErrInvalid)
	}
	if _, err := b.End(1, now); err != nil {
		return b, err
	}
	next, version, err := i.applied(ctx, b)
	if err != nil {
		return b, fmt.Errorf("submit basket %s: %w", b.ID, err)
	}
	var doc bytes.Buffer
	if err := inventory.Encode(&doc, next); err != nil {
		return b, err
	}
	if _, err := i.src.Inventory.Import(ctx, doc.Bytes(), version, false); err != nil {
		return b, fmt.Errorf("submit basket %s: %w", b.ID, err)
	}
	content, _, err := i.src.Inventory.Load(ctx)
	if err != nil {
		return b, err
	}
	others := slices.DeleteFunc(b.People(), func(p string) bool { return p == by })
	if message == "" {
		message = b.Title
	}
	r, err := i.store(ctx, content, by, message, others)
	if err != nil {
		return b, fmt.Errorf("submit basket %s: %w", b.ID, err)
	}
	return b.End(r.Number, now)
}
