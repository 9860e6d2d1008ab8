package openconfig

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/gnmibox"
)

// configs draws configs of every shape that the models can hold, over few
// values, so that two of them overlap.
func configs() *rapid.Generator[edge.Config] {
	return rapid.Custom(func(t *rapid.T) edge.Config {
		c := edge.Config{Device: "e-1", Role: inventory.RoleEdge}
		if rapid.Bool().Draw(t, "loopback") {
			c.Loopback = netip.AddrFrom4([4]byte{172, 16, 0, byte(rapid.IntRange(1, 3).Draw(t, "loopback"))})
		}
		ports := rapid.Permutation([]string{"eth1", "eth2", "eth3", "eth3.7", "eth1.20", "", ""}).Draw(t, "ports")
		for i := range rapid.IntRange(0, 3).Draw(t, "circuits") {
			k := edge.Circuit{Name: string(rune('a' + i)), Kind: inventory.FTTH, MTU: rapid.IntRange(1280, 1600).Draw(t, "mtu"), Port: ports[i]}
			if rapid.Bool().Draw(t, "static") {
				k.Addressing = inventory.Static
				k.Address = netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, byte(i), byte(rapid.IntRange(1, 6).Draw(t, "host"))}), 29)
			}
			c.Circuits = append(c.Circuits, k)
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "segments") {
			s := edge.Segment{Kind: inventory.SegmentKinds[i], Port: ports[3+i]}
			s.V4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(16 + 2*i), 0}), rapid.IntRange(23, 28).Draw(t, "bits"))
			if rapid.Bool().Draw(t, "v6") {
				s.V6 = netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 7: byte(i)}), 64)
			}
			c.Segments = append(c.Segments, s)
		}
		if rapid.Bool().Draw(t, "bgp") {
			c.BGP = bgps(t)
		}
		c.Rules = rapid.SliceOfNDistinct(rules(), 0, 4, func(r edge.Rule) string { return ruleName(r) }).Draw(t, "rules")
		return c
	})
}

var prefixes = rapid.SampledFrom([]netip.Prefix{
	netip.MustParsePrefix("10.64.0.0/28"), netip.MustParsePrefix("10.64.16.0/23"), netip.MustParsePrefix("10.64.18.9/32"),
	netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("fd00::/64"), netip.MustParsePrefix("fd00:0:0:2::/63"),
})

func bgps(t *rapid.T) edge.BGP {
	b := edge.BGP{ASN: uint32(rapid.IntRange(4200000001, 4200000003).Draw(t, "asn")), RouterID: netip.AddrFrom4([4]byte{172, 16, 0, 1})}
	b.Networks = rapid.SliceOfNDistinct(prefixes, 0, 3, rapid.ID).Draw(t, "networks")
	if rapid.Bool().Draw(t, "filter") {
		b.Accept = rapid.SliceOfNDistinct(prefixes, 1, 3, rapid.ID).Draw(t, "accept")
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "neighbours") {
		n := edge.Neighbour{Tunnel: string(rune('a'+i)) + "--hub", ASN: 4200000009, Preference: rapid.IntRange(0, 300).Draw(t, "preference")}
		n.Addr = netip.AddrFrom4([4]byte{203, 0, byte(i), 7})
		if rapid.Bool().Draw(t, "elsewhere") {
			n.Addr = netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(i + 1)})
		}
		if rapid.Bool().Draw(t, "bfd") {
			n.BFDMinMS, n.BFDMult = rapid.IntRange(50, 1000).Draw(t, "bfd"), rapid.IntRange(2, 10).Draw(t, "mult")
		}
		b.Neighbours = append(b.Neighbours, n)
	}
	return b
}

func rules() *rapid.Generator[edge.Rule] {
	return rapid.Custom(func(t *rapid.T) edge.Rule {
		return edge.Rule{
			Permit: rapid.SampledFrom([]inventory.PermitID{"p-a", "p-b", "p-c"}).Draw(t, "permit"),
			From:   rapid.SampledFrom(append([]inventory.SegmentKind{""}, inventory.SegmentKinds[:3]...)).Draw(t, "from"),
			Src:    rapid.SliceOfNDistinct(prefixes, 0, 3, rapid.ID).Draw(t, "src"),
			Dst:    rapid.SliceOfNDistinct(prefixes, 0, 3, rapid.ID).Draw(t, "dst"),
			Ports: rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) inventory.PortRange {
				p := inventory.PortRange{Proto: rapid.SampledFrom([]inventory.Proto{inventory.TCP, inventory.UDP, inventory.ICMP}).Draw(t, "proto")}
				if p.Proto != inventory.ICMP {
					p.From = rapid.Uint16Range(1, 65000).Draw(t, "port")
					p.To = p.From + uint16(rapid.IntRange(0, 2).Draw(t, "more"))
				}
				return p
			}), 0, 3, rapid.ID).Draw(t, "ports"),
		}
	})
}

// What is written is accepted by the models and read back the same, whatever
// was there before, and what is not ours stays as it was.
func TestWriteReadsBack(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]gnmibox.Habits{
		"subtrees": {Names: "modules", Commit: true}, "leaves": {Form: "leaves", NoGet: true, Encoding: "JSON", Names: "bare"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := open(t, h)
			have := edge.Config{Device: "e-1"}
			rapid.Check(t, func(t *rapid.T) {
				want := configs().Draw(t, "want")
				// Two networks of one prefix and the like are no config's; the
				// rest of what a strict device refuses is an error here.
				got, err := r.box.Read(t.Context(), have)
				if err != nil {
					t.Fatal(err)
				}
				if err := r.box.Write(t.Context(), got, want); err != nil {
					t.Fatal(err)
				}
				have = want
				got, err = r.box.Read(t.Context(), want)
				if err != nil {
					t.Fatal(err)
				}
				if change := edge.Diff(got, want); !change.Empty() {
					t.Fatalf("read back:\n%s", change)
				}
				for _, foreign := range []string{`"out-of-band"`, `"lab bench, do not touch"`, `"198.51.100.1"`, `"mgmt-only"`, `"bogons"`, `"keep-out"`, `"192.0.2.128/25"`} {
					if !strings.Contains(r.Text(), foreign) {
						t.Fatalf("%s is gone", foreign)
					}
				}
			})
		})
	}
}

// What a device holds of a config that is not known any more is still seen,
// and can be taken away.
func TestReadKnowingNothing(t *testing.T) {
	t.Parallel()
	r := open(t, zoo["by the book"])
	before := pruned(t, r.Text())
	c, none := full(), edge.Config{Device: "e-1"}
	c.Circuits[0].Port, c.Segments[0].Port, c.Segments[1].Port = "eth3", "eth1.20", "eth1" // eth2 has another's description
	r.write(t, none, c)
	got, err := r.box.Read(t.Context(), none)
	must(t, err)
	if got.Loopback != c.Loopback || got.BGP.ASN != c.BGP.ASN || len(got.BGP.Neighbours) != 2 || got.Circuits[0].Address != c.Circuits[0].Address {
		t.Errorf("read %+v", got)
	}
	slices.SortFunc(got.Rules, func(a, b edge.Rule) int { return strings.Compare(string(a.Permit), string(b.Permit)) })
	rulesOnly := func(r []edge.Rule) edge.Config { return edge.Config{Rules: r} }
	got.Rules = slices.DeleteFunc(got.Rules, func(r edge.Rule) bool { return strings.HasPrefix(string(r.Permit), "drift:") })
	for _, want := range c.Rules {
		i := slices.IndexFunc(got.Rules, func(r edge.Rule) bool { return ruleName(r) == ruleName(want) })
		if i < 0 {
			t.Fatalf("rule %s was not read", ruleName(want))
		}
		if change := edge.Diff(rulesOnly(got.Rules[i:i+1]), rulesOnly([]edge.Rule{want})); !change.Empty() {
			t.Errorf("%s", change)
		}
	}
	must(t, r.box.Write(t.Context(), got, none))
	if after := pruned(t, r.Text()); after != strings.Replace(before, `"mtu": 9000,`, "", 1) && after != before {
		t.Errorf("left behind:\n%s", after)
	}
}

func TestWhatCannotBeSaid(t *testing.T) {
	q := Quirks{}
	for what, edit := range map[string]func(*edge.Config){
		"lets segment public out to the Internet": func(c *edge.Config) {
			c.Rules = append(c.Rules, edge.Rule{Permit: "p-net", From: inventory.Public, Internet: true})
		},
		"both need":              func(c *edge.Config) { c.Segments[1].Port = c.Circuits[0].Port },
		"no AS number":           func(c *edge.Config) { c.BGP.ASN = 0 },
		"--hub-1 has no address": func(c *edge.Config) { c.BGP.Neighbours[0].Addr = netip.Addr{} },
	} {
		c := full()
		edit(&c)
		if _, err := Render(c, q); !errors.Is(err, edge.ErrRejected) || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want a rejection that says %q", err, what)
		}
	}
	if got := Left(full(), q); len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), "segment staff: DHCP, DNS and NTP") {
		t.Errorf("left: %q", got)
	}
}

// The access list of a segment, as a person would read it.
func TestAccessList(t *testing.T) {
	w := render(full(), Quirks{})
	var got []string
	for _, name := range []string{"wardnet-in-staff-4", "wardnet-out-4"} {
		set := w.items[aclSetPath(name, "ACL_IPV4").String()].value.(*aclSet)
		for _, e := range set.Entries.List {
			s, d, p := e.flow()
			back := ""
			if e.Transport != nil && e.Transport.Config.Source != "" {
				back = " from port " + string(e.Transport.Config.Source)
			}
			got = append(got, strings.Join([]string{name, bare(string(e.Actions.Config.Forwarding)), s.String(), d.String(), string(p.Proto) + back, strings.TrimPrefix(e.Config.Description, mark)}, " "))
		}
	}
	want := []string{
		"wardnet-in-staff-4 ACCEPT 10.64.16.0/23 10.64.0.0/28 tcp permit p-mail/staff",
		"wardnet-in-staff-4 ACCEPT 10.64.16.0/23 10.64.0.0/28 udp permit p-mail/staff",
		"wardnet-in-staff-4 ACCEPT 10.64.16.0/20 10.64.0.0/10 icmp reply p-ping/tunnels",
		"wardnet-in-staff-4 ACCEPT 10.64.16.9/32 10.64.18.0/23 tcp from port 9100 reply p-print/public",
		"wardnet-in-staff-4 DROP 0.0.0.0/0 0.0.0.0/0  rest",
		"wardnet-out-4 ACCEPT 10.64.0.0/10 10.64.16.0/20 icmp permit p-ping/tunnels",
		"wardnet-out-4 ACCEPT 10.64.0.0/28 10.64.16.0/23 tcp from port 993 reply p-mail/staff",
		"wardnet-out-4 ACCEPT 10.64.0.0/28 10.64.16.0/23 udp from port 4000..4010 reply p-mail/staff",
		"wardnet-out-4 ACCEPT 10.64.16.9/32 10.64.18.0/23 tcp from port 9100 reply p-print/public",
		"wardnet-out-4 ACCEPT 10.64.18.0/23 10.64.16.9/32 tcp also p-print/public",
		"wardnet-out-4 DROP 0.0.0.0/0 0.0.0.0/0  rest",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
