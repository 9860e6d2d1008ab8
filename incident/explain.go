package incident

import (
	"cmp"
	"slices"
	"time"

	"github.com/wardnet/wardnet/anomaly"
	"github.com/wardnet/wardnet/inventory"
)

const (
	carrierSites = 3   // least sites that make a carrier the cause
	hubShare     = 0.5 // of a hub's sites whose circuits are otherwise well
	hubShareAll  = 0.8 // of all sites of a hub, where both hubs fail at once
)

// group is a cause with the findings it explains.
type group struct {
	cause    Cause
	findings []anomaly.Finding
}

// explainer decides which causes the evidence allows for a finding.
type explainer struct {
	*evidence
	known    map[Cause]bool // causes of open incidents, allowed without new proof; true: settled, so preferred
	carriers map[inventory.CarrierID]bool
	hubs     map[inventory.DeviceID]bool
	sites    map[inventory.SiteID]bool
}

// newExplainer judges the general causes. fresh are the findings to explain;
// only what fails in them counts towards a new carrier outage.
func newExplainer(e *evidence, fresh []anomaly.Finding, known map[Cause]bool) *explainer {
	x := &explainer{
		evidence: e, known: known, carriers: map[inventory.CarrierID]bool{},
		hubs: map[inventory.DeviceID]bool{}, sites: map[inventory.SiteID]bool{},
	}
	newly := map[inventory.CircuitID]bool{}
	for _, f := range fresh {
		s, ok := e.topo.subjectOf(f)
		if !ok {
			continue
		}
		if _, bad := e.circuits[s.circuit]; bad {
			newly[s.circuit] = true
		}
		for _, hub := range []inventory.DeviceID{s.hub, s.device} {
			if _, judged := x.hubs[hub]; !judged && e.topo.hubSite(hub) != "" {
				x.hubs[hub] = x.hubFails(hub)
			}
		}
		if _, judged := x.sites[s.site]; !judged {
			x.sites[s.site] = x.siteFails(s.site)
		}
	}
	for carrier, list := range byCarrier(e.topo, newly) {
		x.carriers[carrier] = x.carrierFails(list)
	}
	return x
}

func (x *explainer) allowed(c Cause) bool {
	_, ok := x.known[c]
	return ok
}

func byCarrier(t *Topology, circuits map[inventory.CircuitID]bool) map[inventory.CarrierID][]inventory.CircuitID {
	out := map[inventory.CarrierID][]inventory.CircuitID{}
	for c := range circuits {
		k := t.circuits[c].Carrier
		out[k] = append(out[k], c)
	}
	return out
}

// carrierFails: circuits of one carrier fail at three sites or more, and at
// most of these no other carrier's circuit failed with them (a power cut takes
// all circuits of a site at once).
func (x *explainer) carrierFails(list []inventory.CircuitID) bool {
	sites, against := map[inventory.SiteID]bool{}, map[inventory.SiteID]bool{}
	for _, c := range list {
		site := x.topo.circuits[c].Site
		sites[site] = true
		for _, other := range x.topo.circuitsAt[site] {
			f, bad := x.circuits[other]
			if bad && !f.degraded && x.topo.circuits[other].Carrier != x.topo.circuits[c].Carrier && f.at.Sub(x.circuits[c].at).Abs() <= spread {
				against[site] = true
			}
		}
	}
	return len(sites) >= carrierSites && 2*len(against) < len(sites)
}

// hubFails: the hub is dark and tunnels to it fail, or they fail at most of
// its sites although the sites' circuits are well.
func (x *explainer) hubFails(hub inventory.DeviceID) bool {
	all, hit, plain := map[inventory.SiteID]bool{}, map[inventory.SiteID]bool{}, map[inventory.SiteID]bool{}
	for _, name := range x.topo.tunnelsTo[hub] {
		w := x.topo.tunnels[name]
		site := x.topo.circuits[w.circuit].Site
		all[site] = true
		f, bad := x.tunnels[name]
		if !bad || f.degraded {
			continue
		}
		c, failed := x.circuits[w.circuit]
		if !failed || !c.strong {
			hit[site] = true
		}
		if !failed || !c.strong && len(x.topo.tunnelsOf[w.circuit]) == 1 {
			plain[site] = true
		}
	}
	if _, dark := x.dark[hub]; dark && len(hit) > 0 {
		return 4*len(hit) >= len(all)
	}
	if some, every := x.hubCircuits(hub); some && !every {
		return false // one port of the hub explains it better
	}
	well := 0 // sites whose tunnels to the hub would show the hub's state
	for site := range all {
		if _, cut := x.cut(site); !cut || plain[site] {
			well++
		}
	}
	return len(plain) >= 2 && float64(len(plain)) >= hubShare*float64(well) ||
		len(hit) >= 3 && float64(len(hit)) >= hubShareAll*float64(len(all))
}

func (x *explainer) hubCircuits(hub inventory.DeviceID) (some, every bool) {
	every = true
	for _, c := range x.topo.circuitsAt[x.topo.siteOf[hub]] {
		if f, ok := x.circuits[c]; ok && f.strong {
			some = true
		} else {
			every = false
		}
	}
	return some, some && every
}

// siteFails: a ward lost all its circuits at one time, and with one circuit
// only, fell silent too.
func (x *explainer) siteFails(s inventory.SiteID) bool {
	if x.topo.isHub(s) {
		return false
	}
	_, all := x.cut(s)
	return all && x.together(s) && (len(x.topo.circuitsAt[s]) > 1 || x.siteDark(s))
}

// candidates lists the causes that would explain f; the first group that fits
// is the most direct one.
func (x *explainer) candidates(f anomaly.Finding) []Cause {
	s, ok := x.topo.subjectOf(f)
	if !ok {
		return []Cause{{CauseUnknown, string(f.Device)}}
	}
	var out []Cause
	if s.device == "" && s.circuit != "" {
		out = x.ofCircuit(out, s.circuit)
	}
	switch {
	case s.device != "":
		out = x.ofDevice(out, s, f.From)
	case s.tunnel != "":
		if hub := (Cause{CauseHub, string(x.topo.siteOf[s.hub])}); x.hubs[s.hub] || x.allowed(hub) {
			out = append(out, hub)
		}
		for _, c := range x.topo.circuitsAt[x.topo.siteOf[s.hub]] {
			if x.circuits[c].strong {
				out = x.ofCircuit(out, c)
			}
		}
		out = append(out, Cause{CauseTunnel, s.tunnel})
	}
	if site := (Cause{CauseSite, string(s.site)}); x.sites[s.site] || x.allowed(site) {
		out = append(out, site)
	}
	return out
}

// ofCircuit adds the causes of a failing circuit.
func (x *explainer) ofCircuit(out []Cause, c inventory.CircuitID) []Cause {
	info := x.topo.circuits[c]
	if _, bad := x.circuits[c]; bad {
		out = append(out, Cause{CauseCircuit, string(c)})
		if k := (Cause{CauseCarrier, string(info.Carrier)}); x.carriers[info.Carrier] || x.allowed(k) {
			out = append(out, k)
		}
	}
	if x.topo.isHub(info.Site) {
		for _, d := range x.topo.devices[info.Site] {
			if _, every := x.hubCircuits(d); x.hubs[d] && every {
				out = append(out, Cause{CauseHub, string(info.Site)})
			}
		}
	}
	return out
}

// ofDevice adds the causes of a lost session: the last circuit that failed
// when none is left, or one that failed just before, for the session may have
// run over it.
func (x *explainer) ofDevice(out []Cause, s subject, from time.Time) []Cause {
	if hub := x.topo.hubSite(s.device); hub != "" && (x.hubs[s.device] || x.allowed(Cause{CauseHub, string(hub)})) {
		out = append(out, Cause{CauseHub, string(hub)})
	}
	if last, all := x.cut(s.site); all {
		out = x.ofCircuit(out, last)
	} else if c := x.lostPath(s.site, from); c != "" {
		out = x.ofCircuit(out, c)
	}
	return append(out, Cause{CauseDevice, string(s.device)})
}

// lostPath is the circuit that failed last, shortly before from.
func (x *explainer) lostPath(site inventory.SiteID, from time.Time) (last inventory.CircuitID) {
	var at time.Time
	for _, c := range x.topo.circuitsAt[site] {
		f, bad := x.circuits[c]
		after := from.Sub(f.at)
		if bad && after >= -spread/3 && after <= spread && f.at.After(at) {
			last, at = c, f.at
		}
	}
	return last
}

// explain gives every finding to one cause, with as few causes as it can: what
// an open incident explains goes there, then again and again the cause that
// explains most of what is left; between equals the more general one.
func (x *explainer) explain(fresh []anomaly.Finding) []group {
	options := make([][]Cause, len(fresh))
	for i, f := range fresh {
		options[i] = x.candidates(f)
	}
	var groups []group
	left := make([]bool, len(fresh))
	for i := range left {
		left[i] = true
	}
	for {
		count := map[Cause]int{}
		for i, causes := range options {
			for j, c := range causes {
				if left[i] && !slices.Contains(causes[:j], c) {
					count[c]++
				}
			}
		}
		if len(count) == 0 {
			return groups
		}
		best, first := Cause{}, true
		for c, n := range count {
			if first || x.better(c, n, best, count[best]) {
				best, first = c, false
			}
		}
		g := group{cause: best}
		for i, causes := range options {
			if left[i] && slices.Contains(causes, best) {
				g.findings = append(g.findings, fresh[i])
				left[i] = false
			}
		}
		groups = append(groups, g)
	}
}

func (x *explainer) better(a Cause, n int, b Cause, m int) bool {
	if x.known[a] != x.known[b] {
		return x.known[a]
	}
	return cmp.Or(cmp.Compare(m, n), cmp.Compare(a.Kind.rank(), b.Kind.rank()), cmp.Compare(a.ID, b.ID)) < 0
}
