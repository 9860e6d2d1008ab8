package proof

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/controller/proof/nft"
	"github.com/wardnet/wardnet/inventory"
)

// Box is one device as the proof sees it: the text it filters by, and what is
// plugged where.
type Box struct {
	Device inventory.DeviceID
	Site   inventory.SiteID
	Hub    bool
	// Key is the same for boxes that render the same; empty: it is not known.
	Key string
	// Render gives what the box would run. It may be called several times, and
	// then gives the same; thousands of texts at once would fill the memory.
	Render func() (Artefacts, error)
	// Segments are the ports of the site's segments.
	Segments map[inventory.SegmentKind]string
	Tunnels  []string // interfaces
	Circuits []string // ports
	// CircuitIDs are the circuits of those ports, in the same order.
	CircuitIDs []inventory.CircuitID
	Uplinks    []string // ports, to the data centre
	// Links are the ends of its tunnels.
	Links []Link
	// Routers are those of the data centre that it has a session with.
	Routers []Router
	// Own is what lives behind the device, as other sites know it.
	Own []netip.Prefix
	// Legacy are prefixes that only the site itself knows, by the segment that
	// holds them; they are translated to a part of Own.
	Legacy map[inventory.SegmentKind]netip.Prefix
}

// Artefacts are the texts and tables that a box would run.
type Artefacts struct {
	Filter  string // nftables
	Routing string // FRR
	// Allowed are the WireGuard peers' addresses, by tunnel; a tunnel of another
	// kind is not in it.
	Allowed map[string][]netip.Prefix
}

// Link is the end of a tunnel at a box.
type Link struct {
	Tunnel        string // the same at both ends
	Interface     string
	Peer          inventory.DeviceID
	Local, Remote netip.Addr
	Circuit       inventory.CircuitID // own
	MTU           int                 // bytes, inner
	Listen        uint16              // UDP port of the hub's end; 0: not known
	Near, Far     netip.Addr          // underlay addresses of both ends, as far as known
}

// Router is a router of the data centre. The proof takes it to announce what the
// box may take from it.
type Router struct {
	Name   string
	Peer   netip.Addr
	Accept []netip.Prefix
}

// inside are the prefixes of Legacy.
func (b *Box) inside() []netip.Prefix {
	var out []netip.Prefix
	for _, kind := range slices.Sorted(maps.Keys(b.Legacy)) {
		out = append(out, b.Legacy[kind])
	}
	return out
}

// target is where the intent sees an address: in a segment of a site, in
// applications, or neither.
type target struct {
	segment inventory.SegmentKind
	apps    string // ids, joined
	ours    bool   // of the city's own space: never the internet's
}

// piece is a part of a device's own addresses that nothing tells apart.
type piece struct {
	rep    netip.Addr
	part   int // of the box: see scanned.parts
	span   int // of the space
	class  int // of the space, as other boxes see it; -1 where they do not
	target target
	port   string // of the segment; empty: the box itself, or nobody
}

// box is a device ready for the proof.
type box struct {
	Box
	table  *nft.Table
	match  *matcher
	own    []piece
	at     int          // its place among the boxes
	all    []*rep       // of the world's classes
	remote []netip.Addr // one address of each class, outside of own: see far
	// Interfaces that rules tell apart, one of each kind.
	tunnel, uplink, circuit []string
	kind                    int // boxes of one kind let the same pass

	shape *shape
	alone bool   // its parts are not its shape's
	parts []part // where alone
	// Classes that the shape's rules do not tell apart are one of the local ones:
	// local says which, by class (-1: it has no address outside of own), and reps
	// has an address of each.
	local []int
	reps  []netip.Addr
	key   []byte // boxes of one key let the same pass, to and from local classes
}

// world is all devices with one family of addresses.
type world struct {
	v6      bool
	s       *services
	space   *space
	classes []target // by class, as the intent sees an address that no device owns
	classOf []int    // by elementary span of the space
	first   []int    // elementary span of each class
	boxes   []*box
	known   map[string]*answer // of the prover: what was computed before
	locals  map[*shape]*partition
}

// prefixes visits the prefix lists of the rules that judge what passes through
// a box.
func prefixes(t *nft.Table, visit func([]netip.Prefix)) {
	seen := map[string]bool{}
	var chain func(c *nft.Chain)
	chain = func(c *nft.Chain) {
		if seen[c.Name] {
			return
		}
		seen[c.Name] = true
		for i := range c.Rules {
			for _, m := range c.Rules[i].Matches {
				switch m := m.(type) {
				case nft.Address:
					visit(m.Prefixes)
				case nft.Pair: // one set: see matcher.matches
					var ends []netip.Prefix
					for e := range m.Ends {
						ends = append(ends, netip.PrefixFrom(e.Addr, e.Addr.BitLen()))
					}
					visit(ends)
				}
			}
			for _, x := range c.Rules[i].Map {
				visit([]netip.Prefix{x.From})
				visit([]netip.Prefix{x.To})
			}
			if to := t.Chain(c.Rules[i].To); to != nil {
				chain(to)
			}
		}
	}
	for _, hook := range []nft.Hook{nft.Prerouting, nft.Forward, nft.Postrouting} {
		for _, c := range t.Base(hook) {
			if !marksOnly(c) {
				chain(c)
			}
		}
	}
}

// marksOnly says whether a base chain decides nothing: it accepts, and no rule
// of it drops or leads elsewhere.
func marksOnly(c *nft.Chain) bool {
	return !c.Drop && c.Type == "filter" && !slices.ContainsFunc(c.Rules, func(r nft.Rule) bool {
		return r.Verdict == nft.Drop || r.Verdict == nft.Jump || r.Verdict == nft.Goto
	})
}

func within(p netip.Prefix, all []netip.Prefix) bool {
	return slices.ContainsFunc(all, func(o netip.Prefix) bool { return o.Bits() <= p.Bits() && o.Contains(p.Addr()) })
}

// cuts are how the packets and addresses of a family are cut.
type cuts struct {
	v6 bool
	s  *services
	*space
}

func (c *cuts) family() int {
	if c.v6 {
		return 1
	}
	return 0
}

// newCuts cuts a family by what scans and intents tell apart: those of all sides
// that are compared.
func newCuts(v6 bool, sc *scanner, scans []scanned, ins ...*intents) (*cuts, error) {
	c := &cuts{v6: v6}
	seen := map[*shape]bool{}
	used := map[int]bool{}
	var services []nft.Match
	var global []named
	var ports []inventory.PortRange
	for _, x := range ins {
		ports = append(ports, x.ports...)
		for _, s := range x.sets() {
			global = append(global, named{keyOf(v6, s), list{all: s}})
		}
	}
	for _, s := range scans {
		if seen[s.shape] {
			continue
		}
		seen[s.shape] = true
		services = append(services, s.shape.services...)
		for _, n := range s.shape.lists[c.family()] {
			if !used[n] {
				used[n] = true
				global = append(global, named{listName(n), sc.lists.all[n]})
			}
		}
	}
	var err error
	if c.s, err = cut(v6, services, ports); err != nil {
		return nil, err
	}
	c.space = newNamedSpace(v6, global)
	return c, nil
}

// newWorld makes the boxes of a side ready, with the addresses of a family.
func newWorld(c *cuts, boxes []Box, scans []scanned, in *intents) (*world, error) {
	w, f, v6 := &world{v6: c.v6, s: c.s, space: c.space, locals: map[*shape]*partition{}}, c.family(), c.v6
	owners, err := newOwners(v6, boxes)
	if err != nil {
		return nil, err
	}
	var reps []*rep
	w.classOf, reps = w.makeClasses(owners, in)
	sole := map[int][]int{} // classes that have no address outside of a box
	for g, r := range reps {
		if len(r.owners) == 1 {
			sole[r.owners[0]] = append(sole[r.owners[0]], g)
		}
	}
	kinds := map[string]int{}
	var key []byte
	for i, b := range boxes {
		x := &box{Box: b, at: i, all: reps, table: scans[i].table, shape: scans[i].shape, alone: scans[i].alone}
		if x.alone {
			x.parts = scans[i].parts[f]
		}
		w.makePieces(x, scans[i].parts[f])
		key = binary.AppendUvarint(key[:0], uint64(x.shape.n))
		if x.alone {
			key = fmt.Append(key, x.parts)
		}
		for _, p := range x.own { // what else a piece is, its shape says
			key = binary.AppendVarint(binary.AppendUvarint(key, uint64(p.part)), int64(p.class))
		}
		for _, g := range sole[i] {
			key = binary.AppendUvarint(append(key, '!'), uint64(g))
		}
		n, ok := kinds[string(key)]
		if !ok {
			n = len(kinds)
			kinds[string(key)] = n
		}
		x.kind = n
		w.boxes = append(w.boxes, x)
	}
	return w, nil
}

// far is an address of a class that does not live behind the box; invalid: all
// do.
func (x *box) far(g int) netip.Addr {
	if x.remote == nil {
		x.remote = make([]netip.Addr, len(x.all))
		for n, r := range x.all {
			x.remote[n] = r.outside(x.at)
		}
	}
	return x.remote[g]
}

// load makes the box ready to be judged by itself: only a few are.
func (w *world) load(x *box) error {
	if x.match != nil {
		return nil
	}
	if x.table == nil {
		var err error
		if x.table, err = x.filter(); err != nil {
			return fmt.Errorf("device %s: %w", x.Device, err)
		}
	}
	x.match = newMatcher(x.table, w.s, x.Tunnels)
	x.tunnel, x.uplink, x.circuit = kindsOf(x.table, x.Tunnels), kindsOf(x.table, x.Uplinks), kindsOf(x.table, x.Circuits)
	return nil
}
