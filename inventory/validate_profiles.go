package inventory

import (
	"fmt"
	"slices"
)

// profiles checks the form of profiles, also of those that no site has.
func (c *checker) profiles(all []Profile) {
	seen := map[string]int{}
	for i, p := range all {
		bad := c.element("profiles", i, string(p.ID), seen)
		optionalText(bad, "description", p.Description)
		if !short(bad, "variables", p.Variables) || !short(bad, "segments", p.Segments) || !short(bad, "circuits", p.Circuits) || !short(bad, "uplinks", p.Uplinks) || !short(bad, "opens", p.Opens) {
			continue
		}
		for j, v := range p.Variables {
			optionalText(bad, fmt.Sprintf("variables[%d].description", j), v.Description)
		}
		if n := p.BFDIntervalMS.Literal(); n != 0 {
			number(bad, "bfd_interval_ms", n, minBFD, maxBFD)
		}
		for j, g := range p.Segments {
			profileSegment(bad, fmt.Sprintf("segments[%d]", j), g)
		}
		for j, k := range p.Circuits {
			at := fmt.Sprintf("circuits[%d]", j)
			if k == (ProfileCircuit{Kind: k.Kind}) {
				bad(at, "gives nothing; name the mtu or the overlay")
			}
			if k.Kind != "" {
				enum(bad, at+".kind", k.Kind, FTTH, Metronet, LTE, FiveG)
			}
			if n := k.MTU.Literal(); n != 0 {
				number(bad, at+".mtu", n, minMTU, maxMTU)
			}
			if o := k.Overlay.Literal(); o != "" {
				enum(bad, at+".overlay", o, OverlayWireGuard, OverlayIPsec)
			}
		}
		for j, u := range p.Uplinks {
			if !isID(u.Name) {
				bad(fmt.Sprintf("uplinks[%d].name", j), "%q: %s", u.Name, idRule)
			}
			if r := u.Router.Literal(); r != "" && !isID(string(r)) {
				bad(fmt.Sprintf("uplinks[%d].router", j), "%q: %s", r, idRule)
			}
		}
		c.openings(bad, "opens", p.Opens)
	}
}

func profileSegment(bad report, at string, g ProfileSegment) {
	enum(bad, at+".kind", g.Kind, SegmentKinds...)
	optionalText(bad, at+".unused", g.Unused.Literal())
	if s := g.Port.Literal(); s != "" && !portForm.MatchString(s) {
		bad(at+".port", "%q is not the name of a network interface (want up to 15 letters, digits, dots, underscores and hyphens)", s)
	}
	mode := g.DHCP.Literal()
	if mode != "" {
		enum(bad, at+".dhcp", mode, DHCPServer, DHCPRelay)
	}
	if mode == DHCPServer && g.Relay != (ProfileSegment{}).Relay {
		bad(at+".dhcp_relay", "only dhcp: relay has a server to ask; leave it out")
	}
	if g.Unused != (ProfileSegment{}).Unused && g != (ProfileSegment{Kind: g.Kind, Unused: g.Unused}) {
		bad(at, "segment %q is unused; it has no port and no addresses to assign", g.Kind)
	}
}

// openings checks which permits a box carries out: a template may leave out what
// is permitted, which the proof then says, and never add to it.
func (c *checker) openings(bad report, at string, list []Opening) {
	seen := map[PermitID]int{}
	for j, o := range list {
		at := fmt.Sprintf("%s[%d]", at, j)
		repeated(bad, at+".permit", seen, o.Permit, j)
		p := c.permit[o.Permit]
		if p == nil {
			bad(at+".permit", "unknown permit %q; declare it under permits", o.Permit)
			continue
		}
		if !short(bad, at+".from", o.From) {
			continue
		}
		for k, kind := range o.From {
			if !slices.Contains(p.From, kind) {
				bad(fmt.Sprintf("%s.from[%d]", at, k), "permit %q names no segment %q (it names %s)", o.Permit, kind, oneOf(p.From))
			} else if slices.Contains(o.From[:k], kind) {
				bad(fmt.Sprintf("%s.from[%d]", at, k), "segment %q is listed twice", kind)
			}
		}
	}
}
