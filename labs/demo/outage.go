package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/sim"
)

const (
	// quiet is how long the healthy city must show no incident before the cut.
	quiet = 6 * time.Second
	// watch is how long the story looks for a second incident after the last.
	watch = 12 * time.Second
)

// settle lets telemetry flow, with the controller killed in between when chaos
// is on, and holds the healthy city to having no incident.
func (s *story) settle(ctx context.Context) error {
	sum, err := s.engineer.Summary(ctx)
	if err != nil {
		return err
	}
	before := sum.Samples
	err = s.wait(ctx, time.Minute, "telemetry", func(ctx context.Context) (bool, string, error) {
		sum, err := s.engineer.Summary(ctx)
		if err != nil {
			return false, "", err
		}
		return sum.Samples > before+int64(10*len(s.devices)), fmt.Sprintf("%d samples", sum.Samples), nil
	})
	if err != nil {
		return err
	}
	if err := s.converged(ctx); err != nil {
		return err
	}
	end := time.Now().Add(quiet)
	return s.wait(ctx, time.Minute, "quiet", func(ctx context.Context) (bool, string, error) {
		all, err := s.noc.Incidents(ctx, "")
		if err != nil {
			return false, "", err
		}
		if len(all) > 0 {
			return false, "", fmt.Errorf("the healthy city has %d incidents, the first is %s", len(all), all[0].Title["en"])
		}
		return time.Now().After(end), "", nil
	})
}

// cutCarriers cuts each carrier inside the simulators and waits for one incident
// of its own with exactly the cut wards as members.
func (s *story) cutCarriers(ctx context.Context) error {
	taken := map[inventory.SiteID]bool{}
	for site := range s.real {
		taken[site] = true
	}
	var first time.Time
	for _, f := range s.cfg.Faults {
		wards, err := victims(s.cfg.City, f, taken, s.rng)
		if err != nil {
			return err
		}
		if first.IsZero() {
			first = time.Now()
		} else if err := s.pause(ctx, time.Until(first.Add(f.After))); err != nil {
			return err
		}
		if _, err := sim.Send(ctx, s.control, sim.Request{Op: sim.OpCut, Carrier: f.Carrier, Sites: wards}); err != nil {
			return err
		}
		at := time.Now()
		s.report.Faults = append(s.report.Faults, FaultReport{Carrier: f.Carrier, Wards: wards, At: at.UTC()})
		s.say("  cut %s at %d wards, in the simulators only", f.Carrier, len(wards))
		took, err := s.oneIncident(ctx, f, wards, at)
		if err != nil {
			return err
		}
		s.report.Seconds.Detect = max(s.report.Seconds.Detect, took)
	}
	// A second incident for the same cause may come late: look a while longer.
	if err := s.pause(ctx, watch); err != nil {
		return err
	}
	all, err := s.noc.Incidents(ctx, "")
	if err != nil {
		return err
	}
	s.report.expect(len(all) == len(s.cfg.Faults), "%d incidents for %d faults: %s", len(all), len(s.cfg.Faults), titles(all))
	return nil
}

func titles(all []client.Incident) string {
	out := make([]string, len(all))
	for i, x := range all {
		out[i] = x.CauseKind + " " + x.Cause
	}
	return strings.Join(out, ", ")
}

func (s *story) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// oneIncident waits for the fault's incident and its full membership; it
// returns the seconds from the cut to the opening.
func (s *story) oneIncident(ctx context.Context, f Fault, wards []inventory.SiteID, at time.Time) (float64, error) {
	var found client.Incident
	err := s.wait(ctx, 60*time.Second, "incident", func(ctx context.Context) (bool, string, error) {
		all, err := s.noc.Incidents(ctx, "")
		if err != nil {
			return false, "", err
		}
		for _, x := range all {
			if x.CauseKind == "carrier" && x.Cause == string(f.Carrier) {
				found = x
				return sameSites(x.Members, wards), fmt.Sprintf("%s has %d of %d members", x.Ticket, len(x.Members), len(wards)), nil
			}
		}
		return false, fmt.Sprintf("%d incidents: %s", len(all), titles(all)), nil
	})
	if err != nil {
		return 0, err
	}
	took := found.Opened.Sub(at).Seconds()
	s.say("  %s opened after %.1f s: %s", found.Ticket, took, found.Title["vi"])
	s.report.expect(took < 30, "the incident opened %.1f s after the cut, want under 30", took)
	s.report.expect(found.Ticket != "", "the incident of %s has no ticket", f.Carrier)
	return took, nil
}

// heal mends everything and waits for the incidents to resolve themselves.
func (s *story) heal(ctx context.Context) error {
	begin := time.Now()
	for _, f := range s.report.Faults {
		if _, err := sim.Send(ctx, s.control, sim.Request{Op: sim.OpHeal, Carrier: f.Carrier, Sites: f.Wards}); err != nil {
			return err
		}
	}
	err := s.wait(ctx, 2*time.Minute, "resolution", func(ctx context.Context) (bool, string, error) {
		all, err := s.noc.Incidents(ctx, "")
		if err != nil {
			return false, "", err
		}
		open := slices.DeleteFunc(all, func(x client.Incident) bool { return x.State == "resolved" })
		return len(open) == 0, fmt.Sprintf("%d incidents open", len(open)), nil
	})
	s.report.Seconds.Resolve = time.Since(begin).Seconds()
	if err != nil {
		return err
	}
	before := s.healthy
	if err := s.converged(ctx); err != nil {
		return err
	}
	s.report.expect(s.healthy == before, "%d tunnels are up after the heal, %d before the cut", s.healthy, before)
	return nil
}

// conclude fills the report from the public API.
func (s *story) conclude(ctx context.Context) error {
	sum, err := s.engineer.Summary(ctx)
	if err != nil {
		return err
	}
	all, err := s.noc.Incidents(ctx, "")
	if err != nil {
		return err
	}
	for _, x := range all {
		full, err := s.noc.Incident(ctx, x.ID)
		if err != nil {
			return err
		}
		s.report.Incidents = append(s.report.Incidents, IncidentReport{ID: full.ID, Cause: full.CauseKind + " " + full.Cause, Members: len(full.Members), Opened: full.Opened, Resolved: full.Resolved, Ticket: full.Ticket})
		s.report.expect(len(full.Timeline) >= 2 && len(full.Evidence) > 0, "ticket %s has %d timeline lines and %d pieces of evidence", full.Ticket, len(full.Timeline), len(full.Evidence))
		s.report.expect(full.Resolved != nil, "incident %s is not resolved", full.Ticket)
	}
	s.report.expect(len(all) == len(s.cfg.Faults), "%d incidents at the end for %d faults", len(all), len(s.cfg.Faults))
	s.report.Samples, s.report.Findings = sum.Samples, sum.Findings
	s.report.expect(sum.Samples > 0, "no telemetry sample was stored")
	s.report.expect(sum.Allow+sum.Deny >= int64(s.report.Decisions.Allow+s.report.Decisions.Deny), "the log holds %d decisions, %d were answered", sum.Allow+sum.Deny, s.report.Decisions.Allow+s.report.Decisions.Deny)
	s.measure()
	s.report.RSSMB = s.peak
	s.report.Seconds.Total = time.Since(s.began).Seconds()
	s.report.OK = len(s.report.Failures) == 0
	return nil
}
