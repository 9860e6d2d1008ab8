package inventory

import (
	"net"
	"regexp"
	"strconv"
)

// Platforms of devices that do not run our agent; each has a driver.
const (
	PlatformFRR        Platform = "frr"        // vtysh over SSH
	PlatformOpenConfig Platform = "openconfig" // gNMI
	PlatformNETCONF    Platform = "netconf"    // RFC 6241, over SSH
	PlatformIOSXE      Platform = "cisco-iosxe"
	PlatformFortiOS    Platform = "fortinet-fortios"
)

// RouterPlatforms are those a [Router] may have.
var RouterPlatforms = []Platform{PlatformFRR, PlatformOpenConfig, PlatformNETCONF, PlatformIOSXE, PlatformFortiOS}

// RoleRouter is the role of a [Router] in what is compiled for it.
const RoleRouter DeviceRole = "router"

// Router is a router of the data centre whose sessions with the hubs we
// configure; nothing else on it is touched. It does not run our agent: we dial
// it.
type Router struct {
	ID       DeviceID      `yaml:"id" json:"id"` // never reused, none of the devices' either
	Serial   string        `yaml:"serial" json:"serial"`
	Site     SiteID        `yaml:"site" json:"site"` // a hub
	Platform Platform      `yaml:"platform" json:"platform"`
	Intended IntendedState `yaml:"intended" json:"intended"`
	// Management is where it is dialled: an address or a name, and a port.
	Management string `yaml:"management" json:"management"`
	// User is the account that is logged in, by SSH; empty: wardnet.
	User string `yaml:"user,omitempty" json:"user,omitempty"`
	// Override and OverrideReason are those of a [Device].
	Override       string `yaml:"override,omitempty" json:"override,omitempty"`
	OverrideReason string `yaml:"override_reason,omitempty" json:"override_reason,omitempty"`
}

// Device is the router as something that is configured.
func (r Router) Device() Device {
	return Device{
		ID: r.ID, Serial: r.Serial, Site: r.Site, Platform: r.Platform, Role: RoleRouter, Intended: r.Intended,
		Override: r.Override, OverrideReason: r.OverrideReason,
	}
}

// accountForm is that of useradd(8).
var accountForm = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

func (c *checker) routers() {
	seen := map[string]int{}
	serials := map[string]DeviceID{}
	ids := map[DeviceID]bool{}
	for _, d := range c.inv.Devices {
		ids[d.ID] = true
	}
	for i, r := range c.inv.Routers {
		bad := c.element("routers", i, string(r.ID), seen)
		if ids[r.ID] {
			bad("id", "%q is the id of a device", r.ID)
		}
		enum(bad, "platform", r.Platform, RouterPlatforms...)
		enum(bad, "intended", r.Intended, Planned, InService, Retired)
		checkOverride(bad, r.Device())
		if !serialForm.MatchString(r.Serial) {
			bad("serial", "%q is not a serial number (want up to 64 letters, digits, dots, underscores and hyphens)", r.Serial)
		} else if other, dup := serials[r.Serial]; dup {
			bad("serial", "duplicate serial %q: router %q has it", r.Serial, other)
		}
		first(serials, r.Serial, r.ID)
		if r.User != "" && !accountForm.MatchString(r.User) {
			bad("user", "%q is no account name (want up to 32 of a-z, 0-9, _ and -, a letter first)", r.User)
		}
		switch host, port, err := net.SplitHostPort(r.Management); {
		case err != nil || host == "":
			bad("management", "%q is not host:port, e.g. 10.63.1.1:22", r.Management)
		default:
			if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
				bad("management", "%q is not a port from 1 to 65535", port)
			}
		}
		switch s := c.site[r.Site]; {
		case s == nil:
			bad("site", "unknown site %q; declare it under sites", r.Site)
		case s.Kind != Hub:
			bad("site", "site %q is a %s; routers of the data centre are at hubs", r.Site, s.Kind)
		}
	}
	c.uplinkRouters()
}

// uplinkRouters checks that uplinks name routers that are there, and that all of
// a router's ends agree about its AS number.
func (c *checker) uplinkRouters() {
	known := map[DeviceID]*Router{}
	for i := range c.inv.Routers {
		known[c.inv.Routers[i].ID] = &c.inv.Routers[i]
	}
	asn := map[DeviceID]uint32{}
	for i, s := range c.inv.Sites {
		for j, u := range s.Uplinks {
			if u.Router == "" {
				continue
			}
			at := "sites[" + strconv.Itoa(i) + "].uplinks[" + strconv.Itoa(j) + "]"
			if known[u.Router] == nil {
				c.faults.add(Fault{Field: at + ".router", Text: "unknown router \"" + string(u.Router) + "\"; declare it under routers"})
				continue
			}
			if was, ok := asn[u.Router]; ok && was != u.PeerASN {
				c.faults.add(Fault{Field: at + ".peer_asn", Text: "router \"" + string(u.Router) + "\" has AS number " + strconv.FormatUint(uint64(was), 10) + " at another uplink"})
			}
			asn[u.Router] = u.PeerASN
		}
	}
}
