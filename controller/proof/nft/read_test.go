package nft

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// golden reads what package render writes for a ward or a hub.
func golden(tb testing.TB, box string) string {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "edge", "render", "testdata", box+".nft.golden"))
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func read(t *testing.T, text string) *Table {
	t.Helper()
	table, err := Read(text)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestReadsWhatIsRendered(t *testing.T) {
	for box, hooks := range map[string]map[Hook]int{
		"ward": {Prerouting: 3, Input: 1, Forward: 2, Output: 1, Postrouting: 1},
		"hub":  {Prerouting: 2, Input: 1, Forward: 2, Output: 1, Postrouting: 1},
	} {
		table := read(t, golden(t, box))
		if table.Family != "inet" || table.Name != "wardnet" || len(table.Sets) < 9 {
			t.Errorf("%s: table %s %s with %d sets", box, table.Family, table.Name, len(table.Sets))
		}
		lines := strings.Split(golden(t, box), "\n")
		rules := 0
		for _, c := range table.Chains {
			for _, r := range c.Rules {
				rules++
				if strings.TrimSpace(lines[r.Line-1]) != r.Text {
					t.Errorf("%s: line %d is not %q", box, r.Line, r.Text)
				}
			}
		}
		if rules < 60 {
			t.Errorf("%s: %d rules", box, rules)
		}
		for hook, want := range hooks {
			if got := len(table.Base(hook)); got != want {
				t.Errorf("%s: %d chains at %s, want %d", box, got, hook, want)
			}
		}
	}
}

// What is not understood is an error with its line, never a rule less.
func TestRefusesWhatItDoesNotKnow(t *testing.T) {
	frame := func(in string) string { return "table inet wardnet {\n" + in + "\n}\n" }
	chain := func(rule string) string {
		return frame("chain f {\ntype filter hook forward priority filter; policy drop;\n" + rule + "\n}")
	}
	for name, tt := range map[string]struct {
		text string
		line int
	}{
		"no table":              {"", 0},
		"a table that goes on":  {"table inet wardnet {\n", 1},
		"another family":        {"table ip wardnet {\n}\n", 1},
		"two tables":            {"table inet a {}\ntable inet b {\n}\n", 2},
		"a mask":                {chain("ip saddr & 255.0.255.0 == 10.0.1.0 accept"), 4},
		"an unknown match":      {chain("meta skuid 0 accept"), 4},
		"an unknown verdict":    {chain("queue num 0"), 4},
		"a flow table":          {chain("flow add @ft"), 4},
		"a verdict map":         {chain("iifname vmap { \"a\" : accept }"), 4},
		"a rule after accept":   {chain("accept counter"), 4},
		"a missing set":         {chain("ip saddr @nobody accept"), 4},
		"a set of another kind": {frame("set s {\ntype ipv6_addr\n}\nchain f {\nip saddr @s accept\n}"), 6},
		"a set that moves":      {frame("set s {\ntype ipv4_addr\nflags timeout\n}"), 4},
		"a missing chain":       {chain("jump nowhere"), 4},
		"a jump to a hook":      {chain("jump f"), 4},
		"a loop":                {frame("chain a {\njump b\n}\nchain b {\njump a\n}"), 2},
		"a host with bits":      {chain("ip saddr 10.0.0.1/8 accept"), 4},
		"IPv6 as IPv4":          {chain("ip saddr ::1 accept"), 4},
		"a port too high":       {chain("tcp dport 65536 accept"), 4},
		"ports backwards":       {chain("tcp dport 9-1 accept"), 4},
		"a limit turned over":   {chain("limit rate over 5/second accept"), 4},
		"a mark that decides":   {chain("meta mark and 0xff == 1 accept"), 4},
		"translation outside":   {chain("masquerade"), 4},
		"another hook":          {frame("chain f {\ntype filter hook ingress priority filter; policy drop;\n}"), 3},
		"a numeric priority":    {frame("chain f {\ntype filter hook input priority -5; policy drop;\n}"), 3},
		"a string without end":  {chain("iifname \"a accept"), 4},
		"a brace without end":   {chain("tcp dport { 80 accept"), 4},
		"something behind":      {frame("") + "add rule inet wardnet f accept\n", 4},
	} {
		_, err := Read(tt.text)
		var e *Error
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if e, _ = err.(*Error); e == nil || e.Line != tt.line {
			t.Errorf("%s: %v, want line %d", name, err, tt.line)
		}
	}
}

func TestTranslationKeepsTheHost(t *testing.T) {
	for _, tt := range [][4]string{
		{"192.168.1.0/24", "10.64.17.0/24", "192.168.1.77", "10.64.17.77"},
		{"192.168.0.0/21", "10.64.16.0/21", "192.168.5.9", "10.64.21.9"},
		{"192.168.0.0/30", "10.64.16.4/30", "192.168.0.3", "10.64.16.7"},
		{"192.168.1.0/24", "10.64.17.0/24", "192.168.2.77", ""},
	} {
		got, ok := Translation{netip.MustParsePrefix(tt[0]), netip.MustParsePrefix(tt[1])}.Apply(netip.MustParseAddr(tt[2]))
		if ok != (tt[3] != "") || ok && got != netip.MustParseAddr(tt[3]) {
			t.Errorf("%v: %s %v", tt, got, ok)
		}
	}
}

func FuzzRead(f *testing.F) {
	// Each chain of a ward in a table of its own: the engine is slow with long
	// inputs.
	sets := "table inet w {\nset s {\ntype ifname\nelements = { \"wan0\",\n\"lan.staff\" }\n}\nset t {\ntype ipv4_addr\nflags interval\nelements = { 10.64.0.0/10 }\n}\n"
	for part := range strings.SplitSeq(golden(f, "ward"), "\tchain ") {
		rules := strings.Split(part, "\n")
		f.Add(sets + "chain " + strings.Join(rules[:min(len(rules), 6)], "\n") + "\n}\n}\n")
	}
	f.Add("table inet w {\nset s {\ntype ifname . ipv4_addr\nelements = { \"a\" . 10.0.0.1 }\n}\nchain c {\njump d\n}\nchain d {\ngoto c\n}\n}\n")
	f.Fuzz(func(t *testing.T, text string) {
		table, err := Read(text)
		if err != nil {
			return
		}
		for _, hook := range []Hook{Prerouting, Input, Forward, Output, Postrouting} {
			table.At(hook, Packet{In: "lan.staff", Out: "wan0", Src: netip.MustParseAddr("10.64.16.5"), Dst: netip.MustParseAddr("10.64.10.53"), Proto: UDP, DPort: 53, State: New})
		}
	})
}
