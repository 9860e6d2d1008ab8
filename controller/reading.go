package controller

import (
	"context"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// Archive keeps configurations as devices run them; it leaves out what equals
// the device's newest.
type Archive interface {
	Keep(ctx context.Context, r Reading) error
}

// Reading is a configuration that was read back from a device.
type Reading struct {
	Device   inventory.DeviceID
	Revision intent.Number
	Hash     string
	Config   edge.Config
	Source   string // [SourceReadBack] or [SourceTrial]
	// Text is the device's own text, where it has one; it may hold secrets.
	Text     string
	Complete bool // the answer had its end
}

// Why a configuration was read.
const (
	SourceReadBack = "read-back"
	SourceTrial    = "trial" // in force under a commit that is not confirmed
)

// Texter is a driver whose device has a configuration text of its own, of which
// we own a part.
type Texter interface {
	// Text reads it whole; complete says that the answer had its end.
	Text(ctx context.Context) (text string, complete bool, err error)
}

// archive hands on what was read. That it cannot be kept holds up nothing; it is
// said, and tried again with the next reading.
func (c *Controller) archive(ctx context.Context, d *device, dev Driver, have edge.Signed, pending edge.CommitID) {
	if c.deps.Archive == nil || have.Device == "" {
		return
	}
	r := Reading{Device: d.id, Revision: intent.Number(have.Revision), Hash: have.Hash, Config: have.Config, Source: SourceReadBack, Complete: true}
	if pending != "" {
		r.Source = SourceTrial
	}
	var err error
	if t, ok := dev.(Texter); ok {
		r.Text, r.Complete, err = t.Text(ctx)
	}
	if err == nil {
		err = c.deps.Archive.Keep(ctx, r)
	}
	if err != nil && ctx.Err() == nil {
		c.deps.Log.ErrorContext(ctx, "configuration not archived", "device", d.id, "err", err)
	}
}
