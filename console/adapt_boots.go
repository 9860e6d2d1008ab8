package console

import (
	"context"
	"errors"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
	"github.com/wardnet/wardnet/pki/enrol"
)

// KeptBoots is [Boots], and hears from the channel and the controller how far
// devices have come.
type KeptBoots struct{ boots *pki.Boots }

// AdaptBoots serves the timelines in b.
func AdaptBoots(b *pki.Boots) *KeptBoots { return &KeptBoots{b} }

// Timeline implements [Boots].
func (k *KeptBoots) Timeline(ctx context.Context, id inventory.DeviceID) (client.Timeline, error) {
	t, err := k.boots.Timeline(ctx, id)
	if err != nil {
		return client.Timeline{}, err
	}
	out := client.Timeline{Device: id, Open: t.Open(), Steps: make([]client.BootStep, len(t.Steps))}
	for i, s := range t.Steps {
		out.Steps[i] = client.BootStep{
			Step: string(s.Name), State: string(s.State), Cause: string(s.Cause), Detail: s.Detail, By: s.By, At: s.At, Count: s.Count,
		}
		if !s.First.IsZero() {
			out.Steps[i].First = &s.First
		}
	}
	return out, nil
}

// Connected notes that a device's management channel is up.
func (k *KeptBoots) Connected(ctx context.Context, id inventory.DeviceID) {
	k.boots.Reached(ctx, id, enrol.StepChannel, "", "")
}

// Reached is what controller.Deps.Reached wants.
func (k *KeptBoots) Reached(ctx context.Context, id inventory.DeviceID, step string, err error) {
	name := enrol.StepConfirmed
	if step == controller.StepPush {
		name = enrol.StepConfiguration
	}
	detail := ""
	if err != nil {
		detail = err.Error()
	}
	k.boots.Reached(ctx, id, name, bootCause(name, err), detail)
}

// bootCause types what kept a device from its first configuration.
func bootCause(step enrol.StepName, err error) enrol.Cause {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, edge.ErrUnreachable):
		return enrol.CauseConnectionLost
	case errors.Is(err, edge.ErrRejected):
		return enrol.CauseRejected
	case step == enrol.StepConfirmed:
		return enrol.CauseUnhealthy
	}
	return enrol.CauseOther
}
