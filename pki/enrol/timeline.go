package enrol

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
)

// StepName is one step of a device's first boot. The list is closed.
type StepName string

// Steps of a first boot. A device does the first nine by itself; what follows
// is seen by the controller.
const (
	StepPorts         StepName = "ports"   // a WAN port has its link
	StepAddress       StepName = "address" // the port has its address, by DHCP or static
	StepRoute         StepName = "route"   // there is a way out
	StepDNS           StepName = "dns"     // the name in the enrolment URL resolves; skipped for an address
	StepTCP           StepName = "tcp"     // the enrolment listener accepts
	StepTLS           StepName = "tls"     // its certificate chains to the bundle's root
	StepClock         StepName = "clock"   // the device's clock against the controller's signed time
	StepToken         StepName = "token"   // the controller takes the token
	StepCertificate   StepName = "certificate"
	StepChannel       StepName = "channel"       // the management channel is up
	StepConfiguration StepName = "configuration" // the first configuration is in force, on trial
	StepConfirmed     StepName = "confirmed"     // and confirmed
)

// StepNames lists the steps in their order.
var StepNames = []StepName{
	StepPorts, StepAddress, StepRoute, StepDNS, StepTCP, StepTLS, StepClock, StepToken, StepCertificate,
	StepChannel, StepConfiguration, StepConfirmed,
}

// StepState says how a step ended.
type StepState string

// Ends of a step.
const (
	StepPassed  StepState = "passed"
	StepFailed  StepState = "failed"  // Cause says why
	StepSkipped StepState = "skipped" // not needed here
)

// Who saw a step, and so whose clock its times are of.
const (
	ByDevice     = "device"
	ByController = "controller"
)

// Step is one line of a timeline. The same end of the same step again is
// counted and not repeated.
type Step struct {
	Name   StepName  `json:"step"`
	State  StepState `json:"state"`
	Cause  Cause     `json:"cause,omitempty"` // of a failed one
	Detail string    `json:"detail,omitempty"`
	By     string    `json:"by"`             // [ByDevice] or [ByController]
	At     time.Time `json:"at"`             // when it ended, UTC; the latest time of a repeated one
	First  time.Time `json:"first,omitzero"` // of a repeated one: the first time
	Count  int       `json:"count"`          // how often, at least 1
}

// Limits of a timeline.
const (
	maxDetail = 240     // bytes of Step.Detail
	maxSteps  = 96      // of a device, at the controller
	maxOwn    = 64      // of a device, on its own disk
	maxSent   = 8 << 10 // bytes of JSON that a request carries
)

// Timeline is a device's first boots, oldest first. It is a value: adding
// gives a new one.
type Timeline struct {
	Steps []Step `json:"steps"`
}

// With adds s, bounded to the newest [maxSteps].
func (t Timeline) With(s Step) Timeline { return t.with(s, maxSteps) }

func (t Timeline) with(s Step, most int) Timeline {
	s = s.tidy()
	out := slices.Clone(t.Steps)
	if i := t.same(s); i >= 0 {
		if out[i].First.IsZero() {
			out[i].First = out[i].At
		}
		out[i].Count += s.Count
		out[i].At, out[i].Detail = later(out[i].At, s.At), s.Detail
		return Timeline{out}
	}
	out = append(out, s)
	if len(out) > most {
		out = out[len(out)-most:]
	}
	return Timeline{out}
}

// same finds the line of this boot that says the same as s and that s only
// repeats: the newest about its step; of what the controller refused any, for
// strangers cause those lines and must not push the device's own out.
func (t Timeline) same(s Step) int {
	for i, have := range slices.Backward(t.Steps) {
		if have.Name == StepCertificate && have.State == StepPassed {
			return -1
		}
		if have.Name == s.Name && have.By == s.By {
			if have.State == s.State && have.Cause == s.Cause {
				return i
			}
			if s.By != ByController {
				return -1
			}
		}
	}
	return -1
}

// Holds says whether t has the very line s: the same step, seen by the same
// clock at the same time. A device that enrols again tells its story again.
func (t Timeline) Holds(s Step) bool {
	return slices.ContainsFunc(t.Steps, func(have Step) bool {
		return have.Name == s.Name && have.By == s.By && have.State == s.State && have.At.Equal(s.At)
	})
}

// Open says whether a first boot is under way: a certificate was given out and
// no configuration has been confirmed since.
func (t Timeline) Open() bool {
	for _, s := range slices.Backward(t.Steps) {
		switch {
		case s.State != StepPassed:
		case s.Name == StepConfirmed:
			return false
		case s.Name == StepCertificate:
			return true
		}
	}
	return false
}

// Since is when the boot under way got its certificate; zero when none is.
func (t Timeline) Since() time.Time {
	if t.Open() {
		for _, s := range slices.Backward(t.Steps) {
			if s.Name == StepCertificate && s.State == StepPassed {
				return s.At
			}
		}
	}
	return time.Time{}
}

// sent is what a request may carry: the newest lines that fit.
func (t Timeline) sent() []Step {
	steps := t.Steps
	for len(steps) > 0 {
		text, err := json.Marshal(steps)
		if err == nil && len(text) <= maxSent {
			break
		}
		steps = steps[1:]
	}
	return steps
}

// Told is what a controller keeps of a device's own word: known steps that a
// device can see, tidied and bounded. What it does not know it leaves out, for
// an odd timeline must keep no device from enrolling.
func Told(steps []Step) []Step {
	steps = steps[max(0, len(steps)-maxOwn):]
	var out []Step
	for _, s := range steps {
		i := slices.Index(StepNames, s.Name)
		if i < 0 || i > slices.Index(StepNames, StepCertificate) || s.At.IsZero() {
			continue
		}
		s.By = ByDevice
		switch s.State {
		case StepPassed, StepSkipped:
			s.Cause = ""
		case StepFailed:
			if !slices.Contains(Causes, s.Cause) {
				s.Cause = CauseOther
			}
		default:
			continue
		}
		out = append(out, s.tidy())
	}
	return out
}

// tidy bounds what a stranger can write into s.
func (s Step) tidy() Step {
	s.Count = min(max(s.Count, 1), 1<<30)
	s.At = s.At.UTC()
	if !s.First.IsZero() {
		s.First = s.First.UTC()
	}
	s.Detail = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s.Detail, "?"))
	if len(s.Detail) > maxDetail {
		s.Detail = strings.ToValidUTF8(s.Detail[:maxDetail], "") + "…"
	}
	return s
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
