package render

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/internal/golden"
	"github.com/wardnet/wardnet/inventory"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// ipsecEdge is an edge with two circuits to one hub, the second by DHCP.
func ipsecEdge() Input {
	tunnel := func(circuit, local, remote string) edge.Tunnel {
		return edge.Tunnel{
			Name: circuit + "--hub-1", Kind: edge.IPsec, Circuit: circuit, Peer: "hub-1", Endpoint: netip.MustParseAddrPort("198.18.0.1:51820"),
			Local: netip.MustParsePrefix(local), Remote: netip.MustParseAddr(remote), MTU: 1350,
			AllowedIPs: prefixes("10.64.0.0/10", "10.64.0.0/16", "172.16.0.0/16", "172.17.0.0/16", "fd00:1::/48"),
		}
	}
	return Input{
		Config: edge.Config{
			Device: "e-1", Role: inventory.RoleEdge, Loopback: netip.MustParseAddr("172.16.0.9"),
			Circuits: []edge.Circuit{
				{Name: "c-ftth", MTU: 1500, Port: "eth0", Addressing: inventory.Static, Address: netip.MustParsePrefix("198.18.1.2/30"), Gateway: netip.MustParseAddr("198.18.1.1")},
				{Name: "c-lte", MTU: 1500, Port: "eth1", Addressing: inventory.DHCP},
			},
			Tunnels: []edge.Tunnel{tunnel("c-ftth", "172.17.0.0/31", "172.17.0.1"), tunnel("c-lte", "172.17.0.2/31", "172.17.0.3")},
		},
		Credentials: edge.Credentials{Keys: map[inventory.DeviceID]string{"hub-1": "key"}},
		WAN:         map[string]WAN{"c-lte": {Address: netip.MustParsePrefix("100.64.7.3/24"), Gateway: netip.MustParseAddr("100.64.7.1")}},
	}
}

// ipsecHub is the hub's side of the edges e-1 (two circuits) and e_2.
func ipsecHub() Input {
	tunnel := func(name, peer, local, remote, lan string) edge.Tunnel {
		return edge.Tunnel{
			Name: name, Kind: edge.IPsec, Circuit: "h-ftth", Peer: inventory.DeviceID(peer), ListenPort: 51820,
			Local: netip.MustParsePrefix(local), Remote: netip.MustParseAddr(remote), MTU: 1350, AllowedIPs: prefixes(lan, remote+"/32"),
		}
	}
	return Input{
		Config: edge.Config{
			Device: "hub-1", Role: inventory.RoleHub, Loopback: netip.MustParseAddr("172.16.0.1"),
			Circuits: []edge.Circuit{{Name: "h-ftth", MTU: 1500, Port: "eth0", Addressing: inventory.Static, Address: netip.MustParsePrefix("198.18.0.1/30")}},
			Tunnels: []edge.Tunnel{
				tunnel("c-ftth--hub-1", "e-1", "172.17.0.1/31", "172.17.0.0", "10.64.0.0/20"),
				tunnel("c-lte--hub-1", "e-1", "172.17.0.3/31", "172.17.0.2", "10.64.0.0/20"),
				tunnel("d-ftth--hub-1", "e_2", "172.17.0.5/31", "172.17.0.4", "10.64.16.0/20"),
			},
		},
		Credentials: edge.Credentials{Keys: map[inventory.DeviceID]string{"e-1": "key", "e_2": "key"}},
	}
}

func TestIPsecGolden(t *testing.T) {
	for name, in := range map[string]Input{"edge": ipsecEdge(), "hub": ipsecHub()} {
		tunnels, err := IPsec(in)
		if err != nil {
			t.Fatal(err)
		}
		golden.Check(t, "ipsec-"+name, IPsecText(tunnels)+"\n# nftables\n"+IPsecNFT(tunnels))
	}
	golden.Check(t, "ipsec-none", IPsecNFT(nil))
}

func TestIPsecBothEndsAgree(t *testing.T) {
	e, err := IPsec(ipsecEdge())
	if err != nil {
		t.Fatal(err)
	}
	h, err := IPsec(ipsecHub())
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range e {
		y := h[i]
		if x.Name != y.Name || x.VNI != y.VNI || x.VTEP != y.PeerVTEP || x.PeerVTEP != y.VTEP ||
			x.MAC().String() != y.PeerMAC().String() || x.Device != y.Peer || x.Interface != y.Interface {
			t.Errorf("ends differ:\n%+v\n%+v", x, y)
		}
		if y.RemoteAddr.IsValid() {
			t.Errorf("the hub expects %s at %s; an edge may come from anywhere", y.Peer, y.RemoteAddr)
		}
	}
}

func TestIPsecAdmission(t *testing.T) {
	admitted := func(in Input) (names []string) {
		tunnels, err := IPsec(in)
		if err != nil {
			t.Fatal(err)
		}
		text, filter := IPsecText(tunnels), IPsecNFT(tunnels)
		for _, x := range tunnels {
			_, child := IPsecNames(x)
			if asked, taken := strings.Contains(text, child), strings.Contains(filter, "goto vtep_"+x.Interface); asked != x.Admitted || taken != x.Admitted {
				t.Errorf("%s: admitted %t, connection %t, VXLAN accepted %t", x.Name, x.Admitted, asked, taken)
			}
			if x.Admitted {
				names = append(names, x.Name)
			}
		}
		return names
	}
	in := ipsecHub()
	delete(in.Credentials.Keys, "e-1")
	if got := admitted(in); !slices.Equal(got, []string{"d-ftth--hub-1"}) {
		t.Errorf("e-1 has no credentials, yet %v are admitted", got)
	}
	in.Credentials.Keys = nil
	if got := admitted(in); len(got) != 0 {
		t.Errorf("nobody has credentials, yet %v are admitted", got)
	}
	out := ipsecEdge()
	out.WAN = nil
	if got := admitted(out); !slices.Equal(got, []string{"c-ftth--hub-1"}) {
		t.Errorf("circuit c-lte has no address, yet %v are admitted", got)
	}
}

func TestIPsecFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Input)
		want   string
	}{
		"wireguard's MTU":    {func(in *Input) { in.Config.Tunnels[0].MTU = 1420 }, "MTU 1420 is not in [1280,1350]"},
		"no circuit":         {func(in *Input) { in.Config.Tunnels[0].Circuit = "x" }, `no circuit "x"`},
		"foreign block":      {func(in *Input) { in.Config.Tunnels[0].Local = netip.MustParsePrefix("10.9.0.1/31") }, "come from 172.16.0.0/13"},
		"not a /31":          {func(in *Input) { in.Config.Tunnels[0].Local = netip.MustParsePrefix("172.17.0.1/30") }, "ends of a /31"},
		"pool over VTEPs":    {func(in *Input) { in.Config.Tunnels[2].AllowedIPs = prefixes("172.16.0.0/12") }, "keep 172.24.0.0/13 free"},
		"legacy over VTEPs":  {func(in *Input) { in.Config.Legacy = []edge.Translation{{Inside: prefixes("172.25.0.0/24")[0]}} }, "keep 172.24.0.0/13 free"},
		"case of peers":      {func(in *Input) { in.Config.Tunnels[2].Peer = "E-1" }, "differ in case only"},
		"peer of a DN":       {func(in *Input) { in.Config.Tunnels[2].Peer = "e-1, O=x" }, "IKE identity"},
		"hub with no static": {func(in *Input) { in.Config.Circuits[0].Address = netip.Prefix{} }, "needs a static address"},
		"twice the same /31": {func(in *Input) {
			in.Config.Tunnels[1].Local, in.Config.Tunnels[1].Remote = in.Config.Tunnels[0].Local, in.Config.Tunnels[0].Remote
		}, "collide"},
	} {
		t.Run(name, func(t *testing.T) {
			in := ipsecHub()
			in.Config.Tunnels = slices.Clone(in.Config.Tunnels)
			tt.change(&in)
			_, err := IPsec(in)
			if !errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v; want one that says %q", err, tt.want)
			}
		})
	}
}

// Any set of edges at one hub: every connection names one peer, no two CHILD
// SAs share a selector, names stay when others come or go, order does not
// matter, and a change of one tunnel renames nothing of the others.
func TestIPsecProperty(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		in := ipsecHub()
		base := in.Config.Tunnels[0]
		in.Config.Tunnels = nil
		for i := range 1 + rng.IntN(60) {
			x := base
			x.Peer = inventory.DeviceID(fmt.Sprintf("e-%d", i/(1+rng.IntN(2))))
			x.Name = fmt.Sprintf("c%d--hub-1", i)
			end := netip.AddrFrom4([4]byte{172, byte(16 + rng.IntN(8)), byte(i), byte(2 * rng.IntN(128))})
			x.Local, x.Remote = netip.PrefixFrom(end.Next(), 31), end
			x.AllowedIPs = []netip.Prefix{netip.PrefixFrom(end, 32)}
			in.Config.Tunnels = append(in.Config.Tunnels, x)
			in.Credentials.Keys[x.Peer] = "key"
		}
		all, err := IPsec(in)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		local, remote := map[string]bool{}, map[string]bool{}
		for _, c := range IPsecConnections(all) {
			if id := c.Sections[1].Values[1]; id.Key != "id" || strings.Contains(id.Items[0], "*") {
				t.Fatalf("seed %d: connection %s is for %v", seed, c.Name, id)
			}
			for _, child := range c.Sections[2].Sections {
				l, r := child.Values[0].Items[0], child.Values[1].Items[0]
				if local[l] || remote[r] || !strings.HasSuffix(r, "/32[udp/4789]") {
					t.Fatalf("seed %d: selector %s === %s twice or too wide", seed, l, r)
				}
				local[l], remote[r] = true, true
			}
		}
		rng.Shuffle(len(in.Config.Tunnels), func(i, j int) {
			in.Config.Tunnels[i], in.Config.Tunnels[j] = in.Config.Tunnels[j], in.Config.Tunnels[i]
		})
		again, err := IPsec(in)
		if err != nil || IPsecText(again) != IPsecText(all) || IPsecNFT(again) != IPsecNFT(all) {
			t.Fatalf("seed %d: order of tunnels shows (%v)", seed, err)
		}
		keep := all[rng.IntN(len(all))]
		c, child := IPsecNames(keep)
		text := IPsecText([]IPsecTunnel{keep})
		if !strings.Contains(text, c+" {") || !strings.Contains(text, child+" {") {
			t.Fatalf("seed %d: %s is named otherwise when alone", seed, keep.Name)
		}
		keep.PeerVTEP = keep.PeerVTEP.Next()
		if _, other := IPsecNames(keep); other == child {
			t.Fatalf("seed %d: another selector, the same name %s", seed, child)
		}
	}
}
