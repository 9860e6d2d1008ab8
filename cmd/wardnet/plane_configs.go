package main

import (
	"context"
	"path/filepath"

	"github.com/wardnet/wardnet/console"
	configs "github.com/wardnet/wardnet/controller/archive"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/redact"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/telemetry"
)

// openConfigs opens the archive of configurations that devices ran; before
// openController.
func (p *plane) openConfigs(context.Context, listeners) error {
	red, err := redact.Open(filepath.Join(p.cfg.Data, "fingerprint.key"))
	if err != nil {
		return err
	}
	p.routers = &routers{pki: p.pki, db: p.db, org: p.cfg.Org, redact: red, log: p.log, known: map[inventory.DeviceID]*dialled{}}
	p.configs, err = configs.New(configs.Deps{Store: store.NewArchive(p.db, p.cfg.Org), Redactor: red, Audit: p.auditController, Reg: p.reg})
	return err
}

// runningOf asks a device what it runs.
func (p *plane) runningOf(ctx context.Context, id inventory.DeviceID) (edge.Config, error) {
	dev, err := p.dial(ctx, id)
	if err != nil {
		return edge.Config{}, err
	}
	doc, err := dev.Running(ctx)
	return doc.Config, err
}

// driftBook serves the controller's drifts.
func (p *plane) driftBook() *console.DriftBook {
	return console.AdaptDrifts(console.DriftSources{Controller: p.ctl, Intents: p.intents, Inventory: p.kept, Running: p.runningOf})
}

// heard looks at a device again when it says that what it runs has changed, or
// that it found itself changed.
func (p *plane) heard(s telemetry.Sample) {
	if s.Metric == telemetry.ConfigChanges && p.ctl != nil {
		p.ctl.Look(s.Device)
	}
}
