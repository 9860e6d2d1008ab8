package frr

import (
	"slices"
	"strings"
)

// block is a line of a configuration with the lines under it.
type block struct {
	line string
	sub  []*block
}

// parse reads a configuration as blocks.
func parse(text string) *block {
	root := &block{}
	type level struct {
		indent int
		b      *block
	}
	stack := []level{{-1, root}}
	for _, raw := range strings.Split(text, "\n") {
		line := strings.Join(strings.Fields(raw), " ")
		if line == "" || line == "end" || line == "exit" || strings.HasPrefix(line, "exit-") ||
			strings.HasPrefix(line, "!") || strings.HasPrefix(line, "#") {
			continue
		}
		indent := len(raw) - len(strings.TrimLeft(raw, " "))
		for stack[len(stack)-1].indent >= indent {
			stack = stack[:len(stack)-1]
		}
		parent := stack[len(stack)-1].b
		if parent == root && isIgnored(line) {
			continue
		}
		b := &block{line: line}
		parent.sub = append(parent.sub, b)
		stack = append(stack, level{indent, b})
	}
	return root
}

func (b *block) find(line string) *block {
	for _, s := range b.sub {
		if s.line == line {
			return s
		}
	}
	return nil
}

// isContext says whether lines may stand under a line of parent. A profile is
// made under bfd, and named under a peer.
func isContext(parent, line string) bool {
	if strings.HasPrefix(parent, "peer ") {
		return false
	}
	for _, p := range []string{"router ", "address-family ", "route-map ", "bfd", "profile ", "peer ", "interface "} {
		if strings.HasPrefix(line, p) {
			return true
		}
	}
	return false
}

// deltaText is a file of commands that turns the configuration have into want
// and says nothing about what is in both. What sessions lean on comes before
// them and goes after them. The commands cover what package render writes; the
// caller reads back whether they did.
func deltaText(have, want string) string {
	h, w := parse(have), parse(want)
	var lists, maps, profiles, sessions, tail strings.Builder
	renumber(&lists, h, w)
	for _, b := range w.sub {
		old := h.find(b.line)
		switch {
		case listOf(b.line) != "": // above
		case !isContext("", b.line):
			if old == nil {
				lists.WriteString(b.line + "\n")
			}
		case strings.HasPrefix(b.line, "route-map "):
			change(&maps, old, b, 0)
		case strings.HasPrefix(b.line, "router "):
			if old == nil {
				for _, other := range h.sub {
					if strings.HasPrefix(other.line, "router ") && w.find(other.line) == nil {
						sessions.WriteString("no " + other.line + "\n")
					}
				}
			}
			change(&sessions, old, b, 0)
		default:
			change(&profiles, old, b, 0)
		}
	}
	gone := func(prefix string) {
		for _, b := range h.sub {
			if w.find(b.line) != nil || !strings.HasPrefix(b.line, prefix) {
				continue
			}
			if list := listOf(b.line); list == "" || !slices.ContainsFunc(w.sub, func(o *block) bool { return listOf(o.line) == list }) {
				tail.WriteString(inverse(b.line) + "\n")
			}
		}
	}
	if !slices.ContainsFunc(w.sub, func(b *block) bool { return strings.HasPrefix(b.line, "router ") }) {
		gone("router ")
	}
	for _, prefix := range []string{"bgp ", "route-map ", "ip ", "ipv6 ", "bfd"} {
		gone(prefix)
	}
	return lists.String() + maps.String() + profiles.String() + sessions.String() + tail.String()
}

// renumber writes the changes of prefix lists that stay or are new. FRR refuses
// an entry whose twin stands at another number, so what goes is removed first;
// of the moment between nothing comes that neither list lets in: permits leave
// before denies, and come after them.
func renumber(out *strings.Builder, h, w *block) {
	stays := map[string]bool{}
	for _, b := range w.sub {
		stays[listOf(b.line)] = true
	}
	pass := func(from, other *block, action string, write func(string) string) {
		for _, b := range from.sub {
			list := listOf(b.line)
			if list != "" && stays[list] && strings.Contains(b.line, " "+action+" ") && other.find(b.line) == nil {
				out.WriteString(write(b.line) + "\n")
			}
		}
	}
	pass(h, w, "permit", inverse)
	pass(h, w, "deny", inverse)
	asIs := func(line string) string { return line }
	pass(w, h, "deny", asIs)
	pass(w, h, "permit", asIs)
}

// listOf is the prefix list that a line belongs to.
func listOf(line string) string {
	if f := strings.Fields(line); len(f) > 4 && f[1] == "prefix-list" {
		return f[0] + " " + f[2]
	}
	return ""
}

// change writes what turns the block have, nil for none, into want; nothing if
// they are alike.
func change(out *strings.Builder, have, want *block, depth int) {
	var body strings.Builder
	pad := strings.Repeat(" ", depth+1)
	if have == nil {
		have = &block{}
	}
	again := renewed(have, want)
	dropped := map[string]bool{}
	for _, b := range have.sub {
		peer := neighbour(b.line)
		switch {
		case want.find(b.line) != nil && !again[peer]:
		case peer != "" && (again[peer] || !mentions(want, peer)) && strings.HasPrefix(want.line, "router "):
			if !dropped[peer] {
				body.WriteString(pad + "no neighbor " + peer + "\n") // with all that is said of it
			}
			dropped[peer] = true
		case peer != "" && strings.HasPrefix(want.line, "address-family ") && !mentions(want, peer):
			// Its session is gone, and this with it.
		case strings.HasPrefix(want.line, "peer ") && strings.HasPrefix(b.line, "profile "),
			slices.ContainsFunc(want.sub, func(o *block) bool { return key(o.line) == key(b.line) }):
			// Set anew below.
		default:
			body.WriteString(pad + inverse(b.line) + "\n")
		}
	}
	for _, b := range want.sub {
		old := have.find(b.line)
		switch {
		case isContext(want.line, b.line):
			if len(again) > 0 && old != nil {
				old = without(old, again)
			}
			change(&body, old, b, depth+1)
		case old == nil || again[neighbour(b.line)]:
			body.WriteString(pad + b.line + "\n")
		}
	}
	if body.Len() == 0 && have.line != "" {
		return
	}
	out.WriteString(strings.Repeat(" ", depth) + want.line + "\n" + body.String() + strings.Repeat(" ", depth) + end(want.line) + "\n")
}

// renewed are the neighbours whose AS changes: they are removed and made again.
func renewed(have, want *block) map[string]bool {
	out := map[string]bool{}
	for _, b := range have.sub {
		peer := neighbour(b.line)
		if peer == "" || !strings.Contains(b.line, " remote-as ") || want.find(b.line) != nil {
			continue
		}
		if mentions(want, peer) {
			out[peer] = true
		}
	}
	return out
}

// without is b less what it says of some neighbours.
func without(b *block, peers map[string]bool) *block {
	out := &block{line: b.line}
	for _, s := range b.sub {
		if !peers[neighbour(s.line)] {
			out.sub = append(out.sub, s)
		}
	}
	return out
}

func mentions(b *block, peer string) bool {
	return slices.ContainsFunc(b.sub, func(s *block) bool { return neighbour(s.line) == peer })
}

// neighbour is the address that a line of a BGP session speaks of.
func neighbour(line string) string {
	if f := strings.Fields(line); len(f) > 2 && f[0] == "neighbor" {
		return f[1]
	}
	return ""
}

// key is what a line sets: another line with the same key replaces it.
func key(line string) string {
	f := strings.Fields(line)
	switch {
	case len(f) > 3 && f[0] == "neighbor" && (f[2] == "route-map" || f[2] == "prefix-list"):
		return strings.Join([]string{f[1], f[2], f[len(f)-1]}, " ")
	case len(f) > 4 && f[0] == "neighbor" && (f[2] == "timers" || f[2] == "bfd"):
		return strings.Join(f[:4], " ")
	case len(f) > 3 && f[0] == "neighbor" && (f[2] == "description" || f[2] == "remote-as"):
		return strings.Join(f[:3], " ")
	}
	for _, p := range []string{
		"bgp router-id", "coalesce-time", "timers bgp", "match ip address prefix-list", "match ipv6 address prefix-list", "match local-preference",
		"set local-preference", "set metric", "set as-path prepend", "set ipv6 next-hop global",
		"detect-multiplier", "transmit-interval", "receive-interval",
	} {
		if strings.HasPrefix(line, p+" ") {
			return p
		}
	}
	return line
}

func inverse(line string) string {
	if rest, negative := strings.CutPrefix(line, "no "); negative {
		return rest
	}
	return "no " + line
}

func end(line string) string {
	if strings.HasPrefix(line, "address-family ") {
		return "exit-address-family"
	}
	return "exit"
}
