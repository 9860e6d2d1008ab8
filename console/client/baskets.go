package client

import (
	"context"
	"net/http"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// BasketView is a basket with what stands against it now.
type BasketView struct {
	intent.Basket
	People []string `json:"people"` // who edited it
	Faults []string `json:"faults"` // of the inventory as it would be; none: it can be submitted
}

// BasketAction is what is done with a basket; each action reads what it needs.
type BasketAction struct {
	// Version is the one that was looked at; 0: whichever it is.
	Version uint64           `json:"version,omitempty"`
	Why     string           `json:"why,omitempty" maxLength:"300"` // title, reason or message
	Edits   []inventory.Edit `json:"edits,omitempty" maxItems:"5000"`
	Noun    string           `json:"noun,omitempty" maxLength:"64"`
	Thing   string           `json:"thing,omitempty" maxLength:"256"` // id of what is taken out
}

// BasketNews tells that a basket was changed.
type BasketNews struct {
	ID      string             `json:"id"`
	State   intent.BasketState `json:"state"`
	Version uint64             `json:"version"`
}

// Baskets lists them, newest first.
func (c *Client) Baskets(ctx context.Context) ([]intent.Basket, error) {
	return read[[]intent.Basket](ctx, c, "/baskets", nil)
}

// Basket returns one.
func (c *Client) Basket(ctx context.Context, id string) (BasketView, error) {
	return read[BasketView](ctx, c, at("baskets", id), nil)
}

// CreateBasket makes an empty one.
func (c *Client) CreateBasket(ctx context.Context, title string) (BasketView, error) {
	return write[BasketView](ctx, c, http.MethodPost, "/baskets", BasketAction{Why: title})
}

// ActOnBasket is "add", "take", "submit" or "drop".
func (c *Client) ActOnBasket(ctx context.Context, id, action string, what BasketAction) (BasketView, error) {
	return write[BasketView](ctx, c, http.MethodPost, at("baskets", id, action), what)
}
