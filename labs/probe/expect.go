package probe

import (
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/inventory"
)

// Verdict is what becomes of a flow.
type Verdict string

// Verdicts. Refused is observed only: somebody answered and said no, hence the
// packet passed, and nobody serves there. It equals neither Allow nor Deny.
const (
	Allow   Verdict = "allow"
	Deny    Verdict = "deny"
	Refused Verdict = "refused"
)

// intent answers from the inventory document alone what may pass. It knows
// nothing of compiled configurations, so that it can judge them.
type intent struct {
	permits []inventory.Permit
	apps    map[inventory.ApplicationID]inventory.Application
	zones   map[inventory.SegmentKind][]netip.Prefix // of all sites
	ours    []netip.Prefix
}

func newIntent(inv inventory.Inventory) (*intent, error) {
	x := &intent{permits: inv.Permits, apps: map[inventory.ApplicationID]inventory.Application{}, zones: map[inventory.SegmentKind][]netip.Prefix{}}
	for _, a := range inv.Applications {
		x.apps[a.ID] = a
		x.ours = append(x.ours, a.Prefixes...)
	}
	for _, p := range inv.Pools {
		x.ours = append(x.ours, p.Prefix)
	}
	index := inv.Index()
	for _, s := range inv.Sites {
		if s.Legacy.IsValid() {
			x.ours = append(x.ours, s.Legacy)
		}
		blocks, err := index.SegmentBlocks(s.ID)
		if err != nil {
			return nil, err
		}
		for _, b := range blocks {
			for _, p := range []netip.Prefix{b.V4, b.V6} {
				if p.IsValid() {
					x.zones[b.Kind] = append(x.zones[b.Kind], p)
				}
			}
		}
	}
	return x, nil
}

// verdict says what the intent wants of a flow from a segment to an address.
func (x *intent) verdict(from inventory.SegmentKind, to netip.Addr, proto inventory.Proto, port uint16) Verdict {
	for _, p := range x.permits {
		if !slices.Contains(p.From, from) {
			continue
		}
		app, ok := x.apps[p.ToApp]
		switch {
		case ok && holds(app.Prefixes, to) && opens(app.Ports, proto, port),
			p.ToSeg != "" && holds(x.zones[p.ToSeg], to) && opens(p.Ports, proto, port),
			p.ToInternet && !holds(x.ours, to) && (len(p.Ports) == 0 || opens(p.Ports, proto, port)):
			return Allow
		}
	}
	return Deny
}

func holds(ps []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
}

func opens(ports []inventory.PortRange, proto inventory.Proto, port uint16) bool {
	return slices.ContainsFunc(ports, func(r inventory.PortRange) bool {
		return r.Proto == proto && r.From <= port && port <= r.To
	})
}

// strangers are the flows that every address is asked for besides those that
// somebody may open: most of them must not pass.
var strangers = []inventory.PortRange{
	{Proto: inventory.TCP, From: 8081, To: 8081},
	{Proto: inventory.UDP, From: 8081, To: 8081},
	{Proto: inventory.ICMP},
}

// samples are the ports of a range that may be probed: both ends and the
// middle.
func samples(r inventory.PortRange) []uint16 {
	if r.Proto == inventory.ICMP {
		return []uint16{0}
	}
	out := []uint16{r.From, r.From + (r.To-r.From)/2, r.To}
	return slices.Compact(out)
}

// Listen lists every TCP and UDP port that a probe of inv may ask for, each as
// a range of one. What is to be reached must answer on all of them, for only
// then is a missing answer the network's doing.
func Listen(inv inventory.Inventory) []inventory.PortRange {
	var ranges []inventory.PortRange
	for _, a := range inv.Applications {
		ranges = append(ranges, a.Ports...)
	}
	for _, p := range inv.Permits {
		ranges = append(ranges, p.Ports...)
	}
	var out []inventory.PortRange
	for _, r := range append(ranges, strangers...) {
		if r.Proto == inventory.ICMP {
			continue
		}
		for _, n := range samples(r) {
			one := inventory.PortRange{Proto: r.Proto, From: n, To: n}
			if !slices.Contains(out, one) {
				out = append(out, one)
			}
		}
	}
	return out
}
