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
		return source{o.segment, x.remote[o.class], target{}, false}
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

// make computes what x lets pass of what is asked.
func (w *world) make(x *box, q question) *matrix {
	m := &matrix{}
	n := len(w.classes)
	for _, kind := range x.kinds() {
		port := x.Segments[kind]
		for _, o := range w.origins(x, kind) {
			s := x.source(o)
			// Most sources are forged, and go nowhere.
			early := place{in: port, src: s.addr, anyDst: true, stateful: !x.Hub, bound: atMost, answer: q.answer}
			if x.match.pass(nft.Prerouting, early, q.some).empty() {
				continue
			}
			out, up, net := row{origin: o, seen: -1}, row{origin: o, seen: -1}, row{origin: o, seen: -1}
			for _, k := range []struct {
				r     *row
				ports []string
			}{{&out, x.tunnel}, {&up, x.uplink}, {&net, x.circuit}} {
				k.r.to = make([]set, n)
				for g, dst := range x.remote {
					for _, p := range k.ports {
						if !dst.IsValid() {
							continue
						}
						got, src, _ := x.step(port, p, s.addr, dst, q)
						if !got.empty() {
							k.r.seen = w.classOf[w.space.at(src)]
						}
						k.r.to[g] = k.r.to[g].or(got)
					}
				}
			}
			for i, to := range x.own {
				if to.port == "" {
					continue
				}
				if got, _, _ := x.step(port, to.port, s.addr, to.rep, q); !got.empty() {
					m.local = append(m.local, local{o, i, got})
				}
			}
			m.out, m.up, m.net = keep(m.out, out), keep(m.up, up), keep(m.net, net)
		}
	}
	m.in, m.down = w.columns(x, x.tunnel, q), w.columns(x, x.uplink, q)
	if x.Hub {
		m.middle, m.rise, m.fall = w.through(x, x.tunnel, x.tunnel, q), w.through(x, x.tunnel, x.uplink, q), w.through(x, x.uplink, x.tunnel, q)
	}
	return m
}

// keep adds a row from which something passes.
func keep(all []row, r row) []row {
	for _, s := range r.to {
		if !s.empty() {
			return append(all, r)
		}
	}
	return all
}

// origins are all addresses that may come in by a segment's port, forged ones
// too.
func (w *world) origins(x *box, kind inventory.SegmentKind) []origin {
	var out []origin
	for i := range x.own {
		out = append(out, origin{kind, i, -1})
	}
	for g, a := range x.remote {
		if a.IsValid() {
			out = append(out, origin{kind, -1, g})
		}
	}
	return out
}

func (w *world) columns(x *box, ports []string, q question) []column {
	var out []column
	for i, to := range x.own {
		if to.port == "" || to.class < 0 {
			continue
		}
		c := column{piece: i, class: to.class, from: make([]set, len(w.classes))}
		found := false
		for g, src := range x.remote {
			for _, p := range ports {
				if !src.IsValid() {
					continue
				}
				got, _, _ := x.step(p, to.port, src, to.rep, q)
				c.from[g] = c.from[g].or(got)
				found = found || !got.empty()
			}
		}
		if found {
			out = append(out, c)
		}
	}
	return out
}

func (w *world) through(x *box, in, out []string, q question) [][]set {
	all := make([][]set, len(w.classes))
	for g, src := range x.remote {
		all[g] = make([]set, len(w.classes))
		for k, dst := range x.remote {
			if !src.IsValid() || !dst.IsValid() {
				continue
			}
			for _, i := range in {
				for _, o := range out {
					got, _, _ := x.step(i, o, src, dst, q)
					all[g][k] = all[g][k].or(got)
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
