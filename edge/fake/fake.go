// Package fake is an in-memory device with faults one can switch on. It passes
// the same suite as the real drivers and is for tests only.
package fake

import (
	"context"
	"crypto"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// Faults are what is wrong with a device. The zero value is a healthy one.
type Faults struct {
	// Unreachable fails every call at once, with nothing done.
	Unreachable bool
	// Reject is why every Apply is refused; nil accepts.
	Reject error
	// LoseReply carries Apply and Confirm out and loses the answer.
	LoseReply bool
	// Delay is how long each call takes, or until its context ends.
	Delay time.Duration
	// Down are tunnels that do not come up.
	Down map[string]bool
	// Unhealthy are items of the health contract that fail after every push:
	// the device takes it back after 10 s and names them.
	Unhealthy []string
}

// Device is a pretend edge device; make one with [New]. It satisfies the
// controller's Driver and Credentialer.
type Device struct {
	id   inventory.DeviceID
	keys map[string]crypto.PublicKey

	mu          sync.Mutex
	faults      Faults
	running     edge.Signed // in force, on trial or not
	before      edge.Signed // what to return to while pending
	pending     edge.CommitID
	revert      *time.Timer
	confirmed   map[edge.CommitID]string // id → hash
	highest     uint64
	credentials edge.Credentials
	taken       *edge.Reverted
	applies     int
	confirms    int
}

// New makes an empty, healthy device that trusts keys (key id → public key).
func New(id inventory.DeviceID, keys map[string]crypto.PublicKey) *Device {
	return &Device{id: id, keys: keys, confirmed: map[edge.CommitID]string{}}
}

// Break replaces the faults; the zero value heals.
func (d *Device) Break(f Faults) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = f
}

// Edit changes the config on the device behind the controller's back. The
// slices in it are the device's own: replace, do not write to them.
func (d *Device) Edit(change func(*edge.Config)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.running.Config)
	d.running.Hash = d.running.Config.Hash()
}

// Restart cuts the power for a moment: what was not confirmed is gone, the
// rest is kept.
func (d *Device) Restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.undo()
}

// Counts returns how many pushes were put in force and how many were kept.
func (d *Device) Counts() (applies, confirms int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.applies, d.confirms
}

// Credentials returns the set in force.
func (d *Device) Credentials() edge.Credentials {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.credentials
}

// begin takes the lock for one call, after its delay. When it returns an error
// the lock is not held.
func (d *Device) begin(ctx context.Context) error {
	d.mu.Lock()
	delay := d.faults.Delay
	d.mu.Unlock()
	if delay > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("%w: %w", edge.ErrUnreachable, err)
	}
	d.mu.Lock()
	if d.faults.Unreachable {
		d.mu.Unlock()
		return fmt.Errorf("%w: %s is switched off", edge.ErrUnreachable, d.id)
	}
	return nil
}

// reply is the answer to a call that was carried out; the lock is held.
func (d *Device) reply() error {
	if d.faults.LoseReply {
		return fmt.Errorf("%w: the answer of %s was lost", edge.ErrUnreachable, d.id)
	}
	return nil
}

// Running implements controller.Driver.
func (d *Device) Running(ctx context.Context) (edge.Signed, error) {
	if err := d.begin(ctx); err != nil {
		return edge.Signed{}, err
	}
	defer d.mu.Unlock()
	return d.running, nil
}

// Apply implements controller.Driver.
func (d *Device) Apply(ctx context.Context, id edge.CommitID, want edge.Signed, revert time.Duration) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.mu.Unlock()
	if err := want.Verify(d.keys); err != nil {
		return err
	}
	kept, known := d.confirmed[id]
	switch {
	case want.Device != d.id:
		return fmt.Errorf("%w: the document is for %s, this is %s", edge.ErrRejected, want.Device, d.id)
	case id == "" || revert <= 0:
		return fmt.Errorf("%w: a commit needs an id and a revert time", edge.ErrRejected)
	case d.faults.Reject != nil:
		return fmt.Errorf("%w: %w", edge.ErrRejected, d.faults.Reject)
	case known && kept == want.Hash, d.pending == id && d.running.Hash == want.Hash:
		return d.reply()
	case known || d.pending == id:
		return fmt.Errorf("%w: commit id %q was used for other content", edge.ErrRejected, id)
	case d.pending != "":
		return fmt.Errorf("%w: commit %q is in flight", edge.ErrRejected, d.pending)
	case want.Revision < d.highest:
		return fmt.Errorf("%w: revision %d is older than confirmed revision %d", edge.ErrRejected, want.Revision, d.highest)
	}
	d.before, d.running, d.pending = d.running, want, id
	d.applies++
	why, failed := "no Confirm arrived before the deadline", d.faults.Unhealthy
	if len(failed) > 0 {
		why, revert = "the health contract failed for 10s", min(revert, 10*time.Second)
	}
	d.revert = time.AfterFunc(revert, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.pending == id {
			d.taken = &edge.Reverted{Commit: id, Revision: want.Revision, At: time.Now().UTC(), Why: why, Failed: failed}
			d.undo()
		}
	})
	return d.reply()
}

// undo returns to the last confirmed config; the lock is held.
func (d *Device) undo() {
	if d.pending != "" {
		d.revert.Stop()
		d.running, d.before, d.pending = d.before, edge.Signed{}, ""
	}
}

// Confirm implements controller.Driver.
func (d *Device) Confirm(ctx context.Context, id edge.CommitID) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.mu.Unlock()
	if _, known := d.confirmed[id]; known {
		return d.reply()
	}
	if d.pending == "" || d.pending != id {
		return fmt.Errorf("%w: commit %q is not pending; it was reverted or never sent", edge.ErrRejected, id)
	}
	d.revert.Stop()
	d.pending, d.before = "", edge.Signed{}
	d.confirmed[id] = d.running.Hash
	d.highest = max(d.highest, d.running.Revision)
	d.confirms++
	return d.reply()
}

// Pending implements controller.Driver.
func (d *Device) Pending(ctx context.Context) (edge.CommitID, error) {
	if err := d.begin(ctx); err != nil {
		return "", err
	}
	defer d.mu.Unlock()
	return d.pending, nil
}

// State implements controller.Driver. A tunnel is up at once unless it is
// broken.
func (d *Device) State(ctx context.Context) (edge.State, error) {
	if err := d.begin(ctx); err != nil {
		return edge.State{}, err
	}
	defer d.mu.Unlock()
	st := edge.State{
		At: time.Now().UTC(), Revision: d.running.Revision, Hash: d.running.Hash,
		Pending: d.pending, Epoch: d.credentials.Epoch, LastRevert: d.taken,
	}
	for _, t := range d.running.Config.Tunnels {
		up := !d.faults.Down[t.Name]
		st.Tunnels = append(st.Tunnels, edge.TunnelState{Name: t.Name, Up: up, BFD: up, BGP: up})
	}
	return st, nil
}

// SetCredentials implements controller.Credentialer.
func (d *Device) SetCredentials(ctx context.Context, c edge.Credentials) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.mu.Unlock()
	have := d.credentials
	switch {
	case c.Epoch == 0 || c.Epoch < have.Epoch:
		return fmt.Errorf("%w: credentials of epoch %d are older than epoch %d in force", edge.ErrRejected, c.Epoch, have.Epoch)
	case c.Epoch == have.Epoch && !maps.Equal(c.Keys, have.Keys):
		return fmt.Errorf("%w: other keys under epoch %d in force", edge.ErrRejected, c.Epoch)
	}
	c.Keys = maps.Clone(c.Keys)
	d.credentials = c
	return nil
}
