package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
)

// drawn is any Config whose parts a device can hold.
func drawn(t *rapid.T) edge.Config {
	c := ward()
	c.Tunnels, c.BGP = nil, edge.BGP{}
	c.Loopback = netip.Addr{}
	if rapid.Bool().Draw(t, "loopback") {
		c.Loopback = netip.AddrFrom4([4]byte{172, 16, 0, rapid.Byte().Draw(t, "host")})
	}
	if rapid.IntRange(0, 9).Draw(t, "speaks BGP") == 0 {
		return c
	}
	c.BGP.ASN = rapid.SampledFrom([]uint32{65001, 4200026740}).Draw(t, "asn")
	c.BGP.RouterID = netip.AddrFrom4([4]byte{172, 16, 0, rapid.ByteRange(1, 3).Draw(t, "id")})
	v4, v6 := prefixes("10.64.0.0/20", "10.64.16.0/20", "172.16.0.7/32", "0.0.0.0/0"), prefixes("fd5a:1::/48", "fd5a:2:3::/64")
	c.BGP.Networks = rapid.SliceOfNDistinct(rapid.SampledFrom(slices.Concat(v4, v6)), 0, 5, rapid.ID).Draw(t, "networks")
	c.BGP.Accept = rapid.SliceOfNDistinct(rapid.SampledFrom(prefixes("10.64.0.0/10", "10.128.0.0/9", "192.0.2.1/32", "fd5b::/16")), 0, 3, rapid.ID).Draw(t, "accept")
	addrs := []string{"172.17.0.1", "172.17.0.3", "172.17.0.5", "fd77::1", "fd77::3"}
	for i, addr := range rapid.SliceOfNDistinct(rapid.SampledFrom(addrs), 0, 5, rapid.ID).Draw(t, "neighbours") {
		name := fmt.Sprintf("c-%d--hub", i)
		c.BGP.Neighbours = append(c.BGP.Neighbours, edge.Neighbour{
			Tunnel: name, Addr: netip.MustParseAddr(addr), ASN: rapid.SampledFrom([]uint32{65002, 4200000001}).Draw(t, "remote"),
			Preference: rapid.SampledFrom([]int{0, 100, 1000}).Draw(t, "preference"),
			BFDMinMS:   rapid.SampledFrom([]int{300, 500}).Draw(t, "ms"), BFDMult: rapid.SampledFrom([]int{3, 4}).Draw(t, "mult"),
		})
		c.Tunnels = append(c.Tunnels, edge.Tunnel{
			Name:       name,
			AllowedIPs: rapid.SliceOfNDistinct(rapid.SampledFrom(prefixes("10.64.0.0/10", "172.16.0.0/13", "fd5a::/16", "0.0.0.0/0")), 0, 4, rapid.ID).Draw(t, "allowed"),
		})
	}
	return c
}

// TestRoundTrip: what is rendered is read as what it was rendered from, on each
// platform.
func TestRoundTrip(t *testing.T) {
	all, err := Platforms()
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range all {
		t.Run(info.Name, func(t *testing.T) {
			p := named(t, info.Name)
			rapid.Check(t, func(t *rapid.T) {
				c := drawn(t)
				tree, err := p.wanted(c, newVault(nil))
				if err != nil {
					t.Fatal(err)
				}
				again := p.ours(p.parseBlocks(tree.text()))
				if d := edge.Diff(c, p.read(again, c, newVault(nil))); !d.Empty() {
					t.Fatalf("read otherwise:\n%s\nfrom\n%s", d, tree.text())
				}
				if lines := p.delta(again, tree); len(lines) > 0 {
					t.Fatalf("something is left to do: %q", lines)
				}
			})
		})
	}
}

// TestEditsShow: a line more or less anywhere in ours shows as a difference, and
// what was read is written as it was read.
func TestEditsShow(t *testing.T) {
	all, err := Platforms()
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range all {
		t.Run(info.Name, func(t *testing.T) {
			p := named(t, info.Name)
			rapid.Check(t, func(t *rapid.T) {
				c := drawn(t)
				tree, err := p.wanted(c, newVault(nil))
				if err != nil {
					t.Fatal(err)
				}
				lines := strings.Split(strings.TrimRight(tree.text(), "\n"), "\n")
				if lines[0] == "" {
					t.Skip("nothing is held")
				}
				at := rapid.IntRange(0, len(lines)-1).Draw(t, "line")
				switch rapid.IntRange(0, 2).Draw(t, "edit") {
				case 0:
					lines = slices.Delete(lines, at, at+1)
				case 1:
					indent := strings.Repeat(" ", len(lines[at])-len(strings.TrimLeft(lines[at], " ")))
					lines = slices.Insert(lines, at+1, indent+" extra thing 7")
				case 2:
					lines[at] += " 77"
				}
				text := strings.Join(lines, "\n")
				got := p.ours(p.parseBlocks(text))
				more, less := differences(got, tree)
				v := newVault(nil)
				read := p.read(got, c, v)
				if edge.Diff(c, read).Empty() != (len(more)+len(less) == 0) {
					t.Fatalf("more %q, less %q, but the difference is\n%s", more, less, edge.Diff(c, read))
				}
				back, err := p.wanted(read, v)
				if err != nil {
					t.Fatal(err)
				}
				if more, less := differences(got, back); len(more)+len(less) > 0 {
					t.Fatalf("read and written: more %q, less %q of\n%s", more, less, got.text())
				}
			})
		})
	}
}

// TestOurs: nothing but our own lines is looked at.
func TestOurs(t *testing.T) {
	p := named(t, "frr")
	tree, err := p.wanted(ward(), newVault(nil))
	if err != nil {
		t.Fatal(err)
	}
	theirs := "Building configuration...\n\nCurrent configuration:\n!\nfrr version 8.4.4\nhostname r1\n!\nip route 10.0.0.0/8 blackhole\n!\n" +
		"interface lo\n ip address 192.0.2.1/32\n ip ospf area 0\nexit\n!\nroute-map theirs permit 10\n match ip address x\nexit\n!\nip prefix-list x seq 5 permit any\n!\n" +
		"bfd\n profile theirs\n  echo-mode\n exit\n !\n peer 192.0.2.9\n exit\nexit\n!\nrouter ospf\n ospf router-id 1.1.1.1\nexit\n!\n"
	for name, tt := range map[string]struct {
		text string
		same bool
	}{
		"ours alone":            {tree.text(), true},
		"among theirs":          {theirs + tree.text() + "end\n", true},
		"a line of BGP":         {strings.Replace(tree.text(), " bgp router-id", " timers bgp 5 15\n bgp router-id", 1), false},
		"a line of a list":      {tree.text() + "ip prefix-list wardnet-own seq 7 permit any\n", false},
		"a line of a route map": {strings.Replace(tree.text(), " set local-preference 1000", " set local-preference 1000\n set metric 5", 1), false},
		"a second address":      {tree.text() + "interface lo\n ip address 192.0.2.7/32 label lo:wardnet\nexit\n", false},
		"no mark":               {strings.Replace(tree.text(), " neighbor wardnet peer-group\n", "", 1), false},
	} {
		t.Run(name, func(t *testing.T) {
			got := p.read(p.ours(p.parseBlocks(tt.text)), ward(), newVault(nil))
			if d := edge.Diff(ward(), got); d.Empty() != tt.same {
				t.Errorf("differs:\n%s", d)
			}
		})
	}
	got := p.read(p.ours(p.parseBlocks(theirs+"router bgp 65000\n bgp router-id 1.1.1.1\nexit\nend")), edge.Config{}, newVault(nil))
	if d := edge.Diff(edge.Config{}, got); !d.Empty() {
		t.Errorf("somebody else's is read as ours:\n%s", d)
	}
	if path, _ := p.foreign(p.parseBlocks("router bgp 65000\n bgp router-id 1.1.1.1\n"), tree); path != "router bgp 65000" {
		t.Errorf("somebody else's BGP is not seen: %q", path)
	}
}

// TestSecrets: what somebody wrote beside ours does not leave with its secret,
// and goes back with it.
func TestSecrets(t *testing.T) {
	p, v := named(t, "frr"), newVault(nil)
	for _, line := range []string{
		"neighbor 172.17.0.1 password hunter2", "neighbor 172.17.0.1 password 7 hunter2", "set community hunter2", "snmp-server community hunter2 ro",
		"key-string hunter2", `set psksecret "hunter2"`, `set password ENC hunter2`, "enable secret 5 hunter2", "key 1 md5 hunter2",
	} {
		text := "router bgp 4200026740\n neighbor wardnet peer-group\n " + line + "\n"
		tree := p.ours(p.parseBlocks(text))
		got := p.read(tree, ward(), v)
		seen := fmt.Sprint(edge.Diff(ward(), got), got, clip(line))
		if strings.Contains(seen, "hunter2") || !strings.Contains(seen, "<redacted-") {
			t.Errorf("%q is seen as %s", line, seen)
		}
		other := p.read(p.ours(p.parseBlocks(strings.Replace(text, "hunter2", "hunter3", 1))), ward(), v)
		if edge.Diff(got, other).Empty() {
			t.Errorf("another secret in %q does not show", line)
		}
		back, err := p.wanted(got, v)
		if err != nil {
			t.Fatal(err)
		}
		if more, less := differences(tree, back); len(more)+len(less) > 0 {
			t.Errorf("%q does not go back: more %q, less %q", line, more, less)
		}
		later, err := p.wanted(got, newVault(nil)) // after a restart
		if err != nil || strings.Contains(later.text(), "redacted") {
			t.Errorf("%v\n%s", err, later.text())
		}
	}
}

// TestWhole: an answer that is cut short or is none is refused.
func TestWhole(t *testing.T) {
	p := named(t, "frr")
	whole := "Building configuration...\n\nCurrent configuration:\n!\nrouter bgp 65000\nexit\n!\nend"
	if err := p.whole("show running-config", whole); err != nil {
		t.Error(err)
	}
	for i := range len(whole) {
		if err := p.whole("show running-config", whole[:i]); !errors.Is(err, ErrTruncated) {
			t.Errorf("%q: %v", whole[:i], err)
		}
	}
	for text, want := range map[string]error{
		"% Unknown command: show\nend":        errAnswer,
		"router bgp 1\n\x00\x01\x02\nend":     ErrGarbage,
		"router bgp 1\n\xff\xfe\nend":         ErrGarbage,
		"bash: show: command not found":       ErrTruncated,
		strings.Repeat("router bgp 1\n", 500): ErrTruncated,
	} {
		if err := p.whole("show running-config", text); !errors.Is(err, want) {
			t.Errorf("%.40q: %v, want %v", text, err, want)
		}
	}
}

// FuzzRead: whatever a device answers, it is refused or read, and what was read
// is written as it was.
func FuzzRead(f *testing.F) {
	all, err := Platforms()
	if err != nil {
		f.Fatal(err)
	}
	var ps []*platform
	for _, info := range all {
		p := named(f, info.Name)
		ps = append(ps, p)
		tree, err := p.wanted(ward(), newVault(nil))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(tree.text() + "end\n")
	}
	f.Add("router bgp 1\n neighbor wardnet peer-group\n neighbor x remote-as 1\n address-family ipv4 unicast\n  network 1.2.3.4/5\nend\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, p := range ps {
			if p.whole("show", text) != nil || strings.ContainsAny(text, "▸<") {
				continue
			}
			got := p.ours(p.parseBlocks(text))
			for _, c := range []edge.Config{{}, ward()} {
				v := newVault(nil)
				read := p.read(got, c, v)
				back, err := p.wanted(read, v)
				if err != nil {
					t.Fatalf("%v\n%q", err, text)
				}
				if more, less := differences(got, back); len(more)+len(less) > 0 {
					t.Fatalf("more %q, less %q of %q", more, less, text)
				}
				p.delta(got, back)
			}
		}
	})
}
