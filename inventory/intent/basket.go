package intent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// BasketState is where a basket stands.
type BasketState string

// States of a basket.
const (
	BasketOpen      BasketState = "open"
	BasketSubmitted BasketState = "submitted" // it is a revision now
	BasketDropped   BasketState = "dropped"
)

// Basket is a change that several people prepare before it becomes a revision:
// edits of things of the inventory, each with who made it. It is a value.
type Basket struct {
	ID      string      `json:"id"` // sorts by time
	Title   string      `json:"title"`
	Author  string      `json:"author"`
	Made    time.Time   `json:"made"` // UTC
	State   BasketState `json:"state"`
	Version uint64      `json:"version"` // rises with each change; who changes it names the one seen
	Edits   []Entry     `json:"edits"`   // by noun and id
	// Revision is what became of it.
	Revision Number    `json:"revision,omitempty"`
	Ended    time.Time `json:"ended,omitzero"`
}

// Entry is one edit in a basket.
type Entry struct {
	inventory.Edit
	By  string    `json:"by"`
	At  time.Time `json:"at"` // UTC
	Why string    `json:"why,omitempty"`
}

// Baskets keeps baskets. Every method is durable on return.
type Baskets interface {
	// Baskets returns all, oldest first.
	Baskets(ctx context.Context) ([]Basket, error)
	// Basket wraps [inventory.ErrNotFound] for an unknown id.
	Basket(ctx context.Context, id string) (Basket, error)
	// SaveBasket writes b in the place of version b.Version-1; it wraps
	// [inventory.ErrConflict] when another is stored.
	SaveBasket(ctx context.Context, b Basket) error
}

// Most edits of a basket: more is an import.
const mostEdits = 5000

// Add puts edits by one person in the basket. An edit of a thing that another
// person has edited in it is refused, all at once, wrapping
// [inventory.ErrConflict]: they should talk. The own earlier edit is replaced;
// together they may come to nothing, and then it leaves.
func (b Basket) Add(edits []inventory.Edit, by, why string, now time.Time) (Basket, error) {
	if b.State != BasketOpen {
		return b, fmt.Errorf("add to basket %s: %w: it is %s", b.ID, inventory.ErrConflict, b.State)
	}
	if len(edits) == 0 {
		return b, fmt.Errorf("add to basket %s: %w: nothing differs from the inventory in force", b.ID, inventory.ErrInvalid)
	}
	have := slices.Clone(b.Edits)
	var taken []string
	for _, e := range edits {
		i := slices.IndexFunc(have, func(x Entry) bool { return x.Noun == e.Noun && x.ID == e.ID })
		next := Entry{Edit: e, By: by, At: now.UTC(), Why: why}
		switch {
		case i < 0:
			have = append(have, next)
		case have[i].By != by && string(have[i].Now) != string(e.Now):
			taken = append(taken, fmt.Sprintf("%s by %s", e.Name(), have[i].By))
		case string(have[i].Was) == string(e.Now):
			have = slices.Delete(have, i, i+1)
		default:
			next.Was = have[i].Was
			have[i] = next
		}
	}
	if len(taken) > 0 {
		return b, fmt.Errorf("add to basket %s: %w: edited in it already: %s; talk to them, or take their edit out first", b.ID, inventory.ErrConflict, strings.Join(taken, ", "))
	}
	if len(have) > mostEdits {
		return b, fmt.Errorf("add to basket %s: %w: %d edits are more than %d; import the inventory instead", b.ID, inventory.ErrInvalid, len(have), mostEdits)
	}
	slices.SortFunc(have, func(x, y Entry) int {
		return strings.Compare(x.Noun+" "+x.ID, y.Noun+" "+y.ID)
	})
	b.Edits, b.Version = have, b.Version+1
	return b, nil
}

// Take takes an edit out again. It wraps [inventory.ErrNotFound].
func (b Basket) Take(noun, id string) (Basket, error) {
	if b.State != BasketOpen {
		return b, fmt.Errorf("take from basket %s: %w: it is %s", b.ID, inventory.ErrConflict, b.State)
	}
	i := slices.IndexFunc(b.Edits, func(x Entry) bool { return x.Noun == noun && x.ID == id })
	if i < 0 {
		return b, fmt.Errorf("take from basket %s: %w: there is no edit of %s %s in it", b.ID, inventory.ErrNotFound, noun, id)
	}
	b.Edits, b.Version = slices.Delete(slices.Clone(b.Edits), i, i+1), b.Version+1
	return b, nil
}

// End closes the basket as a revision, or dropped where revision is 0.
func (b Basket) End(revision Number, now time.Time) (Basket, error) {
	if b.State != BasketOpen {
		return b, fmt.Errorf("end basket %s: %w: it is %s", b.ID, inventory.ErrConflict, b.State)
	}
	b.State, b.Revision, b.Ended, b.Version = BasketDropped, revision, now.UTC(), b.Version+1
	if revision != 0 {
		b.State = BasketSubmitted
	}
	return b, nil
}

// Over returns inv with the basket's edits; see [inventory.Apply].
func (b Basket) Over(inv inventory.Inventory) (inventory.Inventory, error) {
	edits := make([]inventory.Edit, len(b.Edits))
	for i, e := range b.Edits {
		edits[i] = e.Edit
	}
	out, err := inventory.Apply(inv, edits)
	if err != nil {
		return out, fmt.Errorf("apply basket %s: %w", b.ID, err)
	}
	return out, nil
}

// People are those who edited it, sorted.
func (b Basket) People() []string {
	var out []string
	for _, e := range b.Edits {
		out = append(out, e.By)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
