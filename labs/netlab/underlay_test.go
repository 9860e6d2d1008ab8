package netlab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// underlay plumbs a lab without controller and agents.
func underlay(t *testing.T, shape Shape) *Lab {
	t.Helper()
	if err := Root(); err != nil {
		t.Skipf("SKIPPED, nothing of the real lab is tested: %v", err)
	}
	shape.Prefix = "t" + strconv.FormatInt(int64(os.Getpid()), 36)
	dir := t.TempDir()
	l, err := newLab(dir, state{Shape: shape}, sample.City(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(true); err != nil {
			t.Error(err)
		}
		if left, err := netns.List(shape.Prefix + "-"); err != nil || len(left) > 0 {
			t.Errorf("down left %v, %v", left, err)
		}
		if _, err := os.Stat(filepath.Join(frrRun, l.Topology.DC)); err == nil {
			t.Error("down left FRR's sockets")
		}
	})
	if err := os.MkdirAll(l.path("run"), 0o700); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := l.tools.plumb(t.Context(), l.Topology); err != nil {
		t.Fatal(err)
	}
	t.Logf("plumbed %d namespaces and %d links in %s", len(l.Topology.Namespaces), len(l.Topology.Links), time.Since(begin).Round(time.Millisecond))
	begin = time.Now()
	if err := l.underlay(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("carriers and data centre up in %s", time.Since(begin).Round(time.Millisecond))
	return l
}

// Every circuit of every ward, static or by DHCP, leads to the controller and
// to every hub that its carrier reaches; what is behind CGNAT shows the
// carrier's address.
func TestEveryCircuitReachesControllerAndHubs(t *testing.T) {
	l := underlay(t, Shape{Hubs: 2, Wards: 3})
	ctl := answerTCP(t, Name(l.Topology.Prefix, "ctl"), netip.AddrPortFrom(controllerAddr, 9443))
	hubs := map[netip.AddrPort]netip.AddrPort{}
	x := l.City.Index()
	for _, s := range l.Topology.Sites {
		if s.Role != inventory.RoleHub {
			continue
		}
		for _, id := range s.Circuits {
			c, _ := x.Circuit(id)
			attachBox(t, l, s, c, c.Address, c.Gateway)
			if c.Kind != inventory.Metronet {
				at := netip.AddrPortFrom(c.Address.Addr(), 9443)
				hubs[at] = answerTCP(t, s.NS, at)
			}
			detachDefault(t, l, s)
		}
		// A hub's answers leave by its primary; in the product source rules do this.
		c, _ := x.Circuit(s.Circuits[0])
		text := fmt.Sprintf("route replace default via %s\n", c.Gateway)
		if err := run(t.Context(), text, l.tools.ip, "-n", s.NS, "-batch", "-"); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range l.Topology.Sites {
		if s.Role == inventory.RoleHub {
			continue
		}
		for _, id := range s.Circuits {
			c, _ := x.Circuit(id)
			address, gateway := c.Address, c.Gateway
			if c.Addressing != inventory.Static {
				address, gateway = lease(t, s.NS, c.Port)
			}
			attachBox(t, l, s, c, address, gateway)
			from := dial(t, s.NS, ctl)
			carrier, _ := l.Topology.Carrier(c.Carrier)
			want := address.Addr()
			if c.Addressing == inventory.CGNAT {
				want = carrier.NAT
			}
			if from != want {
				t.Errorf("%s is seen from the controller as %s, want %s", c.ID, from, want)
			}
			if !carrier.Private {
				for _, at := range hubs {
					dial(t, s.NS, at)
				}
			}
			if err := run(t.Context(), "addr flush dev "+c.Port+"\n", l.tools.ip, "-n", s.NS, "-batch", "-"); err != nil {
				t.Fatal(err)
			}
		}
	}
	s, err := l.sessions(t.Context(), l.Topology.DC)
	if err != nil || s.want != 2 {
		t.Errorf("the data centre's router has %d sessions configured, want 2: %v", s.want, err)
	}
}

// A box that lost power has its cables again, each time, and what the far ends
// serve is there; nothing of the old box is left.
func TestRebuild(t *testing.T) {
	l := underlay(t, Shape{Hubs: 1, Wards: 2})
	for _, s := range l.Topology.Sites {
		for range 3 {
			text := "link set lo up\naddr add 192.0.2.1/32 dev lo\n"
			if err := run(t.Context(), text, l.tools.ip, "-n", s.NS, "-batch", "-"); err != nil {
				t.Fatal(err) // the third fails where a rebuilt box kept its address
			}
			if err := l.Rebuild(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		if s.Role == inventory.RoleHub {
			continue
		}
		for _, id := range s.Circuits {
			if c, _ := l.City.Index().Circuit(id); c.Addressing != inventory.Static {
				lease(t, s.NS, c.Port)
			}
		}
	}
}

// lease asks for an address as an edge would.
func lease(t *testing.T, ns, port string) (netip.Prefix, netip.Addr) {
	t.Helper()
	begin := time.Now()
	var c *nclient4.Client
	err := netns.Do(ns, func() (err error) {
		c, err = nclient4.New(port, nclient4.WithTimeout(time.Second), nclient4.WithRetry(5))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := c.Request(t.Context())
	if err != nil {
		t.Fatalf("DHCP at %s %s: %v", ns, port, err)
	}
	addr, _ := netip.AddrFromSlice(got.ACK.YourIPAddr.To4())
	ones, _ := got.ACK.SubnetMask().Size()
	gw, _ := netip.AddrFromSlice(got.ACK.Router()[0].To4())
	t.Logf("%s %s: %s/%d by %s in %s", ns, port, addr, ones, gw, time.Since(begin).Round(time.Millisecond))
	return netip.PrefixFrom(addr, ones), gw
}

func attachBox(t *testing.T, l *Lab, s Site, c inventory.Circuit, address netip.Prefix, gateway netip.Addr) {
	t.Helper()
	text := fmt.Sprintf("link set lo up\naddr replace %s dev %s\nroute replace default via %s\n", address, c.Port, gateway)
	if err := run(t.Context(), text, l.tools.ip, "-n", s.NS, "-batch", "-"); err != nil {
		t.Fatal(err)
	}
}

func detachDefault(t *testing.T, l *Lab, s Site) {
	t.Helper()
	if err := run(t.Context(), "route delete default\n", l.tools.ip, "-n", s.NS, "-batch", "-"); err != nil {
		t.Fatal(err)
	}
}

// answerTCP tells every caller the address it is seen from.
func answerTCP(t *testing.T, ns string, at netip.AddrPort) netip.AddrPort {
	t.Helper()
	var l net.Listener
	err := netns.Do(ns, func() (err error) {
		l, err = net.Listen("tcp", at.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprint(c, c.RemoteAddr())
			_ = c.Close()
		}
	}()
	return at
}

func dial(t *testing.T, ns string, at netip.AddrPort) netip.Addr {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := netns.Dial(ctx, ns, "tcp", at.String())
	if err != nil {
		t.Errorf("%s does not reach %s: %v", ns, at, err)
		return netip.Addr{}
	}
	defer c.Close()
	b := make([]byte, 64)
	n, err := c.Read(b)
	if err != nil {
		t.Errorf("%s hears nothing from %s: %v", ns, at, err)
	}
	seen, err := netip.ParseAddrPort(string(b[:n]))
	if err != nil {
		t.Error(err)
	}
	return seen.Addr()
}
