package cli

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/wardnet/wardnet/edge"
)

// whole checks that text is the whole of an answer, and gives it without what
// is before and after the configuration.
func (p *platform) whole(command, text string) error {
	lines := strings.Split(strings.TrimRight(text, "\n "), "\n")
	for _, l := range lines {
		if anyIs(p.Errors, l) {
			return fmt.Errorf("%w: the device answers %q with %q; see what the account may do there", errAnswer, command, clip(l))
		}
	}
	last := strings.TrimRight(lines[len(lines)-1], " ")
	switch {
	case strings.TrimSpace(text) == "":
		return fmt.Errorf("%w: %q has no answer", ErrTruncated, command)
	case !p.Running.End.is(last):
		return fmt.Errorf("%w: the answer to %q ends with %q, not with %s: nothing is read from it; ask again, and see whether the device runs short of memory", ErrTruncated, command, clip(last), p.Running.End)
	case strings.ContainsFunc(text, func(r rune) bool { return r == '\uFFFD' || r < ' ' && r != '\n' && r != '\t' }):
		return fmt.Errorf("%w: the answer to %q holds control characters or broken text; see what stands between the device and here", ErrGarbage, command)
	}
	return nil
}

// fields collects what the read patterns found.
type fields struct {
	loopbacks []netip.Addr
	asn       uint32
	routerID  netip.Addr
	networks  []netip.Prefix
	permitted []netip.Prefix // what neighbours may announce
	order     []string       // neighbours as met
	of        map[string]*edge.Neighbour
}

// read replaces in c what the platform holds by what the tree of our lines has.
// What is there and is no value of a Config, or lacks where it should be, shows
// as a stray: so the result equals c only if the device has exactly the lines of
// c.
func (p *platform) read(tree *block, c edge.Config, v *vault) edge.Config {
	f := fields{of: map[string]*edge.Neighbour{}}
	tree.walk(func(path string, _ *block) {
		for _, r := range p.Read {
			if g := r.groups(path); g != nil {
				f.take(g)
			}
		}
	})
	out := c
	out.Loopback = pick(f.loopbacks, c.Loopback)
	out.BGP = edge.BGP{ASN: f.asn, RouterID: f.routerID, Networks: inOrder(f.networks, c.BGP.Networks), Accept: f.accept(c)}
	var list []edge.Neighbour
	for _, addr := range f.order {
		n := *f.of[addr]
		if slices.Contains(p.Assumed, "bfd") {
			n.BFDMinMS, n.BFDMult = 300, 3
			for _, w := range c.BGP.Neighbours {
				if w.Addr == n.Addr {
					n.BFDMinMS, n.BFDMult = w.BFDMinMS, w.BFDMult
				}
			}
		}
		if p.checkNeighbour(n) == nil { // else its lines show below
			list = append(list, n)
		}
	}
	out.BGP.Neighbours = arrange(list, c.BGP.Neighbours)
	if f.asn == 0 {
		out.BGP = edge.BGP{}
	}
	out.BGP.Neighbours = append(out.BGP.Neighbours, p.strays(tree, out, v)...)
	return out
}

// A stray is a line that no field of a Config can say, as a neighbour that has
// nothing but a name.
const (
	strayMore  = "line on the device: "
	strayLess  = "line missing on the device: "
	strayUnder = " ▸ "
)

// strays are the lines in which the tree differs from those of c.
func (p *platform) strays(tree *block, c edge.Config, v *vault) []edge.Neighbour {
	var out []edge.Neighbour
	shown := map[string]string{}
	stray := func(prefix string, path []string) {
		for i, line := range path {
			if _, seen := shown[line]; !seen {
				shown[line] = v.hide(line)
			}
			path[i] = shown[line]
		}
		out = append(out, edge.Neighbour{Tunnel: prefix + strings.Join(path, strayUnder)})
	}
	more, less := differences(tree, p.plain(c))
	for _, path := range more {
		stray(strayMore, path)
	}
	for _, path := range less {
		stray(strayLess, path)
	}
	return out
}

// plain is the lines of a Config without strays that was read; none where they
// are not whole, such as without a router id.
func (p *platform) plain(c edge.Config) *block {
	b, err := p.render(c)
	if err != nil {
		return &block{}
	}
	return b
}

// wanted is the lines of c. A Config that was read, strays included, gives the
// lines that it was read from: so a device can be put back as it was found. A
// line whose secret is not known any more is left out.
func (p *platform) wanted(c edge.Config, v *vault) (*block, error) {
	var strays []string
	var others []edge.Neighbour
	for _, n := range c.BGP.Neighbours {
		if n == (edge.Neighbour{Tunnel: n.Tunnel}) && (strings.HasPrefix(n.Tunnel, strayMore) || strings.HasPrefix(n.Tunnel, strayLess)) {
			strays = append(strays, n.Tunnel)
		} else {
			others = append(others, n)
		}
	}
	if len(strays) == 0 {
		return p.render(c)
	}
	c.BGP.Neighbours = others
	root := p.plain(c)
	for _, s := range strays {
		if path, ok := strings.CutPrefix(s, strayMore); ok {
			if lines, ok := v.path(path); ok {
				b := root
				for _, line := range lines {
					b = b.under(line)
				}
			}
			continue
		}
		lines := strings.Split(strings.TrimPrefix(s, strayLess), strayUnder)
		last := len(lines) - 1
		if b := root.down(lines[:last]); b != nil {
			b.cut(lines[last])
		}
	}
	return root, nil
}

// take keeps the values of one line. A value that does not parse is left: its
// line will show as a stray.
func (f *fields) take(g map[string]string) {
	n := &edge.Neighbour{}
	if addr, ok := g["neighbour"]; ok {
		a, err := netip.ParseAddr(addr)
		if err != nil {
			return
		}
		if f.of[a.String()] == nil {
			f.of[a.String()] = &edge.Neighbour{Addr: a}
			f.order = append(f.order, a.String())
		}
		n = f.of[a.String()]
	}
	for name, s := range g {
		switch name {
		case "loopback":
			if a, err := netip.ParseAddr(s); err == nil {
				f.loopbacks = append(f.loopbacks, a)
			}
		case "asn":
			f.asn = number[uint32](s)
		case "router_id":
			f.routerID, _ = netip.ParseAddr(s)
		case "network", "accept":
			if mask, ok := g["mask"]; ok {
				s += "/" + strconv.Itoa(bits(mask))
			}
			p, err := netip.ParsePrefix(s)
			switch {
			case err != nil:
			case name == "network":
				f.networks = append(f.networks, p)
			default:
				f.permitted = append(f.permitted, p)
			}
		case "remote_asn":
			n.ASN = number[uint32](s)
		case "tunnel":
			n.Tunnel = s
		case "preference":
			n.Preference = number[int](s)
		case "bfd_ms":
			n.BFDMinMS = number[int](s)
		case "bfd_mult":
			n.BFDMult = number[int](s)
		}
	}
}

// accept is what is permitted by c's Accept and, of the rest, by no tunnel of c.
func (f *fields) accept(c edge.Config) []netip.Prefix {
	named := map[netip.Prefix]bool{} // true: by Accept
	for _, t := range c.Tunnels {
		for _, a := range t.AllowedIPs {
			named[a.Masked()] = false
		}
	}
	for _, a := range c.BGP.Accept {
		named[a] = true
	}
	return inOrder(slices.DeleteFunc(f.permitted, func(p netip.Prefix) bool {
		accepted, known := named[p]
		return known && !accepted
	}), c.BGP.Accept)
}

// number parses s, 0 if it is none.
func number[T uint32 | int](s string) T {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0
	}
	return T(n)
}

// bits is the length of an IPv4 mask, -1 of what is none.
func bits(mask string) int {
	a, err := netip.ParseAddr(mask)
	if err != nil || !a.Is4() {
		return -1
	}
	ones, size := net.IPMask(a.AsSlice()).Size()
	if size == 0 {
		return -1
	}
	return ones
}

// pick is the wanted one of several, or the first.
func pick(list []netip.Addr, want netip.Addr) netip.Addr {
	if len(list) == 0 {
		return netip.Addr{}
	}
	if slices.Contains(list, want) {
		return want
	}
	return list[0]
}

// inOrder gives list in the order of want; the rest follows.
func inOrder(list, want []netip.Prefix) []netip.Prefix {
	place := map[netip.Prefix]int{}
	for i, w := range want {
		place[w] = i + 1
	}
	rank := func(p netip.Prefix) int {
		if place[p] == 0 {
			return len(want) + 1
		}
		return place[p]
	}
	slices.SortStableFunc(list, func(a, b netip.Prefix) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return a.Compare(b)
	})
	return list
}

// arrange is inOrder for neighbours, by address.
func arrange(list, want []edge.Neighbour) []edge.Neighbour {
	place := map[netip.Addr]int{}
	for i, w := range want {
		place[w.Addr] = i - len(want)
	}
	slices.SortStableFunc(list, func(a, b edge.Neighbour) int {
		if d := place[a.Addr] - place[b.Addr]; d != 0 {
			return d
		}
		return a.Addr.Compare(b.Addr)
	})
	return list
}
