package proof

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/wardnet/wardnet/controller/proof/nft"
	"github.com/wardnet/wardnet/inventory"
)

// source is where packets enter: by the port of a segment, from an address.
type source struct {
	segment inventory.SegmentKind // of the port
	addr    netip.Addr            // as they come
	target  target                // of addr; no segment: a foreign one
	own     bool                  // addr lives behind the box
}

// genuine says whether the source is one that its segment has.
func (s source) genuine() bool { return s.own && s.target.segment == s.segment }

// origin names a source in a matrix, which many boxes may share.
type origin struct {
	segment inventory.SegmentKind
	piece   int // of the box's own; -1: foreign
	class   int // of a foreign one
}

// row is what gets out from one source, to each class.
type row struct {
	origin
	seen int // the source's class as others see it; -1: nobody does
	to   []set
}

// column is what gets in to one of the box's own pieces, from each class.
type column struct {
	piece int
	class int // of the piece
	from  []set
}

// matrix is what a box lets pass, and every box of the same template.
type matrix struct {
	first  int      // the first box of the template
	out    []row    // segments → tunnels
	up     []row    // segments → uplinks
	net    []row    // segments → circuits
	in     []column // tunnels → segments
	down   []column // uplinks → segments
	local  []local  // segments → segments
	middle [][]set  // hubs: tunnels → tunnels, by class of source and destination
	rise   [][]set  // hubs: tunnels → uplinks
	fall   [][]set  // hubs: uplinks → tunnels
}

// local is what passes inside of a site, from one source to one piece.
type local struct {
	origin
	piece int
	set
}

// source is what an origin is at box x.
func (x *box) source(o origin) source {
	if o.piece < 0 {
		return source{o.segment, x.far(o.class), target{}, false}
	}
	p := x.own[o.piece]
	return source{o.segment, p.rep, p.target, true}
}

// question is what a matrix is made for: which packets, and how to take what is
// not decided.
type question struct {
	bound  bound
	some   set
	answer bool // packets of flows that began the other way
}

// compute finds what x lets pass of what is asked.
func (w *world) compute(x *box, q question) *answer {
	m := &answer{}
	for _, kind := range x.kinds() {
		port := x.Segments[kind]
		for _, o := range x.sources(kind) {
			src := x.addr(o)
			// Most sources are forged, and go nowhere.
			early := place{in: port, src: src, anyDst: true, stateful: !x.Hub, bound: atMost, answer: q.answer}
			if x.match.pass(nft.Prerouting, early, q.some).empty() {
				continue
			}
			m.out = keep(m.out, x.way(o, port, x.tunnel, q))
			m.up = keep(m.up, x.way(o, port, x.uplink, q))
			m.net = keep(m.net, x.way(o, port, x.circuit, q))
			for i, to := range x.own {
				if to.port == "" {
					continue
				}
				if got, _, _ := x.step(port, to.port, src, to.rep, q); !got.empty() {
					m.local = append(m.local, local{o, i, got})
				}
			}
		}
	}
	m.in, m.down = x.columns(x.tunnel, q), x.columns(x.uplink, q)
	if x.Hub {
		m.middle, m.rise, m.fall = x.through(x.tunnel, x.tunnel, q), x.through(x.tunnel, x.uplink, q), x.through(x.uplink, x.tunnel, q)
	}
	return m
}

// way is what gets out from one source by ports of a kind.
func (x *box) way(o origin, port string, ports []string, q question) way {
	src := x.addr(o)
	r := way{origin: o, self: true, to: make([]set, len(x.reps))}
	for n, dst := range x.reps {
		if !dst.IsValid() {
			continue
		}
		for _, p := range ports {
			got, seen, _ := x.step(port, p, src, dst, q)
			if !got.empty() {
				r.any, r.self, r.seen = true, seen == src, seen
			}
			r.to[n] = r.to[n].or(got)
		}
	}
	return r
}

// keep adds a way by which something passes.
func keep(all []way, r way) []way {
	if r.any {
		return append(all, r)
	}
	return all
}

func (x *box) columns(ports []string, q question) []column {
	var out []column
	for i, to := range x.own {
		if to.port == "" || to.class < 0 {
			continue
		}
		c := column{piece: i, from: make([]set, len(x.reps))}
		found := false
		for n, src := range x.reps {
			if !src.IsValid() {
				continue
			}
			for _, p := range ports {
				got, _, _ := x.step(p, to.port, src, to.rep, q)
				c.from[n] = c.from[n].or(got)
				found = found || !got.empty()
			}
		}
		if found {
			out = append(out, c)
		}
	}
	return out
}

func (x *box) through(in, out []string, q question) [][]set {
	all := make([][]set, len(x.reps))
	for n, src := range x.reps {
		all[n] = make([]set, len(x.reps))
		for k, dst := range x.reps {
			if !src.IsValid() || !dst.IsValid() {
				continue
			}
			for _, i := range in {
				for _, o := range out {
					got, _, _ := x.step(i, o, src, dst, q)
					all[n][k] = all[n][k].or(got)
				}
			}
		}
	}
	return all
}

// rowKey is what another site can tell of a box's rows.
func (x *box) rowKey(all []row) string {
	var b strings.Builder
	for _, r := range all {
		fmt.Fprintf(&b, "%s %v %d %v\n", r.segment, x.source(r.origin).genuine(), r.seen, r.to)
	}
	return b.String()
}

// columnKey is the same of its columns.
func (x *box) columnKey(all []column) string {
	var b strings.Builder
	for _, c := range all {
		fmt.Fprintf(&b, "%v %d %v\n", x.own[c.piece].target, c.class, c.from)
	}
	return b.String()
}
