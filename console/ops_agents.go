package console

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/edge/release"
	"github.com/wardnet/wardnet/inventory"
)

// uploadWait is for an agent binary of the greatest size to come in over a line
// of 1 Mbit/s.
const uploadWait = 10 * time.Minute

func (c *Console) registerAgents() {
	read(c, get("/agents", "list-agents", "agents", "Binaries of the edge agent that the controller keeps, newest first"), func(ctx context.Context, _ *nothing) (*answer[[]client.AgentRelease], error) {
		a, err := c.agents()
		if err != nil {
			return nil, err
		}
		return listed(a.Agents(ctx))
	})
	op := post("/agents", "add-agent", "agents", "Add a binary of the edge agent; the controller signs it")
	op.Description = "The body is the file: ELF for linux/amd64 or linux/arm64. The same file again is no change; another file of the same version and platform is a conflict."
	op.DefaultStatus, op.MaxBodyBytes, op.BodyReadTimeout = http.StatusCreated, release.MaxSize, uploadWait
	write(c, op, c.addAgent)

	read(c, get("/agent-rollouts", "list-agent-rollouts", "agents", "Upgrades of the agent, newest first"), func(ctx context.Context, _ *nothing) (*answer[[]client.AgentRollout], error) {
		a, err := c.agents()
		if err != nil {
			return nil, err
		}
		return listed(a.AgentRollouts(ctx))
	})
	read(c, get("/agent-rollouts/{id}", "get-agent-rollout", "agents", "One upgrade with its devices"), func(ctx context.Context, in *byID) (*answer[client.AgentRollout], error) {
		a, err := c.agents()
		if err != nil {
			return nil, err
		}
		return answered(a.AgentRollout(ctx, in.ID))
	})
	op = post("/agent-rollouts", "start-agent-rollout", "agents", "Upgrade the agent in waves, hubs last")
	op.DefaultStatus = http.StatusCreated
	write(c, op, c.startAgents)
	for _, action := range []string{"pause", "resume", "abort"} {
		op := post("/agent-rollouts/{id}/"+action, action+"-agent-rollout", "agents", "Tell an upgrade to "+action)
		write(c, op, func(ctx context.Context, in *struct {
			ID   string `path:"id" maxLength:"128"`
			Body client.RolloutAction
		},
		) (*answer[client.AgentRollout], error) {
			about(ctx, "agent-rollout/"+in.ID)
			return c.actAgents(ctx, in.ID, action, in.Body.Reason)
		})
	}
}

func (c *Console) agents() (Agents, error) {
	if c.deps.Agents == nil {
		return nil, fmt.Errorf("%w: this controller upgrades no agents", inventory.ErrNotFound)
	}
	return c.deps.Agents, nil
}

func (c *Console) addAgent(ctx context.Context, in *struct {
	Version string `query:"version" required:"true" minLength:"1" maxLength:"64"`
	RawBody []byte `contentType:"application/octet-stream"`
},
) (*answer[client.AgentRelease], error) {
	about(ctx, "agent/"+clip(in.Version))
	a, err := c.agents()
	if err != nil {
		return nil, err
	}
	r, err := a.AddAgent(ctx, in.Version, in.RawBody, principal(ctx).Name)
	if err == nil {
		changed(ctx, nil, r)
	}
	return answered(r, err)
}

func (c *Console) startAgents(ctx context.Context, in *struct{ Body client.NewAgentRollout }) (*answer[client.AgentRollout], error) {
	about(ctx, "agent/"+clip(in.Body.Version))
	a, err := c.agents()
	if err != nil {
		return nil, err
	}
	r, err := a.StartAgents(ctx, in.Body, principal(ctx).Name)
	if err == nil {
		about(ctx, "agent-rollout/"+r.ID)
		changed(ctx, nil, map[string]any{"version": r.Version, "devices": r.Total, "reason": in.Body.Reason})
	}
	return answered(r, err)
}

func (c *Console) actAgents(ctx context.Context, id, action, reason string) (*answer[client.AgentRollout], error) {
	a, err := c.agents()
	if err != nil {
		return nil, err
	}
	before, err := a.AgentRollout(ctx, id)
	if err != nil {
		return nil, err
	}
	after, err := a.ActAgents(ctx, id, action, principal(ctx).Name)
	if err == nil {
		changed(ctx, map[string]string{"state": before.State}, map[string]string{"state": after.State, "reason": reason})
	}
	return answered(after, err)
}
