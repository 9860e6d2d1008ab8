package console

import (
	"context"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// Conductor is [Rollouts] over the controller.
type Conductor struct{ ctl *controller.Controller }

// AdaptRollouts serves the rollouts of ctl.
func AdaptRollouts(ctl *controller.Controller) *Conductor { return &Conductor{ctl} }

// Rollouts implements [Rollouts].
func (c *Conductor) Rollouts(context.Context) ([]client.Rollout, error) {
	all := c.ctl.Rollouts()
	out := make([]client.Rollout, len(all))
	for i, r := range all {
		out[i] = rolloutView(r)
	}
	return out, nil
}

// InForce implements [Rollouts].
func (c *Conductor) InForce() intent.Number { return c.ctl.InForce() }

// Rollout implements [Rollouts].
func (c *Conductor) Rollout(_ context.Context, id string) (client.Rollout, error) {
	return viewed(c.ctl.Rollout(id))
}

// Start implements [Rollouts].
func (c *Conductor) Start(ctx context.Context, n intent.Number, by, urgent string) (client.Rollout, error) {
	if urgent != "" {
		return viewed(c.ctl.StartUrgent(ctx, n, by, urgent))
	}
	return viewed(c.ctl.StartRollout(ctx, n, by))
}

// Act implements [Rollouts]. The reason is kept by the audit log.
func (c *Conductor) Act(ctx context.Context, id, action, _, by string) (client.Rollout, error) {
	switch action {
	case "pause":
		return viewed(c.ctl.Pause(ctx, id, by))
	case "resume":
		return viewed(c.ctl.Resume(ctx, id, by))
	case "abort":
		return viewed(c.ctl.Abort(ctx, id, by))
	}
	return client.Rollout{}, fmt.Errorf("%w: rollout action %q", inventory.ErrInvalid, action)
}

func viewed(r controller.Rollout, err error) (client.Rollout, error) {
	if err != nil {
		return client.Rollout{}, err
	}
	return rolloutView(r), nil
}

func rolloutView(r controller.Rollout) client.Rollout {
	out := client.Rollout{
		ID: r.ID, Revision: r.Revision, State: string(r.State), Reason: r.Reason, Author: r.Author, Urgent: r.Urgent, Returned: r.Returned, Returns: r.Returns,
		Started: r.Started, Ended: timeOrNil(r.Ended), ETA: timeOrNil(r.ETA), Waves: make([]client.Wave, len(r.Waves)),
	}
	out.Done, out.Total = r.Progress()
	for i, w := range r.Waves {
		out.Waves[i] = client.Wave{
			N: i + 1, Name: w.Name, Devices: w.Devices, State: string(w.State), Verified: w.Done, Failed: w.Failed, Pending: w.Pending,
			Started: timeOrNil(w.Started), Ended: timeOrNil(w.Ended),
		}
	}
	return out
}

// timeOrNil leaves a zero time out of the JSON.
func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
