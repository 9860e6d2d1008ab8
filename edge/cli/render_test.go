package cli

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden; read the diff before committing")

func named(t testing.TB, name string) *platform {
	t.Helper()
	p, err := platformNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// ward is a device with two tunnels to each of two hubs.
func ward() edge.Config {
	c := edge.Config{Device: "r-26740", Site: "s-26740", Role: inventory.RoleEdge, Loopback: netip.MustParseAddr("172.16.0.7")}
	c.BGP = edge.BGP{ASN: 4200026740, RouterID: c.Loopback, Networks: prefixes("10.64.16.0/20", "172.16.0.7/32", "fd5a:1:0:10::/60")}
	for _, t := range []struct {
		name, addr string
		asn        uint32
		prefer     int
		ms, mult   int
	}{
		{"c-26740-a--hub-1", "172.17.0.1", 4200000001, 1000, 300, 3},
		{"c-26740-a--hub-2", "172.17.0.3", 4200000002, 900, 300, 3},
		{"c-26740-b--hub-1", "172.17.0.5", 4200000001, 999, 500, 4},
		{"c-26740-b--hub-2", "fd77::7", 4200000002, 899, 500, 4},
	} {
		c.Tunnels = append(c.Tunnels, edge.Tunnel{Name: t.name, AllowedIPs: prefixes("10.64.0.0/10", "172.16.0.0/13", "fd5a::/16")})
		c.BGP.Neighbours = append(c.BGP.Neighbours, edge.Neighbour{
			Tunnel: t.name, Addr: netip.MustParseAddr(t.addr), ASN: t.asn, Preference: t.prefer, BFDMinMS: t.ms, BFDMult: t.mult,
		})
	}
	return c
}

// changed is ward after a change of everything.
func changed() edge.Config {
	c := ward()
	c.Loopback = netip.MustParseAddr("172.16.0.8")
	c.BGP.Networks = prefixes("10.64.16.0/20", "10.64.96.0/21", "172.16.0.8/32")
	c.BGP.RouterID = c.Loopback
	c.BGP.Neighbours = c.BGP.Neighbours[:3]
	c.BGP.Neighbours[1].ASN = 4200000003
	c.BGP.Neighbours[2].Preference, c.BGP.Neighbours[2].BFDMult = 700, 5
	c.BGP.Neighbours = append(c.BGP.Neighbours[:0:0], c.BGP.Neighbours[1:]...)
	return c
}

// TestGolden shows what is sent to each platform.
func TestGolden(t *testing.T) {
	all, err := Platforms()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 3 {
		t.Fatalf("%d platforms", len(all))
	}
	for _, info := range all {
		t.Run(info.Name, func(t *testing.T) {
			p := named(t, info.Name)
			tree := func(c edge.Config) *block {
				b, err := p.wanted(c, newVault(nil))
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			var out strings.Builder
			if !info.Run {
				out.WriteString("! not run: never sent to a device\n")
			} else {
				out.WriteString("! run: the tests send lines like these to a device\n")
			}
			for _, s := range []struct {
				what       string
				have, want *block
			}{
				{"a new device", &block{}, tree(ward())},
				{"a change", tree(ward()), tree(changed())},
				{"nothing to do", tree(ward()), tree(ward())},
				{"all of it removed", tree(ward()), tree(edge.Config{})},
			} {
				out.WriteString("!\n! " + s.what + "\n" + strings.Join(p.delta(s.have, s.want), "\n") + "\n")
			}
			path := filepath.Join("testdata", info.Name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if out.String() != string(want) {
				t.Errorf("differs from %s:\n%s", path, out.String())
			}
			if !info.Run && !strings.Contains(strings.SplitN(string(want), "\n", 2)[0], "not run") {
				t.Error("the first line does not say that it was not run")
			}
		})
	}
}

// TestNotRunIsSaid: a platform that nobody tried says so in the file's first line.
func TestNotRunIsSaid(t *testing.T) {
	all, err := Platforms()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		text, err := files.ReadFile("platforms/" + p.Name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if said := strings.HasPrefix(string(text), "# not run:"); said == p.Run {
			t.Errorf("%s: run %v, and the file begins %q", p.Name, p.Run, strings.SplitN(string(text), "\n", 2)[0])
		}
	}
	if _, err := platformNamed("ios"); !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), "cisco_iosxe") {
		t.Errorf("an unknown platform: %v", err)
	}
}

// TestBadDefinition: a definition that is wrong is refused when it is read.
func TestBadDefinition(t *testing.T) {
	good, err := files.ReadFile("platforms/frr.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string][2]string{
		"unknown field":  {"\nquiet: true", "\nquite: true"},
		"bad expression": {"end: '^end$'", "end: '^end($'"},
		"bad status":     {"\nstatus: run", "\nstatus: maybe"},
		"bad template":   {"bgp router-id {{.RouterID}}", "bgp router-id {{.RouterID"},
		"unknown part":   {"- part: timing", "- part: clock"},
		"no end":         {"  end: '^end$'", "  "},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(string(good), edit[0], edit[1], 1)
			if text == string(good) {
				t.Fatalf("%q is not in the definition", edit[0])
			}
			if _, err := parsePlatform([]byte(text)); !errors.Is(err, inventory.ErrInvalid) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestResidue: what a template leaves open is refused, by platform, part and
// line.
func TestResidue(t *testing.T) {
	good, err := files.ReadFile("platforms/frr.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ from, to, want string }{
		"variable of another language": {"description {{.Tunnel}}", "description ${tunnel}", `"${"`},
		"doubled braces":               {"description {{.Tunnel}}", "description {{`{{name}}`}}", `"{{"`},
		"empty argument":               {"description {{.Tunnel}}", "description {{if false}}x{{end}}", "empty argument"},
		"empty in the middle":          {"remote-as {{.RemoteASN}}", "{{if false}}x{{end}} remote-as 1", "empty argument"},
		"unknown variable":             {"description {{.Tunnel}}", "description {{.Tonnel}}", "Tonnel"},
		"no value":                     {"description {{.Tunnel}}", "description {{index (slice .Families 0 0) 0}}", "neighbour"},
		"printf":                       {"description {{.Tunnel}}", `description {{printf "%d" .Tunnel}}`, `"%!"`},
		"not for a command line":       {"description {{.Tunnel}}", "description Phường", "command line"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(string(good), tt.from, tt.to, 1)
			p, err := parsePlatform([]byte(text))
			if err != nil || text == string(good) {
				t.Fatal(err)
			}
			_, err = p.wanted(ward(), newVault(nil))
			if !errors.Is(err, edge.ErrRejected) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "platform frr, part neighbour") {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestInjection: no string of the inventory becomes a command.
func TestInjection(t *testing.T) {
	bad := []string{
		"", " ", "a b", "a\nno router bgp 1", "a\rb", "a!b", "a;b", "a|b", "a?b", "a\tb", "a\x00b", "a\x1b[Ab", `a"b`, "a'b", "a`b", "a$b", "a{b", "a>b", "a\\b", "a#b",
		"-x", "!x", "Đường", "\u202ea", strings.Repeat("a", 81), strayMore + "router bgp 1", strayLess + "router bgp 1",
	}
	all, err := Platforms()
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range all {
		p := named(t, info.Name)
		for _, name := range bad {
			c := ward()
			c.BGP.Neighbours[1].Tunnel = name
			if _, err := p.wanted(c, newVault(nil)); !errors.Is(err, edge.ErrRejected) || !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), info.Name) {
				t.Errorf("%s: a tunnel named %q: %v", info.Name, name, err)
			}
		}
		for what, edit := range map[string]func(*edge.Config){
			"loopback":          func(c *edge.Config) { c.Loopback = netip.MustParseAddr("fd00::1") },
			"no AS number":      func(c *edge.Config) { c.BGP.ASN = 0 },
			"no router id":      func(c *edge.Config) { c.BGP.RouterID = netip.Addr{} },
			"no prefix":         func(c *edge.Config) { c.BGP.Networks = append(c.BGP.Networks, netip.Prefix{}) },
			"host bits":         func(c *edge.Config) { c.BGP.Networks = prefixes("10.64.16.1/20") },
			"no address":        func(c *edge.Config) { c.BGP.Neighbours[0].Addr = netip.Addr{} },
			"a zone":            func(c *edge.Config) { c.BGP.Neighbours[0].Addr = netip.MustParseAddr("fe80::1%eth0") },
			"no remote AS":      func(c *edge.Config) { c.BGP.Neighbours[0].ASN = 0 },
			"address twice":     func(c *edge.Config) { c.BGP.Neighbours[0].Addr = c.BGP.Neighbours[1].Addr },
			"negative":          func(c *edge.Config) { c.BGP.Neighbours[0].Preference = -1 },
			"BFD timer":         func(c *edge.Config) { c.BGP.Neighbours[0].BFDMinMS = 1 },
			"BFD multiplier":    func(c *edge.Config) { c.BGP.Neighbours[0].BFDMult = 0 },
			"nothing to accept": func(c *edge.Config) { c.BGP.Accept = []netip.Prefix{{}} },
			"no allowed range":  func(c *edge.Config) { c.Tunnels[0].AllowedIPs = []netip.Prefix{{}} },
		} {
			c := ward()
			edit(&c)
			if _, err := p.wanted(c, newVault(nil)); !errors.Is(err, edge.ErrRejected) || !errors.Is(err, inventory.ErrInvalid) {
				t.Errorf("%s: %s: %v", info.Name, what, err)
			}
		}
	}
}
