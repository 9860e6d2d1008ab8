package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/edge/release"
	"github.com/wardnet/wardnet/inventory"
)

func (n *network) Agents(context.Context) ([]client.AgentRelease, error) { return nil, nil }

func (n *network) AddAgent(_ context.Context, version string, b []byte, by string) (client.AgentRelease, error) {
	if !bytes.HasPrefix(b, []byte("\x7fELF")) {
		return client.AgentRelease{}, fmt.Errorf("%w: no ELF file", inventory.ErrInvalid)
	}
	return client.AgentRelease{Version: version, SizeBytes: int64(len(b)), By: by}, nil
}

func (n *network) AgentRollouts(context.Context) ([]client.AgentRollout, error) { return nil, nil }

func (n *network) AgentRollout(_ context.Context, id string) (client.AgentRollout, error) {
	return client.AgentRollout{ID: id, State: "running"}, nil
}

func (n *network) StartAgents(_ context.Context, want client.NewAgentRollout, by string) (client.AgentRollout, error) {
	return client.AgentRollout{ID: "r-1", Version: want.Version, Author: by, Total: len(want.Devices)}, nil
}

func (n *network) ActAgents(_ context.Context, id, action, _ string) (client.AgentRollout, error) {
	return client.AgentRollout{ID: id, State: action + "d"}, nil
}

// An agent runs as root on every edge: only the administrator may add one, and
// everything that is done with agents leaves its trace.
func TestAgentsAreAddedAndBroughtOut(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	admin, eng, noc := s.user("adm", client.RoleAdmin), s.user("eng", client.RoleEngineer), s.user("noc", client.RoleNOC)
	binary := append([]byte("\x7fELF"), make([]byte, 1<<20)...)
	if _, err := eng.AddAgent(ctx, "1.0", binary); statusOf(err) != http.StatusForbidden {
		t.Errorf("by an engineer: %v", err)
	}
	if _, err := admin.AddAgent(ctx, "1.0", []byte("text")); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("text: %v", err)
	}
	if _, err := admin.AddAgent(ctx, "", binary); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("no version: %v", err)
	}
	if _, err := admin.AddAgent(ctx, "1.0", make([]byte, release.MaxSize+1)); statusOf(err) != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %v", err)
	}
	r, err := admin.AddAgent(ctx, "1.0", binary)
	if err != nil || r.By != "adm" || r.SizeBytes != int64(len(binary)) {
		t.Fatalf("%+v, %v", r, err)
	}
	if e := s.last(1)[0]; e.What != "add-agent" || e.Object != "agent/1.0" || !strings.Contains(string(e.After), `"version":"1.0"`) {
		t.Errorf("audit %+v %s", e, e.After)
	}
	if all, err := admin.Agents(ctx); err != nil || all == nil {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := noc.StartAgentRollout(ctx, client.NewAgentRollout{Version: "1.0"}); statusOf(err) != http.StatusForbidden {
		t.Errorf("started by the NOC: %v", err)
	}
	roll, err := eng.StartAgentRollout(ctx, client.NewAgentRollout{Version: "1.0", Devices: []inventory.DeviceID{"d-1"}, Reason: "faster"})
	if err != nil || roll.Author != "eng" || roll.Total != 1 {
		t.Fatalf("%+v, %v", roll, err)
	}
	if e := s.last(1)[0]; e.What != "start-agent-rollout" || e.Object != "agent-rollout/r-1" || !strings.Contains(string(e.After), "faster") {
		t.Errorf("audit %+v %s", e, e.After)
	}
	if r, err := noc.ActAgentRollout(ctx, "r-1", "pause", "storm"); err != nil || r.State != "paused" {
		t.Errorf("%+v, %v", r, err)
	}
	if e := s.last(1)[0]; e.What != "pause-agent-rollout" || !strings.Contains(string(e.After), "storm") {
		t.Errorf("audit %+v %s", e, e.After)
	}
	if _, err := noc.ActAgentRollout(ctx, "r-1", "resume", ""); statusOf(err) != http.StatusForbidden {
		t.Errorf("resumed by the NOC: %v", err)
	}
}

func statusOf(err error) int {
	p, ok := errors.AsType[*client.Problem](err)
	if !ok {
		return 0
	}
	return p.Status
}
