package upgrade

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/edge/release"
	"github.com/wardnet/wardnet/inventory"
)

// Names of the slots. Base is the binary that came with the box; it is never
// written.
const (
	Base  = "base"
	slotA = "a"
	slotB = "b"
)

// Bounds of the time a new version has for its Confirm.
const (
	MinRevert = 10 * time.Second
	MaxRevert = 10 * time.Minute
)

// Reasons to refuse, beside [inventory.ErrInvalid] and [release.ErrUntrusted].
var (
	ErrRefused = errors.New("refused")           // the state forbids it; retrying cannot help
	ErrBusy    = errors.New("busy")              // something else is under way; retry later
	ErrNotYet  = errors.New("not yet")           // the health contract does not hold; ask again
	ErrNoRoom  = errors.New("no room")           // on the disk
	ErrDamaged = errors.New("binary is damaged") // its content is not what was signed
)

const remembered = 16 // confirmed commit ids kept, so that a repeated Confirm is a no-op

// Journal is what survives a power loss: what the slots hold, which one runs
// and what is on trial. It is a value; its methods are pure.
type Journal struct {
	// Current is the slot that was confirmed last, "": [Base]; Previous is the
	// one before, which is run should Current be damaged.
	Current  string          `json:"current,omitempty"`
	Previous string          `json:"previous,omitempty"`
	Slots    map[string]Slot `json:"slots,omitempty"` // "a" and "b"
	Try      *Try            `json:"try,omitempty"`
	Kept     []string        `json:"kept,omitempty"` // confirmed commit ids, oldest first
	Failed   *Failure        `json:"failed,omitempty"`
}

// Slot is one place for a binary.
type Slot struct {
	Release   release.Release `json:"release"`
	Received  int64           `json:"received,omitempty"` // bytes safe on disk while not installed
	Installed bool            `json:"installed,omitempty"`
	Confirmed bool            `json:"confirmed,omitempty"`
}

// Try is a version on trial.
type Try struct {
	Commit  string        `json:"commit"`
	Slot    string        `json:"slot"`
	Version string        `json:"version"`
	Revert  time.Duration `json:"revert_ns"`
	// Held are the items of the health contract that held before and must hold
	// after, named as in edge.Contract.Items.
	Held []string  `json:"held,omitempty"`
	At   time.Time `json:"at"`
}

// Failure is the latest version that was taken back, until another one is.
type Failure struct {
	Commit  string    `json:"commit,omitempty"` // empty: a confirmed one that is damaged
	Version string    `json:"version"`
	Why     string    `json:"why"`
	At      time.Time `json:"at"`
}

// current is Current with its default.
func (j Journal) current() string {
	if j.Current == "" {
		return Base
	}
	return j.Current
}

// with gives j with slot name holding s; a slot that is written anew is no
// fallback any more.
func (j Journal) with(name string, s Slot) Journal {
	slots := maps.Clone(j.Slots)
	if slots == nil {
		slots = map[string]Slot{}
	}
	slots[name] = s
	j.Slots = slots
	if j.Previous == name && !s.Confirmed {
		j.Previous = ""
	}
	return j
}

// place is the slot for r: the one that has it or a part of it, or else the one
// that is missed least. It is neither the confirmed one nor the running one, which
// differ only in an agent that somebody started out of its slot.
func (j Journal) place(r release.Release, running string) (string, error) {
	free := slices.DeleteFunc([]string{slotA, slotB}, func(s string) bool { return s == j.current() || s == running })
	for _, s := range free {
		if j.Slots[s].Release.Same(r) {
			return s, nil
		}
	}
	for _, s := range free {
		if s != j.Previous {
			return s, nil
		}
	}
	if len(free) == 0 {
		return "", fmt.Errorf("%w: slot %s runs and %s is the confirmed one; start the agent by its usual command", ErrRefused, running, j.current())
	}
	return free[0], nil
}

// holding is the slot with version installed that can be tried.
func (j Journal) holding(version string) (string, error) {
	for _, name := range []string{slotA, slotB} {
		if s := j.Slots[name]; s.Installed && s.Release.Version == version && name != j.current() {
			return name, nil
		}
	}
	return "", fmt.Errorf("%w: version %q is not installed here; install it first", ErrRefused, version)
}

// activate puts version on trial at now. running is the version that runs; held
// is what holds now.
func (j Journal) activate(t Try, running string, now time.Time) (Journal, error) {
	switch {
	case t.Commit == "" || len(t.Commit) > 128:
		return j, fmt.Errorf("%w: activate: the commit id has %d characters, not 1 to 128", inventory.ErrInvalid, len(t.Commit))
	case t.Revert < MinRevert || t.Revert > MaxRevert:
		return j, fmt.Errorf("%w: activate %q: revert time %s is not in %s to %s", inventory.ErrInvalid, t.Commit, t.Revert, MinRevert, MaxRevert)
	case j.Try != nil && j.Try.Commit == t.Commit && j.Try.Version == t.Version:
		return j, nil
	case slices.Contains(j.Kept, t.Commit) && running == t.Version:
		return j, nil
	case j.Try != nil:
		return j, fmt.Errorf("%w: version %s is on trial under commit %q; wait for its end", ErrBusy, j.Try.Version, j.Try.Commit)
	case slices.Contains(j.Kept, t.Commit), j.Failed != nil && j.Failed.Commit == t.Commit:
		return j, fmt.Errorf("%w: commit %q was used before; choose a new id", ErrRefused, t.Commit)
	case running == t.Version:
		return j, fmt.Errorf("%w: version %q runs already", ErrRefused, t.Version)
	}
	slot, err := j.holding(t.Version)
	if err != nil {
		return j, err
	}
	t.Slot, t.At = slot, now.UTC()
	j.Try = &t
	return j, nil
}

// confirm keeps the version on trial under commit; failing are the items held
// before that do not hold now.
func (j Journal) confirm(commit string, failing []string) (Journal, error) {
	switch {
	case slices.Contains(j.Kept, commit):
		return j, nil
	case j.Try == nil || j.Try.Commit != commit:
		why := "it was never activated"
		if f := j.Failed; f != nil && f.Commit == commit {
			why = f.Why
		}
		return j, fmt.Errorf("%w: confirm %q: it is not on trial: %s", ErrRefused, commit, why)
	case len(failing) > 0:
		return j, fmt.Errorf("%w: confirm %q: %s held before the change and does not now; confirm again once it does", ErrNotYet, commit, strings.Join(failing, ", "))
	}
	slot := j.Slots[j.Try.Slot]
	slot.Confirmed = true
	name := j.Try.Slot
	j = j.with(name, slot)
	j.Previous, j.Current, j.Try = j.current(), name, nil
	j.Kept = append(slices.Clone(j.Kept), commit)
	if n := len(j.Kept); n > remembered {
		j.Kept = j.Kept[n-remembered:]
	}
	return j, nil
}

// fail takes back what is on trial.
func (j Journal) fail(why string, now time.Time) Journal {
	if j.Try == nil {
		return j
	}
	j.Failed = &Failure{Commit: j.Try.Commit, Version: j.Try.Version, Why: why, At: now.UTC()}
	j.Try = nil
	return j
}

// spoiled empties a confirmed slot that cannot be run and goes back to the one
// before it.
func (j Journal) spoiled(why string, now time.Time) Journal {
	bad := j.current()
	if bad == Base {
		return j
	}
	j.Failed = &Failure{Version: j.Slots[bad].Release.Version, Why: why, At: now.UTC()}
	back := j.Previous
	if back == bad || back != Base && !j.Slots[back].Confirmed {
		back = Base
	}
	j = j.with(bad, Slot{})
	j.Current, j.Previous = back, ""
	return j
}
