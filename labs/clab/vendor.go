package clab

import (
	"fmt"
	"net/netip"
	"path"
	"slices"

	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab"
)

// router is the data centre's router of a vendor. Fields are read by the
// README's template too.
type router struct {
	Kind, Image string
	File        string // its configuration, or the facts for one
	Rendered    bool   // File is a configuration that it starts with

	text     string
	asn      uint32
	hubs     []neighbour
	servers  cable          // to the node with the applications
	via4     netip.Addr     // that node
	via6     netip.Addr     //
	networks []netip.Prefix // what it announces, each behind servers
}

// cable is one of its ports, numbered from 1.
type cable struct {
	number int
	to     string // node
	v4, v6 netip.Prefix
}

// neighbour is a hub that it speaks eBGP with, over IPv4 for both families.
type neighbour struct {
	cable
	hub netip.Addr
	asn uint32
}

// The link between a vendor's router and the servers, outside of all that the
// lab has.
var (
	serversLink4 = netip.MustParsePrefix("172.23.255.0/30")
	serversLink6 = netip.MustParsePrefix("fd5a:7e3c:91b3:ffff::/126")
)

// BFD of the lab's hubs: one packet each 300 ms, three lost are the end.
const (
	bfdMS   = 300
	bfdMult = 3
)

// dialect is how containerlab and a vendor speak of a kind.
type dialect struct {
	port string // containerlab's name of the n-th cable, from 1 on
	base int    // number of the first
	file string
	text func(router) string // nil: the facts only
}

// dialects are the kinds that are more to us than their name. Source of the
// names of ports: containerlab.dev/manual/kinds.
var dialects = map[string]dialect{
	"arista_ceos":   {port: "eth%d", base: 1, file: "dc.cfg", text: eos},
	"ceos":          {port: "eth%d", base: 1, file: "dc.cfg", text: eos},
	"nokia_srlinux": {port: "e1-%d", base: 1, file: "dc.cli", text: srLinux},
	"srl":           {port: "e1-%d", base: 1, file: "dc.cli", text: srLinux},
	"cisco_xrd":     {port: "Gi0-0-0-%d", base: 0},
	"xrd":           {port: "Gi0-0-0-%d", base: 0},
	"nokia_sros":    {port: "1/1/%d", base: 1},
}

func dialectOf(kind string) dialect {
	d, ok := dialects[kind]
	if !ok {
		d = dialect{port: "eth%d", base: 1}
	}
	if d.text == nil {
		d.file, d.text = "dc.facts.txt", facts
	}
	return d
}

// vendorRouter takes the data centre apart: a vendor's router with the hubs'
// cables, and behind it a Linux node with the applications. It returns the
// topology of the whole that is left.
func vendorRouter(inv inventory.Inventory, t netlab.Topology, cfg Config) (router, netlab.Topology, error) {
	d := dialectOf(cfg.DCKind)
	_, known := dialects[cfg.DCKind]
	r := router{
		Kind: cfg.DCKind, Image: cfg.DCImage, File: path.Join(nodesDir, "dc", d.file), Rendered: known && dialects[cfg.DCKind].text != nil,
		servers: cable{to: "servers", v4: nth(serversLink4, 1), v6: nth(serversLink6, 1)},
		via4:    nth(serversLink4, 2).Addr(), via6: nth(serversLink6, 2).Addr(),
	}
	portOf := func(number int) string { return fmt.Sprintf(d.port, number-1+d.base) }
	t.Links = slices.Clone(t.Links)
	for i := range t.Links {
		l := &t.Links[i]
		if l.Kind != netlab.LinkUplink {
			continue
		}
		n, err := hubOf(inv, t, *l, cfg.ASN)
		if err != nil {
			return r, t, err
		}
		n.number = len(r.hubs) + 1
		l.B.Port = portOf(n.number)
		r.hubs = append(r.hubs, n.neighbour)
		r.asn = n.own
	}
	r.servers.number = len(r.hubs) + 1
	servers := netlab.Name(t.Prefix, r.servers.to)
	t.Links = append(t.Links, netlab.Link{
		Name: t.DC + "/" + r.servers.to, Kind: netlab.LinkTransit, MTU: 1500,
		A: netlab.End{NS: t.DC, Port: portOf(r.servers.number)},
		B: netlab.End{NS: servers, Port: "eth0", MAC: netlab.MAC(r.servers.to), Addresses: []netip.Prefix{nth(serversLink4, 2), nth(serversLink6, 2)}},
	})
	t.Namespaces = slices.Clone(t.Namespaces)
	for i, n := range t.Namespaces {
		if n.Name == t.DC {
			r.networks = n.Loopbacks
			t.Namespaces[i].Loopbacks = nil
		}
	}
	t.Namespaces = append(t.Namespaces, netlab.Namespace{
		Name: servers, Role: netlab.RoleHost, Loopbacks: r.networks,
		Routes: []netlab.Route{
			{Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Via: r.servers.v4.Addr()},
			{Dst: netip.PrefixFrom(netip.IPv6Unspecified(), 0), Via: r.servers.v6.Addr()},
		},
	})
	t.Services = slices.Clone(t.Services)
	for i := range t.Services {
		if t.Services[i].NS == t.DC {
			t.Services[i].NS = servers
		}
	}
	r.text = d.text(r)
	return r, t, nil
}

// uplink is a hub's cable with the router's own AS number.
type uplink struct {
	neighbour
	own uint32
}

// hubOf finds what the inventory says of an uplink's cable.
func hubOf(inv inventory.Inventory, t netlab.Topology, l netlab.Link, asns map[inventory.DeviceID]uint32) (uplink, error) {
	for _, s := range t.Sites {
		site, _ := inv.Index().Site(s.ID)
		for _, u := range site.Uplinks {
			if string(s.ID)+"/"+u.Name != l.Name {
				continue
			}
			asn, ok := asns[s.Device]
			if !ok {
				return uplink{}, fmt.Errorf("%w: no AS number of hub %s is known", inventory.ErrInvalid, s.Device)
			}
			n := neighbour{cable: cable{to: string(s.ID), v4: netip.PrefixFrom(u.Peer, u.Address.Bits())}, hub: u.Address.Addr(), asn: asn}
			n.v6 = netip.PrefixFrom(render.Inner(u.Peer), render.InnerBlock.Bits()+u.Address.Bits())
			return uplink{n, u.PeerASN}, nil
		}
	}
	return uplink{}, fmt.Errorf("%w: the inventory does not know the uplink %s", inventory.ErrInvalid, l.Name)
}

// nth is the n-th address of a block.
func nth(p netip.Prefix, n int) netip.Prefix {
	a := p.Addr()
	for range n {
		a = a.Next()
	}
	return netip.PrefixFrom(a, p.Bits())
}

// vendorNode is the router's node; its file is written beside it.
func (w *writer) vendorNode() node {
	w.add(w.router.File, []byte(w.router.text))
	out := node{Kind: w.router.Kind, Image: w.router.Image, Labels: map[string]string{"wardnet-role": string(netlab.RoleDC)}}
	if w.router.Rendered {
		out.StartupConfig = w.router.File
	}
	return out
}
