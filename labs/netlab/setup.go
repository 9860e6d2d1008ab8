package netlab

import (
	"encoding/json"
	"fmt"

	"github.com/wardnet/wardnet/inventory"
)

// Setup is what one namespace of a lab is configured with, as texts for the
// programs that do it: what [Up] does here, another laboratory can do.
type Setup struct {
	Sysctls   map[string]string // by name, e.g. net.ipv4.ip_forward
	Addresses string            // input of "ip -batch": addresses, and links up
	Routes    string            // input of "ip -batch", once all links are up
	NAT       string            // carriers with CGNAT: input of "nft -f"
	DHCP      string            // carriers: configuration of dnsmasq
	Router    string            // data centre: configuration of FRR
}

// Setups gives the setup of every namespace by its name; pidFile is where a
// DHCP server writes its process id. It is pure.
func (t Topology) Setups(pidFile string) map[string]Setup {
	out := map[string]Setup{}
	addresses, routes := t.addressBatches(), t.routeBatches()
	for _, n := range t.Namespaces {
		s := Setup{Sysctls: n.sysctls(), Addresses: addresses[n.Name], Routes: routes[n.Name]}
		if n.Role == RoleDC {
			s.Router = t.frrText()
		}
		out[n.Name] = s
	}
	for _, c := range t.Carriers {
		s := out[c.NS]
		if c.NAT.IsValid() {
			s.NAT = c.natText()
		}
		if len(c.Leases) > 0 {
			s.DHCP = c.dhcpText(pidFile)
		}
		out[c.NS] = s
	}
	return out
}

// sysctls make a router a router and nothing else one, whatever the machine
// itself is: new namespaces take over its IPv4 settings.
func (n Namespace) sysctls() map[string]string {
	forward := "0"
	if n.Forwards() {
		forward = "1"
	}
	return map[string]string{
		"net.ipv4.ip_forward":              forward,
		"net.ipv6.conf.all.forwarding":     forward,
		"net.ipv4.conf.all.rp_filter":      "0",
		"net.ipv4.conf.default.rp_filter":  "0",
		"net.ipv6.conf.all.accept_ra":      "0",
		"net.ipv6.conf.default.accept_ra":  "0",
		"net.ipv6.conf.default.accept_dad": "0",
		"net.ipv4.ping_group_range":        "0 2147483647",
	}
}

// PortsFile is the file that tells a site's box before its first configuration
// which port leads to which circuit (wardnet-edge run --ports).
func PortsFile(inv inventory.Inventory, site inventory.SiteID) ([]byte, error) {
	b, err := json.Marshal(portsOf(inv, site))
	if err != nil {
		return nil, fmt.Errorf("ports of %s: %w", site, err)
	}
	return append(b, '\n'), nil
}
