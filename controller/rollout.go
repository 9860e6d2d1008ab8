package controller

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// RolloutState is where a rollout stands.
type RolloutState string

// States. Running and paused are open; returning means that another rollout
// brings the old content back; the others are final.
const (
	RolloutRunning   RolloutState = "running"
	RolloutPaused    RolloutState = "paused"
	RolloutDone      RolloutState = "done"
	RolloutHalted    RolloutState = "halted"
	RolloutReturning RolloutState = "returning"
	RolloutAborted   RolloutState = "aborted"
)

// WaveState is where a wave stands.
type WaveState string

// States of a wave.
const (
	WaveWaiting WaveState = "waiting"
	WaveRunning WaveState = "running"
	WaveDone    WaveState = "done"
	WaveHalted  WaveState = "halted"
)

// Wave is one step of a rollout.
type Wave struct {
	Name      string
	Devices   []inventory.DeviceID
	Additions bool `json:",omitempty"` // see [PlannedWave]
	State     WaveState
	Done      int
	Failed    int       `json:",omitempty"`
	Pending   int       // offline; they get the revision when they return
	Started   time.Time `json:",omitzero"`
	Ended     time.Time `json:",omitzero"`
	// Accepted: a person resumed although no device of the wave is reachable.
	Accepted bool `json:",omitempty"`
}

// Rollout is a plan under way. It is a value: [Rollout.Step] makes the next
// one, the controller stores it and carries it out.
type Rollout struct {
	ID       string // sorts by time
	Revision intent.Number
	Base     intent.Number // in force everywhere before; 0: none
	Returns  string        `json:",omitempty"` // id of the failed rollout that this one takes back
	Returned bool          `json:",omitempty"` // it failed, and what was in force before is back
	Author   string
	State    RolloutState
	Reason   string    `json:",omitempty"`
	Started  time.Time // UTC
	Ended    time.Time `json:",omitzero"`
	// Deadline is until when devices that were offline are waited for.
	Deadline time.Time `json:",omitzero"`
	Overdue  bool      `json:",omitempty"` // the deadline passed and was reported
	Waves    []Wave
	// Keep lists, for staged hubs, the revisions kept beside this one until
	// the removals wave.
	Keep map[inventory.DeviceID][]intent.Number `json:",omitempty"`
	ETA  time.Time                              `json:",omitzero"` // estimate of the end; zero when unknown
	// Urgent is why it does not wait for a maintenance window; empty: it does.
	Urgent string `json:",omitempty"`
	// Over are the drifts that its plan named as written over.
	Over []string `json:",omitempty"`
}

// Open says whether the rollout still admits devices, now or after a resume.
func (r Rollout) Open() bool { return r.State == RolloutRunning || r.State == RolloutPaused }

// Progress counts the pushes that are confirmed, and all of them.
func (r Rollout) Progress() (done, total int) {
	for _, w := range r.Waves {
		done += w.Done
		total += len(w.Devices)
	}
	return done, total
}

// Phase is where one device of a running wave stands.
type Phase int

// Phases of a device in a wave.
const (
	PhaseWaiting Phase = iota
	PhaseDone          // confirmed what the wave assigns
	PhaseOffline       // without a session
	PhaseFailed
)

// Seen is what is known of one device of the running wave.
type Seen struct {
	Phase  Phase
	Reason string // of a failure
}

// Limits bound a rollout.
type Limits struct {
	Wave    time.Duration // a reachable device must confirm within it
	Grace   time.Duration // a device that is offline is waited for so long in its wave
	Pending time.Duration // and so long after the last wave, before it is reported
}

// Step moves a running rollout on: it counts, ends a wave that is through,
// starts the next, halts at the first failure. It is pure and idempotent; a
// rollout that is not running comes back as it is.
func (r Rollout) Step(now time.Time, seen func(Target, inventory.DeviceID) Seen, lim Limits) Rollout {
	if r.State != RolloutRunning {
		return r
	}
	r.Waves = slices.Clone(r.Waves)
	for i := range r.Waves {
		w := &r.Waves[i]
		switch w.State {
		case WaveDone:
			continue
		case WaveWaiting:
			w.State, w.Started = WaveRunning, now
			r.ETA = r.estimate(now)
			return r // devices are admitted first, then looked at
		}
		look := func(id inventory.DeviceID) Seen { return seen(r.targetIn(*w, id), id) }
		reason, through := w.look(now, look, lim)
		switch {
		case reason != "" && through: // nobody to ask: a person decides
			r.State, r.Reason = RolloutPaused, reason
			return r
		case reason != "":
			w.State, w.Ended = WaveHalted, now
			return r.halt(now, reason)
		case !through:
			r.ETA = r.estimate(now)
			return r
		}
		w.State, w.Ended = WaveDone, now
	}
	r.State, r.Ended, r.ETA, r.Reason = RolloutDone, now, time.Time{}, ""
	if n := r.pending(); n > 0 {
		r.Deadline = now.Add(lim.Pending)
		r.Reason = fmt.Sprintf("%d devices are offline; they take revision %d when they return", n, r.Revision)
	}
	return r
}

// look counts the wave's devices. A reason without through is a failure; with
// through, the wave has nobody to verify it by.
func (w *Wave) look(now time.Time, seen func(inventory.DeviceID) Seen, lim Limits) (reason string, through bool) {
	w.Done, w.Failed, w.Pending = 0, 0, 0
	waiting, failed := 0, []string{}
	for _, id := range w.Devices {
		s := seen(id)
		switch {
		case s.Phase == PhaseDone:
			w.Done++
		case s.Phase == PhaseFailed:
			failed = append(failed, s.Reason)
		case s.Phase == PhaseOffline && now.Sub(w.Started) >= lim.Grace:
			w.Pending++
		case s.Phase == PhaseWaiting && now.Sub(w.Started) >= lim.Wave:
			failed = append(failed, fmt.Sprintf("%s: nothing confirmed within %s, though it is reachable or was pushed to", id, lim.Wave))
		default:
			waiting++
		}
	}
	w.Failed = len(failed)
	switch {
	case len(failed) > 0:
		slices.Sort(failed)
		reason = "wave " + w.Name + ": " + failed[0]
		if n := len(failed) - 1; n > 0 {
			reason += fmt.Sprintf(" (and %d more)", n)
		}
		return reason, false
	case waiting > 0:
		return "", false
	case w.Done == 0 && w.Pending > 0 && !w.Accepted:
		return fmt.Sprintf("wave %s: none of its devices is reachable (%s); resume to go on without them", w.Name, names(w.Devices)), true
	}
	return "", true
}

// halt ends the rollout and, where there is old content, asks for its return.
func (r Rollout) halt(now time.Time, reason string) Rollout {
	r.ETA = time.Time{}
	if r.Base != 0 && r.Returns == "" {
		r.State, r.Reason = RolloutReturning, reason
		return r
	}
	r.State, r.Ended = RolloutHalted, now
	r.Reason = reason + "; no earlier content to return to, apply a corrected revision"
	if r.Returns != "" {
		r.Reason = reason + "; the return itself failed, apply a corrected revision"
	}
	return r
}

func (r Rollout) pending() (n int) {
	for _, w := range r.Waves {
		n += w.Pending
	}
	return n
}

// estimate takes the mean time of the waves so far for those to come.
func (r Rollout) estimate(now time.Time) time.Time {
	var sum time.Duration
	ended, left := 0, 0
	for _, w := range r.Waves {
		if w.State == WaveDone {
			sum += w.Ended.Sub(w.Started)
			ended++
		} else {
			left++
		}
	}
	if ended == 0 {
		return time.Time{}
	}
	return now.Add(sum / time.Duration(ended) * time.Duration(left)).Round(time.Second)
}

// targetIn is what wave w assigns to id.
func (r Rollout) targetIn(w Wave, id inventory.DeviceID) Target {
	t := Target{Revision: r.Revision}
	if w.Additions {
		t.Keep = r.Keep[id]
	}
	return t
}

// targets is what the waves started so far assign; a later wave overrides.
func (r Rollout) targets() map[inventory.DeviceID]Target {
	out := map[inventory.DeviceID]Target{}
	for _, w := range r.Waves {
		if w.State == WaveWaiting {
			continue
		}
		for _, id := range w.Devices {
			out[id] = r.targetIn(w, id)
		}
	}
	return out
}

// names lists a few ids for a person.
func names(ids []inventory.DeviceID) string {
	var parts []string
	for i, id := range ids {
		if i == 3 {
			return strings.Join(parts, ", ") + fmt.Sprintf(" and %d more", len(ids)-i)
		}
		parts = append(parts, string(id))
	}
	return strings.Join(parts, ", ")
}
