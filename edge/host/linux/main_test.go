package linux

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/edge/host/hosttest"
	"github.com/wardnet/wardnet/edge/host/probe"
	"github.com/wardnet/wardnet/edge/host/wireguard"
	"github.com/wardnet/wardnet/inventory"
)

// TestMain is also the WireGuard process of the boxes under test.
func TestMain(m *testing.M) {
	hosttest.WireGuardProcess()
	os.Exit(m.Run())
}

// Keys of the box and of its hubs, base64; made for these tests.
const (
	ownKey  = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
	hub1Key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
	hub2Key = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw="
)

// ports of a box under test. Their other ends are in the namespace "out".
var ports = []string{"wan0", "wan1", "lan0", "lan1", "dc0"}

func plug(t *testing.T, own string) {
	t.Helper()
	out := own + "-out"
	for _, p := range ports {
		hosttest.Run(t, "ip", "-n", own, "link", "add", p, "type", "veth", "peer", "name", p, "netns", out)
		hosttest.Run(t, "ip", "-n", out, "link", "set", p, "up")
	}
}

// silence is a prober that knows nothing.
type silence struct{ targets []probe.Target }

func (s *silence) Update(t []probe.Target, _ edge.Contract, _ netip.Addr) { s.targets = t }
func (*silence) Quality(string) agent.Probe                               { return agent.Probe{LossRatio: 1} }
func (*silence) Holds() []string                                          { return nil }

// firstPorts is a box's own list before it has a configuration.
var firstPorts = []edge.Circuit{{
	Name: "boot", Kind: inventory.FTTH, MTU: 1500, Port: "wan0", Addressing: inventory.Static,
	Address: netip.MustParsePrefix("198.51.100.2/24"), Gateway: netip.MustParseAddr("198.51.100.1"),
}}

// open opens the host of this namespace with real drivers.
func open(t *testing.T, dir string) *Host {
	t.Helper()
	log := slog.New(slog.NewTextHandler(testWriter{t}, nil))
	kernel := false
	driver, err := wireguard.Open(wireguard.Config{RunDir: filepath.Join(dir, "wg"), Log: log, Kernel: &kernel})
	if err != nil {
		t.Fatal(err)
	}
	h, err := Open(t.Context(), Deps{Tunnels: driver, Prober: &silence{}, Log: log}, Config{
		Ports: firstPorts, Pathspace: hosttest.Space(""), RunDir: dir, Key: func() string { return ownKey },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.routing.Close)
	return h
}

// run runs the host until the test ends.
func run(t *testing.T, h *Host) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan error, 1)
	go func() { end <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-end; err != nil {
			t.Error(err)
		}
	})
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(b[:len(b)-1]))
	return len(b), nil
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

// ward is an edge with two circuits, two segments and four tunnels.
func ward() edge.Config {
	c := edge.Config{
		Device: "edge-1", Site: "w-1", Role: inventory.RoleEdge, Loopback: addr("172.16.1.1"),
		Circuits: []edge.Circuit{
			{Name: "c-ftth", Kind: inventory.FTTH, MTU: 1500, Port: "wan0", Addressing: inventory.Static, Address: prefix("198.51.100.2/24"), Gateway: addr("198.51.100.1")},
			{Name: "c-lte", Kind: inventory.LTE, MTU: 1400, Port: "wan1", Addressing: inventory.Static, Address: prefix("203.0.113.2/24"), Gateway: addr("203.0.113.1")},
		},
		BGP: edge.BGP{ASN: 4200000001, RouterID: addr("172.16.1.1"), Networks: []netip.Prefix{prefix("10.64.0.0/20"), prefix("fd00:64::/52")}},
		Segments: []edge.Segment{
			{Kind: inventory.Staff, Port: "lan0", V4: prefix("10.64.0.0/23"), V6: prefix("fd00:64::/64")},
			{Kind: inventory.Public, Port: "lan1", V4: prefix("10.64.2.0/23"), V6: prefix("fd00:64:0:1::/64")},
		},
		Rules: []edge.Rule{{
			Permit: "p-portal", From: inventory.Staff, Src: []netip.Prefix{prefix("10.64.0.0/23")}, Dst: []netip.Prefix{prefix("10.0.0.10/32")},
			Ports: []inventory.PortRange{{Proto: inventory.TCP, From: 443, To: 443}},
		}},
	}
	ends := []string{"172.16.8.0", "172.16.8.2", "172.16.8.4", "172.16.8.6"}
	for i, circuit := range []string{"c-ftth", "c-lte"} {
		for j, hub := range []inventory.DeviceID{"hub-1", "hub-2"} {
			end := addr(ends[2*i+j])
			t := edge.Tunnel{
				Name: circuit + "--" + string(hub), Kind: edge.WireGuard, Circuit: circuit, Peer: hub,
				Endpoint: netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:51820", j+1)),
				Local:    netip.PrefixFrom(end.Next(), 31), Remote: end,
				AllowedIPs: []netip.Prefix{prefix("10.0.0.0/8"), prefix("fd00::/16")}, MTU: 1340, Preference: 1000 - 100*j - 50*i,
			}
			c.Tunnels = append(c.Tunnels, t)
			c.BGP.Neighbours = append(c.BGP.Neighbours, edge.Neighbour{
				Tunnel: t.Name, Addr: end, ASN: 4200100001 + uint32(j), Preference: t.Preference, BFDMinMS: 300, BFDMult: 3,
			})
			c.Contract.BFD = append(c.Contract.BFD, t.Name)
		}
	}
	return c
}

// otherWard is ward after a change of everything: a circuit less, another
// segment on the port, another permit, one hub only.
func otherWard() edge.Config {
	c := ward()
	c.Circuits = c.Circuits[:1]
	c.Tunnels, c.BGP.Neighbours, c.Contract.BFD = c.Tunnels[:1], c.BGP.Neighbours[:1], c.Contract.BFD[:1]
	c.Segments = []edge.Segment{
		{Kind: inventory.Kiosk, Port: "lan1", V4: prefix("10.64.4.0/24"), V6: prefix("fd00:64:0:2::/64")},
		c.Segments[0],
	}
	c.Rules[0].Ports = []inventory.PortRange{{Proto: inventory.TCP, From: 8443, To: 8443}}
	return c
}

func keys() edge.Credentials {
	k1, err1 := wireguard.PublicKey(hub1Key)
	k2, err2 := wireguard.PublicKey(hub2Key)
	if err1 != nil || err2 != nil {
		panic("keys of the test are bad")
	}
	return edge.Credentials{Epoch: 1, Keys: map[inventory.DeviceID]string{"hub-1": k1, "hub-2": k2}}
}

// equal fails unless the whole box is c.
func equal(t *testing.T, h *Host, c edge.Config) {
	t.Helper()
	diff, err := h.Equal(t.Context(), c, keys())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range diff {
		t.Errorf("differs: %s", d)
	}
}

// differs fails if the box is c.
func differs(t *testing.T, h *Host, c edge.Config) {
	t.Helper()
	if diff, err := h.Equal(t.Context(), c, keys()); err != nil || len(diff) == 0 {
		t.Errorf("the box equals what it should not: %v", err)
	}
}

func apply(t *testing.T, h *Host, c edge.Config) time.Duration {
	t.Helper()
	start := time.Now()
	if err := h.Apply(t.Context(), c, keys()); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}
