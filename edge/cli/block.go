package cli

import (
	"slices"
	"strings"
)

// block is a line of a configuration with the lines under it.
type block struct {
	line  string
	sub   []*block
	index map[string]*block // of sub: a hub has thousands
}

// under gives the block for a line under b, made if there is none.
func (b *block) under(line string) *block {
	if s := b.find(line); s != nil {
		return s
	}
	return b.add(&block{line: line})
}

func (b *block) add(s *block) *block {
	if b.index == nil {
		b.index = map[string]*block{}
	}
	b.sub = append(b.sub, s)
	b.index[s.line] = s
	return s
}

// parseBlocks reads a configuration by its indentation. Comments and what ends
// a block are left out.
func (p *platform) parseBlocks(text string) *block {
	root := &block{}
	type level struct {
		indent int
		b      *block
	}
	stack := []level{{-1, root}}
	for _, raw := range strings.Split(text, "\n") {
		line := strings.TrimSpace(raw)
		if line == "" || line[0] == '!' || line[0] == '#' || line == "end" || line == "exit" || line == "next" || strings.HasPrefix(line, "exit-") {
			continue
		}
		indent := len(raw) - len(strings.TrimLeft(raw, " \t"))
		for stack[len(stack)-1].indent >= indent {
			stack = stack[:len(stack)-1]
		}
		// A block may be entered twice.
		stack = append(stack, level{indent, stack[len(stack)-1].b.under(line)})
	}
	return root
}

func (b *block) find(line string) *block {
	if b == nil {
		return nil
	}
	return b.index[line]
}

// at finds a path under b.
func (b *block) at(path string) *block { return b.down(strings.Split(path, " / ")) }

func (b *block) down(lines []string) *block {
	for _, line := range lines {
		b = b.find(line)
	}
	return b
}

// merge adds what o has under it to b.
func (b *block) merge(o *block) {
	for _, s := range o.sub {
		b.under(s.line).merge(s)
	}
}

// walk visits every line under b with its path, a block before what is in it.
func (b *block) walk(visit func(path string, b *block)) { b.walkFrom("", visit) }

func (b *block) walkFrom(path string, visit func(string, *block)) {
	for _, s := range b.sub {
		at := join(path, s.line)
		visit(at, s)
		s.walkFrom(at, visit)
	}
}

func join(path, line string) string {
	if path == "" {
		return line
	}
	return path + " / " + line
}

// text prints b with one space of indent for each level.
func (b *block) text() string {
	var out strings.Builder
	b.walk(func(path string, s *block) {
		out.WriteString(strings.Repeat(" ", strings.Count(path, " / ")) + s.line + "\n")
	})
	return out.String()
}

// ours is the part of a device's configuration that is ours.
func (p *platform) ours(b *block) *block { return p.oursUnder("", b, false) }

func (p *platform) oursUnder(path string, b *block, within bool) *block {
	out := &block{line: b.line}
	for _, s := range b.sub {
		at := join(path, s.line)
		own := within || slices.ContainsFunc(p.Ours, func(o owned) bool {
			return o.Match.is(at) && (o.Marker == "" || s.at(o.Marker) != nil)
		})
		if own && anyIs(p.Theirs, at) {
			continue
		}
		kept := p.oursUnder(at, s, own)
		if own || len(kept.sub) > 0 {
			out.add(kept)
		}
	}
	return out
}

// foreign finds what stands where want has to go and is somebody else's: a block
// that would be ours if it had the marker.
func (p *platform) foreign(have, want *block) (path, marker string) {
	have.walk(func(at string, b *block) {
		for _, o := range p.Ours {
			if o.Marker == "" || !o.Match.is(at) || b.at(o.Marker) != nil {
				continue
			}
			wanted := false
			want.walk(func(w string, _ *block) { wanted = wanted || o.Match.is(w) })
			if wanted {
				path, marker = at, o.Marker
			}
		}
	})
	return path, marker
}

// cut takes a line out of b with all under it.
func (b *block) cut(line string) {
	delete(b.index, line)
	b.sub = slices.DeleteFunc(b.sub, func(s *block) bool { return s.line == line })
}

// differences lists what only have has, line by line, and what it lacks of want,
// a block for all that is in it. A path is its lines, outermost first.
func differences(have, want *block) (more, less [][]string) {
	onlyIn(have, want, nil, true, func(path []string) { more = append(more, path) })
	onlyIn(want, have, nil, false, func(path []string) { less = append(less, path) })
	return more, less
}

// onlyIn visits the lines of a that b lacks; where a block lacks, what is in it
// too if all.
func onlyIn(a, b *block, path []string, all bool, visit func([]string)) {
	for _, s := range a.sub {
		at := append(slices.Clone(path), s.line)
		other := b.find(s.line)
		if other == nil {
			visit(at)
			if !all {
				continue
			}
		}
		onlyIn(s, other, at, all, visit)
	}
}
