package frr

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// reader is where in the text it is.
type reader struct {
	*Router
	line   int
	text   string
	words  []string
	in     []string // blocks that are open
	family int      // of the open address family
	entry  *MapEntry
	name   string // of the open route map
	listed string // of the prefix list that the last entry was of
	names  map[string]string
	faults []error
}

// Read reads a configuration. The error lists every line that it does not
// understand, and every list and map that is named and is not there.
func Read(text string) (*Router, error) {
	r := &reader{names: map[string]string{}, Router: &Router{lists: map[listKey][]ListEntry{}, maps: map[string][]MapEntry{}}}
	for line := range strings.Lines(text) {
		r.line++
		r.text = strings.TrimRight(line, "\r\n")
		r.words = slices.AppendSeq(r.words[:0], strings.FieldsSeq(r.text))
		if len(r.words) == 0 || r.words[0] == "!" {
			continue
		}
		if err := r.take(); err != nil {
			r.fault(err.Error())
		}
	}
	if len(r.in) > 0 {
		r.fault("the text ends inside of " + r.in[len(r.in)-1])
	}
	for name, all := range r.maps {
		slices.SortFunc(all, func(a, b MapEntry) int { return cmp.Compare(a.Seq, b.Seq) })
		r.maps[name] = all
	}
	r.named()
	return r.Router, errors.Join(r.faults...)
}

// own is a name that does not hold the text it was read from; the same for equal
// ones.
func (r *reader) own(name string) string {
	kept, ok := r.names[name]
	if !ok {
		kept = strings.Clone(name)
		r.names[kept] = kept
	}
	return kept
}

func (r *reader) fault(why string) {
	r.faults = append(r.faults, &Error{r.line, strings.TrimSpace(r.text), why})
}

var errUnknown = errors.New("not understood")

// named checks that every list and map that is named exists: FRR takes one that
// is missing to permit all, or nothing, by where it is.
func (r *reader) named() {
	missing := func(line int, what string) {
		r.faults = append(r.faults, &Error{line, what, "named and not there"})
	}
	for _, n := range r.Neighbours {
		for f, x := range n.Families {
			if !x.Active {
				continue
			}
			if x.List == "" || x.In == "" || x.Out == "" {
				r.faults = append(r.faults, &Error{n.Line, n.Addr.String(), "an active session without a prefix list or a route map"})
				continue
			}
			if _, ok := r.lists[listKey{f == 1, x.List}]; !ok {
				missing(x.Line, "prefix-list "+x.List)
			}
			for _, m := range []string{x.In, x.Out} {
				if _, ok := r.maps[m]; !ok {
					missing(x.Line, "route-map "+m)
				}
			}
		}
	}
	for _, all := range r.maps {
		for _, e := range all {
			if _, ok := r.lists[listKey{e.V6, e.List}]; e.List != "" && !ok {
				missing(e.Line, "prefix-list "+e.List)
			}
		}
	}
}

// block is the innermost that is open.
func (r *reader) block() string {
	if len(r.in) == 0 {
		return ""
	}
	return r.in[len(r.in)-1]
}

func (r *reader) open(block string) error {
	r.in = append(r.in, block)
	return nil
}

func (r *reader) close(blocks ...string) error {
	if !slices.Contains(blocks, r.block()) {
		return errUnknown
	}
	if r.block() == "route-map" {
		r.maps[r.name] = append(r.maps[r.name], *r.entry)
	}
	r.in = r.in[:len(r.in)-1]
	return nil
}

// is says whether the line begins with the words of a phrase, and has n more; a
// negative n: any number.
func (r *reader) is(phrase string, n int) bool {
	head := 0
	for word := range strings.SplitSeq(phrase, " ") {
		if head == len(r.words) || r.words[head] != word {
			return false
		}
		head++
	}
	return n < 0 || len(r.words) == head+n
}

func (r *reader) last() string { return r.words[len(r.words)-1] }

func (r *reader) take() error {
	switch r.block() {
	case "":
		return r.top()
	case "router":
		return r.router()
	case "family":
		return r.inFamily()
	case "route-map":
		return r.inMap()
	case "bfd", "bfd part":
		return r.bfd()
	}
	return errUnknown
}

func (r *reader) top() error {
	switch {
	case r.is("bgp route-map delay-timer", 1):
		return nil
	case r.is("router bgp", 1):
		n, err := strconv.ParseUint(r.last(), 10, 32)
		if err != nil || r.ASN != 0 {
			return errors.New("no AS number, or a second router")
		}
		r.ASN = uint32(n)
		return r.open("router")
	case r.is("ip prefix-list", -1), r.is("ipv6 prefix-list", -1):
		return r.list()
	case r.is("route-map", 3):
		seq, err := strconv.Atoi(r.words[3])
		if err != nil || r.words[2] != "permit" && r.words[2] != "deny" {
			return errUnknown
		}
		r.name, r.entry = r.own(r.words[1]), &MapEntry{Seq: seq, Line: r.line, Text: fmt.Sprintf("route-map %s seq %d", r.words[1], seq), Permit: r.words[2] == "permit"}
		return r.open("route-map")
	case r.is("bfd", 0):
		return r.open("bfd")
	}
	return errUnknown
}

func (r *reader) router() error {
	switch {
	case r.is("exit", 0):
		return r.close("router")
	case r.is("bgp router-id", 1):
		var err error
		r.ID, err = netip.ParseAddr(r.last())
		return err
	case r.is("bgp log-neighbor-changes", 0), r.is("no bgp default ipv4-unicast", 0), r.is("no bgp network import-check", 0),
		r.is("coalesce-time", 1), r.is("timers bgp", 2):
		return nil
	case r.is("neighbor", -1):
		return r.neighbour()
	case r.is("address-family ipv4 unicast", 0):
		r.family = 0
		return r.open("family")
	case r.is("address-family ipv6 unicast", 0):
		r.family = 1
		return r.open("family")
	}
	return errUnknown
}

// session finds the neighbour that a line is about.
func (r *reader) session() (*Neighbour, error) {
	if len(r.words) < 3 {
		return nil, errUnknown
	}
	addr, err := netip.ParseAddr(r.words[1])
	if err != nil {
		return nil, err
	}
	// The lines of a session come together; sessions come in order.
	if n := len(r.Neighbours); n > 0 && r.Neighbours[n-1].Addr == addr {
		return r.Neighbours[n-1], nil
	}
	at, ok := slices.BinarySearchFunc(r.Neighbours, addr, func(n *Neighbour, a netip.Addr) int { return n.Addr.Compare(a) })
	if ok {
		return r.Neighbours[at], nil
	}
	if r.words[2] != "remote-as" || r.block() != "router" {
		return nil, errors.New("a neighbour without an AS number before")
	}
	x := &Neighbour{Addr: addr, Line: r.line}
	r.Neighbours = slices.Insert(r.Neighbours, at, x)
	return x, nil
}

func (r *reader) neighbour() error {
	n, err := r.session()
	if err != nil {
		return err
	}
	switch what := r.words[2:]; {
	case what[0] == "remote-as" && len(what) == 2:
		asn, err := strconv.ParseUint(what[1], 10, 32)
		n.ASN = uint32(asn)
		return err
	case what[0] == "description":
		n.Description = r.own(strings.Join(what[1:], " "))
	case what[0] == "bfd" && len(what) == 1, what[0] == "bfd" && len(what) == 3 && what[1] == "profile":
		n.BFD = true
	case what[0] == "passive" && len(what) == 1, what[0] == "timers" && len(what) == 3 && what[1] == "connect":
	default:
		return errUnknown
	}
	return nil
}

func (r *reader) inFamily() error {
	switch {
	case r.is("exit-address-family", 0):
		return r.close("family")
	case r.is("network", 1):
		p, err := netip.ParsePrefix(r.last())
		if err != nil || family(p) != r.family {
			return errUnknown
		}
		r.Networks = append(r.Networks, Network{p, r.line})
		return nil
	case !r.is("neighbor", -1):
		return errUnknown
	}
	n, err := r.session()
	if err != nil {
		return err
	}
	f := &n.Families[r.family]
	switch what := r.words[2:]; {
	case what[0] == "activate" && len(what) == 1:
		f.Active = true
	case what[0] == "prefix-list" && len(what) == 3 && what[2] == "in":
		f.List, f.Line = r.own(what[1]), r.line
	case what[0] == "route-map" && len(what) == 3 && what[2] == "in":
		f.In = r.own(what[1])
	case what[0] == "route-map" && len(what) == 3 && what[2] == "out":
		f.Out = r.own(what[1])
	default:
		return errUnknown
	}
	return nil
}

// list reads an entry of a prefix list. They come in the order of their numbers.
func (r *reader) list() error {
	v6 := r.words[0] == "ipv6"
	// ip prefix-list NAME seq N permit|deny PREFIX|any [le N]
	w := r.words
	if len(w) != 7 && len(w) != 9 || w[3] != "seq" || w[5] != "permit" && w[5] != "deny" {
		return errUnknown
	}
	e := ListEntry{Line: r.line, Text: strings.Clone(r.text), Permit: w[5] == "permit"}
	if w[6] == "any" {
		e.Any = true
	} else {
		p, err := netip.ParsePrefix(w[6])
		if err != nil || p.Addr().Is6() != v6 {
			return errUnknown
		}
		e.Prefix, e.Longest = p.Masked(), p.Bits()
	}
	if len(w) == 9 {
		n, err := strconv.Atoi(w[8])
		if err != nil || w[7] != "le" || n < e.Longest || e.Any {
			return errUnknown
		}
		e.Longest = n
	}
	if r.listed != w[2] {
		r.listed = r.own(w[2])
	}
	key := listKey{v6, r.listed}
	r.lists[key] = append(r.lists[key], e)
	return nil
}

func (r *reader) inMap() error {
	number := func(to *int) error {
		n, err := strconv.Atoi(r.last())
		*to = n
		return err
	}
	switch e := r.entry; {
	case r.is("exit", 0):
		return r.close("route-map")
	case r.is("match ip address prefix-list", 1), r.is("match ipv6 address prefix-list", 1):
		if e.List != "" {
			return errors.New("a second list")
		}
		e.List, e.V6 = r.own(r.last()), r.words[1] == "ipv6"
		return nil
	case r.is("match local-preference", 1):
		return number(&e.Preference)
	case r.is("set local-preference", 1):
		return number(&e.SetPref)
	case r.is("set as-path prepend", -1):
		e.Prepends = true
		return nil
	case r.is("set metric", 1), r.is("set ipv6 next-hop global", 1), r.is("set ipv6 next-hop prefer-global", 0):
		return nil
	}
	return errUnknown
}

// bfd reads over the sessions' timing: whether a session has BFD at all is what
// counts.
func (r *reader) bfd() error {
	switch {
	case r.is("exit", 0):
		return r.close("bfd", "bfd part")
	case r.block() == "bfd" && (r.is("profile", 1) || r.is("peer", -1)):
		return r.open("bfd part")
	case r.block() == "bfd part" && (r.is("profile", 1) || r.is("detect-multiplier", 1) || r.is("transmit-interval", 1) || r.is("receive-interval", 1)):
		return nil
	}
	return errUnknown
}
