package controller

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

var errFull = errors.New("no space left on device")

// room says whether the disk takes a write now.
func (p *plant) room() error {
	p.watch.Lock()
	defer p.watch.Unlock()
	if time.Now().Before(p.full) {
		return errFull
	}
	return nil
}

var errMurky = errors.New("the connection to the database was lost")

// answered is what comes of the write of a row that was carried out.
func (p *plant) answered() error {
	p.watch.Lock()
	defer p.watch.Unlock()
	if time.Now().Before(p.murky) {
		return errMurky
	}
	return nil
}

func (s *process) Save(ctx context.Context, st Status, entries ...Entry) error {
	if err := s.p.room(); err != nil {
		return err
	}
	return errors.Join(s.life.Save(ctx, st, entries...), s.p.answered())
}

// moves are the ways of a rollout.
var moves = map[RolloutState][]RolloutState{
	"":               {RolloutRunning},
	RolloutRunning:   {RolloutRunning, RolloutPaused, RolloutDone, RolloutHalted, RolloutReturning, RolloutAborted},
	RolloutPaused:    {RolloutRunning, RolloutAborted},
	RolloutReturning: {RolloutHalted},
	RolloutDone:      {RolloutDone}, // it may get overdue
}

func (s *process) SaveRollout(ctx context.Context, r Rollout, assign []Assignment) error {
	if err := s.p.room(); err != nil {
		return err
	}
	if s.dead.Load() {
		return errDead
	}
	s.p.judge(r, assign)
	err := s.life.SaveRollout(ctx, r, assign)
	s.p.stands()
	return errors.Join(err, s.p.answered())
}

// sight says whether the database can be read now.
func (p *plant) sight() error {
	p.watch.Lock()
	defer p.watch.Unlock()
	if p.blind && time.Now().Before(p.murky) {
		return errMurky
	}
	return nil
}

func (s *process) Rollouts(ctx context.Context) ([]Rollout, error) {
	if err := s.p.sight(); err != nil {
		return nil, err
	}
	return s.life.Rollouts(ctx)
}

func (s *process) Statuses(ctx context.Context) ([]Status, error) {
	if err := s.p.sight(); err != nil {
		return nil, err
	}
	return s.life.Statuses(ctx)
}

// audit is the audit log. A line counts when it was kept.
func (s *process) audit(_ context.Context, what, object, reason string) error {
	if err := s.p.room(); err != nil {
		return err
	}
	if s.dead.Load() {
		return errDead
	}
	s.p.say("audit %s %s: %s", what, object, reason)
	s.p.watch.Lock()
	defer s.p.watch.Unlock()
	if state, is := strings.CutPrefix(what, "drift"); is {
		delete(s.p.edited, inventory.DeviceID(object))
		s.p.told[inventory.DeviceID(object)] = what
		_, id, _ := strings.Cut(reason, "(drift ")
		s.p.lines[strings.TrimSuffix(id, ")")+" "+cmp.Or(strings.TrimPrefix(state, "."), string(DriftOpen))] = true
	}
	return nil
}
