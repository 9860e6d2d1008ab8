package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// DriftState is what became of a device that was found changed.
type DriftState string

// States of a drift. The first three leave the device as it is.
const (
	DriftOpen        DriftState = "open"        // waits for a person
	DriftWaived      DriftState = "waived"      // left so until a date
	DriftAdopting    DriftState = "adopting"    // a revision that says the same waits to be rolled out
	DriftReturning   DriftState = "returning"   // being put back
	DriftReturned    DriftState = "returned"    // put back
	DriftAdopted     DriftState = "adopted"     // the intent says the same now
	DriftOverwritten DriftState = "overwritten" // a revision that says otherwise was rolled out over it
	DriftGone        DriftState = "gone"        // the device ran the intent again by another's hand
)

// Drift is one time that a device was found to run something else than it had
// confirmed. It is a value; the newest one of a device counts.
type Drift struct {
	ID       string // sorts by time
	Device   inventory.DeviceID
	Found    time.Time     // UTC
	Revision intent.Number // that the device should run
	Want     string        // hash of what it should run
	Have     string        // hash of what it runs; Want where the difference is beside the document
	Changes  []string      // what was changed, a line each, as in [edge.Change]
	Who      string        `json:",omitempty"` // as far as the device knows
	How      string        // how it was noticed
	State    DriftState
	By       string        `json:",omitempty"` // who decided
	Reason   string        `json:",omitempty"` // why
	Decided  time.Time     `json:",omitzero"`
	Until    time.Time     `json:",omitzero"` // of a waiver
	Adopts   intent.Number `json:",omitempty"`
	// Untold: the audit log's line about this state may be missing still.
	Untold bool `json:",omitempty"`
}

// Active says whether the drift still decides what happens to the device.
func (d Drift) Active() bool {
	switch d.State {
	case DriftOpen, DriftWaived, DriftAdopting, DriftReturning:
		return true
	}
	return false
}

// Held says why the device is left as it is; nil: it may be put back. The error
// is an [ErrHeld].
func (d Drift) Held() error {
	switch d.State {
	case DriftOpen:
		return &DriftError{d, "decide: 'wardnet drift revert', 'adopt' or 'waive'"}
	case DriftWaived:
		return &DriftError{d, "left so by " + d.By + " until " + d.Until.UTC().Format(time.RFC3339)}
	case DriftAdopting:
		return &DriftError{d, fmt.Sprintf("roll out revision %d, which says the same", d.Adopts)}
	}
	return nil
}

// DriftError says that a device was changed past the controller and is left as
// it is. It is an [ErrHeld].
type DriftError struct {
	Drift Drift
	hint  string
}

func (e *DriftError) Error() string {
	return fmt.Sprintf("%v: drift %s: %s", ErrHeld, e.Drift.ID, e.Drift.first())
}

// Unwrap makes it an [ErrHeld].
func (e *DriftError) Unwrap() error { return ErrHeld }

// Hint says what to do next.
func (e *DriftError) Hint() string { return e.hint }

// first is the first changed line, and how many more there are.
func (d Drift) first() string {
	switch n := len(d.Changes); n {
	case 0:
		return fmt.Sprintf("runs %.12s instead of %.12s", d.Have, d.Want)
	case 1:
		return d.Changes[0]
	default:
		return fmt.Sprintf("%s (and %d more)", d.Changes[0], n-1)
	}
}

// Drifts keeps what was found changed. Every method is durable on return.
type Drifts interface {
	// SaveDrift writes d, new or changed, and with it, in one step, what is
	// observed of its device, as [Store.Save] does; a nil row: d alone.
	SaveDrift(ctx context.Context, d Drift, row *Status, entries ...Entry) error
	// Drifts returns all, oldest first.
	Drifts(ctx context.Context) ([]Drift, error)
}

// Editable is a driver of a device that people can change past us; drift on it
// waits for a person. A device that runs nothing but what we signed cannot be
// edited: what it runs beside the intent is an older or a foreign document, and
// is put back at once.
type Editable interface{ Editable() bool }

// editable says whether drift on the device behind dev waits for a person.
func editable(dev Driver) bool {
	e, ok := dev.(Editable)
	return ok && e.Editable()
}

// Drift answers may not grow without bound.
const maxDriftLines = 200

// driftLines tells what was changed on a device that should run want.
func driftLines(want, have edge.Config) []string {
	lines := strings.Split(strings.TrimSuffix(edge.Diff(want, have).String(), "\n"), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return nil
	}
	if n := len(lines); n > maxDriftLines {
		lines = append(slices.Clip(lines[:maxDriftLines]), fmt.Sprintf("… and %d more", n-maxDriftLines))
	}
	return lines
}

// next is what an observation makes of the newest drift of a device: old is nil
// or active. want is what the device should run, confirmed whether it had
// confirmed that, have what it runs. hold says that a person decides. The drift
// to store comes with stored; nil and false: nothing is adrift. over says that
// the plan of what is assigned now named the drift as one to write over.
func (d *Drift) next(want, have string, confirmed, hold, over bool, now time.Time) (next Drift, stored bool) {
	switch {
	case d == nil && (have == want || !confirmed):
		return Drift{}, false
	case d == nil, d.Want == want && d.Have != have && have != want: // new, or changed once more
		next = Drift{Found: now, Want: want, Have: have, State: DriftOpen}
		if d != nil {
			next.ID, next.Found = d.ID, d.Found
			if d.State == DriftReturning { // half-way back
				next.State, next.By, next.Reason, next.Decided = d.State, d.By, d.Reason, d.Decided
				return next, true
			}
		}
		if !hold {
			next.State, next.By, next.Decided = DriftReturning, systemName, now
			next.Reason = "the device runs signed documents only, and this is not the one assigned to it"
		}
		return next, true
	case have == want:
		next = *d
		next.State = map[DriftState]DriftState{DriftReturning: DriftReturned, DriftAdopting: DriftAdopted}[d.State]
		if next.State == "" {
			next.State = DriftGone
		}
		return next, true
	case d.Want != want && (over || !hold): // another revision was assigned meanwhile
		next = *d
		next.State, next.Decided = DriftOverwritten, now
		return next, true
	case d.Want != want: // by who did not know of it
		next = *d
		next.Want = want
		return next, true
	case d.State == DriftWaived && !now.Before(d.Until):
		next = *d
		next.State, next.Reason = DriftOpen, "the waiver ended; before: "+d.Reason
		return next, true
	}
	return *d, false
}

// systemName is who decides where no person did.
const systemName = "wardnet"
