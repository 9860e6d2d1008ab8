package render

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// localPreference is what a hub gives to routes of the data centre: below that
// of every tunnel, so that an outgoing route map can tell them apart.
const localPreference = 100

// frr is the whole configuration of zebra, bgpd and bfdd, as FRR 8.4 prints it;
// empty without an AS number.
//
// Filters fail closed: every session has a prefix list in and a route map in and
// out. An edge announces its own networks only and takes what lies in the
// overlay and not in its own networks. A hub takes from a tunnel just the
// prefixes of that tunnel and passes everything on. IPv6 routes travel in the
// same sessions with the [Inner] address as next hop, which is the edge's to set
// both ways. A hub has no filter for each tunnel but the prefix lists of its
// sites: FRR takes the whole of its filters up again at the end of each route
// map, and would load a city's hub for minutes.
func (p *plan) frr() string {
	if p.BGP.ASN == 0 {
		return ""
	}
	var b strings.Builder
	b.Grow(1000 * (len(p.BGP.Neighbours) + 8)) // about what a session takes
	p.bgp(&b)
	p.prefixLists(&b)
	p.routeMaps(&b)
	p.bfd(&b)
	return b.String()
}

// session is one BGP session: a tunnel's or an uplink's.
type session struct {
	id       string // of its filters
	name     string
	peer     netip.Addr
	addr     string // of the peer
	local    netip.Addr
	dev      string // network interface
	asn      uint32
	bfd      string // profile
	passive  bool   // waits to be called
	uplink   bool
	prefer   int
	list     string         // prefix list of what is taken
	prefixes []netip.Prefix // of the list, at a hub or an uplink
}

// sessions lists them by address, as FRR does. They are worked out once.
func (p *plan) sessions() []session {
	if p.bgps == nil {
		p.bgps = p.makeSessions()
	}
	return p.bgps
}

func (p *plan) makeSessions() []session {
	out := make([]session, 0, len(p.BGP.Neighbours)+len(p.Uplinks))
	tunnels := make(map[string]edge.Tunnel, len(p.Tunnels))
	for _, t := range p.Tunnels {
		tunnels[t.Name] = t
	}
	behind := map[inventory.DeviceID][]netip.Prefix{}
	differ := map[inventory.DeviceID]bool{} // what is behind the tunnels of one box
	for _, t := range p.Tunnels {
		if was, seen := behind[t.Peer]; seen && !slices.Equal(was, beyond(t)) {
			differ[t.Peer] = true
		}
		behind[t.Peer] = beyond(t)
	}
	for _, n := range p.BGP.Neighbours {
		t := tunnels[n.Tunnel]
		list := "wn-overlay"
		switch {
		case isHub(p.Config) && differ[t.Peer]:
			list = "wn-from-" + digest(t.Name)
		case isHub(p.Config):
			list = "wn-from-" + digest(string(t.Peer))
		}
		out = append(out, session{
			id: digest(t.Name), name: t.Name, peer: n.Addr, addr: n.Addr.String(), local: t.Local.Addr(), dev: Interface(t), asn: n.ASN, bfd: profile(n.BFDMinMS, n.BFDMult),
			passive: isHub(p.Config), prefer: n.Preference, list: list, prefixes: beyond(t),
		})
	}
	for _, u := range p.Uplinks {
		out = append(out, session{
			id: "uplink-" + word(u.Name), name: "uplink " + u.Name, peer: u.Peer, addr: u.Peer.String(), local: u.Local.Addr(), dev: u.Port, asn: u.PeerASN, bfd: profile(300, 3),
			uplink: true, prefer: localPreference, list: "wn-from-uplink-" + word(u.Name), prefixes: u.Accept,
		})
	}
	slices.SortFunc(out, func(a, b session) int { return a.peer.Compare(b.peer) })
	return out
}

// beyond are the prefixes of a tunnel that may be announced through it, sorted:
// all but its far end.
func beyond(t edge.Tunnel) []netip.Prefix {
	out := slices.DeleteFunc(slices.Clone(t.AllowedIPs), func(a netip.Prefix) bool { return a.IsSingleIP() && a.Addr() == t.Remote })
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

func profile(ms, mult int) string { return "wn-" + strconv.Itoa(ms) + "-" + strconv.Itoa(mult) }

// put writes a line of words: a hub has a hundred thousand.
func put(b *strings.Builder, words ...string) {
	for _, w := range words {
		b.WriteString(w)
	}
	b.WriteByte('\n')
}

func (p *plan) bgp(b *strings.Builder) {
	sessions := p.sessions()
	// After a change bgpd holds new sessions back for the delay of route maps, and
	// at a new session its routes for the coalesce time: 5 s and 1 s by default.
	// BFD finds a dead neighbour; BGP's own keepalives are the second to notice.
	b.WriteString("bgp route-map delay-timer 1\n!\n")
	fmt.Fprintf(b, "router bgp %d\n bgp router-id %s\n bgp log-neighbor-changes\n no bgp default ipv4-unicast\n coalesce-time 100\n no bgp network import-check\n timers bgp 10 30\n", p.BGP.ASN, p.BGP.RouterID)
	for _, s := range sessions {
		put(b, " neighbor ", s.addr, " remote-as ", strconv.FormatUint(uint64(s.asn), 10))
		put(b, " neighbor ", s.addr, " description ", oneLine(s.name))
		put(b, " neighbor ", s.addr, " bfd")
		put(b, " neighbor ", s.addr, " bfd profile ", s.bfd)
		if s.passive {
			put(b, " neighbor ", s.addr, " passive")
		}
		put(b, " neighbor ", s.addr, " timers connect 1")
	}
	v4, v6 := families(p.BGP.Networks)
	for _, f := range []struct {
		name     string
		digit    string
		networks []netip.Prefix
	}{{"ipv4", "4", v4}, {"ipv6", "6", v6}} {
		fmt.Fprintf(b, " !\n address-family %s unicast\n", f.name)
		for _, n := range f.networks {
			fmt.Fprintf(b, "  network %s\n", n)
		}
		for _, s := range sessions {
			put(b, "  neighbor ", s.addr, " activate")
			put(b, "  neighbor ", s.addr, " prefix-list ", s.list, " in")
			put(b, "  neighbor ", s.addr, " route-map ", s.inMap(f.digit), " in")
			put(b, "  neighbor ", s.addr, " route-map ", s.outMap(f.digit), " out")
		}
		b.WriteString(" exit-address-family\n")
	}
	b.WriteString("exit\n!\n")
}

// outMap is the session's outgoing route map: one serves all tunnels, but an
// edge sets its next hop for IPv6 in each.
func (s session) outMap(digit string) string {
	if s.uplink || digit == "6" && !s.passive {
		return "wn" + digit + "-out-" + s.id
	}
	return "wn" + digit + "-out"
}

// inMap is the session's incoming route map: one serves all of a preference, but
// an edge sets the hub's next hop for IPv6 in each.
func (s session) inMap(digit string) string {
	if digit == "6" && !s.passive {
		return "wn6-in-" + s.id
	}
	return "wn" + digit + "-in-" + strconv.Itoa(s.prefer)
}

// prefixLists writes what is taken and announced, IPv4 before IPv6.
func (p *plan) prefixLists(b *strings.Builder) {
	type list struct {
		name    string
		entries []string
	}
	for _, v6 := range []bool{false, true} {
		keyword, longest := "ip", 32
		if v6 {
			keyword, longest = "ipv6", 128
		}
		pick := func(ps []netip.Prefix) []netip.Prefix {
			v4s, v6s := families(ps)
			if v6 {
				return v6s
			}
			return v4s
		}
		within := func(action string, ps []netip.Prefix) []string {
			var out []string
			for _, a := range pick(ps) {
				entry := action + " " + a.String()
				if a.Bits() < longest {
					entry += fmt.Sprintf(" le %d", longest)
				}
				out = append(out, entry)
			}
			return out
		}
		exact := func(ps []netip.Prefix) []string {
			var out []string
			for _, a := range pick(ps) {
				out = append(out, "permit "+a.String())
			}
			return out
		}
		lists := []list{{"wn-own", exact(p.BGP.Networks)}}
		if !isHub(p.Config) {
			lists = append(lists, list{"wn-overlay", append(within("deny", p.BGP.Networks), within("permit", p.overlay)...)})
		}
		for _, s := range p.sessions() {
			switch {
			case s.uplink:
				lists = append(lists, list{s.list, within("permit", s.prefixes)})
			case isHub(p.Config):
				lists = append(lists, list{s.list, exact(s.prefixes)})
			}
		}
		slices.SortFunc(lists, func(a, b list) int { return cmp.Compare(a.name, b.name) })
		lists = slices.CompactFunc(lists, func(a, b list) bool { return a.name == b.name }) // of one site
		for _, l := range lists {
			if len(l.entries) == 0 {
				l.entries = []string{"deny any"} // a list that is missing would permit
			}
			for i, e := range l.entries {
				put(b, keyword, " prefix-list ", l.name, " seq ", strconv.Itoa(5*(i+1)), " ", e)
			}
		}
		b.WriteString("!\n")
	}
}

// routeMaps writes the filters of the sessions.
func (p *plan) routeMaps(b *strings.Builder) {
	for _, m := range p.maps() {
		fmt.Fprintf(b, "route-map %s %s %d\n", m.name, m.action, m.seq)
		for _, l := range m.lines {
			fmt.Fprintf(b, " %s\n", l)
		}
		b.WriteString("exit\n!\n")
	}
}

// entry is one entry of a route map.
type entry struct {
	name, action string
	seq          int
	lines        []string
}

func (p *plan) maps() []entry {
	var out []entry
	add := func(name string, seq int, lines ...string) {
		out = append(out, entry{name, "permit", seq, slices.DeleteFunc(lines, func(s string) bool { return s == "" })})
	}
	own := map[string]string{"4": "match ip address prefix-list wn-own", "6": "match ipv6 address prefix-list wn-own"}
	if len(p.Tunnels) > 0 {
		if isHub(p.Config) {
			add("wn4-out", 10)
			add("wn6-out", 10)
		} else {
			add("wn4-out", 10, own["4"])
		}
	}
	for _, s := range p.sessions() {
		hop := "set ipv6 next-hop global " + Inner(s.local).String()
		far := "set ipv6 next-hop global " + Inner(s.peer).String()
		prefer := fmt.Sprintf("set local-preference %d", s.prefer)
		add(s.inMap("4"), 10, prefer)
		switch {
		case s.uplink:
			add(s.inMap("6"), 10, far, "set ipv6 next-hop prefer-global", prefer)
			p.uplinkOut(add, own, s, hop)
		case isHub(p.Config):
			add(s.inMap("6"), 10, "set ipv6 next-hop prefer-global", prefer)
		default:
			add(s.inMap("6"), 10, far, "set ipv6 next-hop prefer-global", prefer)
			add(s.outMap("6"), 10, own["6"], hop)
		}
	}
	slices.SortFunc(out, func(a, b entry) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.seq, b.seq)) })
	return slices.CompactFunc(out, func(a, b entry) bool { return a.name == b.name && a.seq == b.seq }) // of one preference
}

// uplinkOut announces the hub's own networks and those of its tunnels, the less
// preferred the tunnel the higher the MED; a tunnel that is its site's second
// choice of hub also lengthens the path, for routers compare the MED of one
// neighbouring AS only. What other uplinks brought is not passed on.
func (p *plan) uplinkOut(add func(string, int, ...string), own map[string]string, s session, hop string) {
	var levels []int
	for _, n := range p.BGP.Neighbours {
		levels = append(levels, n.Preference)
	}
	slices.Sort(levels)
	levels = slices.Compact(levels)
	slices.Reverse(levels)
	for _, digit := range []string{"4", "6"} {
		next := ""
		if digit == "6" {
			next = hop
		}
		name := s.outMap(digit)
		add(name, 10, own[digit], next, "set metric 1000")
		for i, level := range levels {
			prepend := ""
			if rank := (1000 - level) / 100; rank > 0 {
				prepend = "set as-path prepend" + strings.Repeat(fmt.Sprintf(" %d", p.BGP.ASN), rank)
			}
			add(name, 20+i, fmt.Sprintf("match local-preference %d", level), prepend, next, fmt.Sprintf("set metric %d", 2000-level))
		}
	}
}

// bfd writes the profiles of the sessions, without what is FRR's default, and
// the sessions. They are named here as they run, for those that bgpd asks for
// have no source until BGP is established: bfdd would then start them anew, and
// their "down" end the session of BGP.
func (p *plan) bfd(b *strings.Builder) {
	type timing struct{ ms, mult int }
	var all []timing
	for _, n := range p.BGP.Neighbours {
		all = append(all, timing{n.BFDMinMS, n.BFDMult})
	}
	if len(p.Uplinks) > 0 {
		all = append(all, timing{300, 3})
	}
	slices.SortFunc(all, func(a, b timing) int { return cmp.Compare(profile(a.ms, a.mult), profile(b.ms, b.mult)) })
	if len(all) == 0 {
		return
	}
	b.WriteString("bfd\n")
	for _, t := range slices.Compact(all) {
		fmt.Fprintf(b, " profile %s\n", profile(t.ms, t.mult))
		if t.mult != 3 {
			fmt.Fprintf(b, "  detect-multiplier %d\n", t.mult)
		}
		if t.ms != 300 {
			fmt.Fprintf(b, "  transmit-interval %d\n  receive-interval %[1]d\n", t.ms)
		}
		b.WriteString(" exit\n !\n")
	}
	for _, s := range p.sessions() {
		put(b, " peer ", s.addr, " local-address ", s.local.String(), " interface ", s.dev, "\n  profile ", s.bfd, "\n exit\n !")
	}
	b.WriteString("exit\n!\n")
}

// oneLine keeps a description on one line of at most 80 bytes.
func oneLine(s string) string {
	s = strings.ReplaceAll(s, "\n", " ")
	return s[:min(len(s), 80)]
}
