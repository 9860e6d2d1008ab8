package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/wardnet/wardnet/console"
	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/console/people"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki"
)

// note adds a line to the audit log; when even that fails it is logged.
func (p *plane) note(ctx context.Context, who, from, what, object, outcome, reason string) {
	_, err := p.audit.Append(ctx, client.AuditEntry{At: time.Now().UTC(), Who: who, From: from, What: what, Object: object, Outcome: outcome, Reason: reason})
	if err != nil {
		p.log.ErrorContext(ctx, "audit entry not kept", "step", what, "err", err)
	}
}

func (p *plane) auditPKI(ctx context.Context, e pki.Event) error {
	_, err := p.audit.Append(ctx, client.AuditEntry{At: e.At, Who: e.Actor, From: e.Remote, What: "pki." + e.Action, Object: e.Object, Outcome: e.Outcome, Reason: e.Reason})
	return err
}

// auditRollouts is auditController for who tries again what could not be kept.
func (p *plane) auditRollouts(ctx context.Context, what, object, reason string) error {
	_, err := p.audit.Append(ctx, client.AuditEntry{At: time.Now().UTC(), Who: "wardnet", What: what, Object: object, Outcome: "done", Reason: reason})
	return err
}

func (p *plane) auditController(ctx context.Context, what, object, reason string) {
	p.note(ctx, "wardnet", "", what, object, "done", reason)
}

func (p *plane) openPeople(intents *console.Intents) error {
	var err error
	kept := store.NewPeople(p.db, p.cfg.Org)
	p.people, err = people.New(people.Deps{Users: kept, Sessions: kept, Tokens: kept, Setup: kept, Log: p.log, Reg: p.reg}, people.Config{})
	p.subjects = store.NewPolicy(p.db, p.cfg.Org)
	p.intents = intents
	return err
}

func (p *plane) openConsole(_ context.Context, l listeners) error {
	deps := console.Deps{
		People: p.people, Audit: p.audit, Inventory: p.kept, Devices: p.devices,
		Certificates: console.AdaptCertificates(p.pki, p.kept), Revisions: p.intents, Rollouts: console.AdaptRollouts(p.ctl),
		Incidents: p.tickets, History: console.StoredHistory{History: p.history}, Backup: archive{p},
		Log: p.log, Reg: p.reg,
	}
	deps.Agents = console.AdaptAgents(p.agents)
	deps.Drifts, deps.Configs = p.driftBook(), console.AdaptConfigs(p.configs)
	deps.SSH = console.AdaptSSH(p.pki, p.kept)
	deps.Issuers = console.AdaptIssuers(p.pki)
	deps.Issuing = p.issuing(l)
	life := console.AdaptLife(p.pki, p.kept, func(id inventory.DeviceID) bool {
		c, err := connOf(p.channel, id)
		return err == nil && c != nil
	})
	deps.Search, deps.Admission = life, life
	deps.Boots = console.AdaptBoots(p.boots)
	deps.Tools = console.AdaptTools(console.ToolSources{
		Conn: func(id inventory.DeviceID) (grpc.ClientConnInterface, error) { return connOf(p.channel, id) }, Reg: p.reg,
	})
	deps.Replacements = console.AdaptReplacements(console.ReplacementSources{
		Inventory: p.kept, Intents: p.intents, PKI: p.pki, Reg: p.reg,
		Swap: func(ctx context.Context, s console.Swap) (uint64, []pki.Revocation, error) {
			return p.db.Swap(ctx, p.cfg.Org, store.Swap(s))
		},
	})
	decisions := console.AdaptDecisions(p.subjects, p.subjects, p.kept, p.refreshFacts)
	deps.Decisions, deps.Subjects = decisions, decisions
	cfg := console.Config{Version: version(), Attribution: p.cfg.Map.Attribution}
	var err error
	if p.cfg.Map.Outline != "" {
		if cfg.Outline, err = os.ReadFile(p.cfg.Map.Outline); err != nil {
			return err
		}
	}
	p.console, err = console.New(deps, cfg)
	return err
}

// serving tells where everything listens, and writes the first administrator's
// link when there is no user yet.
func (p *plane) serving(ctx context.Context, l listeners) (client.Serving, error) {
	s := client.Serving{
		Console: p.at(l.console), PEP: p.at(l.pep), Devices: p.at(l.devices), CA: p.at(l.ca), Enrol: p.at(l.enrol),
		Status: p.at(l.status), Metrics: p.at(l.metrics), Socket: l.socket.Addr().String(), PID: os.Getpid(),
		Root: filepath.Join(p.cfg.Data, "root.pem"),
	}
	if err := os.WriteFile(s.Root, []byte(p.pki.Bundle("", "", "").RootPEM), 0o644); err != nil {
		return s, err
	}
	link := filepath.Join(p.cfg.Data, "first-administrator")
	token, _, err := p.people.FirstAdmin(ctx)
	switch {
	case err != nil:
		return s, err
	case token == "": // there is one; its link is spent
		if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
			return s, err
		}
		return s, nil
	}
	s.Setup = link
	return s, people.WriteSetupLink(s.Setup, "https://"+s.Console, token)
}
