package cli

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// prefix is a prefix as templates see it.
type prefix struct{ netip.Prefix }

// Is6 says whether it is IPv6.
func (p prefix) Is6() bool { return p.Prefix.Addr().Is6() }

// Mask is the IPv4 mask in dotted form.
func (p prefix) Mask() string { return net.IP(net.CIDRMask(p.Bits(), 32)).String() }

// longest is the number of bits of an address of its family.
func (p prefix) longest() int { return p.Prefix.Addr().BitLen() }

// The data of each part's template.
type (
	loopbackPart struct{ Addr netip.Addr }
	bgpPart      struct {
		ASN      uint32
		RouterID netip.Addr
	}
	networkPart struct {
		ASN        uint32
		Net        prefix
		Family, IP string
		Seq        uint32
	}
	overlayPart struct {
		Net        prefix
		IP, Action string
		Longest    int
		Seq        uint32
	}
	familyPart struct {
		Family, IP, Any string
		Longest         int
		Lists           []string
	}
	preferencePart struct{ Preference int }
	timingPart     struct{ MS, Mult int }
	neighbourPart  struct {
		ASN        uint32
		Addr       netip.Addr
		RemoteASN  uint32
		Tunnel     string
		Preference int
		MS, Mult   int
		Families   []string // whose routes the session carries
	}
)

// residue in a line means that a template was not filled in.
var residue = []string{"{{", "}}", "${", "<no value>", "<nil>", "%!", "invalid Prefix", "invalid IP", "invalid AddrPort", `""`}

// render writes what the platform holds of c as blocks. A part that is no
// device's wraps [inventory.ErrInvalid] and [edge.ErrRejected], all faults at
// once.
func (p *platform) render(c edge.Config) (*block, error) {
	if err := p.check(c); err != nil {
		return nil, err
	}
	root := &block{}
	var errs []error
	for i := range p.Render {
		r := &p.Render[i]
		for _, data := range data(r.Part, c) {
			b, err := p.fill(r, data)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			root.merge(b)
		}
	}
	return root, errors.Join(errs...)
}

// fill executes one template and refuses what it left open.
func (p *platform) fill(r *part, data any) (*block, error) {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w: platform %s, part %s: %w", edge.ErrRejected, inventory.ErrInvalid, p.Name, r.Part, fmt.Errorf(format, args...))
	}
	var text strings.Builder
	if err := r.tmpl.Execute(&text, data); err != nil {
		return nil, refuse("%w; correct the template", err)
	}
	for _, raw := range strings.Split(text.String(), "\n") {
		line := strings.TrimLeft(raw, " ")
		for _, s := range residue {
			if strings.Contains(line, s) {
				return nil, refuse("line %q has %q left in it; correct the template or what it is filled with", line, s)
			}
		}
		switch {
		case strings.Contains(line, "  ") || strings.HasSuffix(line, " "):
			return nil, refuse("line %q has an empty argument; correct the template or what it is filled with", line)
		case strings.ContainsFunc(line, func(c rune) bool { return c < ' ' || c > '~' }):
			return nil, refuse("line %q holds a character that no command line takes", line)
		}
	}
	return p.parseBlocks(text.String()), nil
}

// check refuses values that no line may carry.
func (p *platform) check(c edge.Config) error {
	var errs []error
	fault := func(part, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %w: platform %s, part %s: %w", edge.ErrRejected, inventory.ErrInvalid, p.Name, part, fmt.Errorf(format, args...)))
	}
	if c.Loopback.IsValid() && !c.Loopback.Is4() {
		fault("loopback", "%s is not IPv4", c.Loopback)
	}
	b := c.BGP
	if b.ASN == 0 {
		if b.RouterID.IsValid() || len(b.Networks)+len(b.Accept)+len(b.Neighbours) > 0 {
			fault("bgp", "there is no AS number")
		}
		return errors.Join(errs...)
	}
	if !b.RouterID.Is4() || b.RouterID.IsUnspecified() {
		fault("bgp", "router id %s is no IPv4 address", b.RouterID)
	}
	for _, n := range b.Networks {
		if !n.IsValid() || n != n.Masked() {
			fault("network", "%s is no prefix", n)
		}
	}
	for _, a := range b.Accept {
		if !a.IsValid() || a != a.Masked() {
			fault("overlay", "%s, to be accepted, is no prefix", a)
		}
	}
	for _, t := range c.Tunnels {
		for _, a := range t.AllowedIPs {
			if !a.IsValid() {
				fault("overlay", "tunnel %q allows %s, which is no prefix", t.Name, a)
			}
		}
	}
	addrs := map[netip.Addr]bool{}
	for _, n := range b.Neighbours {
		errs = append(errs, p.checkNeighbour(n))
		if addrs[n.Addr] {
			fault("neighbour", "two sessions with %s", n.Addr)
		}
		addrs[n.Addr] = true
	}
	return errors.Join(errs...)
}

func (p *platform) checkNeighbour(n edge.Neighbour) error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %w: platform %s, part neighbour %q: %w", edge.ErrRejected, inventory.ErrInvalid, p.Name, n.Tunnel, fmt.Errorf(format, args...)))
	}
	if !p.Names.is(n.Tunnel) {
		fault("its name does not match %s, so it may not stand in a command line; rename the tunnel's circuit", p.Names)
	}
	if !n.Addr.IsValid() || n.Addr.Zone() != "" || n.Addr.IsUnspecified() {
		fault("address %s", n.Addr)
	}
	if n.ASN == 0 {
		fault("there is no AS number")
	}
	if n.Preference < 0 || n.Preference > 1<<31-1 {
		fault("preference %d", n.Preference)
	}
	if n.BFDMinMS < 10 || n.BFDMinMS > 60000 || n.BFDMult < 2 || n.BFDMult > 255 {
		fault("BFD timers of %d ms × %d are not within 10 to 60000 ms × 2 to 255", n.BFDMinMS, n.BFDMult)
	}
	return errors.Join(errs...)
}

// data lists what a part's template is filled with, one after the other.
func data(part string, c edge.Config) []any {
	var out []any
	b := c.BGP
	switch {
	case part == "loopback":
		if c.Loopback.IsValid() {
			out = append(out, loopbackPart{c.Loopback})
		}
	case b.ASN == 0:
	case part == "bgp":
		out = append(out, bgpPart{b.ASN, b.RouterID})
	case part == "network":
		seqs := numbers{}
		for _, n := range sorted(b.Networks) {
			p := prefix{n}
			out = append(out, networkPart{b.ASN, p, family(p), keyword(p), seqs.of("", n)})
		}
	case part == "overlay":
		return overlay(c)
	case part == "family":
		for _, p := range families(c) {
			out = append(out, familyPart{family(p), keyword(p), p.String(), p.longest(), []string{"wardnet-own", "wardnet-overlay"}})
		}
	case part == "preference":
		for _, n := range distinct(b.Neighbours, func(n edge.Neighbour) int { return n.Preference }) {
			out = append(out, preferencePart{n.Preference})
		}
	case part == "timing":
		for _, n := range distinct(b.Neighbours, func(n edge.Neighbour) timingPart { return timingPart{n.BFDMinMS, n.BFDMult} }) {
			out = append(out, timingPart{n.BFDMinMS, n.BFDMult})
		}
	case part == "neighbour":
		for _, n := range b.Neighbours {
			np := neighbourPart{ASN: b.ASN, Addr: n.Addr, RemoteASN: n.ASN, Tunnel: n.Tunnel, Preference: n.Preference, MS: n.BFDMinMS, Mult: n.BFDMult}
			for _, p := range families(c) {
				if p.Is6() || n.Addr.Is4() { // IPv4 routes need an IPv4 next hop
					np.Families = append(np.Families, family(p))
				}
			}
			out = append(out, np)
		}
	}
	return out
}

// overlay lists what is taken from neighbours: what lies in the overlay, and
// not in one's own networks. Denied comes before permitted by its number.
func overlay(c edge.Config) []any {
	var all []netip.Prefix
	for _, a := range c.BGP.Accept {
		all = append(all, a.Masked())
	}
	for _, t := range c.Tunnels {
		for _, a := range t.AllowedIPs {
			all = append(all, a.Masked())
		}
	}
	var out []any
	seqs := numbers{}
	add := func(action string, list []netip.Prefix, from uint32) {
		for _, n := range sorted(list) {
			p := prefix{n}
			out = append(out, overlayPart{p, keyword(p), action, p.longest(), from + seqs.of(action, n)})
		}
	}
	add("deny", c.BGP.Networks, 0)
	add("permit", all, block1)
	return out
}

// block1 numbers are the first half of a list's, [1, block1].
const block1 = 1_000_000_000

// numbers gives entries of one list numbers that depend on the entry, so that
// one that comes or goes moves no other. Two that fall together do.
type numbers map[uint32]bool

func (s numbers) of(action string, n netip.Prefix) uint32 {
	h := fnv.New32a()
	fmt.Fprint(h, action, n)
	seq := h.Sum32()%(block1-1) + 1
	for s[seq] {
		seq = seq%(block1-1) + 1
	}
	s[seq] = true
	return seq
}

// families are the address families of c as the prefix of all: IPv4 always.
func families(c edge.Config) []prefix {
	out := []prefix{{netip.PrefixFrom(netip.IPv4Unspecified(), 0)}}
	six := slices.ContainsFunc(slices.Concat(c.BGP.Networks, c.BGP.Accept), func(n netip.Prefix) bool { return n.Addr().Is6() }) ||
		slices.ContainsFunc(c.BGP.Neighbours, func(n edge.Neighbour) bool { return n.Addr.Is6() }) ||
		slices.ContainsFunc(c.Tunnels, func(t edge.Tunnel) bool {
			return slices.ContainsFunc(t.AllowedIPs, func(a netip.Prefix) bool { return a.Addr().Is6() })
		})
	if six {
		out = append(out, prefix{netip.PrefixFrom(netip.IPv6Unspecified(), 0)})
	}
	return out
}

func family(p prefix) string {
	if p.Is6() {
		return "ipv6"
	}
	return "ipv4"
}

// keyword is what prefix lists of a family begin with.
func keyword(p prefix) string {
	if p.Is6() {
		return "ipv6"
	}
	return "ip"
}

// sorted is list without repetitions.
func sorted(list []netip.Prefix) []netip.Prefix {
	out := slices.Clone(list)
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// distinct keeps the first of those with one key, in an order of its own.
func distinct[K comparable](list []edge.Neighbour, key func(edge.Neighbour) K) []edge.Neighbour {
	seen := map[K]bool{}
	out := slices.DeleteFunc(slices.Clone(list), func(n edge.Neighbour) bool {
		had := seen[key(n)]
		seen[key(n)] = true
		return had
	})
	slices.SortFunc(out, func(a, b edge.Neighbour) int {
		return cmp.Or(cmp.Compare(a.Preference, b.Preference), cmp.Compare(a.BFDMinMS, b.BFDMinMS), cmp.Compare(a.BFDMult, b.BFDMult))
	})
	return out
}
