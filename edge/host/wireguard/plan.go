package wireguard

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/edge/render"
)

// change is what makes a device as wanted, and nothing more: a peer it does not
// mention keeps its session, and an endpoint it does not mention may have moved.
type change struct {
	Key   bool    // the private key
	Port  *uint16 // nil: as it is
	Mark  *uint32 // nil: as it is
	MTU   int     // bytes; 0: as it is
	Peers []peerChange
}

type peerChange struct {
	PublicKey string
	Remove    bool // and nothing else
	Create    bool
	Endpoint  netip.AddrPort // invalid: as it is
	Keepalive *int           // seconds; nil: as it is
	Add, Drop []netip.Prefix
	Allowed   []netip.Prefix // all of them, for a kernel that can only replace
}

func (c change) empty() bool {
	return !c.Key && c.Port == nil && c.Mark == nil && c.MTU == 0 && len(c.Peers) == 0
}

// plan says how have becomes want under the private key of public. configured
// are the endpoints the peers of have were given: a peer is told another only
// if the wanted one differs from that, never because the peer has moved.
func plan(have Device, want render.WireGuard, public string, configured map[string]netip.AddrPort) change {
	c := change{Key: have.PublicKey != public}
	if want.ListenPort != 0 && want.ListenPort != have.ListenPort {
		c.Port = &want.ListenPort
	}
	if want.Mark != have.Mark {
		c.Mark = &want.Mark
	}
	if want.MTU != 0 && want.MTU != have.MTU {
		c.MTU = want.MTU
	}
	c.Peers = revoked(have, want)
	for _, w := range want.Peers {
		if p, changed := planPeer(have, w, configured); changed {
			c.Peers = append(c.Peers, p)
		}
	}
	return c
}

// revoked lists the peers of have that are not wanted.
func revoked(have Device, want render.WireGuard) []peerChange {
	keep := map[string]bool{}
	for _, p := range want.Peers {
		keep[p.PublicKey] = true
	}
	var gone []peerChange
	for _, key := range slices.Sorted(maps.Keys(have.Peers)) {
		if !keep[key] {
			gone = append(gone, peerChange{PublicKey: key, Remove: true})
		}
	}
	return gone
}

func planPeer(have Device, w render.Peer, configured map[string]netip.AddrPort) (peerChange, bool) {
	old, ok := have.Peers[w.PublicKey]
	if !ok {
		return created(w), true
	}
	c := peerChange{PublicKey: w.PublicKey, Allowed: prefixes(w.AllowedIPs)}
	to := plain(w.Endpoint)
	told := configured[w.PublicKey] == to && old.Endpoint.IsValid()
	if w.Endpoint.IsValid() && to != old.Endpoint && !told {
		c.Endpoint = to
	}
	if w.KeepaliveSeconds != old.KeepaliveSeconds {
		c.Keepalive = &w.KeepaliveSeconds
	}
	c.Add, c.Drop = without(c.Allowed, old.AllowedIPs), without(old.AllowedIPs, c.Allowed)
	return c, c.Endpoint.IsValid() || c.Keepalive != nil || len(c.Add)+len(c.Drop) > 0
}

// created is the change that adds a peer.
func created(w render.Peer) peerChange {
	c := peerChange{PublicKey: w.PublicKey, Create: true, Keepalive: &w.KeepaliveSeconds, Allowed: prefixes(w.AllowedIPs)}
	if w.Endpoint.IsValid() {
		c.Endpoint = plain(w.Endpoint)
	}
	c.Add = c.Allowed
	return c
}

// without returns a less b.
func without(a, b []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(a), func(p netip.Prefix) bool { return slices.Contains(b, p) })
}

// uapi writes the change in WireGuard's cross-platform format. private is the
// key in base64. A prefix is dropped and added by itself, so that the others
// of a live peer pass meanwhile.
func (c change) uapi(private string) string {
	var b strings.Builder
	if c.Key {
		fmt.Fprintf(&b, "private_key=%s\n", hexKey(private))
	}
	if c.Mark != nil {
		fmt.Fprintf(&b, "fwmark=%d\n", *c.Mark)
	}
	if c.Port != nil {
		fmt.Fprintf(&b, "listen_port=%d\n", *c.Port)
	}
	for _, p := range c.Peers {
		fmt.Fprintf(&b, "public_key=%s\n", hexKey(p.PublicKey))
		switch {
		case p.Remove:
			b.WriteString("remove=true\n")
			continue
		case !p.Create:
			b.WriteString("update_only=true\n")
		}
		if p.Endpoint.IsValid() {
			fmt.Fprintf(&b, "endpoint=%s\n", p.Endpoint)
		}
		for _, a := range p.Drop {
			fmt.Fprintf(&b, "allowed_ip=-%s\n", a)
		}
		for _, a := range p.Add {
			fmt.Fprintf(&b, "allowed_ip=%s\n", a)
		}
		if p.Keepalive != nil {
			fmt.Fprintf(&b, "persistent_keepalive_interval=%d\n", *p.Keepalive)
		}
	}
	return b.String()
}

// differences says how have, the devices that run, differ from want under the
// private key of public: nothing if they are equal. An endpoint that moved is no
// difference.
func differences(public string, want []render.WireGuard, have map[string]Device) []string {
	var all []string
	names := map[string]bool{}
	for _, w := range want {
		names[w.Name] = true
		d, ok := have[w.Name]
		if !ok {
			all = append(all, w.Name+" is missing")
			continue
		}
		moved := map[string]netip.AddrPort{}
		for _, p := range w.Peers {
			if d.Peers[p.PublicKey].Endpoint.IsValid() {
				moved[p.PublicKey] = plain(p.Endpoint)
			}
		}
		if c := plan(d, w, public, moved); !c.empty() {
			all = append(all, w.Name+": "+c.String())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if !names[name] {
			all = append(all, name+" is not wanted")
		}
	}
	return all
}

// String tells what differs, without any secret.
func (c change) String() string {
	var what []string
	if c.Key {
		what = append(what, "private key")
	}
	if c.Port != nil {
		what = append(what, fmt.Sprintf("port %d", *c.Port))
	}
	if c.Mark != nil {
		what = append(what, fmt.Sprintf("mark %#x", *c.Mark))
	}
	if c.MTU != 0 {
		what = append(what, fmt.Sprintf("MTU %d", c.MTU))
	}
	for _, p := range c.Peers {
		verb := "change"
		switch {
		case p.Remove:
			verb = "remove"
		case p.Create:
			verb = "add"
		}
		what = append(what, verb+" peer "+p.PublicKey)
	}
	return strings.Join(what, ", ")
}
