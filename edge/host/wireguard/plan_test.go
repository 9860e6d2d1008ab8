package wireguard

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// still is a TUN that carries nothing and never comes up.
type still struct {
	tun.Device
	end    chan struct{}
	events chan tun.Event
}

func (s *still) Read([][]byte, []int, int) (int, error) { <-s.end; return 0, os.ErrClosed }
func (s *still) MTU() (int, error)                      { return 1420, nil }
func (s *still) Events() <-chan tun.Event               { return s.events }
func (s *still) BatchSize() int                         { return 1 }
func (s *still) Close() error                           { close(s.end); close(s.events); return nil }

func newStill(tb testing.TB) *device.Device {
	dev := device.NewDevice(&still{end: make(chan struct{}), events: make(chan tun.Event)}, conn.NewDefaultBind(), device.NewLogger(device.LogLevelSilent, ""))
	tb.Cleanup(dev.Close)
	return dev
}

// read is the device's state as the process tells it.
func read(tb testing.TB, dev *device.Device, public string) Device {
	tb.Helper()
	text, err := dev.IpcGet()
	if err != nil {
		tb.Fatal(err)
	}
	d, err := parse(text)
	if err != nil {
		tb.Fatal(err)
	}
	d.PublicKey, d.MTU = public, 1420
	return d
}

// The plan, applied to a real WireGuard device that has come a long way, gives
// what a new device gives; peers that stay are never touched, and those that
// moved are not moved back.
func TestPlanMatchesAFreshDevice(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var boxes, peers [][2]string // private, public
	for range 2 {
		private, public := newKey(t)
		boxes = append(boxes, [2]string{private, public})
	}
	for range 8 {
		private, public := newKey(t)
		peers = append(peers, [2]string{private, public})
	}
	dev, has := newStill(t), ""
	configured := map[string]netip.AddrPort{}
	for round := range 400 {
		want, self := randomWant(rng, peers), boxes[rng.IntN(8)/7]
		roam(t, rng, dev, peers)
		have := read(t, dev, has)
		kept := map[string]*device.Peer{}
		for key := range have.Peers {
			kept[key] = lookup(dev, key)
		}
		c := plan(have, want, self[1], configured)
		if err := dev.IpcSet(c.uapi(self[0])); err != nil {
			t.Fatalf("round %d: %v\n%s", round, err, c)
		}
		has = self[1]
		got := read(t, dev, has)

		fresh := newStill(t)
		if err := fresh.IpcSet(plan(Device{}, want, self[1], nil).uapi(self[0])); err != nil {
			t.Fatal(err)
		}
		twin := read(t, fresh, has)
		if want.ListenPort == 0 {
			twin.ListenPort = have.ListenPort // any will do
		}
		if got.ListenPort != twin.ListenPort || got.Mark != twin.Mark || len(got.Peers) != len(twin.Peers) {
			t.Fatalf("round %d: got %+v, want %+v after %s", round, got, twin, c)
		}
		for key, w := range twin.Peers {
			g, old := got.Peers[key], have.Peers[key]
			if w.Endpoint.IsValid() && w.Endpoint == configured[key] && old.Endpoint.IsValid() || !w.Endpoint.IsValid() {
				w.Endpoint = old.Endpoint // stays where it was heard
			}
			if g.Endpoint != w.Endpoint || g.KeepaliveSeconds != w.KeepaliveSeconds || !slices.Equal(g.AllowedIPs, w.AllowedIPs) {
				t.Fatalf("round %d: peer %s is %+v, want %+v after %s", round, key, g, w, c)
			}
			if before := kept[key]; before != nil && before != lookup(dev, key) {
				t.Fatalf("round %d: peer %s lost its session", round, key)
			}
		}
		configured = map[string]netip.AddrPort{}
		for _, p := range want.Peers {
			if p.Endpoint.IsValid() {
				configured[p.PublicKey] = p.Endpoint
			}
		}
		if again := plan(got, want, has, configured); !again.empty() {
			t.Fatalf("round %d: a second plan is not empty: %s", round, again)
		}
		if diff := differences(has, []render.WireGuard{want}, map[string]Device{want.Name: got}); len(diff) != 0 {
			t.Fatalf("round %d: %v", round, diff)
		}
	}
}

func lookup(dev *device.Device, public string) *device.Peer {
	raw, _ := base64.StdEncoding.DecodeString(public)
	return dev.LookupPeer(device.NoisePublicKey(raw))
}

// randomWant gives each of a few prefixes to one of a few peers.
func randomWant(rng *rand.Rand, peers [][2]string) render.WireGuard {
	w := render.WireGuard{Name: "wn0", MTU: 1420, ListenPort: uint16(rng.IntN(2) * 51820), Mark: uint32(rng.IntN(3))}
	for i, p := range peers {
		if rng.IntN(3) == 0 {
			continue
		}
		peer := render.Peer{Tunnel: fmt.Sprint(i), PublicKey: p[1], KeepaliveSeconds: rng.IntN(2) * 25}
		if rng.IntN(3) > 0 {
			peer.Endpoint = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(rng.IntN(2))}), 51820)
		}
		w.Peers = append(w.Peers, peer)
	}
	for i := range 12 {
		if len(w.Peers) > 0 && rng.IntN(4) > 0 {
			p := &w.Peers[rng.IntN(len(w.Peers))]
			p.AllowedIPs = append(p.AllowedIPs, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 1}), 16),
				netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 15: byte(i)}), 128))
		}
	}
	return w
}

// roam moves a peer as a packet from elsewhere would.
func roam(t *testing.T, rng *rand.Rand, dev *device.Device, peers [][2]string) {
	p := peers[rng.IntN(len(peers))][1]
	if lookup(dev, p) == nil {
		return
	}
	if err := dev.IpcSet(fmt.Sprintf("public_key=%s\nupdate_only=true\nendpoint=203.0.113.%d:%d\n", hexKey(p), rng.IntN(200), 1+rng.IntN(60000))); err != nil {
		t.Fatal(err)
	}
}

func TestApplyRefusesAllFaultsAtOnce(t *testing.T) {
	_, a := newKey(t)
	_, self := newKey(t)
	net := netip.MustParsePrefix("10.0.0.0/8")
	err := check(self, []render.WireGuard{
		{Name: "a b", MTU: 100, ListenPort: 1, Peers: []render.Peer{
			{Tunnel: "t1", PublicKey: "x"},
			{Tunnel: "t2", PublicKey: self, KeepaliveSeconds: -1},
			{Tunnel: "t3", PublicKey: a, AllowedIPs: []netip.Prefix{net, {}}},
			{Tunnel: "t4", PublicKey: a, AllowedIPs: []netip.Prefix{net}},
		}},
		{Name: "wn1", ListenPort: 1},
		{Name: "wn1"},
	})
	if !errors.Is(err, inventory.ErrInvalid) {
		t.Fatal(err)
	}
	for _, want := range []string{
		"not an interface name", "MTU 100", "peer t1: public key", "t2 has the public key of this box", "keepalive of -1 s",
		"t3: an allowed prefix", "t4 has the public key of another", "t3 and t4 both own 10.0.0.0/8", `port 1, and so does "a b"`, "listed twice",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
}

func TestKeyFaultsDoNotQuoteTheKey(t *testing.T) {
	for _, key := range []string{"", "c2VjcmV0", "secret!", strings.Repeat("secret", 20)} {
		if _, err := PublicKey(key); !errors.Is(err, inventory.ErrInvalid) || (key != "" && strings.Contains(err.Error(), key)) {
			t.Errorf("PublicKey(%q): %v", key, err)
		}
	}
}

// What is printed of a change holds no key but public ones.
func TestChangeTellsNoSecret(t *testing.T) {
	private, public := newKey(t)
	c := plan(Device{}, render.WireGuard{Name: "wn0", MTU: 1400, Mark: 5, ListenPort: 9}, public, nil)
	if s := c.String(); strings.Contains(s, private) || strings.Contains(s, hexKey(private)) || s != "private key, port 9, mark 0x5, MTU 1400" {
		t.Error(s)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("listen_port=51820\nfwmark=7\npublic_key=00ff\nendpoint=[2001:db8::1]:9\nallowed_ip=10.0.0.0/8\nlast_handshake_time_sec=1\nrx_bytes=2\n")
	f.Add("public_key=zz\nendpoint=1.2.3.4\nallowed_ip=-1\npersistent_keepalive_interval=99999\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parse(text)
		if err != nil && !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("error of no kind: %v", err)
		}
		if d.Peers == nil {
			t.Error("no list of peers")
		}
	})
}
