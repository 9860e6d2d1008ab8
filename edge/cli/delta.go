package cli

import (
	"slices"
	"strings"
)

// delta lists the commands that turn the lines have into want, and says nothing
// about what is in both. What others lean on comes before them and goes after
// them; in what is exclusive, what goes leaves before the new comes.
func (p *platform) delta(have, want *block) []string {
	d := delta{p: p, gone: map[*block]bool{}}
	ranks := p.Orders.Order
	at := func(line string) int {
		for i, r := range ranks {
			if r.Match.is(line) {
				return i
			}
		}
		return len(ranks)
	}
	each := func(rank int, visit func(have, want *block)) {
		for _, b := range have.sub {
			if at(b.line) == rank && want.find(b.line) == nil {
				visit(b, nil)
			}
		}
		for _, b := range want.sub {
			if at(b.line) == rank {
				visit(have.find(b.line), b)
			}
		}
	}
	exclusive := func(rank int) bool { return rank < len(ranks) && ranks[rank].Exclusive }
	for rank := range len(ranks) + 1 {
		d.adds, d.removes = true, exclusive(rank)
		each(rank, func(h, w *block) {
			switch {
			case w != nil && h == nil:
				d.removeTwins(have, want, w.line)
				d.change("", h, w, nil)
			case w != nil:
				d.change("", h, w, nil)
			case d.removes:
				d.remove("", h, nil)
			}
		})
	}
	d.adds, d.removes = false, true
	for rank := len(ranks); rank >= 0; rank-- {
		each(rank, func(h, w *block) {
			switch {
			case w == nil:
				d.remove("", h, nil)
			case h != nil && !exclusive(rank):
				d.change("", h, w, nil)
			}
		})
	}
	return d.out
}

// delta collects commands.
type delta struct {
	p    *platform
	out  []string
	gone map[*block]bool // removed already

	adds, removes bool // what is said now
}

func (d *delta) say(line string) { d.out = append(d.out, line) }

// within says what body says between the line that enters a block and the one
// that leaves it; nothing when body says nothing, unless the block is new.
func (d *delta) within(line, leave string, fresh bool, body func()) {
	start := len(d.out)
	d.say(line)
	body()
	if len(d.out) == start+1 && !fresh {
		d.out = d.out[:start]
		return
	}
	d.say(leave)
}

// change makes have, nil for none, into want. Of the elements that are out
// already nothing is there any more.
func (d *delta) change(path string, have, want *block, out map[string]bool) {
	at := join(path, want.line)
	leave := d.p.leave(at)
	fresh := have == nil
	if fresh && !d.adds {
		return
	}
	if leave == "" {
		if fresh {
			d.say(want.line)
		}
		return
	}
	if fresh {
		have = &block{}
	}
	d.within(want.line, leave, fresh, func() {
		if d.removes {
			out = d.drop(have, want, out)
			for _, b := range have.sub {
				if want.find(b.line) == nil && !out[d.p.element(b.line)] && !d.p.replaced(b.line, want) {
					d.remove(at, b, out)
				}
			}
		}
		for _, blocks := range []bool{false, true} { // what lines make, blocks name
			for _, b := range want.sub {
				old := have.find(b.line)
				if out[d.p.element(b.line)] {
					old = nil
				}
				if (d.p.leave(join(at, b.line)) != "") == blocks {
					d.change(at, old, b, out)
				}
			}
		}
	})
}

// drop takes out the elements that have anchors and want does not mention, each
// by one line, and gives them with those that were out.
func (d *delta) drop(have, want *block, out map[string]bool) map[string]bool {
	e := d.p.Orders.Element
	all := map[string]bool{}
	for k := range out {
		all[k] = true
	}
	stays := map[string]bool{}
	for _, b := range want.sub {
		stays[d.p.element(b.line)] = true
	}
	for _, b := range have.sub {
		name := d.p.element(b.line)
		if name == "" || stays[name] || all[name] || !e.Anchor.is(b.line) {
			continue
		}
		d.say(e.Match.ReplaceAllString(e.Match.FindString(b.line), e.Line))
		all[name] = true
	}
	return all
}

// remove takes b away; what has no opposite is emptied.
func (d *delta) remove(path string, b *block, out map[string]bool) {
	if d.gone[b] {
		return
	}
	d.gone[b] = true
	if line := first(d.p.Orders.Negate, b.line); line != "" {
		d.say(line)
		return
	}
	at := join(path, b.line)
	leave := d.p.leave(at)
	if leave == "" {
		return
	}
	d.within(b.line, leave, false, func() {
		for _, s := range b.sub {
			if !out[d.p.element(s.line)] {
				d.remove(at, s, out)
			}
		}
	})
}

// removeTwins takes away what goes anyway and would be in the way of line.
func (d *delta) removeTwins(have, want *block, line string) {
	for _, r := range d.p.Orders.Twin {
		k := key([]pattern{r}, line)
		if k == "" {
			continue
		}
		for _, b := range have.sub {
			if want.find(b.line) == nil && key([]pattern{r}, b.line) == k {
				d.remove("", b, nil)
			}
		}
	}
}

// element names what a line speaks of, "" for nothing that leaves whole.
func (p *platform) element(line string) string {
	return key([]pattern{p.Orders.Element.Match}, line)
}

// leave is what ends the block at path, "" where it is none.
func (p *platform) leave(path string) string {
	for _, r := range p.Orders.Leave {
		if r.Match.is(path) {
			return r.Line
		}
	}
	return ""
}

// replaced says whether a line of want takes the place of line.
func (p *platform) replaced(line string, want *block) bool {
	k := key(p.Orders.Replace, line)
	return k != "" && slices.ContainsFunc(want.sub, func(b *block) bool { return key(p.Orders.Replace, b.line) == k })
}

// key is what the groups of the first match hold.
func key(list []pattern, line string) string {
	for _, r := range list {
		if r.Regexp == nil {
			continue
		}
		if g := r.FindStringSubmatch(line); g != nil {
			return strings.Join(g[1:], " ")
		}
	}
	return ""
}
