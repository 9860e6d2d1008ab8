package proof

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/inventory"
)

// listName is the name of a numbered list in a space; that of a set's content is
// longer.
func listName(n int) string { return fmt.Sprintf("#%d", n) }

// partition joins the classes that no list of a shape tells apart.
type partition struct {
	of   []int    // by class
	keys []string // of each local class: which lists hold it
	bits []int    // of the lists, in the space
}

func (w *world) partition(lists []int) *partition {
	p := &partition{}
	for _, n := range lists {
		p.bits = append(p.bits, w.space.bits[listName(n)])
	}
	at := map[string]int{}
	for _, span := range w.first {
		key := w.membership(p, span)
		n, ok := at[key]
		if !ok {
			n = len(p.keys)
			at[key] = n
			p.keys = append(p.keys, key)
		}
		p.of = append(p.of, n)
	}
	return p
}

// membership says which of a shape's lists hold an elementary span.
func (w *world) membership(p *partition, span int) string {
	held := w.space.states[w.space.held[span]]
	return string(bitmap(nil, len(p.bits), func(i int) bool { return held[p.bits[i]/64]&(1<<(p.bits[i]%64)) != 0 }))
}

// localize gives a box its local classes, and the key that what it lets pass is
// known by: of each kind, one box is asked.
func (w *world) localize(x *box) {
	if x.local != nil {
		return
	}
	p := w.locals[x.shape]
	if p == nil {
		f := 0
		if w.v6 {
			f = 1
		}
		p = w.partition(x.shape.lists[f])
		w.locals[x.shape] = p
	}
	x.local = make([]int, len(w.classes))
	x.reps = make([]netip.Addr, len(p.keys))
	for g := range w.classes {
		x.local[g] = -1
		if a := x.far(g); a.IsValid() {
			x.local[g] = p.of[g]
			if !x.reps[p.of[g]].IsValid() {
				x.reps[p.of[g]] = a
			}
		}
	}
	x.key = fmt.Appendln(nil, w.v6, w.s.key, x.shape.n)
	if x.alone {
		x.key = fmt.Appendln(x.key, x.Device, x.parts)
	}
	for _, y := range x.own {
		x.key = fmt.Appendf(x.key, "%d %v %v %s %x\n", y.part, y.class < 0, y.port != "", y.target.segment, w.membership(p, y.span))
	}
	for n, a := range x.reps {
		x.key = fmt.Appendf(x.key, "%v %x\n", a.IsValid(), p.keys[n])
	}
}

// answer is what a box lets pass, to and from local classes.
type answer struct {
	out, up, net       []way
	in, down           []column // their class is of no use
	local              []local
	middle, rise, fall [][]set
}

// way is a row of an answer.
type way struct {
	origin // its class is a local one
	any    bool
	self   bool       // the source keeps its address
	seen   netip.Addr // else what others see
	to     []set
}

// ask computes what x lets pass of what is asked, or remembers it.
func (w *world) ask(x *box, q question) (*answer, error) {
	w.localize(x)
	key := string(fmt.Appendln(slices.Clip(x.key), q.bound, q.some, q.answer))
	if a, ok := w.known[key]; ok {
		return a, nil
	}
	if err := w.load(x); err != nil {
		return nil, err
	}
	a := w.compute(x, q)
	w.known[key] = a
	return a, nil
}

// spread writes an answer for all classes.
func (w *world) spread(x *box, a *answer) *matrix {
	m := &matrix{
		out: w.rows(x, a.out), up: w.rows(x, a.up), net: w.rows(x, a.net), in: w.cols(x, a.in), down: w.cols(x, a.down),
		middle: w.square(x, a.middle), rise: w.square(x, a.rise), fall: w.square(x, a.fall),
	}
	for _, l := range a.local {
		for _, o := range w.origins(x, l.origin) {
			m.local = append(m.local, local{o, l.piece, l.set})
		}
	}
	return m
}

// origins are the sources that a local one stands for.
func (w *world) origins(x *box, o origin) []origin {
	if o.piece >= 0 {
		return []origin{o}
	}
	var out []origin
	for g, n := range x.local {
		if n == o.class {
			out = append(out, origin{o.segment, -1, g})
		}
	}
	return out
}

func (w *world) each(x *box, some []set) []set {
	out := make([]set, len(x.local))
	for g, n := range x.local {
		if n >= 0 {
			out[g] = some[n]
		}
	}
	return out
}

func (w *world) rows(x *box, all []way) []row {
	var out []row
	for _, r := range all {
		to := w.each(x, r.to)
		for _, o := range w.origins(x, r.origin) {
			y := row{origin: o, seen: -1, to: to}
			if r.any {
				addr := r.seen
				if r.self {
					addr = x.source(o).addr
				}
				y.seen = w.classOf[w.space.at(addr)]
			}
			out = append(out, y)
		}
	}
	return out
}

func (w *world) cols(x *box, all []column) []column {
	var out []column
	for _, c := range all {
		out = append(out, column{piece: c.piece, class: x.own[c.piece].class, from: w.each(x, c.from)})
	}
	return out
}

func (w *world) square(x *box, all [][]set) [][]set {
	if all == nil {
		return nil
	}
	wide := make([][]set, len(all))
	for n, some := range all {
		wide[n] = w.each(x, some)
	}
	out := make([][]set, len(x.local))
	none := make([]set, len(x.local))
	for g, n := range x.local {
		out[g] = none
		if n >= 0 {
			out[g] = wide[n]
		}
	}
	return out
}

// sources are all addresses that may come in by a segment's port, forged ones
// too, one of each local class.
func (x *box) sources(kind inventory.SegmentKind) []origin {
	var out []origin
	for i := range x.own {
		out = append(out, origin{kind, i, -1})
	}
	for n, a := range x.reps {
		if a.IsValid() {
			out = append(out, origin{kind, -1, n})
		}
	}
	return out
}

// addr is the address of a source among the local classes.
func (x *box) addr(o origin) netip.Addr {
	if o.piece < 0 {
		return x.reps[o.class]
	}
	return x.own[o.piece].rep
}
