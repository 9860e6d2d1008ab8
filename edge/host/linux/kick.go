package linux

import (
	"context"
	"net/netip"
	"time"
)

// A peer is kicked at once when its BFD session goes down, then less and less
// often, for as long as it stays so.
const (
	kickPause    = 5 * time.Second
	maxKickPause = time.Minute
)

// kicker finds WireGuard peers that may have lost their session with us: a hub
// whose process died does not know where its edges are, and WireGuard itself
// asks only after 15 s of silence. Its keys are tunnels whose session was up.
type kicker map[string]pace

// pace is when a peer is kicked next, and the pause after that; zero: it is up.
type pace struct {
	next  time.Time
	pause time.Duration
}

// target is a peer of a WireGuard device.
type target struct{ tunnel, device, peer string }

// due lists the peers to kick at now: those whose BFD session was up and is
// not, and whose endpoint we know without them.
func (k kicker) due(w inForce, bfd map[netip.Addr]bool, now time.Time) []target {
	remote := make(map[string]netip.Addr, len(w.config.Tunnels))
	for _, t := range w.config.Tunnels {
		remote[t.Name] = t.Remote
	}
	for name := range k {
		if _, ok := remote[name]; !ok {
			delete(k, name)
		}
	}
	var out []target
	for _, d := range w.box.WireGuard {
		for _, p := range d.Peers {
			at, was := k[p.Tunnel]
			switch {
			case !p.Endpoint.IsValid():
			case bfd[remote[p.Tunnel]]:
				k[p.Tunnel] = pace{}
			case was && !now.Before(at.next):
				pause := min(max(2*at.pause, kickPause), maxKickPause)
				k[p.Tunnel] = pace{next: now.Add(pause), pause: pause}
				out = append(out, target{p.Tunnel, d.Name, p.PublicKey})
			}
		}
	}
	return out
}

func (h *Host) kick(ctx context.Context, peers []target) {
	for _, t := range peers {
		if err := h.deps.Tunnels.Kick(ctx, t.device, t.peer); err != nil {
			h.deps.Log.DebugContext(ctx, "peer cannot be kicked", "tunnel", t.tunnel, "err", err)
		}
	}
}
