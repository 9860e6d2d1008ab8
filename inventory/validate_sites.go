package inventory

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// tenure is one official code during its validity, with the field it is in.
type tenure struct {
	code, from, to string // to "": for ever
	unit           UnitID
	field          string
	bad            report
}

func (c *checker) units() {
	seen := map[string]int{}
	var all []tenure
	for i, u := range c.inv.Units {
		bad := c.element("units", i, string(u.ID), seen)
		enum(bad, "kind", u.Kind, Ward, Commune, SpecialZone, Department)
		place(bad, u.Lat, u.Lon)
		optionalText(bad, "district", u.District)
		optionalText(bad, "former_province", u.FormerProvince)
		if !short(bad, "codes", u.Codes) || !short(bad, "predecessors", u.Predecessors) {
			continue
		}
		for j, p := range u.Predecessors {
			text(bad, fmt.Sprintf("predecessors[%d]", j), p)
		}
		if len(u.Codes) == 0 {
			bad("codes", "a unit has at least one official code and name")
		}
		last := ""
		for j, k := range u.Codes {
			if t, ok := c.code(bad, u, j); ok {
				all = append(all, t)
				if k.ValidFrom < last {
					bad(t.field+".valid_from", "starts on %s, before the previous code ended on %s; a unit has one code at a time, newest last", k.ValidFrom, last)
				}
				last = cmp.Or(k.ValidTo, "9999-12-31")
			}
		}
	}
	// Two units with one code at the same time: sorted by start, a tenure
	// clashes with the one of the same code that ends last so far.
	slices.SortStableFunc(all, func(a, b tenure) int { return cmp.Or(cmp.Compare(a.code, b.code), cmp.Compare(a.from, b.from)) })
	for i := 1; i < len(all); i++ {
		prev, t := all[i-1], all[i]
		if prev.code != t.code {
			continue
		}
		if (prev.to == "" || t.from < prev.to) && prev.unit != t.unit {
			t.bad(t.field+".code", "duplicate code %s: unit %q has it at the same time", t.code, prev.unit)
		}
		if prev.to == "" || (t.to != "" && t.to < prev.to) {
			all[i].to = prev.to // keep the longest
		}
	}
}

// code checks the j-th code of u.
func (c *checker) code(bad report, u Unit, j int) (tenure, bool) {
	k, field := u.Codes[j], fmt.Sprintf("codes[%d]", j)
	switch {
	case u.Kind == Department && !codeForm.MatchString(k.Code):
		bad(field+".code", "%q is not a code (want up to 32 letters, digits, dots and hyphens)", k.Code)
	case u.Kind != Department && !nsoForm.MatchString(k.Code):
		bad(field+".code", "%q is not an official code (want 5 digits)", k.Code)
	}
	text(bad, field+".name", k.Name)
	ok := date(bad, field+".valid_from", k.ValidFrom)
	if k.ValidTo != "" {
		if !date(bad, field+".valid_to", k.ValidTo) {
			return tenure{}, false
		}
		if ok && k.ValidTo <= k.ValidFrom {
			bad(field+".valid_to", "%s is not after valid_from %s", k.ValidTo, k.ValidFrom)
			return tenure{}, false
		}
	}
	return tenure{code: k.Code, from: k.ValidFrom, to: k.ValidTo, unit: u.ID, field: field, bad: bad}, ok
}

func (c *checker) carriers() {
	seen := map[string]int{}
	for i, k := range c.inv.Carriers {
		text(c.element("carriers", i, string(k.ID), seen), "name", k.Name)
	}
}

func (c *checker) sites() {
	seen := map[string]int{}
	for i, s := range c.inv.Sites {
		bad := c.element("sites", i, string(s.ID), seen)
		enum(bad, "kind", s.Kind, Hub, WardOffice, ServiceCentre, Branch)
		text(bad, "name", s.Name)
		place(bad, s.Lat, s.Lon)
		number(bad, "people", s.People, 0, maxHead)
		if c.unit[s.Unit] == nil {
			bad("unit", "unknown unit %q; declare it under units", s.Unit)
		}
		if short(bad, "hubs", s.Hubs) {
			c.hubs(bad, s)
		}
		if short(bad, "segments", s.Segments) {
			segments(bad, s)
			c.attachments(bad, s)
		}
		if short(bad, "uplinks", s.Uplinks) {
			c.uplinks(bad, s)
		}
		if s.Kind == Hub && len(s.Opens) > 0 {
			bad("opens", "a hub lets through what is permitted, by site; leave the list out")
		} else if short(bad, "opens", s.Opens) {
			c.openings(bad, "opens", s.Opens)
		}
		if s.Legacy.IsValid() {
			blockOf(bad, "legacy", s.Legacy)
		}
		switch {
		case s.BFDIntervalMS != 0 && s.Kind == Hub:
			bad("bfd_interval_ms", "a hub follows its edges; set it at the sites of kind %q, %q or %q", WardOffice, ServiceCentre, Branch)
		case s.BFDIntervalMS != 0:
			number(bad, "bfd_interval_ms", s.BFDIntervalMS, minBFD, maxBFD)
		}
	}
}

func (c *checker) hubs(bad report, s Site) {
	switch {
	case s.Kind == Hub && len(s.Hubs) > 0:
		bad("hubs", "a hub has no hubs of its own; leave the list out")
	case s.Kind != Hub && len(s.Hubs) == 0:
		bad("hubs", "a site without hub cannot be reached; name at least one, the preferred one first")
	}
	for j, h := range s.Hubs {
		field := fmt.Sprintf("hubs[%d]", j)
		switch hub := c.site[h]; {
		case hub == nil:
			bad(field, "unknown site %q; declare it under sites", h)
		case hub.Kind != Hub:
			bad(field, "site %q is a %s, not a hub", h, hub.Kind)
		case slices.Contains(s.Hubs[:j], h):
			bad(field, "hub %q is named twice", h)
		}
	}
}

func segments(bad report, s Site) {
	have := map[SegmentKind]bool{}
	for j, g := range s.Segments {
		field := fmt.Sprintf("segments[%d]", j)
		enum(bad, field+".kind", g.Kind, SegmentKinds...)
		if have[g.Kind] {
			bad(field+".kind", "segment %q is listed twice", g.Kind)
		}
		have[g.Kind] = true
		optionalText(bad, field+".unused", g.Unused)
	}
	if s.Kind != WardOffice {
		return
	}
	var missing []SegmentKind
	for _, k := range SegmentKinds {
		if !have[k] {
			missing = append(missing, k)
		}
	}
	if len(missing) > 0 {
		bad("segments", "a ward office lists all eight segments; %s missing (give an empty one a reason in \"unused\")", oneOf(missing))
	}
}

func (c *checker) devices() {
	seen, serials := map[string]int{}, map[string]DeviceID{}
	for i, d := range c.inv.Devices {
		bad := c.element("devices", i, string(d.ID), seen)
		enum(bad, "platform", d.Platform, LinuxEdge, SimulatedEdge)
		enum(bad, "role", d.Role, RoleHub, RoleEdge)
		enum(bad, "intended", d.Intended, Planned, InService, Retired)
		checkOverride(bad, d)
		if !serialForm.MatchString(d.Serial) {
			bad("serial", "%q is not a serial number (want up to 64 letters, digits, dots, underscores and hyphens)", d.Serial)
		} else if d.Intended != Retired {
			// A retired box may come back under a new id, for ids are never reused.
			key := strings.ToUpper(d.Serial)
			if other, dup := serials[key]; dup {
				bad("serial", "duplicate serial %q: device %q has it", d.Serial, other)
			}
			first(serials, key, d.ID)
		}
		s := c.site[d.Site]
		if s == nil {
			bad("site", "unknown site %q; declare it under sites", d.Site)
			continue
		}
		if (s.Kind == Hub) != (d.Role == RoleHub) {
			bad("role", "role %q does not fit site %q, which is a %s", d.Role, s.ID, s.Kind)
		}
	}
}

// maxOverride bounds an override, bytes.
const maxOverride = 256 << 10

// checkOverride looks at an override's form; what it means the controller reads.
func checkOverride(bad report, d Device) {
	switch {
	case d.Override == "" && d.OverrideReason != "":
		bad("override_reason", "a reason without an override; remove it")
	case d.Override == "":
	case d.OverrideReason == "" || len([]rune(d.OverrideReason)) > maxText:
		bad("override_reason", "say in at most %d characters why the device differs", maxText)
	case len(d.Override) > maxOverride:
		bad("override", "%d bytes are more than %d", len(d.Override), maxOverride)
	case !json.Valid([]byte(d.Override)) || !strings.HasPrefix(strings.TrimSpace(d.Override), "["):
		bad("override", "is no JSON list of steps; 'wardnet drift adopt' makes one")
	}
}

func (c *checker) circuits() {
	seen, addresses := map[string]int{}, map[netip.Addr]CircuitID{}
	for i, k := range c.inv.Circuits {
		bad := c.element("circuits", i, string(k.ID), seen)
		enum(bad, "kind", k.Kind, FTTH, Metronet, LTE, FiveG)
		enum(bad, "role", k.Role, Primary, Backup)
		enum(bad, "addressing", k.Addressing, Static, DHCP, PPPoE, CGNAT)
		if k.MTU == 0 {
			bad("mtu", "is missing; write it here, or under circuits of the profile of site %q", k.Site)
		} else {
			number(bad, "mtu", k.MTU, minMTU, maxMTU)
		}
		number(bad, "down_bps", k.DownBPS, 0, maxRate)
		number(bad, "up_bps", k.UpBPS, 0, maxRate)
		number(bad, "cost", k.Cost, 0, maxHead)
		if !c.carrier[k.Carrier] {
			bad("carrier", "unknown carrier %q; declare it under carriers", k.Carrier)
		}
		s := c.site[k.Site]
		if s == nil {
			bad("site", "unknown site %q; declare it under sites", k.Site)
		}
		wanAddress(bad, k, s != nil && s.Kind == Hub)
		wanGateway(bad, k)
		if k.Overlay != "" {
			enum(bad, "overlay", k.Overlay, OverlayWireGuard, OverlayIPsec)
		}
		if k.Port != "" {
			c.port(bad, "port", k.Site, k.Port, fmt.Sprintf("circuit %q", k.ID))
		}
		if k.Address.IsValid() {
			if other, dup := addresses[k.Address.Addr()]; dup {
				bad("address", "circuit %q has the address %s too", other, k.Address.Addr())
			}
			first(addresses, k.Address.Addr(), k.ID)
		}
	}
}

// wanAddress checks the address of a circuit; atHub: it is dialled by others.
func wanAddress(bad report, k Circuit, atHub bool) {
	switch {
	case atHub && k.Addressing != Static:
		bad("addressing", "a hub's circuit is dialled, so it is static, not %q", k.Addressing)
		return
	case k.Addressing != Static && k.Address.IsValid():
		bad("address", "a circuit with addressing %q has no fixed address; leave it out or make it static", k.Addressing)
		return
	case k.Addressing == Static && !k.Address.IsValid():
		bad("address", "a static circuit needs its WAN address and prefix length, e.g. 192.0.2.10/28")
		return
	case !k.Address.IsValid():
		return
	}
	a, whole := k.Address.Addr(), k.Address.Masked()
	switch {
	case !unicast(bad, "address", k.Address):
	case a.Is4() && k.Address.Bits() < 31 && (a == whole.Addr() || a == lastOf(whole)):
		bad("address", "%s is the network or broadcast address of its subnet, not a host's", k.Address)
	case k.Address.Bits() == 0:
		bad("address", "%s has no prefix length", k.Address)
	case atHub && k.Kind != Metronet && a.IsPrivate():
		bad("address", "%s is private; edges cannot dial a hub behind translation", k.Address)
	}
}
