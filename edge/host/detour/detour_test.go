package detour

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/wardnet/wardnet/edge/render"
)

// namespace makes a network namespace with two interfaces and opens its tables.
func namespace(t *testing.T) (*Tables, string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT RUN: this test makes a network namespace, which needs root")
	}
	name := fmt.Sprintf("w4-%d-detour", os.Getpid())
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, out)
		}
	}
	ip("netns", "add", name)
	t.Cleanup(func() { ip("netns", "del", name) })
	ip("-n", name, "link", "add", "w4a", "type", "veth", "peer", "name", "w4b")
	for i, dev := range []string{"w4a", "w4b"} {
		ip("-n", name, "addr", "add", fmt.Sprintf("172.16.0.%d/31", 2*i), "dev", dev)
		ip("-n", name, "addr", "add", fmt.Sprintf("fd00::%d/127", 2*i), "dev", dev, "nodad")
		ip("-n", name, "link", "set", dev, "up")
	}
	ns, err := netns.GetFromName(name)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return &Tables{h}, name
}

// have is what the kernel has of ours, as text.
func have(t *testing.T, tables *Tables) []string {
	t.Helper()
	list, err := tables.list()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, k := range list {
		link, err := tables.kernel.LinkByIndex(k.LinkIndex)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%d %s via %v dev %s", k.Table, k.Dst, k.Gw, link.Attrs().Name))
	}
	slices.Sort(out)
	return out
}

func route(table int, dst, via, dev string) render.Route {
	r := render.Route{Table: table, Dst: netip.MustParsePrefix(dst), Dev: dev}
	if via != "" {
		r.Via = netip.MustParseAddr(via)
	}
	return r
}

func TestSet(t *testing.T) {
	tables, name := namespace(t)
	// Somebody else's route in the same table stays.
	link, err := tables.kernel.LinkByName("w4a")
	if err != nil {
		t.Fatal(err)
	}
	foreign := &netlink.Route{Table: 100, Protocol: 0x57, LinkIndex: link.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4(10, 99, 0, 0).To4(), Mask: net.CIDRMask(16, 32)}, Scope: netlink.SCOPE_LINK}
	if err := tables.kernel.RouteAdd(foreign); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		routes []render.Route
		want   []string
	}{
		{nil, nil},
		{
			[]render.Route{route(100, "10.64.0.0/20", "172.16.0.1", "w4a"), route(100, "fd01::/64", "fd00::1", "w4a"), route(101, "10.64.1.0/24", "", "w4b")},
			[]string{"100 10.64.0.0/20 via 172.16.0.1 dev w4a", "100 fd01::/64 via fd00::1 dev w4a", "101 10.64.1.0/24 via <nil> dev w4b"},
		},
		{ // the other way
			[]render.Route{route(100, "10.64.0.0/20", "172.16.0.3", "w4b"), route(100, "fd01::/64", "fd00::3", "w4b")},
			[]string{"100 10.64.0.0/20 via 172.16.0.3 dev w4b", "100 fd01::/64 via fd00::3 dev w4b"},
		},
		{nil, nil},
	}
	for i, step := range steps {
		for range 2 { // the second time changes nothing
			if err := tables.Set(step.routes); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
			if got := have(t, tables); !slices.Equal(got, step.want) {
				t.Fatalf("step %d: %v, want %v", i, got, step.want)
			}
		}
	}
	list, err := tables.kernel.RouteListFiltered(netlink.FAMILY_V4, foreign, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil || len(list) != 1 {
		t.Errorf("somebody else's routes in the table: %v, %v; want the one", list, err)
	}
	// A route that cannot be set is named; the others are set.
	err = tables.Set([]render.Route{route(100, "10.1.0.0/16", "172.16.0.1", "none"), route(100, "10.2.0.0/16", "172.16.0.1", "w4a")})
	if err == nil || !strings.Contains(err.Error(), "10.1.0.0/16") {
		t.Errorf("route over no interface: %v", err)
	}
	if got := have(t, tables); !slices.Equal(got, []string{"100 10.2.0.0/16 via 172.16.0.1 dev w4a"}) {
		t.Errorf("beside it: %v", got)
	}
	// An interface that went took its routes along.
	if out, err := exec.Command("ip", "-n", name, "link", "del", "w4a").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := tables.Set(nil); err != nil || len(have(t, tables)) != 0 {
		t.Errorf("after the interface went: %v", err)
	}
}

// The main table is told hop by hop, without the defaults and other tables.
func TestMainTable(t *testing.T) {
	tables, name := namespace(t)
	if err := tables.Set([]render.Route{route(100, "10.1.0.0/16", "172.16.0.1", "w4a")}); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"route", "add", "default", "via", "172.16.0.1"},
		{"route", "add", "10.2.0.0/16", "via", "172.16.0.3", "proto", "bgp"},
		{"route", "add", "10.3.0.0/16", "proto", "bgp", "nexthop", "via", "172.16.0.1", "nexthop", "via", "172.16.0.3"},
		{"route", "add", "blackhole", "10.4.0.0/16"},
		{"nexthop", "add", "id", "7", "via", "172.16.0.1", "dev", "w4a"}, // as FRR does
		{"route", "add", "10.5.0.0/16", "nhid", "7", "proto", "bgp"},
		{"-6", "route", "add", "fd01::/64", "via", "fd00::3"},
	} {
		if out, err := exec.Command("ip", append([]string{"-n", name}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, out)
		}
	}
	list, err := tables.Main()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range list {
		if r.Dst.Bits() < 30 || r.Dst.Addr().Is6() && r.Dst.Bits() == 64 && !r.Dst.Addr().IsLinkLocalUnicast() {
			got = append(got, r.Dst.String()+" "+r.Dev)
		}
	}
	slices.Sort(got)
	if want := []string{"10.2.0.0/16 w4b", "10.3.0.0/16 w4a", "10.3.0.0/16 w4b", "10.5.0.0/16 w4a", "fd01::/64 w4b"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
