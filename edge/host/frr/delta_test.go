//go:build lab

package frr

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/host/hosttest"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// boxConfig is a configuration with n tunnels, as the renderer turns it into
// the text that boxes run.
func boxConfig(t *testing.T, role inventory.DeviceRole, n int, change func(*edge.Config)) string {
	t.Helper()
	c := edge.Config{
		Device: "d-1", Site: "s-1", Role: role, Loopback: netip.MustParseAddr("172.16.1.1"),
		Circuits: []edge.Circuit{{Name: "c", Kind: inventory.FTTH, MTU: 1500, Port: "wan0", Addressing: inventory.DHCP}},
		BGP: edge.BGP{
			ASN: 4200000001, RouterID: netip.MustParseAddr("172.16.1.1"),
			Networks: []netip.Prefix{netip.MustParsePrefix("10.64.0.0/20"), netip.MustParsePrefix("fd00:64::/52")},
		},
	}
	for i := range n {
		remote := netip.AddrFrom4([4]byte{172, 16, 8, byte(2 * i)})
		t := edge.Tunnel{
			Name: fmt.Sprintf("c--t-%d", i), Kind: edge.WireGuard, Circuit: "c", Peer: inventory.DeviceID(fmt.Sprintf("p-%d", i)),
			Endpoint: netip.MustParseAddrPort("192.0.2.1:51820"), Local: netip.PrefixFrom(remote.Next(), 31), Remote: remote,
			AllowedIPs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 65, byte(16 * i), 0}), 20)}, MTU: 1340, Preference: 1000 - 50*i,
		}
		if role == inventory.RoleHub {
			t.ListenPort = 51820
		}
		c.Tunnels = append(c.Tunnels, t)
		c.BGP.Neighbours = append(c.BGP.Neighbours, edge.Neighbour{
			Tunnel: t.Name, Addr: remote, ASN: 4200100001 + uint32(i), Preference: t.Preference, BFDMinMS: 300, BFDMult: 3,
		})
	}
	if change != nil {
		change(&c)
	}
	box, err := render.New(render.Input{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	return box.FRR
}

// TestDelta walks a real FRR through what the renderer writes, every text to
// every other, and needs frr-reload.py nowhere.
func TestDelta(t *testing.T) {
	if !hosttest.Enter(t) {
		return
	}
	uplink := func(c *edge.Config) {
		c.Uplinks = []edge.Uplink{{
			Name: "dc", Port: "dc0", Local: netip.MustParsePrefix("172.17.0.2/30"), Peer: netip.MustParseAddr("172.17.0.1"), PeerASN: 65010,
			Accept: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/9")},
		}}
	}
	texts := map[string]string{
		"nothing":         "!\n",
		"edge":            boxConfig(t, inventory.RoleEdge, 4, nil),
		"edge one tunnel": boxConfig(t, inventory.RoleEdge, 1, nil),
		"edge other figures": boxConfig(t, inventory.RoleEdge, 4, func(c *edge.Config) {
			for i := range c.BGP.Neighbours {
				c.BGP.Neighbours[i].BFDMinMS, c.BGP.Neighbours[i].Preference = 2000, 700-i
			}
			c.BGP.Neighbours[1].ASN = 4200100099
			c.BGP.Networks = append(c.BGP.Networks, netip.MustParsePrefix("10.64.128.0/20"))
			slices.SortFunc(c.BGP.Networks, func(a, b netip.Prefix) int { return strings.Compare(a.String(), b.String()) })
			c.BGP.RouterID = netip.MustParseAddr("172.16.1.9")
		}),
		"edge other AS":  boxConfig(t, inventory.RoleEdge, 4, func(c *edge.Config) { c.BGP.ASN = 4200000009 }),
		"hub":            boxConfig(t, inventory.RoleHub, 6, uplink),
		"hub more wards": boxConfig(t, inventory.RoleHub, 12, uplink),
		"hub no uplink":  boxConfig(t, inventory.RoleHub, 6, nil),
	}
	i, err := Open(Config{Pathspace: hosttest.Space(""), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	// Every text is entered and left in several ways.
	walk := []string{
		"edge", "edge one tunnel", "edge", "edge other figures", "edge", "edge other AS", "edge other figures", "edge one tunnel",
		"hub", "hub more wards", "hub", "hub no uplink", "hub more wards", "edge", "nothing", "hub", "nothing", "edge other figures",
	}
	from := "nothing"
	var longest time.Duration
	for _, to := range walk {
		start := time.Now()
		if err := i.Load(t.Context(), texts[to]); err != nil {
			t.Fatalf("%s to %s: %v", from, to, err)
		}
		longest = max(longest, time.Since(start))
		if i.slow > 0 {
			t.Errorf("%s to %s needed frr-reload.py; the delta is\n%s", from, to, deltaText(texts[from], texts[to]))
			i.slow = 0
		}
		from = to
	}
	t.Logf("%d changes, the longest took %s", len(walk), longest)
}

// TestDeltaIsMinimal: what is unchanged is not mentioned.
func TestDeltaIsMinimal(t *testing.T) {
	text := boxConfig(t, inventory.RoleHub, 3, nil)
	if d := deltaText(text, text); d != "" {
		t.Errorf("nothing to change, yet\n%s", d)
	}
	d := deltaText(text, boxConfig(t, inventory.RoleHub, 4, nil))
	for _, peer := range []string{"172.16.8.0", "172.16.8.2", "172.16.8.4"} {
		if strings.Contains(d, peer+" ") {
			t.Errorf("a new neighbour touches %s:\n%s", peer, d)
		}
	}
	if !strings.Contains(d, "neighbor 172.16.8.6 remote-as") {
		t.Errorf("the new neighbour is missing:\n%s", d)
	}
}
