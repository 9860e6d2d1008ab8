package incident

import (
	"time"

	"github.com/wardnet/wardnet/anomaly"
	"github.com/wardnet/wardnet/inventory"
)

// Silence mutes findings for a time, with a reason. Empty fields match all.
type Silence struct {
	Site     inventory.SiteID
	Device   inventory.DeviceID
	Object   string
	Kind     anomaly.Kind
	From, To time.Time
	Reason   string
}

func (s Silence) mutes(topo *Topology, f anomaly.Finding, now time.Time) bool {
	subj, _ := topo.subjectOf(f)
	return !now.Before(s.From) && now.Before(s.To) &&
		(s.Site == "" || s.Site == subj.site) &&
		(s.Device == "" || s.Device == f.Device) &&
		(s.Object == "" || s.Object == f.Object) &&
		(s.Kind == "" || s.Kind == f.Kind)
}

// gate says why a finding may not count now; empty: it counts. What is being
// built or changed is not broken.
func gate(topo *Topology, f anomaly.Finding, inService func(inventory.DeviceID) bool, silences []Silence, now time.Time) string {
	for _, d := range topo.involves(f) {
		if !inService(d) {
			return "not in service"
		}
	}
	for _, s := range silences {
		if s.mutes(topo, f, now) {
			return "silenced"
		}
	}
	return ""
}
