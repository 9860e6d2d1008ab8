package render

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/inventory"
)

// IKE parameters. Both ends are ours, so there is one suite: AES-256-GCM, SHA-384
// and P-384 (RFC 6379 Suite-B-GCM-256), also for the ESP keys' own exchange.
const (
	ikeProposal = "aes256gcm16-prfsha384-ecp384"
	espProposal = "aes256gcm16-ecp384"
)

// IPsecIssuers is the name under which a configuration refers to the issuers
// of devices' certificates: a peer certified by any other is refused.
const IPsecIssuers = "devices.pem"

// IPsecSection is a section of a swanctl.conf: values, then sections.
type IPsecSection struct {
	Name     string
	Values   []IPsecValue
	Sections []IPsecSection
}

// IPsecValue is one setting. A list has Items, anything else one of them.
type IPsecValue struct {
	Key   string
	List  bool
	Items []string
}

// IKEIdentity is a device's name in IKE: the subject of its certificate. (The
// SPIFFE id is in the certificate too, but no URI can be an IKE identity: RFC
// 7296 §3.5 has no such type.)
func IKEIdentity(device inventory.DeviceID) string { return "CN=" + string(device) }

// IPsecConnections gives one connection per admitted peer and pair of
// addresses, with a CHILD SA per tunnel, sorted by name. Two connections that differ in anything
// have different names, and so have two CHILD SAs: what has a name that is
// still wanted needs no change.
//
// Every connection names its peer, and every CHILD SA the exact pair of VTEPs:
// with one connection for all, a device could ask for another's selector.
func IPsecConnections(tunnels []IPsecTunnel) []IPsecSection {
	var out []IPsecSection
	at := map[string]int{}
	for _, t := range tunnels {
		if !t.Admitted {
			continue
		}
		c := ikeSection(t)
		i, ok := at[c.Name]
		if !ok {
			i = len(out)
			at[c.Name] = i
			out = append(out, c)
		}
		last := &out[i].Sections[len(out[i].Sections)-1]
		last.Sections = append(last.Sections, childSection(t))
	}
	slices.SortFunc(out, func(a, b IPsecSection) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// IPsecText writes the connections as a swanctl.conf.
func IPsecText(tunnels []IPsecTunnel) string {
	var b strings.Builder
	IPsecSection{Name: "connections", Sections: IPsecConnections(tunnels)}.write(&b, "")
	return b.String()
}

// IPsecNames are the names of a tunnel's connection and CHILD SA.
func IPsecNames(t IPsecTunnel) (connection, child string) {
	return ikeSection(t).Name, childSection(t).Name
}

// ikeSection is the tunnel's connection, its list of children last and empty.
// An edge asks, and stays quiet where it fails: the driver asks again. The hub
// has everything authenticated again once a day, so that an expired certificate
// does not live on in a tunnel; the edge does it should the hub not.
func ikeSection(t IPsecTunnel) IPsecSection {
	remote, reauth := "%any", "20h"
	if !t.Hub {
		remote, reauth = t.RemoteAddr.String(), "28h"
	}
	s := IPsecSection{
		Values: []IPsecValue{
			one("version", "2"),
			many("local_addrs", t.LocalAddr.String()),
			many("remote_addrs", remote),
			one("local_port", fmt.Sprint(IPsecPort)),
			one("remote_port", fmt.Sprint(IPsecPort)),
			many("proposals", ikeProposal),
			one("encap", "yes"),
			one("mobike", "no"),     // a tunnel belongs to its circuit
			one("unique", "never"),  // a device has a tunnel per circuit
			one("keyingtries", "1"), // the driver asks again
			one("dpd_delay", "1s"),
			one("reauth_time", reauth),
			one("over_time", "1h"),
			one("send_cert", "always"),
		},
		Sections: []IPsecSection{
			{Name: "local", Values: []IPsecValue{one("auth", "pubkey"), one("id", IKEIdentity(t.Device))}},
			{Name: "remote", Values: []IPsecValue{one("auth", "pubkey"), one("id", IKEIdentity(t.Peer)), many("cacerts", IPsecIssuers)}},
			{Name: "children"},
		},
	}
	s.Name = named("ike", s)
	return s
}

func childSection(t IPsecTunnel) IPsecSection {
	s := IPsecSection{Values: []IPsecValue{
		many("local_ts", selector(t.VTEP)),
		many("remote_ts", selector(t.PeerVTEP)),
		many("esp_proposals", espProposal),
		one("mode", "tunnel"),
		one("rekey_time", "1h"),
		one("dpd_action", "clear"),
		one("start_action", "none"),
		one("replay_window", "256"), // packets; userspace ESP reorders more than 32
	}}
	s.Name = named(t.Interface, s)
	return s
}

func selector(a netip.Addr) string { return fmt.Sprintf("%s/32[udp/%d]", a, VXLANPort) }

// named is prefix and the digest of what s says.
func named(prefix string, s IPsecSection) string {
	var b strings.Builder
	s.write(&b, "")
	sum := sha256.Sum256([]byte(b.String()))
	return fmt.Sprintf("%s-%x", prefix, sum[:6])
}

func one(key, value string) IPsecValue { return IPsecValue{Key: key, Items: []string{value}} }

func many(key string, items ...string) IPsecValue {
	return IPsecValue{Key: key, List: true, Items: items}
}

func (s IPsecSection) write(b *strings.Builder, indent string) {
	fmt.Fprintf(b, "%s%s {\n", indent, s.Name)
	for _, v := range s.Values {
		text := strings.Join(v.Items, ", ")
		if strings.ContainsAny(text, "= {}#") {
			text = `"` + text + `"`
		}
		fmt.Fprintf(b, "%s\t%s = %s\n", indent, v.Key, text)
	}
	for _, sub := range s.Sections {
		sub.write(b, indent+"\t")
	}
	fmt.Fprintf(b, "%s}\n", indent)
}
