package incident

import (
	"time"

	"github.com/wardnet/wardnet/anomaly"
	"github.com/wardnet/wardnet/inventory"
)

// spread is how far apart the first symptoms of one cause may lie: detection
// by the far end, sessions that time out, holds.
const spread = 30 * time.Second

// failure is what the findings say of one circuit.
type failure struct {
	at       time.Time // since when it fails
	strong   bool      // its own device says that it is down
	degraded bool      // it passes traffic, badly
}

// evidence is what all findings together say of circuits and devices. A
// circuit fails when its device says so, or when all tunnels over it fail that
// somebody is left to report: a dark ward reports nothing, but its hubs do.
type evidence struct {
	topo     *Topology
	circuits map[inventory.CircuitID]failure
	dark     map[inventory.DeviceID]time.Time
	tunnels  map[string]failure
}

func newEvidence(topo *Topology, all []anomaly.Finding) *evidence {
	e := &evidence{
		topo: topo, circuits: map[inventory.CircuitID]failure{}, dark: map[inventory.DeviceID]time.Time{}, tunnels: map[string]failure{},
	}
	touched := map[inventory.CircuitID]bool{}
	for _, f := range all {
		s, ok := topo.subjectOf(f)
		if !ok || f.Severity == anomaly.Info {
			continue
		}
		switch {
		case f.Kind == anomaly.DeviceDown:
			e.dark[f.Device] = f.From
		case s.tunnel != "":
			degraded := f.Kind == anomaly.TunnelLoss || f.Kind == anomaly.TunnelLatency
			have, seen := e.tunnels[s.tunnel]
			if !seen || have.degraded && !degraded || have.degraded == degraded && f.From.Before(have.at) {
				e.tunnels[s.tunnel] = failure{at: f.From, degraded: degraded}
			}
			touched[s.circuit] = true
		case f.Kind == anomaly.CircuitDown:
			e.circuits[s.circuit] = failure{at: f.From, strong: true}
		}
	}
	for c := range touched {
		if _, strong := e.circuits[c]; !strong {
			if bad, ok := e.byTunnels(c); ok {
				e.circuits[c] = bad
			}
		}
	}
	return e
}

// byTunnels judges a circuit whose own device says nothing of it.
func (e *evidence) byTunnels(c inventory.CircuitID) (failure, bool) {
	var bad failure
	for _, name := range e.topo.tunnelsOf[c] {
		if _, dark := e.dark[e.topo.tunnels[name].hub]; dark {
			continue // its end at a dark hub says nothing of the circuit
		}
		f, ok := e.tunnels[name]
		if !ok {
			return failure{}, false
		}
		bad.degraded = bad.degraded || f.degraded
		if f.at.After(bad.at) {
			bad.at = f.at
		}
	}
	return bad, !bad.at.IsZero()
}

// siteDark says that every device of the site lost its session.
func (e *evidence) siteDark(s inventory.SiteID) bool {
	for _, d := range e.topo.devices[s] {
		if _, ok := e.dark[d]; !ok {
			return false
		}
	}
	return len(e.topo.devices[s]) > 0
}

// cut says that all circuits of a site are down, and which failed last.
func (e *evidence) cut(s inventory.SiteID) (last inventory.CircuitID, all bool) {
	var at time.Time
	for _, c := range e.topo.circuitsAt[s] {
		f, ok := e.circuits[c]
		if !ok || f.degraded {
			return "", false
		}
		if last == "" || f.at.After(at) {
			last, at = c, f.at
		}
	}
	return last, last != ""
}

// together says that all circuits of a site failed at about one time.
func (e *evidence) together(s inventory.SiteID) bool {
	var first, last time.Time
	for _, c := range e.topo.circuitsAt[s] {
		at := e.circuits[c].at
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	return last.Sub(first) <= spread
}
