package nft

import (
	"fmt"
	"net/netip"
	"strings"
)

// maxText bounds what is read, bytes; a hub of 3,321 sites writes about 4 MB.
const maxText = 64 << 20

// Read reads the text of one table. The error is an [*Error] that names the
// first line that is not understood.
func Read(src string) (*Table, error) {
	if len(src) > maxText {
		return nil, &Error{Why: fmt.Sprintf("the text has %d bytes; at most %d are read", len(src), maxText)}
	}
	r := reader{table: &Table{Sets: map[string]*Set{}, chains: map[string]*Chain{}}}
	var words []string
	for line := range strings.Lines(src) {
		r.line++
		r.text = strings.TrimSpace(line)
		if r.text == "" {
			continue
		}
		if !r.list { // what is kept of a line keeps that line, and not the whole text
			r.text = strings.Clone(r.text)
		}
		var err error
		if words, err = split(r.text, words[:0]); err == nil {
			err = r.take(words)
		}
		if err != nil {
			return nil, &Error{Line: r.line, Text: r.text, Why: err.Error()}
		}
	}
	if err := r.finish(); err != nil {
		return nil, err
	}
	return r.table, nil
}

// reader is where in the text it stands.
type reader struct {
	table *Table
	line  int
	text  string
	in    bool // the table
	done  bool
	set   *Set
	list  bool // the elements of set
	chain *Chain
}

func (r *reader) take(all []string) error {
	switch {
	case r.list:
		return r.elements(all)
	case r.set != nil:
		return r.inSet(all)
	case r.chain != nil:
		return r.inChain(all)
	case r.in:
		return r.inTable(all)
	}
	return r.outside(all)
}

// outside reads the frame: make the table, so that deleting it cannot fail,
// delete it, make it anew.
func (r *reader) outside(all []string) error {
	remove := len(all) == 4 && all[0] == "delete"
	if remove {
		all = all[1:]
	}
	if r.done || len(all) < 3 || all[0] != "table" {
		return fmt.Errorf("unknown word outside of the table")
	}
	if r.table.Name != "" && (all[1] != r.table.Family || all[2] != r.table.Name) {
		return fmt.Errorf("another table than %s %s", r.table.Family, r.table.Name)
	}
	if all[1] != "inet" {
		return fmt.Errorf("family %s", all[1])
	}
	r.table.Family, r.table.Name = all[1], all[2]
	switch rest := strings.Join(all[3:], " "); {
	case remove, rest == "{ }":
	case rest == "{":
		r.in = true
	default:
		return fmt.Errorf("unknown command")
	}
	return nil
}

func (r *reader) inTable(all []string) error {
	switch {
	case len(all) == 1 && all[0] == "}":
		r.in, r.done = false, true
	case len(all) == 3 && all[0] == "set" && all[2] == "{":
		if r.table.Sets[all[1]] != nil {
			return fmt.Errorf("set %s stands here twice", all[1])
		}
		r.set = &Set{Name: all[1], Line: r.line, Interfaces: map[string]bool{}, Ends: map[End]bool{}}
		r.table.Sets[all[1]] = r.set
	case len(all) == 3 && all[0] == "chain" && all[2] == "{":
		if r.table.chains[all[1]] != nil {
			return fmt.Errorf("chain %s stands here twice", all[1])
		}
		r.chain = &Chain{Name: all[1], Line: r.line}
		r.table.chains[all[1]] = r.chain
		r.table.Chains = append(r.table.Chains, r.chain)
	default:
		return fmt.Errorf("unknown word in a table")
	}
	return nil
}

func (r *reader) inSet(all []string) error {
	switch {
	case len(all) == 1 && all[0] == "}":
		if r.set.Kind == "" {
			return fmt.Errorf("set %s has no type", r.set.Name)
		}
		r.set = nil
	case all[0] == "type":
		switch kind := Kind(strings.Join(all[1:], " ")); kind {
		case Interfaces, IPv4, IPv6, Ends:
			r.set.Kind = kind
		default:
			return fmt.Errorf("sets of %s are not known", kind)
		}
	case len(all) == 2 && all[0] == "flags" && all[1] == "interval":
	case len(all) > 3 && all[0] == "elements" && all[1] == "=" && all[2] == "{":
		r.list = true
		return r.elements(all[3:])
	default:
		return fmt.Errorf("unknown word in a set")
	}
	return nil
}

func (r *reader) elements(all []string) error {
	for len(all) > 0 {
		switch {
		case all[0] == "}":
			r.list = false
			if len(all) > 1 {
				return fmt.Errorf("something stands behind the elements")
			}
			return nil
		case all[0] == ",":
			all = all[1:]
			continue
		}
		n, err := r.element(all)
		if err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// element reads one element and says of how many words it was.
func (r *reader) element(all []string) (int, error) {
	switch r.set.Kind {
	case Interfaces:
		name, ok := text(all[0])
		if !ok {
			return 0, fmt.Errorf("%q is no interface", all[0])
		}
		r.set.Interfaces[name] = true
		return 1, nil
	case IPv4, IPv6:
		p, err := prefix(all[0], r.set.Kind == IPv6)
		r.set.Prefixes = append(r.set.Prefixes, p)
		return 1, err
	case Ends:
		if len(all) < 3 || all[1] != "." {
			return 0, fmt.Errorf("%q is no interface with an address", all[0])
		}
		name, ok := text(all[0])
		a, err := netip.ParseAddr(all[2])
		if !ok || err != nil || !a.Is4() {
			return 0, fmt.Errorf("%q . %q is no interface with an IPv4 address", all[0], all[2])
		}
		r.set.Ends[End{name, a}] = true
		return 3, nil
	}
	return 0, fmt.Errorf("elements stand before the type")
}

func (r *reader) inChain(all []string) error {
	switch {
	case len(all) == 1 && all[0] == "}":
		r.chain = nil
		return nil
	case all[0] == "type":
		return r.head(strings.Join(all, " "))
	}
	rule, err := readRule(r.table, all)
	if err != nil {
		return err
	}
	rule.Line, rule.Text = r.line, r.text
	r.chain.Rules = append(r.chain.Rules, rule)
	return nil
}

// head reads "type filter hook forward priority filter ; policy drop ;".
func (r *reader) head(s string) error {
	c := r.chain
	if c.Hook != "" || len(c.Rules) > 0 {
		return fmt.Errorf("the hook must come first, and once")
	}
	var hook, priority, policy string
	if _, err := fmt.Sscanf(s, "type %s hook %s priority %s ; policy %s ;", &c.Type, &hook, &priority, &policy); err != nil {
		return fmt.Errorf("the chain's hook is not understood")
	}
	c.Hook = Hook(hook)
	level, known := priorities[priority]
	c.Priority, c.Drop = level, policy == "drop"
	switch c.Hook {
	case Prerouting, Input, Forward, Output, Postrouting:
	default:
		return fmt.Errorf("hook %s is not known", hook)
	}
	if !known || policy != "drop" && policy != "accept" || c.Type != "filter" && c.Type != "nat" {
		return fmt.Errorf("the chain's type, priority or policy is not known")
	}
	return nil
}

// finish checks what can be seen at the end only.
func (r *reader) finish() error {
	t := r.table
	if !r.done {
		return &Error{Line: r.line, Text: r.text, Why: "the table does not end"}
	}
	for _, c := range t.Chains {
		for _, rule := range c.Rules {
			why := ""
			to := t.chains[rule.To]
			switch {
			case rule.To != "" && to == nil:
				why = "there is no chain " + rule.To
			case to != nil && to.Hook != "":
				why = "a jump to a chain with a hook"
			case rule.marks() && (c.Hook == "" || c.Priority != priorities["mangle"]):
				why = "marks and options are understood in chains at priority mangle only"
			case rule.translates() && (c.Type != "nat" || c.Drop):
				why = "translation is understood in chains of type nat that accept"
			case c.Type == "nat" && !rule.translates():
				why = "a chain of type nat may translate only"
			}
			if why != "" {
				return &Error{Line: rule.Line, Text: rule.Text, Why: why}
			}
		}
	}
	seen := map[string]int{}
	for _, c := range t.Chains {
		if t.loops(c, seen) {
			return &Error{Line: c.Line, Text: "chain " + c.Name, Why: "it jumps to itself"}
		}
	}
	return nil
}

// loops says whether c leads to a chain that it came from. seen is 1 for a chain
// that is being looked at and 2 for one that was.
func (t *Table) loops(c *Chain, seen map[string]int) bool {
	if seen[c.Name] > 0 {
		return seen[c.Name] == 1
	}
	seen[c.Name] = 1
	for _, rule := range c.Rules {
		if rule.To != "" && t.loops(t.chains[rule.To], seen) {
			return true
		}
	}
	seen[c.Name] = 2
	return false
}
