//go:build lab

package strongswan

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/host/program"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// city is a hub and two edges, the first with two circuits, over a routed
// underlay.
type city struct {
	root, devices *authority
	hub, e1, e2   *box
	router        *box // has no driver
}

// wireCounters count what the underlay carries.
const wireCounters = `table inet wardnet_ipsec {
	chain clear { type filter hook forward priority 0; udp dport 4789 counter; }
	chain sealed { type filter hook forward priority 0; udp dport 4500 counter; }
}
`

func (c *city) wire(t *testing.T, chain string) int { return dropped(t, c.router, chain) }

func newCity(t *testing.T) *city {
	t.Helper()
	needRoot(t)
	c := &city{}
	c.root = newCA(t, "root", nil)
	c.devices = newCA(t, "devices", c.root)
	router := fmt.Sprintf("ipsec-%d-r", os.Getpid())
	namespace(t, router)
	if err := (&box{ns: router}).in(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) }); err != nil {
		t.Fatal(err)
	}
	c.router = &box{t: t, ns: router}
	if err := c.router.in(func() error {
		_, err := program.Run(t.Context(), nftWithin, []byte(wireCounters), "/usr/sbin/nft", "-f", "-")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	admitted := edge.Credentials{Keys: map[inventory.DeviceID]string{"hub-1": "k", "e-1": "k", "e_2": "k"}}
	hub := render.Input{Credentials: admitted, Config: edge.Config{Device: "hub-1", Role: inventory.RoleHub, Circuits: []edge.Circuit{circuit("h", 0)}}}
	ends := []render.Input{
		{Credentials: admitted, Config: edge.Config{Device: "e-1", Role: inventory.RoleEdge, Circuits: []edge.Circuit{circuit("a", 1), circuit("b", 2)}}},
		{Credentials: admitted, Config: edge.Config{Device: "e_2", Role: inventory.RoleEdge, Circuits: []edge.Circuit{circuit("d", 3)}}},
	}
	n := byte(0)
	for i := range ends {
		cfg := &ends[i].Config
		lan := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(16 * i), 0}), 20)
		for _, wan := range cfg.Circuits {
			here, there := netip.AddrFrom4([4]byte{172, 17, 0, n}), netip.AddrFrom4([4]byte{172, 17, 0, n + 1})
			n += 2
			x := edge.Tunnel{Name: wan.Name + "--hub-1", Kind: edge.IPsec, Circuit: wan.Name, Peer: "hub-1", MTU: 1350}
			x.Endpoint = netip.AddrPortFrom(hub.Config.Circuits[0].Address.Addr(), render.IPsecPort)
			x.Local, x.Remote = netip.PrefixFrom(here, 31), there
			x.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("10.64.0.0/10"), netip.MustParsePrefix("172.17.0.0/16")}
			cfg.Tunnels = append(cfg.Tunnels, x)
			x.Circuit, x.Peer, x.Endpoint, x.ListenPort = "h", cfg.Device, netip.AddrPort{}, render.IPsecPort
			x.Local, x.Remote = netip.PrefixFrom(there, 31), here
			x.AllowedIPs = []netip.Prefix{lan, netip.PrefixFrom(here, 32)}
			hub.Config.Tunnels = append(hub.Config.Tunnels, x)
		}
	}
	c.hub, c.e1, c.e2 = newBox(t, router, "h", hub), newBox(t, router, "e", ends[0]), newBox(t, router, "f", ends[1])
	for _, b := range []*box{c.hub, c.e1, c.e2} {
		b.id = c.devices.identity(t, c.root, b.input.Config.Device)
		b.open()
	}
	return c
}

func (c *city) start(t *testing.T) {
	t.Helper()
	for _, b := range []*box{c.hub, c.e1, c.e2} {
		b.apply(b.tunnels())
	}
	t.Logf("tunnels up: e-1 after %s, e_2 after %s, hub after %s", c.e1.up(20*time.Second), c.e2.up(20*time.Second), c.hub.up(20*time.Second))
}

// passes fails the test unless packets of full size pass both ways.
func passes(t *testing.T, a, b *box, here, there string) {
	t.Helper()
	if n := a.ping(here, there, 10); n < 10 {
		t.Errorf("%s -> %s: %d of 10 answered", here, there, n)
	}
	if n := b.ping(there, here, 10); n < 10 {
		t.Errorf("%s -> %s: %d of 10 answered", there, here, n)
	}
}

func TestTunnels(t *testing.T) {
	c := newCity(t)
	c.start(t)
	passes(t, c.e1, c.hub, "172.17.0.0", "172.17.0.1")
	passes(t, c.e1, c.hub, "172.17.0.2", "172.17.0.3")
	passes(t, c.e2, c.hub, "172.17.0.4", "172.17.0.5")
	c.e2.carriesV6(c.hub, "172.17.0.5")
	states, err := c.hub.driver.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if s.InBytes == 0 || s.OutBytes == 0 {
			t.Errorf("traffic of %s is not counted: %+v", s.Name, s)
		}
	}

	t.Run("same again keeps every SA", func(t *testing.T) {
		before := [2]map[string]string{c.hub.sas(), c.e1.sas()}
		c.hub.apply(c.hub.tunnels())
		c.e1.apply(c.e1.tunnels())
		if after := [2]map[string]string{c.hub.sas(), c.e1.sas()}; !maps.Equal(before[0], after[0]) || !maps.Equal(before[1], after[1]) {
			t.Errorf("SAs %v became %v", before, after)
		}
	})
	t.Run("a new agent adopts charon", func(t *testing.T) {
		before := c.e1.sas()
		c.e1.open()
		c.e1.apply(c.e1.tunnels())
		if after := c.e1.sas(); !maps.Equal(before, after) {
			t.Errorf("SAs %v became %v", before, after)
		}
	})
	t.Run("renewed certificates keep every SA", func(t *testing.T) {
		before := c.hub.sas()
		for _, b := range []*box{c.hub, c.e1} {
			b.id = c.devices.identity(t, c.root, b.input.Config.Device)
			b.apply(b.tunnels())
			b.session(func(s *client) error {
				keys, err := s.call(t.Context(), "get-keys", nil)
				if err == nil && len(keys.lists["keys"]) != 1 {
					t.Errorf("charon has keys %v; want the new one alone", keys.lists["keys"])
				}
				return err
			})
		}
		if after := c.hub.sas(); !maps.Equal(before, after) {
			t.Errorf("SAs %v became %v", before, after)
		}
	})
	t.Run("rekey and new authentication lose nothing", func(t *testing.T) {
		old := c.hub.sas()["a--hub-1"]
		var wg sync.WaitGroup
		sent, got, done := 0, 0, make(chan struct{})
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					sent, got = sent+10, got+c.e1.ping("172.17.0.0", "172.17.0.1", 10)
				}
			}
		})
		state := func() State {
			list, err := c.hub.driver.State(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return list[0]
		}
		// The edge asked, so it is the one to ask again, told by the hub when
		// (RFC 4478); here it is told by us.
		c.e1.session(func(s *client) error {
			_, err := s.call(t.Context(), "rekey", new(message).set("ike-id", c.e1.sas()["a--hub-1"]).set("reauth", "yes"))
			return err
		})
		took2 := c.hub.until(20*time.Second, "authenticated anew", func() bool {
			ids := c.hub.sas()
			return ids["a--hub-1"] != old && ids["a--hub-1"] != "" && c.hub.count(t, "a--hub-1") == 1
		})
		was := state().Rekeys
		c.hub.session(func(s *client) error {
			_, err := s.call(t.Context(), "rekey", new(message).set("child-id", childID(t, s, c.hub, "a--hub-1")))
			return err
		})
		took := c.hub.until(20*time.Second, "another CHILD SA", func() bool { return state().Rekeys == was+1 && c.hub.count(t, "a--hub-1") == 1 })
		close(done)
		wg.Wait()
		sent, got = sent+50, got+c.e1.ping("172.17.0.0", "172.17.0.1", 50)
		t.Logf("rekeyed after %s, authenticated anew after %s, %d of %d packets lost", took, took2, sent-got, sent)
		if sent-got > 3 {
			t.Errorf("%d of %d packets lost; those in flight may be", sent-got, sent)
		}
	})
	t.Run("sources are checked", func(t *testing.T) {
		wn := c.hub.tunnels()[0].Interface
		for _, a := range []string{"10.64.0.1", "10.64.99.1"} {
			ip(t, "-n", c.e1.ns, "addr", "add", a+"/32", "dev", "lo")
			ip(t, "-n", c.hub.ns, "route", "add", a+"/32", "via", "172.17.0.0", "dev", wn)
		}
		if n := c.e1.ping("10.64.0.1", "172.17.0.1", 3); n != 3 {
			t.Errorf("its own source: %d of 3 answered", n)
		}
		if n := c.e1.ping("10.64.99.1", "172.17.0.1", 3); n != 0 {
			t.Errorf("another's source: %d of 3 answered", n)
		}
	})
	t.Run("another's VNI is refused", func(t *testing.T) {
		// e-1 poses as e_2: VXLAN with e_2's VNI and address, in its own SA.
		own, other := c.e1.tunnels()[0], c.e2.tunnels()[0]
		ip(t, "-n", c.e1.ns, "link", "add", "posing", "address", other.MAC().String(), "type", "vxlan", "id", fmt.Sprint(other.VNI),
			"local", own.VTEP.String(), "remote", own.PeerVTEP.String(), "dstport", "4789", "srcport", "4789", "4790", "nolearning")
		ip(t, "-n", c.e1.ns, "addr", "add", "172.17.0.4/32", "peer", "172.17.0.5", "dev", "posing")
		ip(t, "-n", c.e1.ns, "link", "set", "posing", "up")
		ip(t, "-n", c.e1.ns, "neigh", "add", "172.17.0.5", "lladdr", other.PeerMAC().String(), "dev", "posing")
		c.e1.ping("172.17.0.4", "172.17.0.5", 3)
		if n := dropped(t, c.hub, "vtep_"+own.Interface); n < 3 {
			t.Errorf("the hub dropped %d packets with another's VNI; want 3", n)
		}
		ip(t, "-n", c.e1.ns, "link", "del", "posing")
	})
	t.Run("a killed charon comes back", func(t *testing.T) {
		for _, b := range []*box{c.e1, c.hub} {
			other := c.e2.sas()
			var pid int
			b.session(func(s *client) (err error) { pid, err = s.pid(); return err })
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			b.until(5*time.Second, "charon ended", func() bool { return !running(pid) })
			b.until(25*time.Second, "packets pass again", func() bool {
				return c.e1.ping("172.17.0.0", "172.17.0.1", 1) == 1 && c.e1.ping("172.17.0.2", "172.17.0.3", 1) == 1
			})
			t.Logf("%s: killed, packets pass again after %s", b.ns, time.Since(start))
			if n := dropped(t, c.e1, "output"); b == c.e1 && n == 0 {
				t.Error("without charon nothing had to be kept from leaving in clear; the pings should have")
			}
			if b == c.e1 && !maps.Equal(other, c.e2.sas()) {
				t.Error("the other edge lost its SA")
			}
		}
		c.e2.up(25 * time.Second)
		c.hub.up(25 * time.Second)
		passes(t, c.e2, c.hub, "172.17.0.4", "172.17.0.5")
	})
	t.Run("a removed device is cut at once", func(t *testing.T) {
		before := c.hub.sas()
		delete(c.hub.input.Credentials.Keys, "e-1")
		start := time.Now()
		c.hub.apply(c.hub.tunnels())
		t.Logf("cut in %s", time.Since(start))
		for _, src := range []string{"172.17.0.0", "172.17.0.2"} {
			if n := c.e1.ping(src, netip.MustParseAddr(src).Next().String(), 3); n != 0 {
				t.Errorf("%s: %d of 3 answered after removal", src, n)
			}
		}
		if out := c.hub.show(t, "link"); !strings.Contains(out, c.hub.tunnels()[0].Interface) {
			t.Errorf("the interface of a tunnel that is configured went with its SA: %s", out)
		}
		if after := c.hub.sas(); len(after) != 1 || after["d--hub-1"] != before["d--hub-1"] {
			t.Errorf("SAs %v became %v; want only e_2's, unchanged", before, after)
		}
		passes(t, c.e2, c.hub, "172.17.0.4", "172.17.0.5")
		c.hub.input.Credentials.Keys["e-1"] = "k"
		c.hub.apply(c.hub.tunnels())
		c.e1.up(25 * time.Second)
		t.Logf("admitted again and up; packets pass after %s", c.e1.until(10*time.Second, "packets pass again", func() bool {
			return c.e1.ping("172.17.0.0", "172.17.0.1", 1) == 1
		}))
		passes(t, c.e1, c.hub, "172.17.0.0", "172.17.0.1")
	})
	t.Run("nothing leaks, nothing stays", func(t *testing.T) {
		if clear, sealed := c.wire(t, "clear"), c.wire(t, "sealed"); clear != 0 || sealed == 0 {
			t.Errorf("on the wire: %d packets of VXLAN in clear, %d of ESP", clear, sealed)
		}
		var pid int
		c.e2.session(func(s *client) (err error) { pid, err = s.pid(); return err })
		c.e2.apply(nil)
		if running(pid) {
			t.Error("charon still runs with no tunnel to keep")
		}
		if out := c.e2.show(t, "link"); strings.Contains(out, "vxlan") || strings.Contains(out, "ipsec0") {
			t.Errorf("interfaces stay: %s", out)
		}
		if out := c.e2.show(t, "addr"); strings.Contains(out, "172.25.") {
			t.Errorf("addresses stay: %s", out)
		}
	})
}

func TestRefusals(t *testing.T) {
	c := newCity(t)
	services := newCA(t, "services", c.root)
	c.hub.apply(c.hub.tunnels())
	c.hub.talkative()
	good := c.e2.tunnels()

	t.Run("an identity of another issuer is not even loaded", func(t *testing.T) {
		for name, id := range map[string]Identity{
			"services issuer": services.identity(t, c.root, "e_2"),
			"other device":    c.devices.identity(t, c.root, "e-1"),
			"other root":      c.devices.identity(t, newCA(t, "root", nil), "e_2"),
			"nothing":         {},
		} {
			if err := c.e2.driver.Apply(t.Context(), id, good); !errors.Is(err, inventory.ErrInvalid) {
				t.Errorf("%s: error %v; want %v", name, err, inventory.ErrInvalid)
			}
		}
	})
	t.Run("a certificate of another issuer is refused", func(t *testing.T) {
		// A device that lies: it loads a good chain to the root, but of the
		// services issuer, under e_2's name.
		lie := services.identity(t, c.root, "e_2")
		honest, err := c.e2.id.material("e_2")
		if err != nil {
			t.Fatal(err)
		}
		honest.issuers = append(honest.issuers, certPEM(services.cert))
		honest.leaf, honest.key, honest.digest = leafOf(t, lie), keyOf(t, lie), "lie"
		if err := c.e2.in(func() error { return c.e2.driver.apply(t.Context(), &wanted{honest, good}) }); err != nil {
			t.Fatal(err)
		}
		c.hub.until(15*time.Second, "the hub refuses", func() bool { return c.hub.logged("is not issued by") || c.hub.logged("constraint check failed") })
		down(t, c.hub, "d--hub-1")
	})
	t.Run("another's selector is refused", func(t *testing.T) {
		// A device that lies: e_2's certificate, e-1's VTEP.
		rogue := slices.Clone(good)
		rogue[0].VTEP = c.e1.tunnels()[0].VTEP
		c.e2.apply(rogue)
		c.hub.until(15*time.Second, "the hub refuses", func() bool { return c.hub.logged("unacceptable") })
		down(t, c.hub, "a--hub-1")
		if st, err := c.e2.driver.State(t.Context()); err != nil || st[0].Up {
			t.Errorf("the rogue's tunnel: %+v, %v", st, err)
		}
	})
	t.Run("a tunnel not admitted yet is refused", func(t *testing.T) {
		delete(c.hub.input.Credentials.Keys, "e_2")
		c.hub.apply(c.hub.tunnels())
		c.e2.apply(good)
		c.hub.until(15*time.Second, "the hub refuses", func() bool { return c.hub.logged("no matching peer config found") })
	})
	t.Run("the honest one comes up", func(t *testing.T) {
		c.hub.input.Credentials.Keys["e_2"] = "k"
		c.hub.apply(c.hub.tunnels())
		c.e2.apply(good)
		c.e2.up(25 * time.Second)
		passes(t, c.e2, c.hub, "172.17.0.4", "172.17.0.5")
	})
	t.Run("a change that fails leaves what was", func(t *testing.T) {
		before := c.e2.sas()
		broken := slices.Clone(good)
		broken[0].Interface = "far-too-long-for-linux"
		if err := c.e2.in(func() error { return c.e2.driver.Apply(t.Context(), c.e2.id, broken) }); err == nil {
			t.Fatal("an interface name of 22 bytes was accepted")
		}
		if after := c.e2.sas(); !maps.Equal(before, after) {
			t.Errorf("SAs %v became %v", before, after)
		}
		passes(t, c.e2, c.hub, "172.17.0.4", "172.17.0.5")
	})
}
