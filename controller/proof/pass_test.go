package proof

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/controller/proof/nft"
)

// randomTable draws a small table with jumps, whose rules use every condition
// the proof has to judge.
func randomTable(t *rapid.T) *nft.Table {
	var b strings.Builder
	b.WriteString("table inet w {\n")
	of := func(all ...string) string { return rapid.SampledFrom(all).Draw(t, "word") }
	rule := func(below []string) {
		proto := of("tcp", "udp", "icmp", "")
		for range rapid.IntRange(0, 3).Draw(t, "conditions") {
			not := of("", "!= ")
			switch rapid.IntRange(0, 6).Draw(t, "condition") {
			case 0:
				b.WriteString(of("iifname ", "oifname ") + not + of(`"a" `, `"b" `))
			case 1:
				b.WriteString("ip " + of("saddr ", "daddr ") + not + of("10.0.0.0/31 ", "10.0.0.1 ", "{ 10.0.0.0, 10.0.0.3 } "))
			case 2, 3:
				switch proto {
				case "icmp":
					b.WriteString("icmp type " + of("echo-request ", "echo-reply "))
				case "":
				default:
					b.WriteString(proto + of(" sport ", " dport ") + of("1 ", "{ 0-65535 } ", "{ 2-3, 5 } "))
				}
			case 4:
				b.WriteString("ct state " + of("new ", "established ", "invalid ", "{ new, established } "))
			case 5:
				b.WriteString(of("ip ttl 64 ", "ip ttl 1 ", "limit rate 5/second ", "meta ipsec exists "))
			}
		}
		verdicts := []string{"accept", "drop", "return", "counter"}
		for _, c := range below {
			verdicts = append(verdicts, "jump "+c, "goto "+c)
		}
		b.WriteString(of(verdicts...) + "\n")
	}
	var below []string
	for _, name := range []string{"z", "y", "x"} {
		fmt.Fprintf(&b, "chain %s {\n", name)
		if name == "x" {
			fmt.Fprintf(&b, "type filter hook %s; policy %s;\n", of("prerouting priority raw", "forward priority filter"), of("accept", "drop"))
		}
		for range rapid.IntRange(0, 5).Draw(t, "rules") {
			rule(below)
		}
		b.WriteString("}\n")
		below = append(below, name)
	}
	b.WriteString("}\n")
	table, err := nft.Read(b.String())
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	return table
}

// conditions are the ports and types that a table's rules name.
func conditions(t *nft.Table) []nft.Match {
	var out []nft.Match
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			out = append(out, r.Matches...)
		}
	}
	return out
}

// What passes at most holds every packet that passes in a literal walk, and what
// passes at least holds none that does not, whatever the port of the other side,
// the time to live and, at a box that has not seen the flow, its state.
func TestBoundsHoldTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := randomTable(t)
		s, err := cut(false, conditions(table), nil)
		if err != nil {
			t.Fatal(err)
		}
		m := newMatcher(table, s, nil)
		hook := nft.Forward
		if len(table.Base(nft.Prerouting)) > 0 {
			hook = nft.Prerouting
		}
		at := place{
			in: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "in"), out: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "out"),
			src: netip.AddrFrom4([4]byte{10, 0, 0, rapid.ByteRange(0, 4).Draw(t, "src")}), dst: netip.AddrFrom4([4]byte{10, 0, 0, rapid.ByteRange(0, 4).Draw(t, "dst")}),
			stateful: rapid.Bool().Draw(t, "stateful"),
		}
		least, most := at, at
		least.bound, most.bound = atLeast, atMost
		lo, hi := m.pass(hook, least, s.full), m.pass(hook, most, s.full)
		for i, x := range s.all {
			in := func(b set) bool { var one set; one.add(i); return !b.and(one).empty() }
			ports := []uint16{0, 1, 2, 5, 6, 65535}
			if x.proto != nft.TCP && x.proto != nft.UDP || x.fragment {
				ports = []uint16{0}
			}
			states := []nft.State{x.packet(0).State}
			if x.back && !at.stateful {
				states = []nft.State{nft.New, nft.Established, nft.Invalid}
			}
			for _, other := range ports {
				for _, state := range states {
					for _, ttl := range []uint8{1, 64} {
						p := x.packet(other)
						p.In, p.Out, p.Src, p.Dst, p.State, p.TTL = at.in, at.out, at.src, at.dst, state, ttl
						passes := table.At(hook, p).Pass
						if passes && !in(hi) || !passes && in(lo) {
							t.Fatalf("%s, other port %d, %s, ttl %d: passes %v, at most %v, at least %v", x, other, state, ttl, passes, in(hi), in(lo))
						}
					}
				}
			}
		}
	})
}

// Atoms are all packets, each once.
func TestAtomsPartition(t *testing.T) {
	table, err := nft.Read("table inet w {\nchain x {\ntcp dport { 5, 7-9 } accept\nudp sport 0 accept\nicmp type echo-reply accept\ntcp dport { 60000-65535 } accept\n}\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	s, err := cut(false, conditions(table), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, proto := range []uint8{nft.TCP, nft.UDP} {
		for _, back := range []bool{false, true} {
			seen := map[int]int{}
			for _, x := range s.all {
				if x.proto == proto && x.back == back && !x.fragment {
					for n := int(x.ports.From); n <= int(x.ports.To); n++ {
						seen[n]++
					}
				}
			}
			for n := range 65536 {
				if seen[n] != 1 {
					t.Fatalf("protocol %d, back %v: port %d is in %d atoms", proto, back, n, seen[n])
				}
			}
		}
	}
}
