//go:build lab

package cli

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/edgetest"
	"github.com/wardnet/wardnet/edge/foreign"
	"github.com/wardnet/wardnet/edge/sshwire"
	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/clibox"
	"github.com/wardnet/wardnet/labs/netlab/netns/netnstest"
	"github.com/wardnet/wardnet/pki"
)

// router is a real FRR behind a real sshd, and the driver's Box for it, that
// logs in with certificates of a real CA.
type router struct {
	*testing.T
	*clibox.Box
	box    *Box
	cut    *cutter
	logins atomic.Int64
	host   atomic.Value // string: the name that new host keys are certified for
	cfg    Config
}

// cutter cuts the router's connection when it is told to: after so many writes.
type cutter struct {
	net.Conn
	left *atomic.Int64 // negative: never
}

func (c *cutter) Write(b []byte) (int, error) {
	if c.left.Load() >= 0 && c.left.Add(-1) < 0 {
		_ = c.Close()
		return 0, errors.New("the line is cut")
	}
	return c.Conn.Write(b)
}

func newRouter(t *testing.T, id inventory.DeviceID, shell string) *router {
	t.Helper()
	for _, program := range []string{"/usr/sbin/sshd", "/usr/bin/vtysh", "/usr/lib/frr/bgpd"} {
		if _, err := os.Stat(program); err != nil {
			t.Skipf("NOT RUN: needs %s (packages openssh-server and frr)", program)
		}
	}
	space := netnstest.Spaces(t, "frr")[0]
	db, err := store.Open(t.Context(), "sqlite://"+filepath.Join(t.TempDir(), "wardnet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	ca, err := pki.Open(t.Context(), pki.Deps{
		Store: store.NewPKI(db, "hcmc"), Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		Audit: func(context.Context, pki.Event) error { return nil },
	}, pki.Config{})
	if err != nil {
		t.Fatal(err)
	}
	r := &router{T: t, cut: &cutter{left: &atomic.Int64{}}}
	r.cut.left.Store(-1)
	r.host.Store("router.example")
	r.Box, err = clibox.Start(t.Context(), clibox.Config{
		Space: space, Dir: t.TempDir(), UserCA: ca.SSHUserCA(), Shell: shell,
		Certify: func(ctx context.Context, pub ssh.PublicKey) (*ssh.Certificate, error) {
			return ca.SignSSHHost(ctx, id, pub, []string{r.host.Load().(string)}, time.Hour)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	r.cfg = Config{
		Platform: "frr", Device: id, Timeout: 10 * time.Second,
		SSH: sshwire.Config{
			Addr: r.Addr(), HostName: "router.example", User: clibox.User, HostCA: ca.SSHHostCA(),
			Signer: func(ctx context.Context) (ssh.Signer, error) {
				r.logins.Add(1)
				return ca.SSHSigner(ctx, id)
			},
			Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := r.Dial(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				return &cutter{conn, r.cut.left}, nil
			},
		},
	}
	r.box = r.open(r.cfg)
	return r
}

func (r *router) open(cfg Config) *Box {
	r.Helper()
	d, err := New(cfg)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { d.Close() })
	return d.(*Box)
}

// runs fails unless exactly c is on the router.
func (r *router) runs(c edge.Config) {
	r.Helper()
	got, err := r.box.Read(r.Context(), c)
	if err != nil {
		r.Fatal(err)
	}
	if d := edge.Diff(got, c); !d.Empty() {
		r.Fatalf("the router has something else:\n%s", d)
	}
}

func (r *router) write(c edge.Config) {
	r.Helper()
	if err := r.box.Write(r.Context(), edge.Config{}, c); err != nil {
		r.Fatal(err)
	}
}

func (r *router) vty(commands ...string) string {
	r.Helper()
	out, err := r.Vtysh(context.WithoutCancel(r.Context()), commands...)
	if err != nil {
		r.Fatal(err)
	}
	return out
}

// TestFRR writes, reads back, repairs and removes on a real router.
func TestFRR(t *testing.T) {
	r := newRouter(t, "r-1", "")
	r.vty("configure terminal", "ip prefix-list theirs seq 5 permit 198.51.100.0/24", "route-map theirs permit 10", "interface lo", "ip address 192.0.2.1/32")
	r.runs(edge.Config{})
	theirs := r.vty("show running-config")

	start := time.Now()
	r.write(ward())
	t.Logf("a new device in %s", time.Since(start))
	r.runs(ward())
	start = time.Now()
	r.write(ward())
	t.Logf("nothing to do in %s", time.Since(start))
	start = time.Now()
	r.write(changed())
	t.Logf("a change of everything in %s", time.Since(start))
	r.runs(changed())
	other := changed()
	other.BGP.Accept = prefixes("10.128.0.0/9", "192.0.2.1/32")
	other.BGP.ASN = 65001 // FRR has one AS at a time
	r.write(other)
	r.runs(other)
	if n := r.logins.Load(); n != 1 {
		t.Errorf("%d logins for one session", n)
	}

	// By hand.
	for _, edit := range [][]string{
		{"router bgp 65001", "timers bgp 5 15"},
		{"ip prefix-list wardnet-overlay seq 77 permit 0.0.0.0/0 le 32"},
		{"router bgp 65001", "no neighbor 172.17.0.3 description"},
		{"router bgp 65001", "neighbor 192.0.2.77 remote-as 65077"},
		{"router bgp 65001", "address-family ipv4 unicast", "no neighbor 172.17.0.3 route-map wardnet-in-900 in"},
		{"no ip prefix-list wardnet-own seq 4000000000 deny any"},
		{"route-map wardnet-in-900 permit 10", "set metric 7"},
		{"interface lo", "no ip address 172.16.0.8/32 label lo:wardnet"},
		{"bfd", "profile wardnet-300-3", "echo-mode"},
		{"router bgp 65001", "neighbor 172.17.0.3 password hunter2"},
	} {
		r.vty(append([]string{"configure terminal"}, edit...)...)
		got, err := r.box.Read(t.Context(), other)
		if err != nil {
			t.Fatal(err)
		}
		if edge.Diff(other, got).Empty() {
			t.Errorf("%q does not show", edit)
		}
		if seen := fmt.Sprint(got); strings.Contains(seen, "hunter2") {
			t.Errorf("a secret leaves the driver: %s", seen)
		}
		was := got
		r.write(other)
		r.runs(other)
		// And back to how it was found, which the return of a commit needs.
		r.write(was)
		r.runs(was)
		r.write(other)
		r.runs(other)
	}

	r.write(edge.Config{})
	r.runs(edge.Config{})
	// An empty block of BFD stays: it may be somebody else's.
	if now := strings.Replace(r.vty("show running-config"), "bfd\nexit\n!\n", "", 1); now != theirs {
		t.Errorf("what is not ours is not as it was:\n%s\nand was\n%s", now, theirs)
	}
}

// TestFRRWalk goes from one configuration to another and reads each back.
func TestFRRWalk(t *testing.T) {
	r := newRouter(t, "r-1", "")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	for range 25 {
		c := ward()
		c.Loopback = netip.AddrFrom4([4]byte{172, 16, 0, byte(dice.IntN(3))})
		c.BGP.ASN = []uint32{65001, 4200026740}[dice.IntN(8)/7]
		c.BGP.RouterID = netip.AddrFrom4([4]byte{172, 16, 0, byte(1 + dice.IntN(2))})
		all := prefixes("10.64.0.0/20", "10.64.16.0/20", "172.16.0.7/32", "fd5a:1::/48", "fd5a:2::/48")
		c.BGP.Networks = nil
		for _, n := range all {
			if dice.IntN(2) == 0 {
				c.BGP.Networks = append(c.BGP.Networks, n)
			}
		}
		var list []edge.Neighbour
		for i, n := range c.BGP.Neighbours {
			if dice.IntN(3) == 0 {
				continue
			}
			n.ASN, n.Preference, n.BFDMult = uint32(65002+dice.IntN(2)), 100*dice.IntN(3), 3+dice.IntN(2)
			list = append(list, n)
			if dice.IntN(2) == 0 {
				c.Tunnels[i].AllowedIPs = prefixes("10.64.0.0/10")
			}
		}
		c.BGP.Neighbours = list
		if dice.IntN(6) == 0 {
			c.BGP = edge.BGP{}
		}
		r.write(c)
		r.runs(c)
	}
}

// TestFRRRefuses: what the router refuses leaves it as it was, and names the
// line.
func TestFRRRefuses(t *testing.T) {
	r := newRouter(t, "r-1", "")
	r.write(ward())
	before := r.vty("show running-config")
	bad := changed()
	bad.BGP.Neighbours[1].Addr = ward().Loopback // FRR takes no session with the router itself
	err := r.box.Write(t.Context(), ward(), bad)
	if !errors.Is(err, edge.ErrRejected) || !strings.Contains(err.Error(), "neighbor 172.16.0.7 remote-as") {
		t.Fatalf("got %v", err)
	}
	t.Log(err)
	if now := r.vty("show running-config"); now != before {
		t.Errorf("it is not as it was:\n%s\nand was\n%s", now, before)
	}
	r.runs(ward())

	// Somebody else's BGP is not taken over.
	r.write(edge.Config{})
	r.vty("configure terminal", "router bgp 65999")
	err = r.box.Write(t.Context(), edge.Config{}, ward())
	if !errors.Is(err, edge.ErrRejected) || !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "router bgp 65999") {
		t.Errorf("got %v", err)
	}
	t.Log(err)
}

// TestFRRSessions sees sessions of BGP and BFD with another router.
func TestFRRSessions(t *testing.T) {
	a, b := newRouter(t, "r-1", ""), newRouter(t, "r-2", "")
	netnstest.Cable(t,
		netnstest.End{Space: a.Space(), Port: "cable", Addresses: []string{"172.17.0.0/31"}},
		netnstest.End{Space: b.Space(), Port: "cable", Addresses: []string{"172.17.0.1/31"}})
	speaks := func(self, peer string, own, other uint32, net string) edge.Config {
		return edge.Config{BGP: edge.BGP{ASN: own, RouterID: netip.MustParseAddr(self), Networks: prefixes(net), Neighbours: []edge.Neighbour{
			{Tunnel: "cable", Addr: netip.MustParseAddr(peer), ASN: other, Preference: 150, BFDMinMS: 300, BFDMult: 3},
			{Tunnel: "nobody", Addr: netip.MustParseAddr("192.0.2.7"), ASN: other, Preference: 100, BFDMinMS: 300, BFDMult: 3},
		}}, Tunnels: []edge.Tunnel{{Name: "cable", AllowedIPs: prefixes("10.64.0.0/10")}}}
	}
	ca, cb := speaks("172.17.0.0", "172.17.0.1", 65001, 65002, "10.64.0.0/20"), speaks("172.17.0.1", "172.17.0.0", 65002, 65001, "10.64.16.0/20")
	a.write(ca)
	b.write(cb)
	want := []edge.TunnelState{{Name: "cable", Up: true, BFD: true, BGP: true}, {Name: "nobody"}}
	var got []edge.TunnelState
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		var err error
		if got, err = a.box.Tunnels(t.Context(), ca); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) == fmt.Sprint(want) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%+v after a minute\n%s", got, a.vty("show bgp summary", "show bfd peers brief"))
		}
	}
	// The filters pass what they should, with the preference.
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		out := a.vty("show bgp ipv4 unicast 10.64.16.0/20")
		if strings.Contains(out, "localpref 150") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the route did not come:\n%s", out)
		}
	}
}

// TestFRRContract runs the drivers' contract over the emulated return.
func TestFRRContract(t *testing.T) {
	edgetest.Run(t, func(t *testing.T, keys map[string]crypto.PublicKey) controller.Driver {
		r := newRouter(t, edgetest.Device, "")
		d, err := foreign.New(t.Context(), foreign.Deps{
			Device: edgetest.Device, Keys: keys, Box: r.box, Journal: &memory{}, Log: slog.New(slog.DiscardHandler),
		}, foreign.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return d
	})
}

// memory is a journal for a test that does not restart.
type memory struct {
	mu sync.Mutex
	e  foreign.Entry
}

func (m *memory) Load(context.Context) (foreign.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.e, nil
}

func (m *memory) Save(_ context.Context, e foreign.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.e = e
	return nil
}
