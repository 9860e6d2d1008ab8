// Package demo tells Wardnet's whole story once on the city's inventory, with
// real processes that speak only to the controller's ports, and reports what
// the public API says happened. The data planes are SIMULATED (labs/simhost);
// everything else is the product.
package demo

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Report is what "wardnet demo --once --json" prints. Seconds and megabytes
// are measured, never typed.
type Report struct {
	Seed      uint64           `json:"seed"`
	Sites     int              `json:"sites"`
	Devices   int              `json:"devices"`
	Enrolled  int              `json:"enrolled"`
	InSync    int              `json:"in_sync"`
	TunnelsUp int              `json:"tunnels_up"`
	Tunnels   int              `json:"tunnels"`
	Waves     []WaveReport     `json:"waves"`
	Decisions Decisions        `json:"decisions"`
	Samples   int64            `json:"samples"`
	Findings  int64            `json:"findings"`
	Faults    []FaultReport    `json:"faults"` // what was cut, in the simulators only
	Incidents []IncidentReport `json:"incidents"`
	Seconds   Seconds          `json:"seconds"`
	RSSMB     RSS              `json:"rss_mb"`
	Load      string           `json:"load"` // 1-minute load average when the demo started
	OK        bool             `json:"ok"`
	Failures  []string         `json:"failures"`
}

// Decisions counts answered access requests.
type Decisions struct {
	Allow int `json:"allow"`
	Deny  int `json:"deny"`
}

// WaveReport is one wave of the rollout.
type WaveReport struct {
	Name    string  `json:"name"`
	Devices int     `json:"devices"`
	Seconds float64 `json:"seconds"`
}

// FaultReport is one carrier cut at some wards.
type FaultReport struct {
	Carrier inventory.CarrierID `json:"carrier"`
	Wards   []inventory.SiteID  `json:"wards"`
	At      time.Time           `json:"at"`
}

// IncidentReport is one incident as the API tells it.
type IncidentReport struct {
	ID       string     `json:"id"`
	Cause    string     `json:"cause"`
	Members  int        `json:"members"`
	Opened   time.Time  `json:"opened"`
	Resolved *time.Time `json:"resolved"`
	Ticket   string     `json:"ticket"`
}

// Seconds are the durations of the story's chapters. Detect is from the cut to
// the incident, the longest of all faults; resolve from the heal to its end.
type Seconds struct {
	Import  float64 `json:"import"`
	Enrol   float64 `json:"enrol"`
	Push    float64 `json:"push"`
	Detect  float64 `json:"detect"`
	Resolve float64 `json:"resolve"`
	Total   float64 `json:"total"`
}

// RSS is resident memory, the highest seen, in MB (10^6 bytes).
type RSS struct {
	Controller int64 `json:"controller"`
	Sim        int64 `json:"sim"`
}

func (r *Report) expect(ok bool, format string, args ...any) {
	if !ok {
		r.Failures = append(r.Failures, fmt.Sprintf(format, args...))
	}
}

// Err is nil when everything held.
func (r *Report) Err() error {
	if len(r.Failures) == 0 {
		return nil
	}
	errs := make([]error, len(r.Failures))
	for i, f := range r.Failures {
		errs[i] = errors.New(f)
	}
	return fmt.Errorf("the story did not hold: %w", errors.Join(errs...))
}

// sameSites says whether two member lists name the same sites.
func sameSites(a, b []inventory.SiteID) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}
