package pki

import (
	"errors"
	"fmt"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Step is one step of an issuer's rotation.
type Step string

// Steps, in the order they are taken; [AbortStep] instead of SwitchStep.
const (
	StageStep   Step = "stage"   // a new generation with its key
	PublishStep Step = "publish" // accept it everywhere, give its pin to devices
	SwitchStep  Step = "switch"  // issue with it; the old one drains
	RetireStep  Step = "retire"  // accept nothing of the old one any more
	AbortStep   Step = "abort"   // give the new one up before the switch
)

// ErrHeld means that a step has to wait for something, which the error names.
var ErrHeld = errors.New("the rotation waits")

// settle is how long after a publication every replica has it in force: they
// look every two seconds.
const settle = 5 * time.Second

// circumstances are what a step depends on beside the states.
type circumstances struct {
	now time.Time
	// behind counts who would be cut off by the step: devices without the new
	// pin (switch of the hub issuer), holders of the old leaves (retire).
	behind int
	force  bool
}

// nextStep is the step that a rotation takes next, "" when none is under way,
// and the generation it is about.
func nextStep(list []Generation) (Step, *Generation) {
	for _, want := range []struct {
		state IssuerState
		step  Step
	}{{Staged, PublishStep}, {Published, SwitchStep}, {Draining, RetireStep}} {
		for i := range list {
			if list[i].State == want.state {
				return want.step, &list[i]
			}
		}
	}
	return "", nil
}

// planNext gives the moves of the next step of one issuer's generations. A step
// that has to wait wraps [ErrHeld]; no rotation under way
// [inventory.ErrConflict].
func planNext(list []Generation, c circumstances) (Step, []Move, error) {
	step, g := nextStep(list)
	if g == nil {
		return "", nil, fmt.Errorf("%w: no rotation of it is under way; begin one with 'wardnet cert rotate start'", inventory.ErrConflict)
	}
	move := func(to IssuerState) Move { return Move{Issuer: g.Issuer, Number: g.Number, From: g.State, To: to} }
	switch step {
	case PublishStep:
		if g.Certificate == "" {
			return step, nil, fmt.Errorf("%w: the root has not signed generation %d; do the ceremony (csr, sign, import)", ErrHeld, g.Number)
		}
		return step, []Move{move(Published)}, nil
	case SwitchStep:
		if c.now.Before(g.PublishedAt.Add(settle)) {
			return step, nil, fmt.Errorf("%w: generation %d was published less than %s ago and may not be in force everywhere; try again", ErrHeld, g.Number, settle)
		}
		if c.behind > 0 && !c.force {
			return step, nil, fmt.Errorf("%w: %d devices do not know the new hub issuer yet and would not find the controller again; they learn of it when they renew", ErrHeld, c.behind)
		}
		moves := []Move{}
		for _, old := range list {
			if old.State == Active {
				moves = append(moves, Move{Issuer: old.Issuer, Number: old.Number, From: Active, To: Draining})
			}
		}
		return step, append(moves, move(Active)), nil
	default:
		if c.behind > 0 && !c.force {
			return step, nil, fmt.Errorf("%w: %d still hold a certificate of generation %d", ErrHeld, c.behind, g.Number)
		}
		return step, []Move{move(Retired)}, nil
	}
}

// planAbort gives up a generation that has not issued yet.
func planAbort(list []Generation) ([]Move, error) {
	var out []Move
	for _, g := range list {
		if g.State == Staged || g.State == Published {
			out = append(out, Move{Issuer: g.Issuer, Number: g.Number, From: g.State, To: Retired})
		}
	}
	if out == nil {
		return nil, fmt.Errorf("%w: there is no generation that was staged or published and not switched to", inventory.ErrConflict)
	}
	return out, nil
}

// planStart gives the number of the generation to stage.
func planStart(list []Generation) (int, error) {
	newest := 0
	for _, g := range list {
		if g.State == Staged || g.State == Published {
			return 0, fmt.Errorf("%w: generation %d is %s already; go on with 'wardnet cert rotate next' or end it with abort", inventory.ErrConflict, g.Number, g.State)
		}
		newest = max(newest, g.Number)
	}
	return newest + 1, nil
}

// planDistrust makes the staged generation chosen the active one and ends all
// others: whoever took one key from the signer may have taken each.
func planDistrust(list []Generation, chosen int) ([]Move, error) {
	var out []Move
	found := false
	for _, g := range list {
		m := Move{Issuer: g.Issuer, Number: g.Number, From: g.State}
		switch {
		case g.Number == chosen && (g.State == Staged || g.State == Published) && g.Certificate != "":
			m.To, found = Active, true
		case g.State.accepted():
			m.To = Distrusted
		case g.State == Staged:
			m.To = Retired
		default:
			continue
		}
		out = append(out, m)
	}
	if !found {
		return nil, fmt.Errorf("%w: generation %d is not staged and signed by the root", inventory.ErrConflict, chosen)
	}
	return out, nil
}
