// Package scenario plays scripted faults on a real lab and measures what
// packets see of them, against the timeline they are expected to keep.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// What the network must keep to, from a fault to the last packet it cost.
const (
	failover  = 1500 * time.Millisecond // BFD 300 ms × 3, routes, and the machine's own delay
	brownout  = 10 * time.Second        // an edge leaves a circuit that breaks its service level
	reverted  = 60 * time.Second        // a config that cuts a site off is gone, and reported
	restarted = 3 * time.Second         // tunnels are back after their process died
	cutOff    = 5 * time.Second         // a revoked device passes nothing any more
	rebooted  = 30 * time.Second        // a box boots from its last good config
	noticed   = 30 * time.Second        // an incident is opened
	quieted   = 5 * time.Minute         // incidents of what was before have resolved themselves
	admitted  = 2 * time.Minute         // a revoked device is back, rollout of what it missed included
	replaced  = 5 * time.Minute         // another box is healthy in the place of a dead one
	comes     = 20 * time.Second        // a new ward is healthy, from its cables on
)

// Event is one step that was measured.
type Event struct {
	Name       string `json:"name"`
	OutageMS   int64  `json:"outage_ms"`
	Lost       int    `json:"lost"` // packets of the 10 ms ping
	ExpectedMS int64  `json:"expected_ms"`
	OK         bool   `json:"ok"`
	Detail     string `json:"detail,omitempty"`
}

// Report is what came of a scenario.
type Report struct {
	Scenario string  `json:"scenario"`
	Passed   bool    `json:"passed"`
	Events   []Event `json:"events"`
	Load     string  `json:"load"` // 1-minute load average at the start and at the end
	CPUs     int     `json:"cpus"`
	Seconds  float64 `json:"seconds"`
	// StolenRatio is the share of the machine that its hypervisor gave to others
	// meanwhile, in [0,1]; StillMS how long a program that wanted to run every
	// 10 ms waited at most.
	StolenRatio float64 `json:"stolen_ratio"`
	StillMS     int64   `json:"still_ms"`
	Error       string  `json:"error,omitempty"` // why it could not be played to its end
}

// Scenario is a script.
type Scenario struct {
	Name  string
	About string
	Wards int // needed at least
	Steps []Step
}

// Step is one act of a scenario. An error ends it; a step that went worse than
// expected is an [Event] that is not OK.
type Step struct {
	Name string
	Play func(ctx context.Context, p *play) error
}

// Names lists all scenarios in the order of All.
func Names() []string {
	var out []string
	for _, s := range All {
		out = append(out, s.Name)
	}
	return out
}

// Find finds a scenario by its name.
func Find(name string) (Scenario, error) {
	i := slices.IndexFunc(All, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, fmt.Errorf("%w: there is no scenario %q; there are: %s", inventory.ErrInvalid, name, strings.Join(Names(), ", "))
	}
	return All[i], nil
}

// Run plays s and heals everything at the end, also when ctx ends before.
func Run(ctx context.Context, s Scenario, w *World) (Report, error) {
	r := Report{Scenario: s.Name, Events: []Event{}, Load: load(), CPUs: cpus()}
	begin, taken := time.Now(), stolen()
	var beat metronome
	beating, stop := context.WithCancel(ctx)
	defer stop()
	go beat.run(beating)
	p := &play{World: w, scenario: s}
	err := p.prepare(ctx)
	for _, step := range s.Steps {
		if err != nil {
			break
		}
		w.say("%s: %s", s.Name, step.Name)
		if err = step.Play(ctx, p); err != nil {
			err = fmt.Errorf("%s: %s: %w", s.Name, step.Name, err)
		}
	}
	err = errors.Join(err, p.finish(ctx))
	r.Events = append(r.Events, p.events...)
	r.Load += " " + load()
	r.Seconds, r.StillMS = time.Since(begin).Seconds(), beat.latest().Milliseconds()
	r.StolenRatio = (stolen() - taken).Seconds() / r.Seconds / float64(r.CPUs)
	r.Passed = err == nil && len(r.Events) > 0 && !slices.ContainsFunc(r.Events, func(e Event) bool { return !e.OK })
	if err != nil {
		r.Error = err.Error()
	}
	return r, err
}

func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}
