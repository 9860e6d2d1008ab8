package enrol

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
)

var noon = time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC)

func step(name StepName, state StepState, cause Cause, by string, second int) Step {
	return Step{Name: name, State: state, Cause: cause, By: by, At: noon.Add(time.Duration(second) * time.Second), Count: 1}
}

// A device that waits behind a portal for long has one line that counts.
func TestTimelineCountsWhatRepeats(t *testing.T) {
	var tl Timeline
	for i := range 50 {
		tl = tl.With(step(StepDNS, StepPassed, "", ByDevice, 3*i))
		tl = tl.With(step(StepTCP, StepPassed, "", ByDevice, 3*i+1))
		tl = tl.With(step(StepTLS, StepFailed, CauseCaptivePortal, ByDevice, 3*i+2))
	}
	tl = tl.With(step(StepTLS, StepPassed, "", ByDevice, 200))
	tl = tl.With(step(StepTLS, StepFailed, CauseTimeout, ByDevice, 210))
	if len(tl.Steps) != 5 {
		t.Fatalf("%d lines: %+v", len(tl.Steps), tl.Steps)
	}
	portal := tl.Steps[2]
	if portal.Count != 50 || !portal.First.Equal(noon.Add(2*time.Second)) || !portal.At.Equal(noon.Add(149*time.Second)) {
		t.Errorf("%+v", portal)
	}
	if tl.Open() {
		t.Error("open without a certificate")
	}
}

func TestTimelineOfTwoBoots(t *testing.T) {
	var tl Timeline
	boot := func(from int) {
		for i, name := range []StepName{StepTCP, StepTLS, StepToken, StepCertificate} {
			tl = tl.With(step(name, StepPassed, "", ByController, from+i))
		}
	}
	boot(0)
	if !tl.Open() || !tl.Since().Equal(noon.Add(3*time.Second)) {
		t.Errorf("open %v since %s", tl.Open(), tl.Since())
	}
	tl = tl.With(step(StepConfirmed, StepFailed, CauseUnhealthy, ByController, 5))
	if !tl.Open() {
		t.Error("a failure ended the boot")
	}
	tl = tl.With(step(StepConfirmed, StepPassed, "", ByController, 6))
	if tl.Open() || !tl.Since().IsZero() {
		t.Error("a confirmed boot is open")
	}
	boot(100)
	if len(tl.Steps) != 10 || !tl.Open() {
		t.Errorf("%d lines, open %v", len(tl.Steps), tl.Open())
	}
}

// Whatever a timeline is given, it stays bounded, its counts add up while
// nothing is dropped, and what a device says never speaks for the controller.
func TestTimelineIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.Custom(func(t *rapid.T) Step {
			return Step{
				Name:  rapid.SampledFrom(append([]StepName{"made-up"}, StepNames...)).Draw(t, "name"),
				State: rapid.SampledFrom([]StepState{StepPassed, StepFailed, StepSkipped, "odd"}).Draw(t, "state"),
				Cause: rapid.SampledFrom(append([]Cause{"", "odd"}, Causes...)).Draw(t, "cause"),
				By:    rapid.SampledFrom([]string{ByDevice, ByController, "me"}).Draw(t, "by"),
				At:    noon.Add(time.Duration(rapid.IntRange(0, 1e6).Draw(t, "at")) * time.Second),
				Count: rapid.IntRange(-5, 5).Draw(t, "count"), Detail: rapid.String().Draw(t, "detail"),
			}
		})
		steps := rapid.SliceOfN(draw, 0, 300).Draw(t, "steps")
		var tl Timeline
		for _, s := range steps {
			tl = tl.With(s)
		}
		total := 0
		for _, s := range tl.Steps {
			total += s.Count
			if len(s.Detail) > maxDetail+len("…") {
				t.Fatalf("a detail of %d bytes", len(s.Detail))
			}
		}
		if len(tl.Steps) > maxSteps {
			t.Fatalf("%d lines", len(tl.Steps))
		}
		if len(tl.Steps) < maxSteps && len(steps) < maxSteps {
			want := 0
			for _, s := range steps {
				want += max(s.Count, 1)
			}
			if total != want {
				t.Fatalf("%d steps are counted of %d", total, want)
			}
		}
		if text, err := json.Marshal(tl.sent()); err != nil || len(text) > maxSent {
			t.Fatalf("a request would carry %d bytes, %v", len(text), err)
		}
		for _, s := range Told(steps) {
			if s.By != ByDevice || s.Name == StepChannel || s.Name == StepConfirmed || s.Name == "made-up" || s.State == "odd" || s.Cause == "odd" || s.Count < 1 {
				t.Fatalf("believed %+v", s)
			}
		}
	})
}

// What was added already is known again, in the form it was kept in.
func TestTimelineHoldsWhatItWasTold(t *testing.T) {
	s := Told([]Step{{Name: StepTLS, State: StepFailed, Cause: "from a newer agent", At: noon, Detail: "a\x00b\nc"}})
	if len(s) != 1 || s[0].Cause != CauseOther || s[0].Detail != "a b c" {
		t.Fatalf("%+v", s)
	}
	tl := Timeline{}.With(s[0])
	if !tl.Holds(s[0]) || tl.Holds(step(StepTLS, StepFailed, CauseOther, ByDevice, 1)) {
		t.Errorf("%+v", tl)
	}
}

func TestJournalSurvivesAndBeginsAnew(t *testing.T) {
	dir := t.TempDir()
	j := OpenJournal(dir)
	j.Observe(step(StepPorts, StepPassed, "", ByDevice, 0))
	j.Observe(step(StepAddress, StepFailed, CauseNoAddress, ByDevice, 1))
	if err := j.Err(); err != nil {
		t.Fatal(err)
	}
	again := OpenJournal(dir)
	if !reflect.DeepEqual(again.Timeline(), j.Timeline()) || len(again.Timeline().Steps) != 2 {
		t.Errorf("read %+v, wrote %+v", again.Timeline(), j.Timeline())
	}
	again.Begin() // no certificate yet: this is the boot under way
	if n := len(again.Timeline().Steps); n != 2 {
		t.Errorf("%d steps left", n)
	}
	again.Observe(step(StepCertificate, StepPassed, "", ByDevice, 2))
	again.Observe(step(StepPorts, StepPassed, "", ByDevice, 3))
	again.Begin()
	if got := again.Timeline().Steps; len(got) != 1 || !got[0].At.Equal(noon.Add(3*time.Second)) {
		t.Errorf("left over: %+v", got)
	}
	if info, err := os.Stat(filepath.Join(dir, timelineFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}

	if err := os.WriteFile(filepath.Join(dir, timelineFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	j = OpenJournal(dir)
	if err := j.Err(); !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged file gave %v", err)
	}
	j.Observe(step(StepPorts, StepPassed, "", ByDevice, 4))
	if err := j.Err(); err != nil || len(j.Timeline().Steps) != 1 {
		t.Errorf("the boot did not go on: %v", err)
	}
	if _, err := ReadTimeline(t.TempDir()); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("no file gave %v", err)
	}
}
