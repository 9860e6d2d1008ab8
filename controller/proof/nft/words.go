package nft

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// split appends a line's words to out: a quoted string is one, and so is each of
// "{", "}", ",", ":" and ";" where it stands by itself.
func split(line string, out []string) ([]string, error) {
	for i := 0; i < len(line); {
		c := line[i]
		switch {
		case c == ' ' || c == '\t':
			i++
		case c == '"':
			end := strings.IndexByte(line[i+1:], '"')
			if end < 0 {
				return nil, fmt.Errorf("a string does not end")
			}
			out = append(out, line[i:i+end+2])
			i += end + 2
		case strings.IndexByte("{},;", c) >= 0:
			out = append(out, string(c))
			i++
		default:
			end := strings.IndexAny(line[i:], " \t{},;\"")
			if end < 0 {
				end = len(line) - i
			}
			out = append(out, line[i:i+end])
			i += end
		}
	}
	return out, nil
}

// words is what is left of a rule.
type words struct {
	left  []string
	table *Table
}

func (w *words) peek(n int) string {
	if n < len(w.left) {
		return w.left[n]
	}
	return ""
}

func (w *words) next() string {
	word := w.peek(0)
	if len(w.left) > 0 {
		w.left = w.left[1:]
	}
	return word
}

// take consumes the words when they come next.
func (w *words) take(all ...string) bool {
	for i, x := range all {
		if w.peek(i) != x {
			return false
		}
	}
	w.left = w.left[len(all):]
	return true
}

func (w *words) not() bool { return w.take("!=") }

// braced returns the elements of { a, b }, or of one element without braces.
func (w *words) braced() ([]string, error) {
	if !w.take("{") {
		if one := w.next(); one != "" {
			return []string{one}, nil
		}
		return nil, fmt.Errorf("a value is missing")
	}
	var out []string
	for {
		word := w.next()
		switch word {
		case "}":
			return out, nil
		case "":
			return nil, fmt.Errorf("a brace is not closed")
		case ",":
		default:
			out = append(out, word)
		}
	}
}

func text(word string) (string, bool) {
	s, ok := strings.CutPrefix(word, `"`)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(s, `"`)
}

// set returns the set that @name names, of that kind.
func (w *words) set(word string, kind Kind) (*Set, error) {
	name, ok := strings.CutPrefix(word, "@")
	if !ok {
		return nil, nil
	}
	s := w.table.Sets[name]
	switch {
	case s == nil:
		return nil, fmt.Errorf("there is no set %s", name)
	case s.Kind != kind:
		return nil, fmt.Errorf("set %s holds %s, not %s", name, s.Kind, kind)
	}
	return s, nil
}

// interfaces reads a set of interfaces or the name of one.
func (w *words) interfaces() (map[string]bool, error) {
	word := w.next()
	s, err := w.set(word, Interfaces)
	if err != nil {
		return nil, err
	}
	if s != nil {
		return s.Interfaces, nil
	}
	name, ok := text(word)
	if !ok {
		return nil, fmt.Errorf("%q is no interface", word)
	}
	return map[string]bool{name: true}, nil
}

// prefixes reads a set of addresses, a list or one.
func (w *words) prefixes(v6 bool) ([]netip.Prefix, error) {
	kind := IPv4
	if v6 {
		kind = IPv6
	}
	if strings.HasPrefix(w.peek(0), "@") {
		s, err := w.set(w.next(), kind)
		if err != nil {
			return nil, err
		}
		return s.Prefixes, nil
	}
	all, err := w.braced()
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, x := range all {
		p, err := prefix(x, v6)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func prefix(word string, v6 bool) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(word)
	if err != nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(word); err != nil {
			return p, fmt.Errorf("%q is no prefix", word)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is6() != v6 || p != p.Masked() || p.Addr().Is4In6() {
		return p, fmt.Errorf("%q is no prefix of that family", word)
	}
	return p, nil
}

// number reads an unsigned number, decimal or 0x….
func number(word string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(word, 0, bits)
	if err != nil {
		return 0, fmt.Errorf("%q is no number of %d bits", word, bits)
	}
	return n, nil
}

// ranges reads ports.
func (w *words) ranges() ([]Range, error) {
	all, err := w.braced()
	if err != nil {
		return nil, err
	}
	var out []Range
	for _, x := range all {
		from, to, isRange := strings.Cut(x, "-")
		if !isRange {
			to = from
		}
		a, err1 := number(from, 16)
		b, err2 := number(to, 16)
		if err1 != nil || err2 != nil || a > b {
			return nil, fmt.Errorf("%q is no range of ports", x)
		}
		out = append(out, Range{uint16(a), uint16(b)})
	}
	return out, nil
}
