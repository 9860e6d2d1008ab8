package probe

import (
	"fmt"
	"net/netip"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/probe/respond"
)

// Hosts are the lab's hosts as others reach them: one behind a legacy prefix is
// reached at its translated address.
func Hosts(inv inventory.Inventory, t netlab.Topology) ([]Host, error) {
	index := inv.Index()
	var out []Host
	for _, h := range t.Hosts {
		site, ok := index.Site(h.Site)
		if !ok {
			return nil, fmt.Errorf("%w: the lab's host %s is at site %s, which the inventory does not have", inventory.ErrNotFound, h.NS, h.Site)
		}
		x := Host{Site: h.Site, Segment: h.Segment, Namespace: h.NS, V4: h.V4.Addr(), V6: h.V6.Addr()}
		for _, g := range []netip.Addr{h.GW4, h.GW6} {
			if g.IsValid() {
				x.Gateways = append(x.Gateways, g)
			}
		}
		if site.Legacy.IsValid() && site.Legacy.Contains(x.V4) {
			blocks, err := index.SegmentBlocks(h.Site)
			if err != nil {
				return nil, err
			}
			for _, b := range blocks {
				if b.Kind == h.Segment {
					x.V4 = translated(site.Legacy, b.V4, x.V4)
				}
			}
		}
		out = append(out, x)
	}
	return out, nil
}

// translated maps a from inside one to one onto the first part of outside.
func translated(inside, outside netip.Prefix, a netip.Addr) netip.Addr {
	in, out, x := inside.Masked().Addr().As4(), outside.Masked().Addr().As4(), a.As4()
	for i := range x {
		x[i] = out[i] + (x[i] - in[i]) // no carry: prefixes are aligned
	}
	return netip.AddrFrom4(x)
}

// Responders are the sockets that must answer while inv is probed: at every
// host of a segment, at every application, and on the internet. Where a real
// service listens already it stays.
func Responders(inv inventory.Inventory, t netlab.Topology) []respond.Host {
	ports := Listen(inv)
	var out []respond.Host
	for _, h := range t.Hosts {
		out = append(out, respond.Host{Namespace: h.NS, Ports: ports})
	}
	for _, a := range inv.Applications {
		for _, p := range a.Prefixes {
			out = append(out, respond.Host{Namespace: t.DC, Address: p.Addr(), Ports: ports})
		}
	}
	for _, n := range t.Namespaces {
		for _, l := range n.Loopbacks {
			if l.Addr() == t.Internet {
				out = append(out, respond.Host{Namespace: n.Name, Address: t.Internet, Ports: append(ports, inventory.PortRange{Proto: inventory.TCP, From: 443, To: 443})})
			}
		}
	}
	return out
}
