package process

import (
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"
)

func TestSilent(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	key := func(n byte) (k device.NoisePublicKey) { k[0], k[31] = n, n; return k }
	var b strings.Builder
	b.WriteString("private_key=00\nlisten_port=51820\n")
	for n, last := range []int64{0, now.Unix() - 10, now.Unix() - 179, now.Unix() - 200} {
		fmt.Fprintf(&b, "public_key=%x\nendpoint=192.0.2.1:51820\nlast_handshake_time_sec=%d\nlast_handshake_time_nsec=5\ntx_bytes=0\n", key(byte(n)), last)
	}
	if got, want := silent(b.String(), now), []device.NoisePublicKey{key(0), key(3)}; !reflect.DeepEqual(got, want) {
		t.Errorf("silent: %x, want %x", got, want)
	}
	if got := silent("", now); got != nil {
		t.Errorf("nobody: %x", got)
	}
}

// What waits for a peer that does not answer is dropped at the second look, not
// before; the next packet waits again.
func TestDrain(t *testing.T) {
	peer := strings.Repeat("07", 32)
	dev := device.NewDevice(tuntest.NewChannelTUN().TUN(), conn.NewDefaultBind(), logger(slog.New(slog.DiscardHandler), "wg0"))
	defer dev.Close()
	if err := dev.IpcSet("private_key=" + strings.Repeat("08", 32) + "\npublic_key=" + peer + "\nallowed_ip=192.0.2.0/24\n"); err != nil {
		t.Fatal(err)
	}
	ts := &tunnels{log: slog.New(slog.DiscardHandler), all: map[string]*tunnel{"wg0": {dev: dev}}}
	var key device.NoisePublicKey
	for i := range key {
		key[i] = 7
	}
	p := dev.LookupPeer(key)
	if p == nil {
		t.Fatal("no peer")
	}
	staged := func() int { return reflect.ValueOf(p).Elem().FieldByName("queue").FieldByName("staged").Len() }
	wait := func() { p.StagePackets(dev.GetOutboundElementsContainer()) }
	for range 3 {
		wait()
	}
	was := ts.drainOnce(nil, time.Now())
	if n := staged(); n != 3 || !was[key] {
		t.Errorf("%d packets wait after the first look, want 3; %v is silent", n, was)
	}
	was = ts.drainOnce(was, time.Now())
	if n := staged(); n != 0 {
		t.Errorf("%d packets wait after the second look", n)
	}
	wait()
	if n := staged(); n != 1 || len(was) != 1 {
		t.Errorf("%d packets wait, want the new one; %v is silent", n, was)
	}
}
