package incident

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/anomaly"
	"github.com/wardnet/wardnet/inventory"
)

// tunnel is one overlay tunnel by what it depends on.
type tunnel struct {
	name    string
	circuit inventory.CircuitID
	hub     inventory.DeviceID
}

// Topology says what depends on what; it is made of the inventory alone and
// never changes.
type Topology struct {
	siteOf     map[inventory.DeviceID]inventory.SiteID
	devices    map[inventory.SiteID][]inventory.DeviceID
	sites      map[inventory.SiteID]inventory.Site
	circuits   map[inventory.CircuitID]inventory.Circuit
	circuitsAt map[inventory.SiteID][]inventory.CircuitID
	tunnels    map[string]tunnel
	tunnelsOf  map[inventory.CircuitID][]string
	tunnelsTo  map[inventory.DeviceID][]string
	links      map[netip.Prefix]string // the tunnel's own /31 or /127
	linkBits   []int
	carriers   map[inventory.CarrierID]string
}

// NewTopology reads what correlation needs from the inventory. Every circuit
// of a site has one tunnel to each device of each of its hubs, named
// "<circuit>--<hub device>".
func NewTopology(inv inventory.Inventory) *Topology {
	t := &Topology{
		siteOf: map[inventory.DeviceID]inventory.SiteID{}, devices: map[inventory.SiteID][]inventory.DeviceID{},
		sites: map[inventory.SiteID]inventory.Site{}, circuits: map[inventory.CircuitID]inventory.Circuit{},
		circuitsAt: map[inventory.SiteID][]inventory.CircuitID{}, tunnels: map[string]tunnel{},
		tunnelsOf: map[inventory.CircuitID][]string{}, tunnelsTo: map[inventory.DeviceID][]string{},
		links: map[netip.Prefix]string{}, carriers: map[inventory.CarrierID]string{},
	}
	for _, s := range inv.Sites {
		t.sites[s.ID] = s
	}
	for _, c := range inv.Carriers {
		t.carriers[c.ID] = c.Name
	}
	for _, d := range inv.Devices {
		if d.Intended != inventory.Retired {
			t.siteOf[d.ID] = d.Site
			t.devices[d.Site] = append(t.devices[d.Site], d.ID)
		}
	}
	for _, c := range inv.Circuits {
		t.circuits[c.ID] = c
		t.circuitsAt[c.Site] = append(t.circuitsAt[c.Site], c.ID)
	}
	for _, c := range inv.Circuits {
		for _, hub := range t.sites[c.Site].Hubs {
			for _, d := range t.devices[hub] {
				w := tunnel{name: string(c.ID) + "--" + string(d), circuit: c.ID, hub: d}
				t.tunnels[w.name] = w
				t.tunnelsOf[c.ID] = append(t.tunnelsOf[c.ID], w.name)
				t.tunnelsTo[d] = append(t.tunnelsTo[d], w.name)
			}
		}
	}
	for _, a := range inv.Allocations {
		parts := strings.Split(a.Owner, "/")
		if len(parts) == 3 && parts[0] == "tunnel" {
			t.links[a.Prefix.Masked()] = parts[1] + "--" + parts[2]
			if !slices.Contains(t.linkBits, a.Prefix.Bits()) {
				t.linkBits = append(t.linkBits, a.Prefix.Bits())
			}
		}
	}
	return t
}

// tunnelByPeer finds the tunnel that a BGP neighbour's address belongs to.
func (t *Topology) tunnelByPeer(addr string) (tunnel, bool) {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return tunnel{}, false
	}
	for _, bits := range t.linkBits {
		if p, err := a.Prefix(bits); err == nil {
			if name, ok := t.links[p]; ok {
				w, ok := t.tunnels[name]
				return w, ok
			}
		}
	}
	return tunnel{}, false
}

func (t *Topology) isHub(s inventory.SiteID) bool { return t.sites[s].Kind == inventory.Hub }

// hubSite is the site of a hub device; empty for others.
func (t *Topology) hubSite(d inventory.DeviceID) inventory.SiteID {
	if s := t.siteOf[d]; t.isHub(s) {
		return s
	}
	return ""
}

// subject is what a finding is about, in terms of the topology. Empty fields
// do not apply.
type subject struct {
	site    inventory.SiteID // that suffers: the ward's, also where the hub reports
	circuit inventory.CircuitID
	tunnel  string
	hub     inventory.DeviceID
	device  inventory.DeviceID // of a finding about the device itself
}

// subjectOf resolves a finding; ok is false for what the inventory does not
// know (any more).
func (t *Topology) subjectOf(f anomaly.Finding) (s subject, ok bool) {
	own, known := t.siteOf[f.Device]
	s.site = own
	switch {
	case !known:
		return s, false
	case f.Kind == anomaly.DeviceDown:
		s.device = f.Device
		return s, true
	}
	w, found := t.tunnels[f.Object]
	if f.Kind == anomaly.BGPDown {
		w, found = t.tunnelByPeer(f.Object)
	}
	if found {
		s.tunnel, s.circuit, s.hub = w.name, w.circuit, w.hub
		s.site = t.circuits[w.circuit].Site
		return s, true
	}
	if c, found := t.circuits[inventory.CircuitID(f.Object)]; found {
		s.circuit, s.site = c.ID, c.Site
		return s, true
	}
	return s, false
}

// involves lists the devices whose service a finding depends on.
func (t *Topology) involves(f anomaly.Finding) []inventory.DeviceID {
	out := []inventory.DeviceID{f.Device}
	if s, ok := t.subjectOf(f); ok && s.tunnel != "" {
		out = append(out, s.hub)
		out = append(out, t.devices[s.site]...)
	}
	return out
}

// siteName is for people.
func (t *Topology) siteName(id inventory.SiteID) string {
	if s, ok := t.sites[id]; ok && s.Name != "" {
		return s.Name
	}
	return string(id)
}
