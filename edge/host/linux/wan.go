package linux

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/host/dhcp"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// wan keeps what is learned of the circuits: leases, by port.
type wan struct {
	dir     string
	log     *slog.Logger
	changed func() // a circuit's address changed

	mu     sync.Mutex // guards below
	ports  []string   // that ask by DHCP
	leases map[string]dhcp.Lease
	kicks  map[string]chan struct{}
	news   chan struct{} // closed and replaced when a lease changed
	turn   chan struct{} // one slot: ports changed
}

func newWAN(dir string, log *slog.Logger, changed func()) *wan {
	return &wan{
		dir: dir, log: log, changed: changed, leases: map[string]dhcp.Lease{}, kicks: map[string]chan struct{}{},
		news: make(chan struct{}), turn: make(chan struct{}, 1),
	}
}

// asks says whether a circuit's address comes by DHCP.
func asks(c edge.Circuit) bool {
	return c.Port != "" && c.Addressing != inventory.Static && c.Addressing != inventory.PPPoE
}

func (w *wan) file(port string) string { return filepath.Join(w.dir, "lease-"+port+".json") }

// set makes circuits those that are kept. A port that is new has the lease it
// had before, if that did not expire.
func (w *wan) set(circuits []edge.Circuit) {
	var ports []string
	for _, c := range circuits {
		if asks(c) {
			ports = append(ports, c.Port)
		}
	}
	slices.Sort(ports)
	ports = slices.Compact(ports)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range ports {
		if !slices.Contains(w.ports, p) {
			w.leases[p] = dhcp.Stored(w.file(p), time.Now())
		}
	}
	w.ports = ports
	select {
	case w.turn <- struct{}{}:
	default:
	}
}

// learned returns what is known of circuits now, by name.
func (w *wan) learned(circuits []edge.Circuit) map[string]render.WAN {
	out := map[string]render.WAN{}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range circuits {
		switch {
		case c.Addressing == inventory.PPPoE:
			if found, ok := adopt(c.Port); ok {
				out[c.Name] = found
			}
		case asks(c):
			l := w.leases[c.Port]
			if !slices.Contains(w.ports, c.Port) {
				l = dhcp.Stored(w.file(c.Port), time.Now()) // as it would be used
			}
			if l.Valid(time.Now()) {
				out[c.Name] = render.WAN{Address: l.Address, Gateway: l.Gateway}
			}
		}
	}
	return out
}

// adopt reads what a PPP daemon negotiated.
func adopt(port string) (render.WAN, bool) {
	link, err := netlink.LinkByName(port)
	if err != nil || link.Type() != "ppp" && link.Attrs().EncapType != "ppp" {
		return render.WAN{}, false
	}
	list, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil || len(list) == 0 {
		return render.WAN{}, false
	}
	p, ok := fromNet(list[0].IPNet)
	out := render.WAN{Address: p}
	if peer, has := fromNet(list[0].Peer); has && peer.Addr() != p.Addr() {
		out.Gateway = peer.Addr()
	}
	return out, ok
}

// servers are the name servers a circuit's carrier gave.
func (w *wan) servers(port string) []netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leases[port].DNS
}

// told returns a channel that is closed at the next change of a lease.
func (w *wan) told() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.news
}

// kick makes the client of a port ask again, as after its link came up.
func (w *wan) kick(port string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.kicks[port] <- struct{}{}:
	default: // no client, or it is kicked already
	}
}

// run keeps one client for each port until ctx ends.
func (w *wan) run(ctx context.Context) error {
	var clients sync.WaitGroup
	defer clients.Wait()
	running := map[string]context.CancelFunc{}
	defer func() {
		for _, stop := range running {
			stop()
		}
	}()
	for {
		w.mu.Lock()
		ports := slices.Clone(w.ports)
		w.mu.Unlock()
		for port, stop := range running {
			if !slices.Contains(ports, port) {
				stop()
				delete(running, port)
			}
		}
		for _, port := range ports {
			if running[port] != nil {
				continue
			}
			one, stop := context.WithCancel(ctx)
			running[port] = stop
			client := w.client(one, port)
			clients.Go(func() { client.Run(one) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.turn:
		}
	}
}

func (w *wan) client(ctx context.Context, port string) *dhcp.Client {
	kick := make(chan struct{}, 1)
	w.mu.Lock()
	w.kicks[port] = kick
	w.mu.Unlock()
	return &dhcp.Client{Port: port, File: w.file(port), Log: w.log, Kick: kick, Changed: func(l dhcp.Lease) {
		w.mu.Lock()
		same := ctx.Err() != nil || w.leases[port].Same(l)
		if ctx.Err() == nil {
			w.leases[port] = l
		}
		if !same {
			close(w.news)
			w.news = make(chan struct{})
		}
		w.mu.Unlock()
		if !same {
			w.changed()
		}
	}}
}
