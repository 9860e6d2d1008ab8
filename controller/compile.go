package controller

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

const (
	// wireGuardOverhead is the worst case in bytes: outer IPv6 40, UDP 8,
	// WireGuard data header and tag 32.
	wireGuardOverhead = 80
	// ipsecOverhead is the worst case in bytes of VXLAN in ESP with AES-GCM in
	// UDP over IPv6, and some spare: 1428 of LTE leave 1280; ipsecMaxMTU is the largest inner MTU
	// that fits strongSwan's userspace ESP interface of 1400 bytes. An edge
	// refuses what exceeds either.
	ipsecOverhead = 148
	ipsecMaxMTU   = 1350
	// ipsecPort is where both ends speak ESP in UDP (RFC 3948).
	ipsecPort = 4500
	// basePort is the hub's first UDP port. The port names the pair of the
	// site's n-th circuit, because one WireGuard interface knows a peer's key only
	// once, and the hub's circuit, because an interface sends by one circuit: its
	// mark, as WireGuard's own memory of the address it was asked at does not
	// survive UDP receive offload.
	basePort = 51820
	// portsPerCircuit bounds the circuits of a site.
	portsPerCircuit = 8
	// baseASN starts the private 4-byte range (RFC 6996). The low 24 bits of
	// the loopback are added: stable, and unique as loopbacks are.
	baseASN  = 4200000000
	bfdMinMS = 300
	bfdMult  = 3
)

// Want is what one device is to run.
type Want struct {
	Config edge.Config
	Hash   string // of Config
}

// Compiled is a revision turned into every device's config.
type Compiled struct {
	Revision intent.Number
	Hash     string // of the revision
	Devices  map[inventory.DeviceID]Want
	Content  *inventory.Inventory // with every profile written out
	// Intent is the content as people wrote it, which tells what comes from which
	// profile: see [inventory.Explain].
	Intent *inventory.Inventory
}

// Compile gives the config of one device in service under rev. It is a pure
// function: equal revisions give equal bytes. Errors wrap
// [inventory.ErrInvalid] or, for a device that is not in service there,
// [inventory.ErrNotFound].
func Compile(rev intent.Revision, id inventory.DeviceID) (edge.Config, error) {
	_, ix, err := expanded(rev)
	if err != nil {
		return edge.Config{}, err
	}
	return ix.compile(id)
}

// CompileAll gives the config of every device in service under rev, with all
// faults of the intent at once.
func CompileAll(rev intent.Revision) (*Compiled, error) { return CompileAgain(rev, nil) }

// CompileAgain is CompileAll for a revision that is mostly like before, which
// this program compiled: what no change concerns is taken from there. It gives
// the same. A nil before is no help.
func CompileAgain(rev intent.Revision, before *Compiled) (*Compiled, error) {
	content, ix, err := expanded(rev)
	if err != nil {
		return nil, err
	}
	out := &Compiled{Revision: rev.Number, Hash: rev.Hash, Devices: make(map[inventory.DeviceID]Want, len(ix.edgeAt)), Content: content, Intent: &rev.Content}
	known := unconcerned(before, content)
	var mu sync.Mutex // guards errs, asns and out.Devices
	var errs []error
	asns := map[uint32]inventory.DeviceID{}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, d := range ix.edgeAt {
		g.Go(func() error {
			w, ok := known[d.ID]
			var err error
			if !ok {
				w.Config, err = ix.compile(d.ID)
				w.Hash = w.Config.Hash()
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return nil
			}
			n := w.Config.BGP.ASN
			if other, taken := asns[n]; taken {
				errs = append(errs, fmt.Errorf("%w: devices %s and %s get the same AS number %d; move one loopback pool", inventory.ErrInvalid, min(d.ID, other), max(d.ID, other), n))
			}
			asns[n] = d.ID
			out.Devices[d.ID] = w
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	for i := range content.Routers {
		r := &content.Routers[i]
		if r.Intended != inventory.InService {
			continue
		}
		cfg, err := ix.router(r)
		errs = append(errs, err)
		out.Devices[r.ID] = Want{cfg, cfg.Hash()}
	}
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("compile revision %d: %w", rev.Number, err)
	}
	return out, nil
}

// expanded is the content of rev with its profiles written out: all that
// compiling, proving and planning look at.
func expanded(rev intent.Revision) (*inventory.Inventory, *index, error) {
	content, err := inventory.Expand(rev.Content)
	if err != nil {
		return nil, nil, fmt.Errorf("compile revision %d: write the profiles out: %w", rev.Number, err)
	}
	ix, err := newIndex(&content)
	if err != nil {
		return nil, nil, fmt.Errorf("compile revision %d: %w", rev.Number, err)
	}
	return &content, ix, nil
}

func (ix *index) compile(id inventory.DeviceID) (edge.Config, error) {
	if r := slices.IndexFunc(ix.inv.Routers, func(r inventory.Router) bool { return r.ID == id && r.Intended == inventory.InService }); r >= 0 {
		return ix.router(&ix.inv.Routers[r])
	}
	d := ix.devices[id]
	if d == nil || ix.edgeAt[d.Site] != d {
		return edge.Config{}, fmt.Errorf("compile %s: %w: not in service in this revision", id, inventory.ErrNotFound)
	}
	site := ix.sites[d.Site]
	loopback, ok := ix.loopback[id]
	if !ok {
		return edge.Config{}, fmt.Errorf("compile %s: %w: no loopback is allocated to it; allocate addresses before making a revision", id, inventory.ErrInvalid)
	}
	if b := ix.blocks[site.ID]; !b[0].IsValid() || !b[1].IsValid() {
		return edge.Config{}, fmt.Errorf("compile %s: %w: site %s lacks its IPv4 or IPv6 block; allocate addresses before making a revision", id, inventory.ErrInvalid, site.ID)
	}
	cfg := edge.Config{Device: id, Site: site.ID, Role: d.Role, Loopback: loopback, Classes: ix.classes}
	for _, c := range ix.circuits[site.ID] {
		cfg.Circuits = append(cfg.Circuits, circuit(c))
	}
	slices.SortFunc(cfg.Circuits, func(a, b edge.Circuit) int { return cmp.Compare(a.Name, b.Name) })
	cfg.BGP = edge.BGP{ASN: asn(loopback), RouterID: loopback, Networks: ix.networks(d)}
	segs, err := ix.segments(site)
	if err != nil {
		return edge.Config{}, fmt.Errorf("compile %s: %w", id, err)
	}
	var faults []error
	cfg.Legacy, err = legacy(site, segs)
	faults = append(faults, err)
	cfg.Segments, err = ix.attach(site, segs, cfg.Legacy)
	faults = append(faults, err)
	cfg.Uplinks, err = ix.uplinks(d, site)
	faults = append(faults, err, ix.addTunnels(&cfg, d))
	if err := errors.Join(faults...); err != nil {
		return edge.Config{}, fmt.Errorf("compile %s: %w", id, err)
	}
	cfg.Rules = ix.rules(d, segs)
	cfg.Contract = ix.contract(cfg, site)
	cfg.Contract.Keep = ix.kept(d, segs, cfg.Rules)
	return override(cfg, d)
}

// addTunnels writes the tunnels and the BGP session over each.
func (ix *index) addTunnels(cfg *edge.Config, d *inventory.Device) error {
	links := ix.members[d.ID]
	if d.Role != inventory.RoleHub {
		var err error
		if links, err = ix.linksOf(d); err != nil {
			return err
		}
	}
	cfg.Tunnels = make([]edge.Tunnel, 0, len(links))
	cfg.BGP.Neighbours = make([]edge.Neighbour, 0, len(links))
	var errs []error
	for _, l := range links {
		t, err := ix.tunnel(l, d)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		cfg.Tunnels = append(cfg.Tunnels, t)
		cfg.BGP.Neighbours = append(cfg.BGP.Neighbours, edge.Neighbour{
			Tunnel: t.Name, Addr: t.Remote, ASN: asn(ix.loopback[t.Peer]),
			Preference: t.Preference, BFDMinMS: cmp.Or(l.site.BFDIntervalMS, bfdMinMS), BFDMult: bfdMult,
		})
	}
	slices.SortFunc(cfg.Tunnels, func(a, b edge.Tunnel) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(cfg.BGP.Neighbours, func(a, b edge.Neighbour) int { return cmp.Compare(a.Tunnel, b.Tunnel) })
	return errors.Join(errs...)
}

// tunnel gives d's end of l.
func (ix *index) tunnel(l link, d *inventory.Device) (edge.Tunnel, error) {
	block, ok := ix.tunnels[l.owner()]
	if !ok || block.Bits() != 31 || !block.Addr().Is4() {
		return edge.Tunnel{}, fmt.Errorf("%w: tunnel %s has no /31; allocate addresses before making a revision", inventory.ErrInvalid, l.name())
	}
	if _, ok := ix.loopback[l.edge.ID]; !ok {
		return edge.Tunnel{}, fmt.Errorf("%w: device %s has no loopback; allocate addresses before making a revision", inventory.ErrInvalid, l.edge.ID)
	}
	there := ix.hubCircuit(l)
	if there == nil || !there.Address.IsValid() {
		return edge.Tunnel{}, fmt.Errorf("%w: tunnel %s: hub site %s has no circuit with a static address", inventory.ErrInvalid, l.name(), l.hub.Site)
	}
	room := min(l.circuit.MTU, there.MTU)
	kind, mtu, port := edge.WireGuard, room-wireGuardOverhead, uint16(basePort+portsPerCircuit*ix.place(there)+l.order)
	if l.order >= portsPerCircuit {
		return edge.Tunnel{}, fmt.Errorf("%w: tunnel %s: site %s has over %d circuits; the hub has no port for it", inventory.ErrInvalid, l.name(), l.site.ID, portsPerCircuit)
	}
	if l.circuit.Overlay == inventory.OverlayIPsec {
		kind, mtu, port = edge.IPsec, min(room-ipsecOverhead, ipsecMaxMTU), ipsecPort
	}
	if mtu < 1280 { // RFC 8200 §5: IPv6 needs it
		return edge.Tunnel{}, fmt.Errorf("%w: tunnel %s: circuits of MTU %d and %d leave %d bytes; IPv6 needs 1280", inventory.ErrInvalid, l.name(), l.circuit.MTU, there.MTU, mtu)
	}
	edgeEnd, hubEnd := inventory.TunnelEnds(block)
	t := edge.Tunnel{Name: l.name(), Kind: kind, MTU: mtu, Preference: l.preference()}
	if d == l.hub {
		t.Circuit, t.Peer, t.ListenPort = string(there.ID), l.edge.ID, port
		t.Local, t.Remote = netip.PrefixFrom(hubEnd, 31), edgeEnd
		t.AllowedIPs = append(slices.Clone(ix.networks(l.edge)), netip.PrefixFrom(edgeEnd, 32))
	} else {
		t.Circuit, t.Peer, t.Endpoint = string(l.circuit.ID), l.hub.ID, netip.AddrPortFrom(there.Address.Addr(), port)
		t.Local, t.Remote = netip.PrefixFrom(edgeEnd, 31), hubEnd
		t.AllowedIPs = ix.overlay
		return t, nil
	}
	t.AllowedIPs = sortPrefixes(t.AllowedIPs)
	return t, nil
}

// hubCircuit is where the hub listens for l: its circuit of the same carrier,
// so that traffic stays in that carrier's network, else its primary.
func (ix *index) hubCircuit(l link) *inventory.Circuit {
	var primary *inventory.Circuit
	for _, c := range ix.circuits[l.hub.Site] { // primary first
		if !c.Address.IsValid() {
			continue
		}
		if c.Carrier == l.circuit.Carrier {
			return c
		}
		if primary == nil {
			primary = c
		}
	}
	return primary
}

// place numbers c among its site's circuits by id: another circuit's role or
// cost does not move it.
func (ix *index) place(c *inventory.Circuit) (n int) {
	for _, o := range ix.circuits[c.Site] {
		if o.ID < c.ID {
			n++
		}
	}
	return n
}

// networks is what a device originates: its site's blocks, its loopback, and
// applications of its site with addresses of their own. Applications without a
// site are behind every hub: one with uplinks learns from them which it reaches,
// one without originates them all.
func (ix *index) networks(d *inventory.Device) []netip.Prefix {
	b := ix.blocks[d.Site]
	out := valid(b[0], b[1])
	if lo, ok := ix.loopback[d.ID]; ok {
		out = append(out, netip.PrefixFrom(lo, lo.BitLen()))
	}
	out = append(out, ix.siteApps[d.Site]...)
	if d.Role == inventory.RoleHub {
		for _, p := range ix.siteApps[""] {
			if len(ix.sites[d.Site].Uplinks) == 0 || !slices.Contains(ix.beyond, p) {
				out = append(out, p)
			}
		}
	}
	return sortPrefixes(out)
}

// contract asks an edge for BFD on its tunnels and for the hubs' loopbacks,
// and, where it has an address in the management segment to ask from, for what
// that segment may reach: the name servers and two critical services. A hub is
// asked for nothing of its wards: one ward in trouble must not undo a change
// for all.
func (ix *index) contract(cfg edge.Config, site *inventory.Site) edge.Contract {
	var c edge.Contract
	if cfg.Role == inventory.RoleHub {
		return c
	}
	for _, t := range cfg.Tunnels {
		c.BFD = append(c.BFD, t.Name)
	}
	for _, h := range site.Hubs {
		if hub := ix.edgeAt[h]; hub != nil {
			if lo, ok := ix.loopback[hub.ID]; ok {
				c.Prefixes = append(c.Prefixes, netip.PrefixFrom(lo, lo.BitLen()))
			}
		}
	}
	c.Prefixes = sortPrefixes(c.Prefixes)
	if slices.ContainsFunc(cfg.Segments, func(s edge.Segment) bool { return s.Kind == inventory.Mgmt && s.Port != "" }) {
		c.DNS, c.Services = ix.dns[inventory.Mgmt], ix.critical
	}
	return c
}

// asn is the device's private 4-byte AS number.
func asn(loopback netip.Addr) uint32 {
	if !loopback.Is4() {
		return 0
	}
	a := loopback.As4()
	return baseASN + uint32(a[1])<<16 + uint32(a[2])<<8 + uint32(a[3])
}
