package upgrade

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// State is where a rollout stands.
type State string

// States. Done, halted and aborted are final.
const (
	Running State = "running"
	Paused  State = "paused"
	// Lingering: all waves are through; devices that were offline are waited
	// for until the deadline.
	Lingering State = "lingering"
	Complete  State = "done"
	Halted    State = "halted" // a device failed; nothing further starts
	Aborted   State = "aborted"
)

// States lists all states, for counts that are present at zero.
var States = []State{Running, Paused, Lingering, Complete, Halted, Aborted}

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
	Name    string
	Devices []inventory.DeviceID
	State   WaveState
	Done    int
	Pending int       // offline or slow; they are upgraded when they can be
	Started time.Time `json:",omitzero"`
	Ended   time.Time `json:",omitzero"`
	// Accepted: a person resumed although no device of the wave is reachable.
	Accepted bool `json:",omitempty"`
}

// Rollout is an upgrade under way. It is a value: [Rollout.Step] makes the next
// one, the conductor stores it and carries it out.
type Rollout struct {
	ID       string // sorts by time
	Version  string
	Author   string
	Purpose  string `json:",omitempty"` // why, as its author said
	State    State
	Reason   string    `json:",omitempty"` // of the state
	Started  time.Time // UTC
	Ended    time.Time `json:",omitzero"`
	Deadline time.Time // for devices that are offline
	ETA      time.Time `json:",omitzero"` // estimate of the end of the waves; zero when unknown
	Waves    []Wave
}

// Open says whether the rollout may still begin with devices, now or after a
// resume.
func (r Rollout) Open() bool {
	return r.State == Running || r.State == Paused || r.State == Lingering
}

// Leave is what the rollout lets its devices do.
func (r Rollout) Leave() Leave {
	switch r.State {
	case Running, Lingering:
		return Go
	case Paused:
		return Finish
	}
	return Stop
}

// Progress counts the devices that run the version, and all of them.
func (r Rollout) Progress() (done, total int) {
	for _, w := range r.Waves {
		done += w.Done
		total += len(w.Devices)
	}
	return done, total
}

// begun lists the devices whose waves have begun, in order.
func (r Rollout) begun() []inventory.DeviceID {
	var out []inventory.DeviceID
	for _, w := range r.Waves {
		if w.State != WaveWaiting {
			out = append(out, w.Devices...)
		}
	}
	return out
}

// Seen is what is known of one device.
type Seen struct {
	Phase  Phase
	Online bool
	Began  time.Time // of its first transfer
	Error  string
}

// Limits bound a rollout.
type Limits struct {
	Grace   time.Duration // a device that is offline is waited for so long in its wave
	Slow    time.Duration // and one whose transfer takes so long no longer holds up its wave
	Pending time.Duration // after it devices that never came are given up
	Revert  time.Duration // a device goes back by itself unless confirmed within it
	Back    time.Duration // and must have been heard of so long after that
}

// Step moves an open rollout on: it counts, ends a wave that is through, starts
// the next, halts at the first failure. It is pure and idempotent; a rollout
// that neither runs nor lingers is only counted.
func (r Rollout) Step(now time.Time, seen func(inventory.DeviceID) Seen, lim Limits) Rollout {
	r.Waves = slices.Clone(r.Waves)
	for i := range r.Waves {
		r.Waves[i].count(now, seen, lim)
	}
	if r.State != Running && r.State != Lingering {
		return r
	}
	if reason := r.failure(seen); reason != "" {
		return r.halt(now, reason)
	}
	for i := range r.Waves {
		w := &r.Waves[i]
		switch w.State {
		case WaveDone:
			continue
		case WaveWaiting:
			w.State, w.Started = WaveRunning, now
			w.count(now, seen, lim)
			r.ETA = r.estimate(now)
			return r // its devices are admitted first, then looked at
		}
		if w.open(seen) > w.Pending {
			r.ETA = r.estimate(now)
			return r
		}
		if w.Done == 0 && w.Pending > 0 && !w.Accepted {
			r.State, r.ETA = Paused, time.Time{}
			r.Reason = fmt.Sprintf("wave %s: none of its devices is reachable (%s); resume to go on without them", w.Name, names(w.Devices))
			return r
		}
		w.State, w.Ended = WaveDone, now
	}
	return r.through(now, seen)
}

// through is the rollout whose waves are all through.
func (r Rollout) through(now time.Time, seen func(inventory.DeviceID) Seen) Rollout {
	var open []inventory.DeviceID
	trying := false
	for _, id := range r.begun() {
		if s := seen(id); !s.Phase.Final() {
			open = append(open, id)
			trying = trying || s.Phase == Trying
		}
	}
	r.ETA = time.Time{}
	switch {
	case len(open) == 0 && r.State == Lingering:
		r.State, r.Ended = Complete, now // the reason tells of the devices that were late
	case len(open) == 0:
		r.State, r.Ended, r.Reason = Complete, now, ""
	case now.Before(r.Deadline) || trying:
		r.State, r.Reason = Lingering, fmt.Sprintf("%d devices are offline or slow; they are upgraded to %s when they can be, until %s", len(open), r.Version, r.Deadline.Format(time.DateOnly))
	default:
		r.State, r.Ended, r.Reason = Complete, now, fmt.Sprintf("%d devices did not come until the deadline and run what they ran: %s", len(open), names(open))
	}
	return r
}

// count brings the wave's counts up to date.
func (w *Wave) count(now time.Time, seen func(inventory.DeviceID) Seen, lim Limits) {
	w.Done, w.Pending = 0, 0
	for _, id := range w.Devices {
		s := seen(id)
		switch {
		case s.Phase == Done:
			w.Done++
		case w.State == WaveWaiting || s.Phase.Final() || s.Phase == Trying:
		case !s.Online && now.Sub(w.Started) >= lim.Grace,
			!s.Began.IsZero() && now.Sub(later(s.Began, w.Started)) >= lim.Slow:
			w.Pending++
		}
	}
}

// open counts the devices of the wave that are not through.
func (w *Wave) open(seen func(inventory.DeviceID) Seen) (n int) {
	for _, id := range w.Devices {
		if !seen(id).Phase.Final() {
			n++
		}
	}
	return n
}

// failure says which devices failed, or "".
func (r Rollout) failure(seen func(inventory.DeviceID) Seen) string {
	for _, w := range r.Waves {
		var failed []string
		for _, id := range w.Devices {
			if s := seen(id); s.Phase == Failed {
				failed = append(failed, fmt.Sprintf("%s: %s", id, s.Error))
			}
		}
		if len(failed) == 0 {
			continue
		}
		slices.Sort(failed)
		reason := "wave " + w.Name + ": " + failed[0]
		if n := len(failed) - 1; n > 0 {
			reason += fmt.Sprintf(" (and %d more)", n)
		}
		return reason
	}
	return ""
}

func (r Rollout) halt(now time.Time, reason string) Rollout {
	for i := range r.Waves {
		if w := &r.Waves[i]; w.State == WaveRunning {
			w.State, w.Ended = WaveHalted, now
		}
	}
	r.State, r.Reason, r.Ended, r.ETA = Halted, reason, now, time.Time{}
	return r
}

// estimate takes the mean time per device so far for those still to come.
func (r Rollout) estimate(now time.Time) time.Time {
	done, total := r.Progress()
	for _, w := range r.Waves {
		total -= w.Pending
	}
	if done == 0 || total <= done {
		return time.Time{}
	}
	return now.Add(now.Sub(r.Started) / time.Duration(done) * time.Duration(total-done)).Round(time.Second)
}

// moved says whether r must be stored, o being what is.
func (r Rollout) moved(o Rollout) bool {
	return r.State != o.State || r.Reason != o.Reason ||
		!slices.EqualFunc(r.Waves, o.Waves, func(a, b Wave) bool { return a.State == b.State && a.Accepted == b.Accepted })
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
