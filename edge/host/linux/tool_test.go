package linux

import (
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"testing"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/edge/tool"
	"github.com/wardnet/wardnet/inventory"
)

// standing is a host that runs c, as far as the tools look.
func standing(t *testing.T, c edge.Config) *Host {
	t.Helper()
	return &Host{view: inForce{config: c}, wan: newWAN(t.TempDir(), slog.New(slog.DiscardHandler), func() {})}
}

func TestToolsLeaveWhereTold(t *testing.T) {
	c := ward()
	c.Circuits = append(c.Circuits, edge.Circuit{Name: "c-dhcp", Port: "wan2", Addressing: inventory.DHCP})
	h, tun := standing(t, c), c.Tunnels[0]
	for _, tc := range []struct {
		from tool.From
		dst  string
		want tool.Way
		err  error
	}{
		{tool.From{}, "10.0.0.10", tool.Way{}, nil},
		{tool.From{Circuit: "c-lte"}, "198.51.100.1", tool.Way{Source: addr("203.0.113.2"), Mark: render.CircuitMark("c-lte")}, nil},
		{tool.From{Circuit: "c-lte"}, "2001:db8::1", tool.Way{}, inventory.ErrInvalid},
		{tool.From{Circuit: "c-dhcp"}, "198.51.100.1", tool.Way{}, inventory.ErrConflict}, // no lease
		{tool.From{Circuit: "c-none"}, "198.51.100.1", tool.Way{}, inventory.ErrInvalid},
		{tool.From{Segment: "staff"}, "10.0.0.10", tool.Way{Source: addr("10.64.0.1")}, nil},
		{tool.From{Segment: "staff"}, "fd00:64:0:9::1", tool.Way{Source: addr("fd00:64::1")}, nil},
		{tool.From{Segment: "voice"}, "10.0.0.10", tool.Way{}, inventory.ErrInvalid},
		{tool.From{Tunnel: tun.Name}, tun.Remote.String(), tool.Way{Source: tun.Local.Addr(), Interface: render.Interface(tun), OnLink: true}, nil},
		{tool.From{Tunnel: tun.Name}, "10.0.0.10", tool.Way{Source: c.Loopback, Interface: render.Interface(tun), OnLink: true}, nil},
		{tool.From{Tunnel: tun.Name}, "fd00:1::1", tool.Way{Source: render.Inner(tun.Local.Addr()), Interface: render.Interface(tun)}, nil},
		{tool.From{Tunnel: tun.Name}, "198.51.100.1", tool.Way{}, inventory.ErrInvalid}, // not behind it
		{tool.From{Tunnel: "no"}, "10.0.0.10", tool.Way{}, inventory.ErrInvalid},
	} {
		got, err := h.Leave(tc.from, addr(tc.dst))
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s to %s: %+v, %v; want %+v, %v", tc.from, tc.dst, got, err, tc.want, tc.err)
		}
	}
}

func TestToolsLookWhereTold(t *testing.T) {
	c := ward()
	h, tun := standing(t, c), c.Tunnels[1]
	for _, tc := range []struct {
		on   tool.From
		port string
	}{{tool.From{Circuit: "c-ftth"}, "wan0"}, {tool.From{Segment: "public"}, "lan1"}, {tool.From{Tunnel: tun.Name}, render.Interface(tun)}} {
		if got, err := h.Look(tc.on); err != nil || !reflect.DeepEqual(got, tool.Port{Interface: tc.port}) {
			t.Errorf("%s: %+v, %v", tc.on, got, err)
		}
	}
	for _, on := range []tool.From{{Circuit: "x"}, {Tunnel: "x"}, {Segment: "x"}} {
		if _, err := h.Look(on); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s: %v", on, err)
		}
	}
	// A hub's tunnels share a port: each shows its own site only.
	for i := range c.Tunnels {
		c.Tunnels[i].ListenPort = 51820
	}
	c.Tunnels[1].AllowedIPs = []netip.Prefix{prefix("10.64.0.0/20")}
	got, err := standing(t, c).Look(tool.From{Tunnel: tun.Name})
	want := []netip.Prefix{prefix("10.64.0.0/20"), prefix(tun.Remote.String() + "/32"), prefix(render.Inner(tun.Remote).String() + "/128")}
	if err != nil || got.Interface != "wn51820" || !reflect.DeepEqual(got.Hosts, want) {
		t.Errorf("%+v, %v; want %v", got, err, want)
	}
}
