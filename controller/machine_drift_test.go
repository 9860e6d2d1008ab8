package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// SaveDrift implements [Drifts].
func (s *process) SaveDrift(_ context.Context, d Drift, row *Status, entries ...Entry) error {
	if err := s.p.room(); err != nil {
		return err
	}
	return errors.Join(s.life.write(func() { // world.mu is held
		if row != nil {
			s.observed(*row, entries)
		}
		if i := slices.IndexFunc(s.p.drifts, func(o Drift) bool { return o.ID == d.ID }); i >= 0 {
			s.p.drifts[i] = d
			return
		}
		s.p.drifts = append(s.p.drifts, d)
	}), s.p.answered())
}

// Drifts implements [Drifts].
func (s *process) Drifts(context.Context) ([]Drift, error) {
	if err := s.p.sight(); err != nil {
		return nil, err
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return slices.Clone(s.p.drifts), nil
}

// Editable says whether people may change the device past us, which then waits
// for one of them.
func (h hand) Editable() bool { return h.s.p.hand[h.id] }

// edit changes a device's config behind the controller's back.
func (p *plant) edit(id inventory.DeviceID, n int) {
	p.watch.Lock()
	defer p.watch.Unlock()
	p.devices[id].Edit(func(c *edge.Config) {
		if len(c.Circuits) > 0 { // it runs something
			c.Circuits = slices.Clone(c.Circuits)
			c.Circuits[0].UpBPS += inventory.BitRate(n + 1)
			p.edited[id] = time.Now()
			delete(p.told, id)
		}
	})
}

// decide is a person's word about the newest drift that waits for one.
func (p *plant) decide(n int) {
	all, err := p.life.Controller.Drifts(p.t.Context())
	if err != nil {
		p.say("drifts: %v", err)
		return
	}
	for _, d := range all {
		if d.State != DriftOpen {
			continue
		}
		if n%2 == 0 {
			_, err = p.life.RevertDrift(p.t.Context(), d.ID, "lan", "")
		} else {
			_, err = p.life.WaiveDrift(p.t.Context(), d.ID, "lan", "fault 88", time.Now().Add(time.Duration(n)*time.Minute))
		}
		p.say("decided of drift %s: %v", d.ID, err)
		return
	}
}

// onRecord says what is wrong with the records of what was changed on a device:
// each is in its row's count and in the journal, and has its line in the audit log.
func (p *plant) onRecord(id inventory.DeviceID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch.Lock()
	defer p.watch.Unlock()
	records, entries := 0, 0
	for _, d := range p.drifts {
		if d.Device != id {
			continue
		}
		records++
		if d.Untold || !p.lines[d.ID+" "+string(d.State)] {
			return fmt.Errorf("drift %s of %s is %s, and the audit log does not say so: %+v", d.ID, id, d.State, d)
		}
	}
	for _, e := range p.journal {
		if e.Device == id && e.Step == StepDrift {
			entries++
		}
	}
	if n := p.rows[id].Drifts; n != records || entries < records {
		return fmt.Errorf("%s has %d drifts on record, %d in its row and %d in the journal", id, records, n, entries)
	}
	return nil
}

// may says whether what a device was changed to may be written over now: where
// people may change it, one of them, or a newer revision, must have said so.
func (p *plant) may(id inventory.DeviceID) bool {
	said := p.told[id]
	return !p.hand[id] || said == "drift."+string(DriftReturning) || said == "drift."+string(DriftOverwritten)
}
