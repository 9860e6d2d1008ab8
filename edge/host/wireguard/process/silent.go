package process

import (
	"context"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

const (
	// lookEvery is the time between two looks for peers without a session.
	lookEvery = 2 * time.Second
	// sessionLife is how long a session serves after its handshake
	// (REJECT_AFTER_TIME of the WireGuard paper, §6.1).
	sessionLife = 180 * time.Second
)

// drain drops, until ctx ends, what waits for peers that have had no session for
// two looks. The module keeps up to 128 packets for each, in buffers of 64 KiB,
// until a handshake succeeds: a hub whose wards are dark would fill its memory
// with the probes of yesterday.
func (t *tunnels) drain(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	was := map[device.NoisePublicKey]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			t.cpus.look()
			was = t.drainOnce(was, time.Now())
		}
	}
}

// drainOnce empties the queues of the peers that are silent now and were, and
// returns who is silent now.
func (t *tunnels) drainOnce(was map[device.NoisePublicKey]bool, now time.Time) map[device.NoisePublicKey]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[device.NoisePublicKey]bool{}
	peers := 0
	for name, tun := range t.all {
		text, err := tun.dev.IpcGet()
		if err != nil {
			t.log.Debug("peers cannot be read", "interface", name, "err", err)
			continue
		}
		peers += strings.Count(text, "\npublic_key=")
		for _, key := range silent(text, now) {
			all[key] = true
			if p := tun.dev.LookupPeer(key); p != nil && was[key] {
				p.FlushStagedPackets()
			}
		}
	}
	if peers != t.peers {
		t.remember(len(t.all), peers)
	}
	return all
}

// silent are the peers in a device's state, as the configuration protocol
// writes it, that have no session that may still serve at now.
func silent(text string, now time.Time) (keys []device.NoisePublicKey) {
	var key device.NoisePublicKey
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch name {
		case "public_key":
			key = device.NoisePublicKey{}
			_, _ = hex.Decode(key[:], []byte(value)) // the module wrote it
		case "last_handshake_time_sec": // one for each peer, after its key
			sec, _ := strconv.ParseInt(value, 10, 64) // as above
			if now.Sub(time.Unix(sec, 0)) > sessionLife {
				keys = append(keys, key)
			}
		}
	}
	return keys
}
