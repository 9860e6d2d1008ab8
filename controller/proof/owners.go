package proof

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/inventory"
)

// owners says which box an address lives behind.
type owners struct {
	spans []span
	box   []int
}

func newOwners(v6 bool, boxes []Box) (*owners, error) {
	type entry struct {
		span
		box    int
		prefix netip.Prefix
	}
	var all []entry
	for i, b := range boxes {
		for _, p := range b.Own {
			if p.Addr().Is6() == v6 {
				all = append(all, entry{spanOf(p), i, p})
			}
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Or(a.from.Compare(b.from), -a.to.Compare(b.to)) })
	o := &owners{}
	var errs []error
	for n, e := range all {
		if n > 0 && !o.spans[len(o.spans)-1].to.Less(e.from) {
			before := all[n-1]
			if before.box == e.box {
				if o.spans[len(o.spans)-1].to.Less(e.to) {
					o.spans[len(o.spans)-1].to = e.to
				}
				continue
			}
			errs = append(errs, fmt.Errorf("%w: %s of %s overlaps %s of %s", inventory.ErrInvalid, e.prefix, boxes[e.box].Device, before.prefix, boxes[before.box].Device))
			continue
		}
		o.spans, o.box = append(o.spans, e.span), append(o.box, e.box)
	}
	return o, errors.Join(errs...)
}

// rep is addresses that stand for a class: of different owners, so that every
// box has one that is not its own.
type rep struct {
	addrs  []netip.Addr
	owners []int
}

func (r *rep) take(a netip.Addr, owner int) {
	if len(r.addrs) < 2 && !slices.Contains(r.owners, owner) {
		r.addrs, r.owners = append(r.addrs, a), append(r.owners, owner)
	}
}

// outside is an address that does not live behind box i; invalid: all do.
func (r *rep) outside(i int) netip.Addr {
	for n, owner := range r.owners {
		if owner != i {
			return r.addrs[n]
		}
	}
	return netip.Addr{}
}

// makeClasses joins the elementary spans that all sets see alike. It returns the
// class of every span, and what stands for each class. A span is cut where an
// owner begins or ends, so that what stands for a class has one owner.
func (w *world) makeClasses(o *owners, in *intents) ([]int, []*rep) {
	classOf := make([]int, len(w.space.cuts))
	known := make([]int, len(w.space.states)) // class of each, from 1 on; 0: none yet
	var reps []*rep
	for i, a := range w.space.cuts {
		n := known[w.space.held[i]] - 1
		if n < 0 {
			n = len(reps)
			known[w.space.held[i]] = n + 1
			reps = append(reps, &rep{})
			w.classes = append(w.classes, in.target(a))
			w.first = append(w.first, i)
		}
		classOf[i] = n
		r, end := reps[n], w.space.end(i)
		for a.IsValid() && len(r.addrs) < 2 {
			at, exact := slices.BinarySearchFunc(o.spans, a, func(s span, a netip.Addr) int { return s.from.Compare(a) })
			if !exact {
				at--
			}
			next := netip.Addr{}
			switch {
			case at >= 0 && !o.spans[at].to.Less(a):
				r.take(a, o.box[at])
				next = o.spans[at].to.Next()
			default:
				r.take(a, -1)
				if at+1 < len(o.spans) {
					next = o.spans[at+1].from
				}
			}
			if !next.IsValid() || end.IsValid() && end.Less(next) {
				break
			}
			a = next
		}
	}
	return classOf, reps
}
