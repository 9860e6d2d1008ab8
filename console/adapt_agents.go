package console

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/controller/upgrade"
	"github.com/wardnet/wardnet/inventory"
)

var _ Agents = (*AgentBook)(nil)

// AgentBook is [Agents] over the conductor of upgrades.
type AgentBook struct{ up *upgrade.Conductor }

// AdaptAgents serves the agents of up.
func AdaptAgents(up *upgrade.Conductor) *AgentBook { return &AgentBook{up} }

// Agents implements [Agents].
func (b *AgentBook) Agents(ctx context.Context) ([]client.AgentRelease, error) {
	all, whole, err := b.up.Binaries(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]client.AgentRelease, len(all))
	for i, a := range all {
		out[i] = releaseView(a)
		out[i].Missing = !whole[i]
	}
	return out, nil
}

// AddAgent implements [Agents].
func (b *AgentBook) AddAgent(ctx context.Context, version string, binary []byte, by string) (client.AgentRelease, error) {
	a, err := b.up.Add(ctx, version, binary, by)
	if err != nil {
		return client.AgentRelease{}, err
	}
	return releaseView(a), nil
}

func releaseView(b upgrade.Binary) client.AgentRelease {
	return client.AgentRelease{
		Version: b.Version, GOOS: b.GOOS, GOARCH: b.GOARCH, SizeBytes: b.Size, SHA256: hex.EncodeToString(b.SHA256), KeyID: b.KeyID, Added: b.Added, By: b.By,
	}
}

// AgentRollouts implements [Agents].
func (b *AgentBook) AgentRollouts(context.Context) ([]client.AgentRollout, error) {
	all := b.up.Rollouts()
	out := make([]client.AgentRollout, len(all))
	for i, v := range all {
		out[i] = agentView(v)
	}
	return out, nil
}

// AgentRollout implements [Agents].
func (b *AgentBook) AgentRollout(_ context.Context, id string) (client.AgentRollout, error) {
	v, err := b.up.Rollout(id)
	if err != nil {
		return client.AgentRollout{}, err
	}
	return agentView(v), nil
}

// StartAgents implements [Agents].
func (b *AgentBook) StartAgents(ctx context.Context, want client.NewAgentRollout, by string) (client.AgentRollout, error) {
	r, err := b.up.Start(ctx, upgrade.Order{Version: want.Version, Devices: want.Devices, Purpose: want.Reason}, by)
	if err != nil {
		return client.AgentRollout{}, err
	}
	return b.AgentRollout(ctx, r.ID)
}

// ActAgents implements [Agents]. The reason is kept by the audit log.
func (b *AgentBook) ActAgents(ctx context.Context, id, action, by string) (client.AgentRollout, error) {
	act := map[string]func(context.Context, string, string) (upgrade.Rollout, error){
		"pause": b.up.Pause, "resume": b.up.Resume, "abort": b.up.Abort,
	}[action]
	if act == nil {
		return client.AgentRollout{}, fmt.Errorf("%w: rollout action %q", inventory.ErrInvalid, action)
	}
	if _, err := act(ctx, id, by); err != nil {
		return client.AgentRollout{}, err
	}
	return b.AgentRollout(ctx, id)
}

func agentView(v upgrade.View) client.AgentRollout {
	out := client.AgentRollout{
		ID: v.ID, Version: v.Version, State: string(v.State), Reason: v.Reason, Purpose: v.Purpose, Author: v.Author,
		Started: v.Started, Ended: timeOrNil(v.Ended), Deadline: v.Deadline, ETA: timeOrNil(v.ETA),
		Waves: make([]client.Wave, len(v.Waves)), Devices: make([]client.AgentDevice, len(v.Devices)),
	}
	out.Done, out.Total = v.Progress()
	for i, w := range v.Waves {
		out.Waves[i] = client.Wave{
			N: i + 1, Name: w.Name, Devices: w.Devices, State: string(w.State), Verified: w.Done, Pending: w.Pending,
			Started: timeOrNil(w.Started), Ended: timeOrNil(w.Ended),
		}
	}
	for i, d := range v.Devices {
		out.Devices[i] = client.AgentDevice{
			Device: d.Device.Device, State: string(d.Phase), Online: d.Online, From: d.From, SentBytes: d.Sent, SizeBytes: d.Size,
			Tried: timeOrNil(d.Tried), Ended: timeOrNil(d.Ended), Error: d.Error,
		}
	}
	return out
}
