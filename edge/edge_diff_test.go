package edge

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/internal/golden"
	"github.com/wardnet/wardnet/inventory"
)

// ward is a small but complete config.
func ward() Config {
	return Config{
		Device: "e-26740", Site: "s-26740", Role: inventory.RoleEdge, Loopback: netip.MustParseAddr("172.16.0.7"),
		Circuits: []Circuit{{
			Name: "c-26740-a", Kind: inventory.FTTH, UpBPS: 100 * inventory.Mbps, MTU: 1500, Port: "eth0",
			Addressing: inventory.Static, Address: netip.MustParsePrefix("198.51.100.2/30"), Gateway: netip.MustParseAddr("198.51.100.1"),
		}},
		Tunnels: []Tunnel{{
			Name: "c-26740-a--hub-1", Kind: WireGuard, Circuit: "c-26740-a", Peer: "hub-1",
			Endpoint: netip.MustParseAddrPort("203.0.113.1:51820"), ListenPort: 51821, Local: netip.MustParsePrefix("172.17.0.1/31"),
			Remote: netip.MustParseAddr("172.17.0.0"), AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.64.0.0/10")},
			MTU: 1420, Preference: 200,
		}},
		BGP: BGP{
			ASN: 4200026740, RouterID: netip.MustParseAddr("172.16.0.7"), Networks: []netip.Prefix{netip.MustParsePrefix("10.64.16.0/20")}, Accept: []netip.Prefix{netip.MustParsePrefix("10.64.0.0/10")},
			Neighbours: []Neighbour{{Tunnel: "c-26740-a--hub-1", Addr: netip.MustParseAddr("172.17.0.0"), ASN: 4200000001, Preference: 200, BFDMinMS: 300, BFDMult: 3}},
		},
		Segments: []Segment{{
			Kind: inventory.Staff, V4: netip.MustParsePrefix("10.64.16.0/23"), V6: netip.MustParsePrefix("fd00:64:1::/64"), Port: "eth2",
			DHCP: DHCP{
				From: netip.MustParseAddr("10.64.16.128"), To: netip.MustParseAddr("10.64.16.254"), LeaseSeconds: 3600, Relay: netip.MustParseAddr("10.64.10.67"),
				Reservations: []Reservation{{MAC: "02:00:00:00:00:01", Addr: netip.MustParseAddr("10.64.16.20"), Name: "printer"}},
			},
			DNS: []netip.Addr{netip.MustParseAddr("10.64.10.53")}, NTP: []netip.Addr{netip.MustParseAddr("10.64.10.123")},
		}},
		Legacy: []Translation{{Segment: inventory.Staff, Inside: netip.MustParsePrefix("192.168.1.0/24"), Outside: netip.MustParsePrefix("10.64.17.0/24")}},
		Uplinks: []Uplink{{
			Name: "dc", Port: "eth3", Local: netip.MustParsePrefix("198.18.0.2/30"), Peer: netip.MustParseAddr("198.18.0.1"), PeerASN: 65010,
			Accept: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
		}},
		Classes: []Class{{Name: "voice", DSCP: 46, Share: 0.3, LossRatio: 0.01, LatencyMS: 150, JitterMS: 30}},
		Rules: []Rule{{
			Permit: "p-mail", From: inventory.Staff, Src: []netip.Prefix{netip.MustParsePrefix("10.64.16.0/23")},
			Dst: []netip.Prefix{netip.MustParsePrefix("10.64.0.0/28")}, Ports: []inventory.PortRange{{Proto: inventory.TCP, From: 993, To: 993}},
			Class: "voice", Internet: true,
		}},
		Contract: Contract{
			BFD: []string{"c-26740-a--hub-1"}, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.64.0.0/28")},
			DNS: []netip.Addr{netip.MustParseAddr("10.64.10.53")}, Services: []netip.AddrPort{netip.MustParseAddrPort("10.64.10.20:443")},
		},
	}
}

func TestChangeString(t *testing.T) {
	golden.Check(t, "first", Diff(Config{}, ward()).String())

	want := ward()
	want.Circuits[0].UpBPS = 200 * inventory.Mbps
	want.Tunnels[0].Endpoint = netip.MustParseAddrPort("203.0.113.9:51820")
	want.Tunnels = append(want.Tunnels, Tunnel{Name: "c-26740-a--hub-2", Kind: WireGuard, Circuit: "c-26740-a", Peer: "hub-2", MTU: 1420, Preference: 100})
	want.BGP.Neighbours[0].Preference = 150
	want.Segments[0].V4 = netip.MustParsePrefix("10.64.32.0/23")
	want.Segments[0].DHCP.To = netip.MustParseAddr("10.64.16.200")
	want.Legacy, want.Uplinks[0].PeerASN, want.Classes[0].Share = nil, 65011, 0.2
	want.Rules[0].Ports = append(want.Rules[0].Ports, inventory.PortRange{Proto: inventory.UDP, From: 5000, To: 5010})
	want.Contract.BFD = nil
	change := Diff(ward(), want)
	golden.Check(t, "change", change.String()+change.Summary()+"\n"+strings.Join(change.Flaps(), "\n")+"\n")

	golden.Check(t, "last", Diff(ward(), Config{}).String())
}

// What interrupts a session says so, what does not stays silent.
func TestFlap(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(*Config)
		want []string
	}{
		"endpoint":         {func(c *Config) { c.Tunnels[0].Endpoint = netip.AddrPort{} }, []string{"will reset BGP to hub-1 over c-26740-a--hub-1"}},
		"neighbour addr":   {func(c *Config) { c.BGP.Neighbours[0].Addr = netip.Addr{} }, []string{"will reset BGP to hub-1 over c-26740-a--hub-1"}},
		"tunnel and peer":  {func(c *Config) { c.Tunnels, c.BGP.Neighbours = nil, nil }, []string{"will drop BGP to hub-1 over c-26740-a--hub-1"}},
		"router id":        {func(c *Config) { c.BGP.RouterID = netip.MustParseAddr("172.16.0.8") }, []string{"will reset every BGP session of the device"}},
		"renumber":         {func(c *Config) { c.Segments[0].V6 = netip.Prefix{} }, []string{"will renumber segment staff: its hosts need new addresses"}},
		"loopback":         {func(c *Config) { c.Loopback = netip.MustParseAddr("172.16.0.8") }, []string{"will move the device's address 172.16.0.7"}},
		"circuit":          {func(c *Config) { c.Circuits = nil }, []string{"will take down circuit c-26740-a"}},
		"port of circuit":  {func(c *Config) { c.Circuits[0].Port = "eth1" }, []string{"will interrupt circuit c-26740-a and its tunnels"}},
		"gateway":          {func(c *Config) { c.Circuits[0].Gateway = netip.Addr{} }, []string{"will interrupt circuit c-26740-a and its tunnels"}},
		"rate":             {func(c *Config) { c.Circuits[0].UpBPS = 1 }, nil},
		"port of segment":  {func(c *Config) { c.Segments[0].Port = "" }, []string{"will move segment staff from port eth2"}},
		"leases":           {func(c *Config) { c.Segments[0].DHCP, c.Segments[0].DNS = DHCP{}, nil }, nil},
		"legacy":           {func(c *Config) { c.Legacy[0].Outside = netip.MustParsePrefix("10.64.16.0/24") }, []string{"will cut the flows of translated hosts in segment staff"}},
		"legacy gone":      {func(c *Config) { c.Legacy = nil }, []string{"will stop translating 192.168.1.0/24 of segment staff"}},
		"uplink":           {func(c *Config) { c.Uplinks[0].PeerASN = 65011 }, []string{"will reset BGP to 198.18.0.1 over uplink dc"}},
		"uplink gone":      {func(c *Config) { c.Uplinks = nil }, []string{"will drop BGP to 198.18.0.1 over uplink dc"}},
		"uplink accepts":   {func(c *Config) { c.Uplinks[0].Accept = nil }, nil},
		"classes":          {func(c *Config) { c.Classes = nil }, nil},
		"mtu":              {func(c *Config) { c.Tunnels[0].MTU = 1380 }, nil},
		"bfd":              {func(c *Config) { c.BGP.Neighbours[0].BFDMult = 5 }, nil},
		"networks":         {func(c *Config) { c.BGP.Networks = nil }, nil},
		"rules":            {func(c *Config) { c.Rules = nil }, nil},
		"nothing, by copy": {func(*Config) {}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			want := ward()
			tt.edit(&want)
			if got := Diff(ward(), want).Flaps(); !slices.Equal(got, tt.want) {
				t.Errorf("flaps %q, want %q", got, tt.want)
			}
		})
	}
}

// Property: applying the difference gives exactly what was wanted, then there
// is no difference; and a stored change does the same as a fresh one.
func TestDiffApply(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, want := configs().Draw(t, "have"), configs().Draw(t, "want")
		change := Diff(have, want)
		b, err := json.Marshal(change)
		if err != nil {
			t.Fatal(err)
		}
		var stored Change
		if err := json.Unmarshal(b, &stored); err != nil {
			t.Fatal(err)
		}
		for _, c := range []Change{change, stored} {
			got := c.Apply(have)
			if !reflect.DeepEqual(canonical(got), canonical(want)) {
				t.Fatalf("change\n%sgives %+v\nwant %+v", c, got, want)
			}
			if left := Diff(got, want); !left.Empty() {
				t.Fatalf("still different:\n%s", left)
			}
		}
		if !Diff(have, have).Empty() {
			t.Fatalf("%+v differs from itself", have)
		}
	})
}

// canonical makes empty lists nil at the top, as Diff sees them.
func canonical(c Config) Config {
	c.Circuits = append([]Circuit(nil), c.Circuits...)
	c.Tunnels = append([]Tunnel(nil), c.Tunnels...)
	c.Segments = append([]Segment(nil), c.Segments...)
	c.Rules = append([]Rule(nil), c.Rules...)
	c.Legacy = append([]Translation(nil), c.Legacy...)
	c.Uplinks = append([]Uplink(nil), c.Uplinks...)
	c.Classes = append([]Class(nil), c.Classes...)
	c.BGP.Neighbours = append([]Neighbour(nil), c.BGP.Neighbours...)
	return c
}

// configs draws small configs from few values, so that two of them overlap;
// lists may be unsorted and hold one name twice.
func configs() *rapid.Generator[Config] {
	addr := rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("172.16.0.2")})
	prefixes := rapid.SliceOfN(rapid.SampledFrom([]netip.Prefix{netip.MustParsePrefix("10.64.0.0/20"), netip.MustParsePrefix("10.64.16.0/20")}), 1, 2)
	name, small := rapid.SampledFrom([]string{"a", "b", "c", "d"}), rapid.IntRange(0, 2)
	return rapid.Custom(func(t *rapid.T) Config {
		if small.Draw(t, "empty") == 0 {
			return Config{}
		}
		return Config{
			Device: inventory.DeviceID(name.Draw(t, "device")), Role: inventory.RoleEdge, Loopback: addr.Draw(t, "loopback"),
			Circuits: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Circuit {
				return Circuit{Name: name.Draw(t, "circuit"), MTU: small.Draw(t, "mtu")}
			}), 0, 3).Draw(t, "circuits"),
			Tunnels: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Tunnel {
				return Tunnel{Name: name.Draw(t, "tunnel"), Remote: addr.Draw(t, "remote"), AllowedIPs: prefixes.Draw(t, "allowed")}
			}), 0, 4).Draw(t, "tunnels"),
			BGP: BGP{
				ASN: uint32(small.Draw(t, "asn")), RouterID: addr.Draw(t, "router id"),
				Neighbours: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Neighbour {
					return Neighbour{Tunnel: name.Draw(t, "neighbour"), ASN: uint32(small.Draw(t, "asn"))}
				}), 0, 3).Draw(t, "neighbours"),
			},
			Segments: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Segment {
				s := Segment{Kind: rapid.SampledFrom(inventory.SegmentKinds[:3]).Draw(t, "segment"), DHCP: DHCP{From: addr.Draw(t, "from")}}
				if rapid.Bool().Draw(t, "reserved") {
					s.DHCP.Reservations = []Reservation{{MAC: name.Draw(t, "mac"), Addr: addr.Draw(t, "addr")}}
				}
				return s
			}), 0, 3).Draw(t, "segments"),
			Legacy: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Translation {
				return Translation{Segment: rapid.SampledFrom(inventory.SegmentKinds[:2]).Draw(t, "legacy"), Inside: prefixes.Draw(t, "inside")[0]}
			}), 0, 2).Draw(t, "legacy"),
			Uplinks: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Uplink {
				return Uplink{Name: name.Draw(t, "uplink"), Peer: addr.Draw(t, "peer"), Accept: prefixes.Draw(t, "accept")}
			}), 0, 3).Draw(t, "uplinks"),
			Classes: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Class {
				return Class{Name: name.Draw(t, "class"), LatencyMS: small.Draw(t, "latency")}
			}), 0, 3).Draw(t, "classes"),
			Rules: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Rule {
				return Rule{Permit: inventory.PermitID(name.Draw(t, "permit")), Src: prefixes.Draw(t, "src")}
			}), 0, 4).Draw(t, "rules"),
			Contract: Contract{BFD: []string{name.Draw(t, "bfd")}},
		}
	})
}

// Every field of every part counts: a field added to the model later is
// compared, carried and described with no code of its own.
func TestDiffSeesEveryField(t *testing.T) {
	var visit func(path string, v reflect.Value, check func(string))
	visit = func(path string, v reflect.Value, check func(string)) {
		switch {
		case isRecord(v):
			for i := range v.NumField() {
				visit(path+"."+v.Type().Field(i).Name, v.Field(i), check)
			}
		case v.Kind() == reflect.Slice && isRecord(reflect.New(v.Type().Elem()).Elem()):
			for i := range v.Len() {
				visit(path+"[0]", v.Index(i), check)
			}
		default:
			old := reflect.ValueOf(v.Interface())
			v.SetZero()
			check(path)
			v.Set(old)
		}
	}
	cfg, n := ward(), 0
	visit("Config", reflect.ValueOf(&cfg).Elem(), func(path string) {
		n++
		for name, c := range map[string]struct{ have, want Config }{"lost": {ward(), cfg}, "added": {cfg, ward()}} {
			change := Diff(c.have, c.want)
			if change.Empty() {
				t.Errorf("%s %s: not seen", path, name)
			} else if got := change.Apply(c.have); got.Hash() != c.want.Hash() {
				t.Errorf("%s %s: applying gives %+v", path, name, got)
			}
		}
	})
	if n < 65 {
		t.Errorf("visited %d fields, want the whole model", n)
	}
}
