package linux

import (
	"context"
	"errors"
	"fmt"

	"github.com/wardnet/wardnet/edge/render"
)

// Part is one more thing that the box runs for a configuration, beside what
// this package drives itself; packages service and shape are two. It is put
// right after the interfaces, addresses and rules are, and before routing.
type Part interface {
	Name() string
	// Check lists what stands against in; it changes nothing.
	Check(ctx context.Context, in render.Input) error
	// Apply makes the part what in asks for. It leaves alone what is so already.
	Apply(ctx context.Context, in render.Input) error
	// Diff lists how the part differs from in; it changes nothing.
	Diff(ctx context.Context, in render.Input) ([]string, error)
}

// partSteps are the parts as steps of a transaction.
func (h *Host) partSteps() []step {
	var out []step
	for _, p := range h.deps.Parts {
		out = append(out, step{p.Name(), func(ctx context.Context, w inForce) error { return p.Apply(ctx, w.input()) }})
	}
	return out
}

// checkParts lists what stands against w.
func (h *Host) checkParts(ctx context.Context, w inForce) error {
	var errs []error
	for _, p := range h.deps.Parts {
		errs = append(errs, p.Check(ctx, w.input()))
	}
	return errors.Join(errs...)
}

// partDiffs lists how the parts differ from w.
func (h *Host) partDiffs(ctx context.Context, w inForce) ([]string, error) {
	var diff []string
	for _, p := range h.deps.Parts {
		more, err := p.Diff(ctx, w.input())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name(), err)
		}
		for _, d := range more {
			diff = append(diff, p.Name()+": "+d)
		}
	}
	return diff, nil
}

// input is what parts depend on: not what a circuit learned, so that a new
// lease of the box's own changes none of them.
func (w inForce) input() render.Input {
	return render.Input{Config: w.config, Credentials: w.keys}
}

// Changed tells the readers of [Host.Watch] that a part's state changed.
func (h *Host) Changed() { h.wake() }
