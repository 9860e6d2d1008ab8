package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

func (c *Console) registerBaskets() {
	read(c, get("/baskets", "list-baskets", "intent", "Changes that people prepare together, newest first"), func(ctx context.Context, in *struct {
		Brief bool `query:"brief" doc:"leave out what the edits were and become"`
	},
	) (*answer[[]intent.Basket], error) {
		b, err := c.baskets()
		if err != nil {
			return nil, err
		}
		all, err := b.Baskets(ctx)
		if in.Brief {
			all = briefly(all)
		}
		return listed(all, err)
	})
	read(c, get("/baskets/{id}", "get-basket", "intent", "One basket, with what stands against it"), func(ctx context.Context, in *byID) (*answer[client.BasketView], error) {
		b, err := c.baskets()
		if err != nil {
			return nil, err
		}
		return answered(b.Basket(ctx, in.ID))
	})
	op := post("/baskets", "create-basket", "intent", "Make an empty basket")
	op.DefaultStatus = http.StatusCreated
	write(c, op, func(ctx context.Context, in *struct{ Body client.BasketAction }) (*answer[client.BasketView], error) {
		return c.actOnBasket(ctx, "", "create", in.Body)
	})
	for action, summary := range map[string]string{
		"add": "Put edits in", "take": "Take an edit out", "submit": "Put the edits in force in the inventory and make a revision", "drop": "Give it up",
	} {
		op := post("/baskets/{id}/"+action, action+"-basket", "intent", summary)
		op.MaxBodyBytes = c.cfg.MaxInventory
		write(c, op, func(ctx context.Context, in *struct {
			ID   string `path:"id" maxLength:"128"`
			Body client.BasketAction
		},
		) (*answer[client.BasketView], error) {
			return c.actOnBasket(ctx, in.ID, action, in.Body)
		})
	}
}

// briefly leaves out what the edits were and become.
func briefly(all []intent.Basket) []intent.Basket {
	out := slices.Clone(all)
	for i := range out {
		out[i].Edits = slices.Clone(out[i].Edits)
		for k := range out[i].Edits {
			out[i].Edits[k].Was, out[i].Edits[k].Now = nil, nil
		}
	}
	return out
}

func (c *Console) actOnBasket(ctx context.Context, id, action string, what client.BasketAction) (*answer[client.BasketView], error) {
	about(ctx, "basket/"+id)
	b, err := c.baskets()
	if err != nil {
		return nil, err
	}
	after, err := b.ActOnBasket(ctx, id, action, what, principal(ctx).Name)
	if err == nil {
		about(ctx, "basket/"+after.ID)
		changed(ctx, nil, map[string]any{"action": action, "state": after.State, "edits": len(after.Edits), "revision": after.Revision})
		c.tellBasket(ctx, after)
	}
	return answered(after, err)
}

func (c *Console) baskets() (Baskets, error) {
	b, ok := c.deps.Revisions.(Baskets)
	if !ok {
		return nil, fmt.Errorf("%w: this controller keeps no baskets", inventory.ErrNotFound)
	}
	return b, nil
}
