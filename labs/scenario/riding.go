package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/impair"
	"github.com/wardnet/wardnet/labs/impair/forward"
	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/netlab/netns"
	"github.com/wardnet/wardnet/labs/probe"
)

const (
	// ridesLook is how long the counters of a port are compared with the ping.
	ridesLook = time.Second
	// ridesSettled is for how long a flow must have ridden there: an edge that
	// has just moved a class does not move it again for 10 s.
	ridesSettled = 12 * time.Second
	// ridesLimit bounds the wait for a flow to ride where a fault will be: over
	// the time after which a class returns to the path it prefers.
	ridesLimit = 90 * time.Second
	// ridesShare of the ping's packets must pass a port for the flow to ride
	// there, a ratio. Probes and BFD together are far below it.
	ridesShare = 0.8
)

// packets are what passed a port.
type packets struct{ in, out, bytesIn uint64 }

// passed reads the counters of ports of the lab's own routers, added up.
func passed(ports []forward.Port) (packets, error) {
	var sum packets
	for _, port := range ports {
		err := netns.Do(port.Namespace, func() error {
			l, err := netlink.LinkByName(port.Name)
			if err != nil {
				return fmt.Errorf("counters of port %s in %s: %w", port.Name, port.Namespace, err)
			}
			if s := l.Attrs().Statistics; s != nil {
				sum.in += s.RxPackets
				sum.out += s.TxPackets
				sum.bytesIn += s.RxBytes
			}
			return nil
		})
		if err != nil {
			return packets{}, err
		}
	}
	return sum, nil
}

// rides waits until the ping's packets have passed a target for some time, both
// ways, as the far ports count them, and says so for people. Of a hub, the ports
// are those of the data centre towards it.
func (p *play) rides(ctx context.Context, ping *probe.Pinger, t impair.Target) (string, error) {
	ports, err := impair.Ports(p.Lab.Topology, t)
	if err != nil {
		return "", err
	}
	if t.Hub != "" {
		ports = p.uplinks(t.Hub)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, ridesLimit, fmt.Errorf("%w: the ping does not ride %s within %s", inventory.ErrConflict, t, ridesLimit))
	defer cancel()
	for since := time.Now(); ; {
		before, err := passed(ports)
		if err != nil {
			return "", err
		}
		from := ping.Mark()
		if err := pause(ctx, ridesLook); err != nil {
			return "", err
		}
		after, err := passed(ports)
		if err != nil {
			return "", err
		}
		sent := float64(ping.Since(from, ping.Mark()).Sent)
		in, out := float64(after.in-before.in), float64(after.out-before.out)
		switch {
		case sent == 0 || in < ridesShare*sent || out < ridesShare*sent:
			since = time.Now()
		case time.Since(since) >= ridesSettled:
			where := fmt.Sprintf("the flow rode %s: of %.0f packets, %.0f passed up and %.0f down", t, sent, in, out)
			p.say("  %s", where)
			return where, nil
		}
	}
}

// uplinks are the data centre's ports towards a hub.
func (p *play) uplinks(hub inventory.SiteID) []forward.Port {
	var out []forward.Port
	for _, l := range p.Lab.Topology.Links {
		if site, ok := p.Lab.Topology.Site(hub); ok && l.Kind == netlab.LinkUplink && l.A.NS == site.NS {
			out = append(out, forward.Port{Namespace: l.B.NS, Name: l.B.Port})
		}
	}
	return out
}

// noted adds to the detail of the newest events, which are at and after n.
func (p *play) noted(n int, text string) {
	for i := n; i < len(p.events); i++ {
		if d := &p.events[i].Detail; *d != "" {
			*d += "; " + text
		} else {
			*d = text
		}
	}
}
