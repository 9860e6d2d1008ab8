package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// poolFamily says which address family and which length a kind of pool has;
// low and high bound the length of one allocation.
var poolFamily = map[PoolKind]struct {
	v4        bool
	low, high int
	owner     string // first part of the owners' names
}{
	PoolSite4:     {true, 8, maxSite4Bits, "site"},
	PoolSite6:     {false, 16, maxSite6Bits, "site"},
	PoolLoopback4: {true, 32, 32, "device"},
	PoolTunnel4:   {true, 31, 31, "tunnel"},
}

// unicast refuses what no host of ours may have.
func unicast(bad report, field string, p netip.Prefix) bool {
	a := p.Addr()
	switch {
	case a.Is4In6():
		bad(field, "%s is an IPv4 address written as IPv6; write it as IPv4", p)
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a.IsLinkLocalUnicast(), a.Is4() && a.As4()[0] == 0, a.Is4() && a.As4()[0] >= 240:
		bad(field, "%s is not a unicast prefix of a network", p)
	case p.Overlaps(sharedSpace):
		bad(field, "%s overlaps %s, which carriers use on our WAN ports (RFC 6598)", p, sharedSpace)
	default:
		return true
	}
	return false
}

// blockOf checks a prefix that stands for a whole block.
func blockOf(bad report, field string, p netip.Prefix) bool {
	switch {
	case !p.IsValid():
		bad(field, "is missing (want a prefix, e.g. 10.64.0.0/20)")
	case p != p.Masked():
		bad(field, "%s has host bits set; did you mean %s?", p, p.Masked())
	default:
		return unicast(bad, field, p)
	}
	return false
}

// lastOf is the highest IPv4 address of p.
func lastOf(p netip.Prefix) netip.Addr {
	return advance(p.Masked().Addr(), 32, 1<<(32-p.Bits())-1)
}

func (c *checker) pools() {
	seen := map[string]int{}
	if n := len(c.inv.Pools); n > maxList {
		c.faults.add(Fault{Field: "pools", Text: fmt.Sprintf("%d pools; at most %d are accepted", n, maxList)})
		c.inv.Pools = c.inv.Pools[:maxList]
	}
	for i, p := range c.inv.Pools {
		bad := c.element("pools", i, string(p.ID), seen)
		f, known := poolFamily[p.Kind]
		if !known {
			enum(bad, "kind", p.Kind, PoolSite4, PoolSite6, PoolLoopback4, PoolTunnel4)
		}
		if !blockOf(bad, "prefix", p.Prefix) || !known {
			continue
		}
		if p.Prefix.Addr().Is4() != f.v4 {
			bad("prefix", "%s is of the wrong address family for a pool of kind %s", p.Prefix, p.Kind)
			continue
		}
		number(bad, "bits", p.Bits, f.low, f.high)
		if p.Bits < p.Prefix.Bits() || p.Bits-p.Prefix.Bits() > 40 {
			bad("bits", "a block of /%d cannot be cut from %s", p.Bits, p.Prefix)
		}
	}
}

func (c *checker) allocations() {
	type slot struct {
		owner string
		kind  PoolKind
	}
	taken := map[slot]int{}
	for i, a := range c.inv.Allocations {
		bad := func(field, format string, args ...any) {
			c.faults.add(Fault{Field: fmt.Sprintf("allocations[%d].%s", i, field), Text: fmt.Sprintf("allocation of %q: ", a.Owner) + fmt.Sprintf(format, args...)})
		}
		if !blockOf(bad, "prefix", a.Prefix) {
			continue
		}
		p := c.pool[a.Pool]
		if p == nil {
			bad("pool", "unknown pool %q; declare it under pools", a.Pool)
			continue
		}
		kind, rest, _ := strings.Cut(a.Owner, "/")
		want := 1
		if kind == "tunnel" {
			want = 2
		}
		ids := strings.Split(rest, "/")
		if kind != poolFamily[p.Kind].owner || len(ids) != want || slices.ContainsFunc(ids, func(id string) bool { return !isID(id) }) {
			bad("owner", "not an owner of a pool of kind %s (want site/<id>, device/<id> or tunnel/<edge circuit>/<hub device>)", p.Kind)
		}
		if !contains(p.Prefix, a.Prefix) || a.Prefix.Bits() != p.Bits {
			bad("prefix", "%s is not a /%d of pool %q (%s)", a.Prefix, p.Bits, p.ID, p.Prefix)
		}
		if j, dup := taken[slot{a.Owner, p.Kind}]; dup {
			bad("owner", "allocations[%d] gives it a block of kind %s already", j, p.Kind)
		}
		first(taken, slot{a.Owner, p.Kind}, i)
	}
}

func (c *checker) applications() {
	seen := map[string]int{}
	for i, a := range c.inv.Applications {
		bad := c.element("applications", i, string(a.ID), seen)
		text(bad, "name", a.Name)
		enum(bad, "sensitivity", a.Sensitivity, Low, Medium, High, Critical)
		enum(bad, "fail_mode", a.FailMode, FailClosed, FailStatic)
		text(bad, "class.name", a.Class.Name)
		number(bad, "class.loss_ratio", a.Class.LossRatio, 0, 1)
		number(bad, "class.latency_ms", a.Class.LatencyMS, 1, 60_000)
		number(bad, "class.jitter_ms", a.Class.JitterMS, 0, 60_000)
		if a.Site != "" && c.site[a.Site] == nil {
			bad("site", "unknown site %q; declare it under sites", a.Site)
		}
		if len(a.Prefixes) == 0 {
			bad("prefixes", "an application has at least one prefix")
		}
		if !short(bad, "prefixes", a.Prefixes) {
			continue
		}
		for j, p := range a.Prefixes {
			field := fmt.Sprintf("prefixes[%d]", j)
			switch {
			case !blockOf(bad, field, p):
			case p.Addr().Is4() && p.Bits() < 8, p.Addr().Is6() && p.Bits() < 32:
				bad(field, "%s is too wide for one application", p)
			case slices.Contains(a.Prefixes[:j], p):
				bad(field, "%s is listed twice", p)
			default:
				c.appPlace(bad, field, a, p)
			}
		}
		if len(a.Ports) == 0 {
			bad("ports", "an application has at least one port range")
		}
		ports(bad, a.Ports)
	}
}

// appPlace checks a prefix that lies in a site pool: it must be part of a
// segment in use of the application's own site, or of a hub site when the
// application names none. A site that has no block yet is checked once it has.
func (c *checker) appPlace(bad report, field string, a Application, p netip.Prefix) {
	if !slices.ContainsFunc(c.inv.Pools, func(q Pool) bool { return q.Prefix.IsValid() && q.Prefix.Overlaps(p) }) {
		return
	}
	pending := false
	homes := c.hub
	if a.Site != "" {
		homes = []*Site{c.site[a.Site]}
	}
	for _, s := range homes {
		if s == nil {
			return // an unknown site is a fault of its own
		}
		has := false
		for _, b := range c.alloc[s.ID] {
			has = has || b.Prefix.Addr().Is4() == p.Addr().Is4()
			if contains(b.Prefix, p) && inSegment(s, b.Prefix, p) {
				return
			}
		}
		pending = pending || !has
	}
	if pending {
		return
	}
	where := "a hub site"
	if a.Site != "" {
		where = fmt.Sprintf("site %q", a.Site)
	}
	bad(field, "%s is in an address pool but not inside a segment in use of %s", p, where)
}

// inSegment says whether p is inside a segment that s uses.
func inSegment(s *Site, block, p netip.Prefix) bool {
	for _, g := range s.Segments {
		v4, v6, err := netip.Prefix{}, netip.Prefix{}, error(nil)
		if block.Addr().Is4() {
			v4, _, err = SegmentPrefixes(block, netip.Prefix{}, g.Kind)
		} else {
			_, v6, err = SegmentPrefixes(netip.Prefix{}, block, g.Kind)
		}
		if err == nil && g.Unused == "" && (v4.IsValid() && contains(v4, p) || v6.IsValid() && contains(v6, p)) {
			return true
		}
	}
	return false
}

func ports(bad report, list []PortRange) {
	if !short(bad, "ports", list) {
		return
	}
	for j, r := range list {
		field := fmt.Sprintf("ports[%d]", j)
		enum(bad, field+".proto", r.Proto, TCP, UDP, ICMP)
		switch {
		case r.Proto == ICMP && (r.From != 0 || r.To != 0):
			bad(field+".from", "icmp has no ports; write 0 and 0")
		case r.Proto != ICMP && r.From == 0:
			bad(field+".from", "a port range starts at 1 or above")
		case r.To < r.From:
			bad(field+".to", "the range %d-%d runs backwards", r.From, r.To)
		case slices.Contains(list[:j], r):
			bad(field, "%s %d-%d is listed twice", r.Proto, r.From, r.To)
		}
	}
}

// count is the number of conditions that hold.
func count(conditions ...bool) int {
	n := 0
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}

func (c *checker) resilience(bad report, p Permit) {
	for j, k := range p.Resilience {
		field := fmt.Sprintf("resilience[%d]", j)
		enum(bad, field, k, Resiliences...)
		switch {
		case slices.Contains(p.Resilience[:j], k):
			bad(field, "%q is listed twice", k)
		case k == SurvivesNone && len(p.Resilience) > 1:
			bad(field, "%q stands alone: no failure is survived", k)
		case p.ToInternet && k != SurvivesNone:
			bad(field, "the way to the internet is a site's own circuits; leave the list out")
		}
	}
}

func (c *checker) permits() {
	seen := map[string]int{}
	for i, p := range c.inv.Permits {
		bad := c.element("permits", i, string(p.ID), seen)
		text(bad, "reason", p.Reason)
		if len(p.From) == 0 {
			bad("from", "a permit names at least one segment that may open flows")
		}
		if !short(bad, "from", p.From) {
			continue
		}
		for j, k := range p.From {
			field := fmt.Sprintf("from[%d]", j)
			enum(bad, field, k, SegmentKinds...)
			if slices.Contains(p.From[:j], k) {
				bad(field, "segment %q is listed twice", k)
			}
		}
		c.resilience(bad, p)
		switch {
		case count(p.ToApp != "", p.ToSeg != "", p.ToInternet) != 1:
			bad("to_app", "a permit names one of to_app, to_segment and to_internet")
		case p.ToApp != "":
			if !c.app[p.ToApp] {
				bad("to_app", "unknown application %q; declare it under applications", p.ToApp)
			}
			if len(p.Ports) > 0 {
				bad("ports", "an application brings its own ports; leave the list out")
			}
		case p.ToSeg != "":
			enum(bad, "to_segment", p.ToSeg, SegmentKinds...)
			if len(p.Ports) == 0 {
				bad("ports", "a permit to a segment names its ports")
			}
		}
		ports(bad, p.Ports)
	}
}
