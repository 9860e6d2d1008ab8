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

// row is what gets out from one source: into the tunnels, to each class.
type row struct {
	source
	class int // of the source as others see it; -1: nobody does
	to    []set
}

// column is what gets in to one of the box's own pieces, from each class.
type column struct {
	piece
	from []set
}

// matrix is what one box lets pass.
type matrix struct {
	out    []row            // segments → tunnels
	up     []row            // segments → uplinks
	net    []row            // segments → circuits
	in     []column         // tunnels → segments
	down   []column         // uplinks → segments
	local  map[[2]int]local // segments → segments, by source and piece
	middle [][]set          // hubs: tunnels → tunnels, by class of source and destination
	rise   [][]set          // hubs: tunnels → uplinks
	fall   [][]set          // hubs: uplinks → tunnels
	rows   []source         // of local
}

// local is what passes inside of a site.
type local struct{ set }

// make computes what x lets pass at most, or at least, of some.
func (w *world) make(x *box, b bound, some set) *matrix {
	m := &matrix{local: map[[2]int]local{}}
	n := len(w.classes)
	for kind, port := range x.Segments {
		for _, s := range w.sources(x, kind) {
			// Most sources are forged, and go nowhere.
			if x.match.pass(nft.Prerouting, place{in: port, src: s.addr, anyDst: true, stateful: !x.Hub, bound: atMost}, some).empty() {
				continue
			}
			out, up, net := row{source: s, class: -1}, row{source: s, class: -1}, row{source: s, class: -1}
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
						got, src, _ := x.step(port, p, s.addr, dst, b, some)
						if !got.empty() {
							k.r.class = w.classOf[w.space.at(src)]
						}
						k.r.to[g] = k.r.to[g].or(got)
					}
				}
			}
			at := len(m.rows)
			m.rows = append(m.rows, s)
			for q, to := range x.own {
				if to.port == "" {
					continue
				}
				if got, _, _ := x.step(port, to.port, s.addr, to.rep, b, some); !got.empty() {
					m.local[[2]int{at, q}] = local{got}
				}
			}
			m.out, m.up, m.net = keep(m.out, out), keep(m.up, up), keep(m.net, net)
		}
	}
	m.in, m.down = w.columns(x, x.tunnel, b, some), w.columns(x, x.uplink, b, some)
	if x.Hub {
		m.middle, m.rise, m.fall = w.through(x, x.tunnel, x.tunnel, b, some), w.through(x, x.tunnel, x.uplink, b, some), w.through(x, x.uplink, x.tunnel, b, some)
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

// sources are all addresses that may come in by a segment's port, forged ones
// too.
func (w *world) sources(x *box, kind inventory.SegmentKind) []source {
	var out []source
	for _, p := range x.own {
		out = append(out, source{kind, p.rep, p.target, true})
	}
	for _, a := range x.remote {
		if a.IsValid() {
			out = append(out, source{kind, a, target{}, false})
		}
	}
	return out
}

func (w *world) columns(x *box, ports []string, b bound, some set) []column {
	var out []column
	for _, to := range x.own {
		if to.port == "" || to.class < 0 {
			continue
		}
		c := column{piece: to, from: make([]set, len(w.classes))}
		found := false
		for g, src := range x.remote {
			for _, p := range ports {
				if !src.IsValid() {
					continue
				}
				got, _, _ := x.step(p, to.port, src, to.rep, b, some)
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

func (w *world) through(x *box, in, out []string, b bound, some set) [][]set {
	all := make([][]set, len(w.classes))
	for g, src := range x.remote {
		all[g] = make([]set, len(w.classes))
		for k, dst := range x.remote {
			if !src.IsValid() || !dst.IsValid() {
				continue
			}
			for _, i := range in {
				for _, o := range out {
					got, _, _ := x.step(i, o, src, dst, b, some)
					all[g][k] = all[g][k].or(got)
				}
			}
		}
	}
	return all
}

// rowKey is what another site can tell of a box's rows.
func rowKey(all []row) string {
	var b strings.Builder
	for _, r := range all {
		fmt.Fprintf(&b, "%s %v %d %v\n", r.segment, r.genuine(), r.class, r.to)
	}
	return b.String()
}

// columnKey is the same of its columns.
func columnKey(all []column) string {
	var b strings.Builder
	for _, c := range all {
		fmt.Fprintf(&b, "%v %d %v\n", c.target, c.class, c.from)
	}
	return b.String()
}
