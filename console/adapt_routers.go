package console

import (
	"context"
	"errors"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/inventory"
)

// Routers implements [Routers]. Retired routers are left out.
func (j *JoinedDevices) Routers(ctx context.Context) ([]client.Router, error) {
	inv, _, err := j.src.Inventory.Load(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]client.Router, 0, len(inv.Routers))
	for _, r := range inv.Routers {
		if r.Intended == inventory.Retired {
			continue
		}
		st, err := j.src.Controller.Status(r.ID)
		if err != nil && !errors.Is(err, inventory.ErrNotFound) {
			return nil, err
		}
		out = append(out, routerView(r, st))
	}
	return out, nil
}

// routerView joins a router with the controller's row of it, which is zero
// before there is one. It is pure.
func routerView(r inventory.Router, st controller.Status) client.Router {
	v := client.Router{
		Router: r, Connected: st.Online, Revision: uint64(st.Revision), ConfigHash: st.Hash, InSync: st.InSync(),
		Outcome: st.Outcome, Changed: timeOrNil(st.At), Error: st.Error, Limits: st.Limits,
	}
	switch {
	case r.Intended == inventory.Planned, st.Target.Revision == 0:
		v.State = client.StatePlanned
	case !st.Online:
		v.State = client.StateDown
	case !v.InSync:
		v.State = client.StateDegraded
	default:
		v.State = client.StateOK
	}
	return v
}
