package console

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

func (c *Console) registerInventory() {
	op := get("/inventory", "get-inventory", "inventory", "The inventory in force; ETag is its version")
	read(c, op, c.getInventory)
	op = route(http.MethodPut, "/inventory", "put-inventory", "inventory", "Replace the inventory, or only check it")
	op.Description = "The body is one YAML document (JSON is YAML). If-Match names the version it replaces, \"0\" the first time. With dry_run=true nothing changes. Every fault is listed at once."
	op.MaxBodyBytes = c.cfg.MaxInventory
	op.BodyReadTimeout = 2 * time.Minute
	write(c, op, c.putInventory)

	read(c, get("/units", "list-units", "inventory", "Units with the worst state of their sites"), func(ctx context.Context, _ *nothing) (*answer[[]client.UnitView], error) {
		inv, devices, err := c.declared(ctx)
		if err != nil {
			return nil, err
		}
		return listed(unitViews(inv, devices, time.Now()), nil)
	})
	read(c, get("/sites", "list-sites", "inventory", "Sites with devices, circuits and state"), func(ctx context.Context, _ *nothing) (*answer[[]client.SiteView], error) {
		inv, devices, err := c.declared(ctx)
		if err != nil {
			return nil, err
		}
		return listed(siteViews(inv, devices), nil)
	})
	read(c, get("/sites/{id}", "get-site", "inventory", "One site"), func(ctx context.Context, in *byID) (*answer[client.SiteView], error) {
		inv, devices, err := c.declared(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range siteViews(inv, devices) {
			if string(s.ID) == in.ID {
				return answered(s, nil)
			}
		}
		return nil, fmt.Errorf("site %q: %w", in.ID, inventory.ErrNotFound)
	})
	read(c, get("/circuits", "list-circuits", "inventory", "Circuits"), func(ctx context.Context, _ *nothing) (*answer[[]inventory.Circuit], error) {
		inv, err := c.expanded(ctx)
		return listed(inv.Circuits, err)
	})
	read(c, get("/applications", "list-applications", "inventory", "Applications"), func(ctx context.Context, _ *nothing) (*answer[[]inventory.Application], error) {
		inv, _, err := c.deps.Inventory.Load(ctx)
		return listed(inv.Applications, err)
	})
}

// byID is the input of an operation on one object.
type byID struct {
	ID string `path:"id" maxLength:"128"`
}

// expanded reads the inventory with its profiles written out, as people look at
// sites and circuits; what they edit is [Console.getInventory].
func (c *Console) expanded(ctx context.Context) (inventory.Inventory, error) {
	inv, _, err := c.deps.Inventory.Load(ctx)
	if err != nil {
		return inventory.Inventory{}, err
	}
	out, err := inventory.Expand(inv)
	if err != nil {
		return inventory.Inventory{}, fmt.Errorf("write the profiles of the inventory out: %w", err)
	}
	for i, s := range inv.Sites {
		if s.Profile != "" { // told beside what it gave; the expansion has sites of its own then
			out.Sites[i].Profile, out.Sites[i].Variables = s.Profile, s.Variables
		}
	}
	return out, nil
}

// declared reads the inventory and the devices' states.
func (c *Console) declared(ctx context.Context) (inventory.Inventory, []client.Device, error) {
	inv, err := c.expanded(ctx)
	if err != nil {
		return inventory.Inventory{}, nil, err
	}
	devices, err := c.deps.Devices.Devices(ctx)
	return inv, devices, err
}

type withVersion[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

func etag(version uint64) string { return `"` + strconv.FormatUint(version, 10) + `"` }

func (c *Console) getInventory(ctx context.Context, _ *nothing) (*withVersion[inventory.Inventory], error) {
	inv, version, err := c.deps.Inventory.Load(ctx)
	if err != nil {
		return nil, err
	}
	return &withVersion[inventory.Inventory]{ETag: etag(version), Body: inv}, nil
}

func (c *Console) putInventory(ctx context.Context, in *struct {
	IfMatch string `header:"If-Match" maxLength:"32"`
	DryRun  bool   `query:"dry_run"`
	RawBody []byte `contentType:"application/yaml"`
},
) (*withVersion[client.ImportResult], error) {
	about(ctx, "inventory")
	var base uint64
	if in.DryRun {
		about(ctx, "inventory (check only)")
	} else {
		var err error
		if base, err = parseIfMatch(in.IfMatch); err != nil {
			return nil, err
		}
	}
	res, err := c.deps.Inventory.Import(ctx, in.RawBody, base, in.DryRun)
	if err != nil {
		return nil, err
	}
	if !in.DryRun {
		changed(ctx, map[string]uint64{"version": base}, res)
	}
	return &withVersion[client.ImportResult]{ETag: etag(res.Version), Body: res}, nil
}

// parseIfMatch reads a strong validator: a quoted decimal version.
func parseIfMatch(s string) (uint64, error) {
	if s == "" {
		return 0, &client.Problem{
			Status: http.StatusPreconditionRequired, Title: http.StatusText(http.StatusPreconditionRequired), Detail: "If-Match is missing",
			Hint: "send the ETag of GET " + Prefix + "/inventory, so that nobody's change is overwritten unseen",
		}
	}
	inner, ok := strings.CutPrefix(s, `"`)
	inner, ok2 := strings.CutSuffix(inner, `"`)
	v, err := strconv.ParseUint(inner, 10, 63)
	if !ok || !ok2 || err != nil || strconv.FormatUint(v, 10) != inner {
		return 0, fmt.Errorf("%w: If-Match %q is not a quoted version number", inventory.ErrInvalid, clip(s))
	}
	return v, nil
}
