package probe

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/inventory"
)

// Host is a machine in one segment of one site, from which and to which real
// packets are sent.
type Host struct {
	Site      inventory.SiteID
	Segment   inventory.SegmentKind
	Namespace string
	V4, V6    netip.Addr // as others reach it; zero: none
	// Gateways are the box's addresses in the segment. They must answer a
	// ping: a host that is cut off proves nothing by getting no answer.
	Gateways []netip.Addr
}

// Pair is one question to the network: may this segment open that flow?
type Pair struct {
	Ward        inventory.SiteID      `json:"ward"`
	Segment     inventory.SegmentKind `json:"segment"`
	Application string                `json:"application"` // application, "segment <site>/<kind>", "internet" or "gateway"
	To          netip.Addr            `json:"to"`
	Proto       inventory.Proto       `json:"proto"`
	Port        uint16                `json:"port,omitempty"`
	Want        Verdict               `json:"want"`
	Got         Verdict               `json:"got"`

	namespace string
}

// String says the pair in one line.
func (p Pair) String() string {
	return fmt.Sprintf("%s %s to %s: %s %d at %s", p.Ward, p.Segment, p.Application, p.Proto, p.Port, p.To)
}

// Plan lists every pair to probe: from each host, each port range of each
// application, each segment of its own site and of the next one, and the
// internet, over IPv4 and IPv6, with what the inventory wants of each.
func Plan(inv inventory.Inventory, hosts []Host, internet []netip.Addr) ([]Pair, error) {
	want, err := newIntent(inv)
	if err != nil {
		return nil, fmt.Errorf("plan the probes: %w", err)
	}
	p := planner{intent: want, hosts: hosts, internet: internet, toSegment: map[inventory.SegmentKind][]inventory.PortRange{}}
	for _, x := range inv.Permits {
		if x.ToSeg != "" {
			p.toSegment[x.ToSeg] = append(p.toSegment[x.ToSeg], x.Ports...)
		}
	}
	for _, h := range hosts {
		if !slices.Contains(p.sites, h.Site) {
			p.sites = append(p.sites, h.Site)
		}
	}
	for _, h := range hosts {
		p.from(h, inv.Applications)
	}
	return p.pairs, nil
}

type planner struct {
	*intent
	hosts     []Host
	sites     []inventory.SiteID
	internet  []netip.Addr
	toSegment map[inventory.SegmentKind][]inventory.PortRange // what somebody may open to it
	pairs     []Pair
}

func (p *planner) from(h Host, apps []inventory.Application) {
	for _, g := range h.Gateways {
		p.pairs = append(p.pairs, Pair{Ward: h.Site, Segment: h.Segment, Application: "gateway", To: g, Proto: inventory.ICMP, Want: Allow, namespace: h.Namespace})
	}
	for _, a := range apps {
		for _, prefix := range a.Prefixes {
			p.ask(h, string(a.ID), prefix.Addr(), a.Ports)
		}
	}
	other := p.next(h.Site)
	for _, t := range p.hosts {
		if (t.Site == h.Site && t.Segment != h.Segment) || (t.Site == other && other != h.Site) {
			name := fmt.Sprintf("segment %s/%s", t.Site, t.Segment)
			p.ask(h, name, t.V4, p.toSegment[t.Segment])
			p.ask(h, name, t.V6, p.toSegment[t.Segment])
		}
	}
	for _, a := range p.internet {
		p.ask(h, "internet", a, []inventory.PortRange{{Proto: inventory.TCP, From: 443, To: 443}})
	}
}

// ask adds a pair per range and per stranger, where h has the address family.
func (p *planner) ask(h Host, name string, to netip.Addr, ports []inventory.PortRange) {
	own := h.V4
	if to.Is6() {
		own = h.V6
	}
	if !to.IsValid() || !own.IsValid() || to == h.V4 || to == h.V6 {
		return
	}
	seen := map[inventory.PortRange]bool{}
	for _, r := range slices.Concat(ports, strangers) {
		all := samples(r)
		port := all[spread(string(h.Site), string(h.Segment), name)%uint64(len(all))]
		one := inventory.PortRange{Proto: r.Proto, From: port, To: port}
		if seen[one] {
			continue
		}
		seen[one] = true
		p.pairs = append(p.pairs, Pair{
			Ward: h.Site, Segment: h.Segment, Application: name, To: to, Proto: r.Proto, Port: port,
			Want: p.verdict(h.Segment, to, r.Proto, port), namespace: h.Namespace,
		})
	}
}

// next is the site after the given one, in a ring.
func (p *planner) next(site inventory.SiteID) inventory.SiteID {
	return p.sites[(slices.Index(p.sites, site)+1)%len(p.sites)]
}

// spread chooses by name, so that sources do not all ask for the same port.
func spread(words ...string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(strings.Join(words, "/"))) // never fails
	return h.Sum64() >> 8
}
