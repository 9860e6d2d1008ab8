// Package nft reads the text of a box's packet filter, as `nft -f` takes it,
// into a model that can be reasoned about. It knows just what package render
// writes: a word it does not know is an error and never "allow", so that a proof
// over the model says something about the kernel.
//
// Semantics follow nft(8): base chains of a hook run in the order of their
// priority; accept ends a base chain and drop ends everything; goto does not
// come back, jump does.
package nft

import (
	"fmt"
	"net/netip"
)

// Table is one table.
type Table struct {
	Family, Name string
	Sets         map[string]*Set
	Chains       []*Chain // in the order of the text
	chains       map[string]*Chain
}

// Chain returns the chain called name; nil: there is none.
func (t *Table) Chain(name string) *Chain { return t.chains[name] }

// Kind is what the elements of a set are.
type Kind string

// Kinds of sets.
const (
	Interfaces Kind = "ifname"
	IPv4       Kind = "ipv4_addr"
	IPv6       Kind = "ipv6_addr"
	Ends       Kind = "ifname . ipv4_addr"
)

// Set is a named set. One with a timeout, or one that rules fill, stands for
// all it may ever hold; this reader refuses both.
type Set struct {
	Name       string
	Kind       Kind
	Line       int
	Interfaces map[string]bool
	Prefixes   []netip.Prefix
	Ends       map[End]bool
}

// End is an interface with an address behind it.
type End struct {
	Interface string
	Addr      netip.Addr
}

// Hook is where in the kernel a base chain is asked.
type Hook string

// Hooks of family inet.
const (
	Prerouting  Hook = "prerouting"
	Input       Hook = "input"
	Forward     Hook = "forward"
	Output      Hook = "output"
	Postrouting Hook = "postrouting"
)

// Priorities by name (nft(8), "Standard priority names").
var priorities = map[string]int{"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "srcnat": 100}

// Chain is a chain; one without a hook is only jumped to.
type Chain struct {
	Name     string
	Line     int
	Type     string // "filter" or "nat"; empty without a hook
	Hook     Hook
	Priority int
	Drop     bool // policy
	Rules    []Rule
}

// Verdict is what a rule decides.
type Verdict string

// Verdicts. Continue is that of a rule that only counts or marks.
const (
	Continue   Verdict = "continue"
	Accept     Verdict = "accept"
	Drop       Verdict = "drop"
	Return     Verdict = "return"
	Jump       Verdict = "jump"
	Goto       Verdict = "goto"
	Masquerade Verdict = "masquerade"
	DNAT       Verdict = "dnat"
	SNAT       Verdict = "snat"
)

// Rule is one rule.
type Rule struct {
	Line    int    // in the text, from 1
	Text    string // without indentation
	Matches []Match
	Verdict Verdict
	To      string        // chain of Jump and Goto
	Map     []Translation // of DNAT and SNAT
	Comment string
}

// Translation maps a prefix onto another of the same length, address by address.
type Translation struct{ From, To netip.Prefix }

// Apply translates a; false: a is not in From.
func (t Translation) Apply(a netip.Addr) (netip.Addr, bool) {
	if !t.From.Contains(a) {
		return a, false
	}
	b, host := t.To.Masked().Addr().AsSlice(), a.AsSlice()
	for i := range b {
		covered := min(max(t.From.Bits()-8*i, 0), 8) // bits of this byte that name the prefix
		mask := byte(0xff >> covered)
		b[i] |= host[i] & mask
	}
	out, _ := netip.AddrFromSlice(b)
	return out, true
}

// Error is a text that this package does not understand.
type Error struct {
	Line int
	Text string // of the line
	Why  string
}

func (e *Error) Error() string {
	return fmt.Sprintf("packet filter, line %d: %s: %q", e.Line, e.Why, e.Text)
}

// Share puts what canon gives in the place of every list of prefixes: the same for
// equal ones, so that tables of one city hold them once.
func (t *Table) Share(canon func([]netip.Prefix) []netip.Prefix) {
	for _, s := range t.Sets {
		s.Prefixes = canon(s.Prefixes)
	}
	for _, c := range t.Chains {
		for i := range c.Rules {
			for k, m := range c.Rules[i].Matches {
				if a, ok := m.(Address); ok {
					a.Prefixes = canon(a.Prefixes)
					c.Rules[i].Matches[k] = a
				}
			}
		}
	}
}
