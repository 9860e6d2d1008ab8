package inventory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// Edit changes one thing of an inventory: what it was, and what it becomes.
// Edits of different things can be made by different people and applied in any
// order.
type Edit struct {
	Noun string `json:"noun"` // of [Nouns]
	ID   string `json:"id"`   // allocations: owner and pool
	// Was is the thing as JSON before; empty: there was none.
	Was json.RawMessage `json:"was,omitempty"`
	// Now is the thing as JSON; empty: it is removed.
	Now json.RawMessage `json:"now,omitempty"`
}

// Name is "device d-26740".
func (e Edit) Name() string { return e.Noun + " " + e.ID }

// Edits lists what turns before into after, in the order of [Nouns]. The
// organisation is not part of it.
func Edits(before, after Inventory) ([]Edit, error) {
	a, b := reflect.ValueOf(before.Normalize()), reflect.ValueOf(after.Normalize())
	var out []Edit
	for _, noun := range Nouns() {
		if noun == orgNoun {
			continue
		}
		old, now := byKey(list(a, noun)), byKey(list(b, noun))
		ids := slices.Sorted(keysOf(old, now))
		for _, id := range slices.Compact(ids) {
			e := Edit{Noun: noun, ID: id}
			var err1, err2 error
			if v, ok := old[id]; ok {
				e.Was, err1 = json.Marshal(v.Interface())
			}
			if v, ok := now[id]; ok {
				e.Now, err2 = json.Marshal(v.Interface())
			}
			if err := errors.Join(err1, err2); err != nil {
				return nil, fmt.Errorf("compare %s: %w", e.Name(), err)
			}
			if !bytes.Equal(e.Was, e.Now) {
				out = append(out, e)
			}
		}
	}
	return out, nil
}

// keysOf yields the keys of both.
func keysOf(a, b map[string]reflect.Value) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, m := range []map[string]reflect.Value{a, b} {
			for k := range m {
				if !yield(k) {
					return
				}
			}
		}
	}
}

func byKey(rows reflect.Value) map[string]reflect.Value {
	out := make(map[string]reflect.Value, rows.Len())
	for i := range rows.Len() {
		out[key(rows.Index(i))] = rows.Index(i)
	}
	return out
}

// Apply returns inv with edits carried out. A thing that is neither as its edit
// found it nor as the edit leaves it was changed by somebody else: the error
// wraps [ErrConflict] and names all of them. What cannot be read wraps
// [ErrInvalid]. The result is not validated. inv is not changed.
func Apply(inv Inventory, edits []Edit) (Inventory, error) {
	inv = inv.Normalize()
	v := reflect.ValueOf(&inv).Elem()
	var errs []error
	for _, e := range edits {
		if err := e.apply(v); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.Name(), err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Inventory{}, err
	}
	return inv.Normalize(), nil
}

func (e Edit) apply(inv reflect.Value) error {
	if !slices.Contains(Nouns(), e.Noun) || e.Noun == orgNoun {
		return fmt.Errorf("%w: there is no noun %q", ErrInvalid, e.Noun)
	}
	rows := list(inv, e.Noun)
	at := -1
	var have json.RawMessage
	for i := range rows.Len() {
		if key(rows.Index(i)) == e.ID {
			var err error
			if have, err = json.Marshal(rows.Index(i).Interface()); err != nil {
				return err
			}
			at = i
		}
	}
	was, err := canonical(rows.Type().Elem(), e.Was)
	if err != nil {
		return err
	}
	now, err := canonical(rows.Type().Elem(), e.Now)
	switch {
	case err != nil:
		return err
	case bytes.Equal(have, now):
		return nil // done already
	case !bytes.Equal(have, was):
		return fmt.Errorf("%w: somebody else has changed it since; look at it, and edit it anew", ErrConflict)
	}
	fresh := reflect.MakeSlice(rows.Type(), 0, rows.Len()+1) // others may hold the old one
	for i := range rows.Len() {
		if i != at {
			fresh = reflect.Append(fresh, rows.Index(i))
		}
	}
	if len(now) > 0 {
		next := reflect.New(rows.Type().Elem())
		if err := json.Unmarshal(now, next.Interface()); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		if key(next.Elem()) != e.ID {
			return fmt.Errorf("%w: the edit is of %q, what it puts there is %q", ErrInvalid, e.ID, key(next.Elem()))
		}
		fresh = reflect.Append(fresh, next.Elem())
	}
	rows.Set(fresh)
	return nil
}

// canonical reads a thing strictly and writes it again, so that texts that mean
// the same are the same.
func canonical(t reflect.Type, text json.RawMessage) (json.RawMessage, error) {
	if len(text) == 0 {
		return nil, nil
	}
	v := reflect.New(t)
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v.Interface()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return json.Marshal(v.Elem().Interface())
}
