package upgrade

import (
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// Phase is where one device stands in a rollout.
type Phase string

// Phases. The first three are open; the others are final.
const (
	Waiting    Phase = "waiting"    // not begun, or not reachable yet
	Installing Phase = "installing" // the binary goes into the free slot
	Trying     Phase = "trying"     // activated under Commit, not confirmed yet
	Done       Phase = "done"       // runs the version, confirmed
	Failed     Phase = "failed"     // the device took the version back, refused it or was not heard of again
	Returned   Phase = "returned"   // not confirmed because the rollout ended first: it goes back by itself
	Expired    Phase = "expired"    // not reachable until the deadline
	Skipped    Phase = "skipped"    // the rollout ended before the device was tried
	Superseded Phase = "superseded" // a newer rollout has taken the device over
)

// Phases lists all phases, for counts that are present at zero.
var Phases = []Phase{Waiting, Installing, Trying, Done, Failed, Returned, Expired, Skipped, Superseded}

// Final says whether nothing more happens to a device in phase p.
func (p Phase) Final() bool { return p != Waiting && p != Installing && p != Trying }

// Device is the row of one device in one rollout. It is a value: [Device.Decide]
// makes the next one, the conductor stores it and acts.
type Device struct {
	Device inventory.DeviceID
	Hub    bool `json:",omitempty"`
	Phase  Phase
	// Commit is the id of the try, stored before the device hears of it.
	Commit edge.CommitID `json:",omitempty"`
	From   string        `json:",omitempty"` // version that ran before the try
	Before Health        `json:",omitzero"`  // before the try
	Began  time.Time     `json:",omitzero"`  // first transfer
	Tried  time.Time     `json:",omitzero"`  // last Activate
	Ended  time.Time     `json:",omitzero"`
	Error  string        `json:",omitempty"` // why it failed, or what keeps it waiting
}

// Health is what must be as before for a try to be confirmed.
type Health struct {
	InSync bool     `json:",omitempty"` // the assigned configuration is confirmed and in force
	Up     []string `json:",omitempty"` // tunnels that carry traffic, sorted
}

// tolerance is the ratio of the tunnels that may be down though they were up
// before: among a hub's hundreds some ward's circuit always fails.
const tolerance = 0.02

// worse says what is worse in h than before, or "".
func (h Health) worse(before Health) string {
	if before.InSync && !h.InSync {
		return "its configuration is not in sync as before"
	}
	var down []string
	for _, t := range before.Up {
		if _, up := slices.BinarySearch(h.Up, t); !up {
			down = append(down, t)
		}
	}
	if len(down) > int(tolerance*float64(len(before.Up))) {
		return fmt.Sprintf("%d of %d tunnels that were up are down, %s among them", len(down), len(before.Up), down[0])
	}
	return ""
}

// Report is what a device says of its agent (gNOI OS Verify).
type Report struct {
	Version   string        // running
	GOARCH    string        // of the running binary; empty: it does not say
	Confirmed bool          // the running binary will run after the next start too
	Pending   edge.CommitID // try under way
	// Failed is the last try that the device took back, and why.
	Failed  edge.CommitID
	Failure string
}

// Leave says what a rollout lets its devices do.
type Leave int

// Leaves, from most to least.
const (
	Go     Leave = iota // begin, and finish
	Finish              // a try under way may be confirmed, nothing begins
	Stop                // nothing is confirmed any more; what is under way goes back by itself
)

// Action is what to do next with a device.
type Action int

// Actions.
const (
	Nothing  Action = iota // look again later
	Install                // bring the binary, then ask again
	Activate               // send Activate under the row's commit
	Confirm                // send Confirm for the row's commit
)

// Sight is what is known when the next step is decided.
type Sight struct {
	Want      string // version of the rollout
	Leave     Leave
	Report    Report
	Installed bool   // the binary is whole in the free slot
	Health    Health // now
	Accepted  int    // times the device said yes to Activate under the row's commit, as far as known
	// Fresh is the id for a new try.
	Fresh edge.CommitID
}

// maxTries bounds how often Activate is sent under one commit to a device that
// says yes and then knows nothing of it.
const maxTries = 3

// Decide says what follows from what a device reports: its next row, and what
// to do once that is stored. It is pure, and true to the device: a reply that
// was lost, or a controller that died in between, changes nothing of it.
func (d Device) Decide(now time.Time, s Sight, lim Limits) (Device, Action) {
	r := s.Report
	switch {
	case d.Phase.Final():
		return d, Nothing
	case d.Commit != "" && r.Failed == d.Commit:
		why := fmt.Sprintf("version %s was taken back by the device: %s", s.Want, orUnknown(r.Failure))
		if d.Error != "" { // what its confirmation was waiting for
			why += "; " + d.Error
		}
		return d.end(now, s.Leave, why), Nothing
	case r.Version == s.Want && r.Pending == "" && r.Confirmed && (d.Phase == Trying || s.Leave == Go):
		d.Phase, d.Ended, d.Error = Done, now, ""
		return d, Nothing
	case d.Phase == Trying:
		return d.trying(now, s, lim)
	case s.Leave != Go:
		return d, Nothing
	case r.Pending != "":
		d.Error = fmt.Sprintf("another try of the device is under way (%s); it ends by itself", r.Pending)
		return d, Nothing
	case !s.Installed:
		if d.Began.IsZero() {
			d.Began = now
		}
		d.Phase, d.Error = Installing, ""
		return d, Install
	}
	d.Phase, d.Error = Trying, ""
	d.Commit, d.From, d.Before, d.Tried = s.Fresh, r.Version, s.Health, now
	return d, Activate
}

// trying decides for a device whose try is on record.
func (d Device) trying(now time.Time, s Sight, lim Limits) (Device, Action) {
	r := s.Report
	over := now.Sub(d.Tried) > lim.Revert+lim.Back
	ours := r.Pending == d.Commit
	switch {
	case d.Commit == "": // nobody writes such a row
		return d.end(now, s.Leave, "the record names no try of version "+s.Want), Nothing
	case ours && s.Leave != Stop && !over:
		if r.Version != s.Want { // it is just being started
			return d, Nothing
		}
		if d.Error = s.Health.worse(d.Before); d.Error != "" {
			return d, Nothing // it may come yet; else the device goes back by itself
		}
		return d, Confirm
	case ours && over:
		return d.end(now, s.Leave, fmt.Sprintf("version %s is still on trial %s after it had to be confirmed", s.Want, now.Sub(d.Tried.Add(lim.Revert)).Round(time.Second))), Nothing
	case ours: // it ends by itself
		return d, Nothing
	case s.Leave == Stop: // and it has: nothing is pending and the version is not confirmed
		return d.end(now, s.Leave, ""), Nothing
	case s.Leave == Finish, r.Pending != "":
		return d, Nothing
	case r.Version == s.Want: // between its confirmation and the slot that says so
		return d, Nothing
	case s.Accepted >= maxTries:
		return d.end(now, s.Leave, fmt.Sprintf("the device said yes %d times to trying version %s and runs %s", s.Accepted, s.Want, r.Version)), Nothing
	}
	d.Tried = now // it never heard of it
	return d, Activate
}

// end ends a device's part badly: a failure while the rollout runs, a return
// once it is over.
func (d Device) end(now time.Time, leave Leave, why string) Device {
	d.Phase, d.Ended, d.Error = Failed, now, why
	if leave == Stop {
		d.Phase = Returned
	}
	return d
}

// shelve takes a try back that the device, being busy, has not begun.
func (d Device) shelve(why string) Device {
	d.Phase, d.Commit, d.From, d.Before, d.Tried, d.Error = Installing, "", "", Health{}, time.Time{}, why
	return d
}

// missing decides for a device that is not reachable, or answers no question.
// Since is from when on it could have been heard of: the time of its last
// answer, or of this process's start.
func (d Device) missing(now, since time.Time, s Sight, lim Limits) Device {
	if d.Phase != Trying || now.Sub(later(since, d.Tried)) <= lim.Revert+lim.Back {
		return d
	}
	return d.end(now, s.Leave, fmt.Sprintf("not heard of since version %s was tried %s ago; it goes back to %s by itself",
		s.Want, now.Sub(d.Tried).Round(time.Second), orUnknown(d.From)))
}

// differs says whether d must be stored, o being what is.
func (d Device) differs(o Device) bool {
	return d.Phase != o.Phase || d.Commit != o.Commit || d.Error != o.Error ||
		!d.Began.Equal(o.Began) || !d.Tried.Equal(o.Tried)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
