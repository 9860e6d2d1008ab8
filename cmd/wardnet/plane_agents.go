package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/wardnet/wardnet/controller/upgrade"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/gnmi"
	"github.com/wardnet/wardnet/edge/release"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

// openAgents wires upgrades of the edges' agent; before openController.
func (p *plane) openAgents(ctx context.Context, _ listeners) error {
	p.census = upgrade.NewCensus(p.stateOf, p.log)
	shelf, err := upgrade.NewShelf(filepath.Join(p.cfg.Data, "agents"))
	if err != nil {
		return err
	}
	key := p.pki.Keys()[pki.AgentBinaryKey]
	p.agents, err = upgrade.New(upgrade.Deps{
		Store: store.NewAgents(p.db, p.cfg.Org), Shelf: shelf, Health: p.healthOf,
		Dial: func(_ context.Context, id inventory.DeviceID) (upgrade.Agent, error) {
			c, err := p.channel.Conn(id)
			if err != nil {
				return nil, err
			}
			return upgrade.NewRemote(c, p.cfg.Agents.Rate), nil
		},
		City: func(ctx context.Context) (inventory.Inventory, error) {
			inv, _, err := p.kept.Load(ctx)
			return inv, err
		},
		Sign:  func(r release.Release) (release.Release, error) { return r.Sign(key.Signer, key.ID) },
		Audit: p.auditController, Log: p.log, Reg: p.reg,
	}, p.cfg.Agents)
	if err != nil {
		return err
	}
	return p.agents.Load(ctx)
}

// stateOf asks a device for its state.
func (p *plane) stateOf(ctx context.Context, id inventory.DeviceID) (edge.State, error) {
	c, err := p.channel.Conn(id)
	if err != nil {
		return edge.State{}, err
	}
	st, err := gnmi.New(c, gnmi.Config{}).State(ctx)
	if far, ok := errors.AsType[*edge.ProtocolError](err); ok {
		st.Version, st.Protocol = far.Version, far.Agent
	}
	return st, err
}

// healthOf is what must be as before for an agent to be kept. An agent that is
// too old to be managed has nothing to lose: its remedy is the upgrade.
func (p *plane) healthOf(ctx context.Context, id inventory.DeviceID) (upgrade.Health, error) {
	st, err := p.stateOf(ctx, id)
	if _, far := errors.AsType[*edge.ProtocolError](err); far {
		return upgrade.Health{}, nil
	}
	if err != nil {
		return upgrade.Health{}, err
	}
	row, err := p.ctl.Status(id)
	h := upgrade.Health{InSync: err == nil && row.InSync() && st.Hash == row.Want && st.Pending == ""}
	for _, t := range st.Tunnels {
		if t.Up && t.BFD && t.BGP {
			h.Up = append(h.Up, t.Name)
		}
	}
	slices.Sort(h.Up)
	return h, nil
}
