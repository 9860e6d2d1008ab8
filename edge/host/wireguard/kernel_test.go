//go:build lab

package wireguard

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/wardnet/wardnet/edge/render"
)

// The kernel's form of a change says the same as the process's. That a kernel
// understands it is not tested here: see the package comment.
func TestKernelChange(t *testing.T) {
	private, public := newKey(t)
	_, peer := newKey(t)
	_, gone := newKey(t)
	want := render.WireGuard{Name: "wn0", ListenPort: 51820, Mark: 7, Peers: []render.Peer{{
		PublicKey: peer, Endpoint: netip.MustParseAddrPort("192.0.2.1:9"), KeepaliveSeconds: 25,
		AllowedIPs: prefixList("10.0.0.0/8", "fd00::/8"),
	}}}
	have := Device{Peers: map[string]Peer{gone: {}}}
	cfg, err := plan(have, want, public, nil).kernel(private)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.PrivateKey.PublicKey().String() != public || *cfg.ListenPort != 51820 || *cfg.FirewallMark != 7 || cfg.ReplacePeers || len(cfg.Peers) != 2 {
		t.Fatalf("%+v", cfg)
	}
	if g := cfg.Peers[0]; !g.Remove || g.PublicKey.String() != gone {
		t.Errorf("removal: %+v", g)
	}
	p := cfg.Peers[1]
	if p.UpdateOnly || p.Endpoint.String() != "192.0.2.1:9" || *p.PersistentKeepaliveInterval != 25*time.Second || !p.ReplaceAllowedIPs {
		t.Errorf("peer: %+v", p)
	}
	// Read back, it is what was wanted.
	now := fromKernel(&wgtypes.Device{
		PrivateKey: *cfg.PrivateKey, PublicKey: cfg.PrivateKey.PublicKey(), ListenPort: 51820, FirewallMark: 7,
		Peers: []wgtypes.Peer{{PublicKey: p.PublicKey, Endpoint: p.Endpoint, PersistentKeepaliveInterval: 25 * time.Second, AllowedIPs: p.AllowedIPs, ReceiveBytes: 3}},
	}, 1400)
	if diff := differences(public, []render.WireGuard{want}, map[string]Device{"wn0": now}); len(diff) != 0 {
		t.Error(diff)
	}
	if got := now.Peers[peer]; !got.LastHandshake.IsZero() || got.RxBytes != 3 || !reflect.DeepEqual(got.AllowedIPs, prefixList("10.0.0.0/8", "fd00::/8")) {
		t.Errorf("read back: %+v", got)
	}
}

func TestKernelIsAskedWhatItHas(t *testing.T) {
	box := newBox(t, "edge")
	var has bool
	var err error
	box.in(func() { has, err = kernelHas() })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("this kernel has WireGuard: %v", has)
	if got := ip(t, "-n", box.ns, "-br", "link"); strings.Contains(got, "wgprobe") {
		t.Errorf("the trial interface is still there: %s", got)
	}
}
