package nft

import (
	"fmt"
	"strings"
)

// icmpTypes and icmp6Types are the names of types (RFC 792, 1256, 4443, 4861,
// 3810) that rules use.
var (
	icmpTypes = map[string]uint8{
		"echo-reply": 0, "destination-unreachable": 3, "redirect": 5, "echo-request": 8, "router-advertisement": 9,
		"router-solicitation": 10, "time-exceeded": 11, "parameter-problem": 12,
	}
	icmp6Types = map[string]uint8{
		"destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4, "echo-request": 128, "echo-reply": 129,
		"mld-listener-query": 130, "mld-listener-report": 131, "mld-listener-done": 132, "nd-router-solicit": 133, "nd-router-advert": 134,
		"nd-neighbor-solicit": 135, "nd-neighbor-advert": 136, "nd-redirect": 137, "mld2-listener-report": 143,
	}
)

// mangle is a statement that changes marks and headers, never what passes.
type mangle struct{ MarkIs }

// readRule reads one rule.
func readRule(t *Table, all []string) (Rule, error) {
	w := &words{left: all, table: t}
	r := Rule{Verdict: Continue}
	for len(w.left) > 0 {
		if r.Verdict != Continue && w.peek(0) != "comment" {
			return r, fmt.Errorf("%q stands behind the verdict", w.peek(0))
		}
		m, err := w.condition()
		if err == nil && m == nil {
			err = w.statement(&r)
		}
		if err != nil {
			return r, err
		}
		if m != nil {
			r.Matches = append(r.Matches, m)
		}
	}
	return r, nil
}

// marks says whether the rule reads or writes what only chains at priority
// mangle may.
func (r *Rule) marks() bool {
	for _, m := range r.Matches {
		switch m.(type) {
		case MarkIs, SYN, mangle:
			return true
		}
	}
	return false
}

func (r *Rule) translates() bool {
	return r.Verdict == Masquerade || r.Verdict == DNAT || r.Verdict == SNAT
}

// condition reads one; nil: what comes is none.
func (w *words) condition() (Match, error) {
	switch {
	case w.take("iifname", ".", "ip", "saddr"):
		s, err := w.set(w.next(), Ends)
		if err == nil && s == nil {
			err = fmt.Errorf("a set must follow")
		}
		if err != nil {
			return nil, err
		}
		return Pair{s.Ends}, nil
	case w.peek(0) == "iifname" || w.peek(0) == "oifname":
		m := Interface{Out: w.next() == "oifname", Not: w.not()}
		var err error
		m.Names, err = w.interfaces()
		return m, err
	case (w.peek(0) == "ip" || w.peek(0) == "ip6") && (w.peek(1) == "saddr" || w.peek(1) == "daddr"):
		m := Address{V6: w.next() == "ip6", Dst: w.next() == "daddr", Not: w.not()}
		var err error
		m.Prefixes, err = w.prefixes(m.V6)
		return m, err
	case (w.peek(0) == "tcp" || w.peek(0) == "udp") && (w.peek(1) == "sport" || w.peek(1) == "dport"):
		m := Port{Proto: UDP}
		if w.next() == "tcp" {
			m.Proto = TCP
		}
		m.Dst = w.next() == "dport"
		var err error
		m.Ranges, err = w.ranges()
		return m, err
	case w.take("icmp", "type"):
		return w.types(false, icmpTypes)
	case w.take("icmpv6", "type"):
		return w.types(true, icmp6Types)
	case w.take("ct", "state"):
		return w.states()
	case w.take("ip", "ttl"):
		n, err := number(w.next(), 8)
		return TTLIs{Value: uint8(n)}, err
	case w.take("ip6", "hoplimit"):
		n, err := number(w.next(), 8)
		return TTLIs{V6: true, Value: uint8(n)}, err
	case w.take("limit", "rate"):
		if w.take("over") {
			return nil, fmt.Errorf("a limit that matches what is over it")
		}
		_ = w.next()
		return Rate{}, nil
	case w.take("meta", "ipsec", "exists"):
		return FromIPsec{}, nil
	case w.take("tcp", "flags", "syn"):
		return SYN{}, nil
	}
	return w.mark()
}

// mark reads a comparison of a mark.
func (w *words) mark() (Match, error) {
	if (w.peek(0) != "ct" && w.peek(0) != "meta") || w.peek(1) != "mark" || w.peek(2) != "and" {
		return nil, nil
	}
	mask, op, value := w.peek(3), w.peek(4), w.peek(5)
	_, err1 := number(mask, 32)
	_, err2 := number(value, 32)
	if err1 != nil || err2 != nil || op != "==" && op != "!=" {
		return nil, fmt.Errorf("a comparison of marks that is not understood")
	}
	w.left = w.left[6:]
	return MarkIs{}, nil
}

func (w *words) types(v6 bool, known map[string]uint8) (Match, error) {
	all, err := w.braced()
	if err != nil {
		return nil, err
	}
	m := ICMPType{V6: v6}
	for _, name := range all {
		n, ok := known[name]
		if !ok {
			return nil, fmt.Errorf("type %q is not known", name)
		}
		m.Types = append(m.Types, n)
	}
	return m, nil
}

// states reads "established,related", "{ new, invalid }" or one state. What is
// related to a flow, as an error about it is, counts as part of it.
func (w *words) states() (Match, error) {
	var all []string
	if w.peek(0) == "{" {
		var err error
		if all, err = w.braced(); err != nil {
			return nil, err
		}
	} else {
		all = append(all, w.next())
		for w.take(",") {
			all = append(all, w.next())
		}
	}
	var m StateIn
	for _, name := range all {
		switch name {
		case "new", "established", "invalid":
			m.States = append(m.States, State(name))
		case "related":
			m.States = append(m.States, Established)
		default:
			return nil, fmt.Errorf("state %q is not known", name)
		}
	}
	return m, nil
}

// statement reads what a rule does.
func (w *words) statement(r *Rule) error {
	switch word := w.next(); word {
	case "counter":
	case "accept", "drop", "return", "masquerade":
		r.Verdict = Verdict(word)
	case "jump", "goto":
		r.Verdict, r.To = Verdict(word), w.next()
		if r.To == "" {
			return fmt.Errorf("%s names no chain", word)
		}
	case "dnat", "snat":
		r.Verdict = Verdict(word)
		return w.translation(r, map[Verdict]string{DNAT: "daddr", SNAT: "saddr"}[r.Verdict])
	case "comment":
		var ok bool
		if r.Comment, ok = text(w.next()); !ok {
			return fmt.Errorf("a comment is no string")
		}
	case "meta", "ct":
		if !w.take("mark", "set") {
			return fmt.Errorf("%q is not understood", word+" "+w.peek(0))
		}
		if w.take("ct", "mark", "and") || w.take("meta", "mark", "and") {
			_, err := number(w.next(), 32)
			r.Matches = append(r.Matches, mangle{})
			return err
		}
		_, err := number(w.next(), 32)
		r.Matches = append(r.Matches, mangle{})
		return err
	case "ip", "ip6":
		if !w.take("dscp", "set") {
			return fmt.Errorf("%q is not understood", word+" "+w.peek(0))
		}
		_, err := number(w.next(), 6)
		r.Matches = append(r.Matches, mangle{})
		return err
	case "tcp":
		if !w.take("option", "maxseg", "size", "set", "rt", "mtu") {
			return fmt.Errorf("%q is not understood", "tcp "+w.peek(0))
		}
		r.Matches = append(r.Matches, mangle{})
	default:
		return fmt.Errorf("%q is not understood", word)
	}
	return nil
}

// translation reads "ip prefix to ip daddr map { a : b, … }".
func (w *words) translation(r *Rule, side string) error {
	if !w.take("ip", "prefix", "to", "ip", side, "map") {
		return fmt.Errorf("%s is understood as a map of prefixes by ip %s only", r.Verdict, side)
	}
	all, err := w.braced()
	if err != nil {
		return err
	}
	for len(all) > 0 {
		if len(all) < 3 || all[1] != ":" {
			return fmt.Errorf("%q is no map of prefixes", strings.Join(all, " "))
		}
		from, err1 := prefix(all[0], false)
		to, err2 := prefix(all[2], false)
		if err1 != nil || err2 != nil || from.Bits() != to.Bits() {
			return fmt.Errorf("%s and %s are no prefixes of one length", all[0], all[2])
		}
		r.Map = append(r.Map, Translation{from, to})
		all = all[3:]
	}
	return nil
}
