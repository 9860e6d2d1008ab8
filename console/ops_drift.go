package console

import (
	"context"
	"fmt"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

func (c *Console) registerDrift() {
	read(c, get("/drifts", "list-drifts", "intent", "Devices found changed past the controller, newest first"), func(ctx context.Context, in *struct {
		Device string `query:"device" maxLength:"128" doc:"only of this device"`
		Over   int    `query:"over" minimum:"0" maximum:"10000" doc:"at most so many of those that are over, the newest; 0: all"`
	},
	) (*answer[[]client.Drift], error) {
		d, err := c.drifts()
		if err != nil {
			return nil, err
		}
		all, err := d.Drifts(ctx)
		if in.Device != "" {
			all = only(all, func(d client.Drift) bool { return d.Device == inventory.DeviceID(in.Device) })
		}
		if in.Over > 0 {
			all = newest(all, in.Over, nil)
		}
		return listed(all, err)
	})
	read(c, get("/drifts/{id}", "get-drift", "intent", "One device found changed"), func(ctx context.Context, in *byID) (*answer[client.Drift], error) {
		d, err := c.drifts()
		if err != nil {
			return nil, err
		}
		return answered(d.Drift(ctx, in.ID))
	})
	for _, x := range []struct {
		verb, summary string
		do            func(Drifts, context.Context, string, client.DriftDecision, string) (client.Drift, error)
	}{
		{"revert", "Put the device back to what was assigned to it", Drifts.RevertDrift},
		{"adopt", "Make a revision that says what the device runs", Drifts.AdoptDrift},
		{"waive", "Leave the device as it is until a time", Drifts.WaiveDrift},
	} {
		write(c, post("/drifts/{id}/"+x.verb, x.verb+"-drift", "intent", x.summary), func(ctx context.Context, in *struct {
			ID   string `path:"id" maxLength:"128"`
			Body client.DriftDecision
		},
		) (*answer[client.Drift], error) {
			about(ctx, "drift/"+in.ID)
			d, err := c.drifts()
			if err != nil {
				return nil, err
			}
			before, err := d.Drift(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			after, err := x.do(d, ctx, in.ID, in.Body, principal(ctx).Name)
			if err == nil {
				changed(ctx, map[string]any{"device": before.Device, "state": before.State}, map[string]any{"device": after.Device, "state": after.State, "reason": in.Body.Reason})
			}
			return answered(after, err)
		})
	}

	type of struct {
		ID string `path:"id" maxLength:"128"`
	}
	read(c, get("/devices/{id}/configs", "list-configs", "devices", "Configurations that the device ran, oldest first"), func(ctx context.Context, in *of) (*answer[[]client.ConfigVersion], error) {
		a, err := c.configs()
		if err != nil {
			return nil, err
		}
		return listed(a.Configs(ctx, inventory.DeviceID(in.ID)))
	})
	read(c, get("/devices/{id}/configs/{n}", "get-config", "devices", "One configuration that the device ran; 0 is the newest"), func(ctx context.Context, in *struct {
		ID string `path:"id" maxLength:"128"`
		N  uint64 `path:"n"`
	},
	) (*answer[client.ConfigVersion], error) {
		a, err := c.configs()
		if err != nil {
			return nil, err
		}
		return answered(a.Config(ctx, inventory.DeviceID(in.ID), in.N))
	})
	read(c, get("/devices/{id}/config-diff", "diff-configs", "devices", "What changed between two configurations of the device"), func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"128"`
		From uint64 `query:"from" doc:"0: the one before to"`
		To   uint64 `query:"to" doc:"0: the newest"`
	},
	) (*answer[client.ConfigDiff], error) {
		a, err := c.configs()
		if err != nil {
			return nil, err
		}
		return answered(a.DiffConfigs(ctx, inventory.DeviceID(in.ID), in.From, in.To))
	})
}

// newest are the drifts that are not over, those that were told before, and the
// first of the others, all being newest first.
func newest(all []client.Drift, over int, told map[string]string) []client.Drift {
	return only(all, func(d client.Drift) bool {
		if _, before := told[d.ID]; before || d.Active() {
			return true
		}
		over--
		return over >= 0
	})
}

func only(all []client.Drift, keep func(client.Drift) bool) []client.Drift {
	var out []client.Drift
	for _, d := range all {
		if keep(d) {
			out = append(out, d)
		}
	}
	return out
}

func (c *Console) drifts() (Drifts, error) {
	if c.deps.Drifts == nil {
		return nil, fmt.Errorf("%w: this controller keeps no drifts", inventory.ErrNotFound)
	}
	return c.deps.Drifts, nil
}

func (c *Console) configs() (Configs, error) {
	if c.deps.Configs == nil {
		return nil, fmt.Errorf("%w: this controller archives no configurations", inventory.ErrNotFound)
	}
	return c.deps.Configs, nil
}
