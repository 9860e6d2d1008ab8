package proof

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/controller/proof/frr"
	"github.com/wardnet/wardnet/inventory"
)

// wire is a tunnel with both of its ends. why says, by family, what keeps routes
// or packets from using it; no steps: nothing does.
type wire struct {
	name      string
	edge, hub int // boxes
	circuits  [2]*inventory.Circuit
	why       [2][]Step
}

// routes are all tunnels, by the box at the edge's end, and what is wrong with
// the routing as a whole.
type routes struct {
	boxes  []Box
	scans  []scanned
	wires  [][]*wire // by box
	faults []Counterexample
	within [2]map[string][]Step // what a filter of routes lacks, by family and content
	dests  map[int][2][]netip.Prefix
	hubs   []int // boxes
	key    [2][]byte
}

// at is the place of a link in a box's artefacts.
func step(b *Box, part string, line int, text string) Step {
	return Step{Device: b.Device, Part: part, Line: line, Text: strings.TrimSpace(text)}
}

// newRoutes follows the routes of every site to the hubs and back: what the
// edge announces, what the hub takes and tells the others, and what the
// tunnel's ends let through (RFC 4271; WireGuard's allowed addresses).
func newRoutes(inv inventory.Inventory, boxes []Box, scans []scanned) *routes {
	r := &routes{boxes: boxes, scans: scans, wires: make([][]*wire, len(boxes)), within: [2]map[string][]Step{{}, {}}, dests: map[int][2][]netip.Prefix{}}
	circuits := make(map[inventory.CircuitID]*inventory.Circuit, len(inv.Circuits))
	for i := range inv.Circuits {
		circuits[inv.Circuits[i].ID] = &inv.Circuits[i]
	}
	at := make(map[inventory.DeviceID]int, len(boxes))
	asn := map[uint32]inventory.DeviceID{}
	for i := range boxes {
		at[boxes[i].Device] = i
		if boxes[i].Hub {
			r.hubs = append(r.hubs, i)
		}
		n := scans[i].routing.ASN
		if other, taken := asn[n]; taken && n != 0 {
			r.fault(fmt.Sprintf("two routers must not share AS %d: each drops the other's routes (RFC 4271 §9.1.2)", n), step(&boxes[i], "frr", 0, string(other)+" has it too"))
		}
		asn[n] = boxes[i].Device
	}
	far := make(map[int]map[string]Link, len(r.hubs))
	for _, h := range r.hubs {
		far[h] = make(map[string]Link, len(boxes[h].Links))
		for _, l := range boxes[h].Links {
			far[h][l.Tunnel] = l
		}
	}
	for i := range boxes {
		if boxes[i].Hub {
			continue
		}
		for _, l := range boxes[i].Links {
			h, ok := at[l.Peer]
			if !ok {
				r.fault("both ends of tunnel "+l.Tunnel+" must be configured", step(&boxes[i], "wireguard", 0, "the peer "+string(l.Peer)+" has no configuration"))
				continue
			}
			end, ok := far[h][l.Tunnel]
			if !ok {
				r.fault("both ends of tunnel "+l.Tunnel+" must be configured", step(&boxes[h], "wireguard", 0, "the tunnel is not there"))
				continue
			}
			if end.Local != l.Remote || end.Remote != l.Local || end.MTU != l.MTU {
				r.fault("both ends of tunnel "+l.Tunnel+" must agree",
					step(&boxes[i], "wireguard", 0, fmt.Sprintf("%s → %s, MTU %d", l.Local, l.Remote, l.MTU)), step(&boxes[h], "wireguard", 0, fmt.Sprintf("%s → %s, MTU %d", end.Local, end.Remote, end.MTU)))
				continue
			}
			w := &wire{name: l.Tunnel, edge: i, hub: h, circuits: [2]*inventory.Circuit{circuits[l.Circuit], circuits[end.Circuit]}}
			for f := range w.why {
				w.why[f] = r.exchange(w, l, end, f)
			}
			r.wires[i] = append(r.wires[i], w)
		}
	}
	return r
}

func (r *routes) fault(intent string, path ...Step) {
	if len(r.faults) < most {
		r.faults = append(r.faults, Counterexample{Intent: intent, Path: path})
	}
}

// ofFamily are the prefixes of a family: 0 for IPv4.
func ofFamily(all []netip.Prefix, f int) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range all {
		if p.Addr().Is6() == (f == 1) {
			out = append(out, p)
		}
	}
	return out
}

// exchange says what keeps the two ends of a tunnel from knowing each other's
// routes, or from carrying what follows them.
func (r *routes) exchange(w *wire, l, end Link, f int) []Step {
	e, h := &r.boxes[w.edge], &r.boxes[w.hub]
	own := ofFamily(e.Own, f)
	if len(own) == 0 {
		return nil
	}
	er, hr := r.scans[w.edge].routing, r.scans[w.hub].routing
	en, hn := er.Neighbour(l.Remote), hr.Neighbour(end.Remote)
	switch {
	case en == nil || en.ASN != hr.ASN || !en.BFD:
		return []Step{step(e, "frr", 0, fmt.Sprintf("no session with %s of AS %d that BFD watches", l.Remote, hr.ASN))}
	case hn == nil || hn.ASN != er.ASN || !hn.BFD:
		return []Step{step(h, "frr", 0, fmt.Sprintf("no session with %s of AS %d that BFD watches", end.Remote, er.ASN))}
	}
	for _, p := range own {
		if !er.Originates(p) {
			return []Step{step(e, "frr", 0, fmt.Sprintf("%s is not originated", p))}
		}
		if ok, why := er.Announces(en, p, 0); !ok {
			return []Step{step(e, "frr", why.Line, fmt.Sprintf("%s is not announced to %s: %s", p, h.Device, why.Text))}
		}
		ok, pref, why := hr.Takes(hn, p)
		if !ok {
			return []Step{step(h, "frr", why.Line, fmt.Sprintf("%s of %s is not taken: %s", p, e.Device, why.Text))}
		}
		if allowed, limited := r.scans[w.hub].allowed[l.Tunnel]; limited && !within(p, allowed) {
			return []Step{step(h, "wireguard", 0, fmt.Sprintf("%s is not among the allowed addresses of tunnel %s", p, l.Tunnel))}
		}
		for _, u := range h.Routers {
			n := hr.Neighbour(u.Peer)
			if n == nil {
				return []Step{step(h, "frr", 0, "no session with "+u.Peer.String()+" of the data centre")}
			}
			if ok, why := hr.Announces(n, p, pref); !ok {
				return []Step{step(h, "frr", why.Line, fmt.Sprintf("%s of %s is not announced to the data centre: %s", p, e.Device, why.Text))}
			}
		}
	}
	return r.arriving(w, l, en, hn, f)
}

// arriving says what a site does not learn, or may not send to, of what lives
// elsewhere. Most sites have the same filters: what lives at a site itself is
// left out, so that they are judged once.
func (r *routes) arriving(w *wire, l Link, en, hn *frr.Neighbour, f int) []Step {
	e, h := &r.boxes[w.edge], &r.boxes[w.hub]
	er, hr := r.scans[w.edge].routing, r.scans[w.hub].routing
	x := en.Families[f]
	key := binary.AppendUvarint(r.key[f][:0], uint64(w.hub))
	text := func(s string) { key = append(binary.AppendUvarint(key, uint64(len(s))), s...) }
	key = append(key, flag(x.Active))
	text(hn.Families[f].Out)
	own := func(entry frr.ListEntry) bool { return !entry.Any && within(entry.Prefix, e.Own) }
	for _, entry := range er.List(f == 1, x.List) {
		if !own(entry) {
			key = appendPrefix(append(key, 'l', flag(entry.Permit), flag(entry.Any), byte(entry.Longest)), entry.Prefix)
		}
	}
	for _, entry := range er.Map(x.In) {
		key = append(key, 'm', flag(entry.Permit), flag(entry.V6))
		text(entry.List)
		key = binary.AppendVarint(key, int64(entry.Preference))
	}
	allowed, limited := r.scans[w.edge].allowed[l.Tunnel]
	key = append(key, 'a', flag(limited))
	for _, a := range allowed {
		if a.Addr().Is6() == (f == 1) && !a.IsSingleIP() {
			key = appendPrefix(key, a)
		}
	}
	r.key[f] = key
	if known, ok := r.within[f][string(key)]; ok {
		return known
	}
	var why []Step
	for _, p := range r.destinations(w.hub, f) {
		if ok, reason := hr.Announces(hn, p, 0); !ok {
			why = []Step{step(h, "frr", reason.Line, fmt.Sprintf("%s is not announced to %s: %s", p, e.Device, reason.Text))}
			break
		}
		if ok, _, reason := er.TakesWithout(en, p, own); !ok {
			why = []Step{step(e, "frr", reason.Line, fmt.Sprintf("%s is not taken from %s: %s", p, h.Device, reason.Text))}
			break
		}
		if limited && !p.IsSingleIP() && !within(p, allowed) {
			why = []Step{step(e, "wireguard", 0, fmt.Sprintf("%s is not among the allowed addresses of tunnel %s", p, l.Tunnel))}
			break
		}
	}
	r.within[f][string(key)] = why
	return why
}

// destinations is all that lives behind other boxes and behind the hub's routers
// of the data centre.
func (r *routes) destinations(h, f int) []netip.Prefix {
	if known, ok := r.dests[h]; ok {
		return known[f]
	}
	var all []netip.Prefix
	for i := range r.boxes {
		if i == h || !r.boxes[i].Hub {
			all = append(all, r.boxes[i].Own...)
		}
	}
	for _, u := range r.boxes[h].Routers {
		all = append(all, u.Accept...)
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	all = slices.Compact(all)
	known := [2][]netip.Prefix{ofFamily(all, 0), ofFamily(all, 1)}
	r.dests[h] = known
	return known[f]
}
