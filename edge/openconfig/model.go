package openconfig

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// The structs below are the parts of the OpenConfig models that the driver
// writes and reads, with RFC 7951 member names less the module; wire adds the
// modules. They hold no list that others write to as well, save where a
// container is updated and not replaced.

// iface is /interfaces/interface, as the driver's own loopback.
type iface struct {
	Name   string      `json:"name"`
	Config ifaceConfig `json:"config"`
	Subs   *subs       `json:"subinterfaces,omitempty"`
}

// ifaceConfig is its config; of a port the driver updates it, leaf by leaf.
type ifaceConfig struct {
	Name        string   `json:"name"`
	Type        identity `json:"type,omitempty"`
	Description string   `json:"description,omitempty"`
	MTU         num      `json:"mtu,omitempty"` // bytes; openconfig-interfaces counts as the platform does
	Enabled     *bool    `json:"enabled,omitempty"`
}

type subs struct {
	List []sub `json:"subinterface"`
}

// sub is subinterface: 0 for the port itself, else a VLAN's.
type sub struct {
	Index  num       `json:"index"`
	Config subConfig `json:"config"`
	VLAN   *vlan     `json:"vlan,omitempty"`
	IPv4   *ip       `json:"ipv4,omitempty"`
	IPv6   *ip       `json:"ipv6,omitempty"`
}

type subConfig struct {
	Index       num    `json:"index"`
	Description string `json:"description,omitempty"`
}

type vlan struct {
	Match struct {
		Single struct {
			Config struct {
				ID num `json:"vlan-id"`
			} `json:"config"`
		} `json:"single-tagged"`
	} `json:"match"`
}

type ip struct {
	Addresses *addresses `json:"addresses,omitempty"`
	Config    *ipConfig  `json:"config,omitempty"`
}

type ipConfig struct {
	MTU num `json:"mtu,omitempty"`
}

type addresses struct {
	List []address `json:"address"`
}

type address struct {
	IP     ipAddr        `json:"ip"`
	Config addressConfig `json:"config"`
}

type addressConfig struct {
	IP     ipAddr `json:"ip"`
	Length num    `json:"prefix-length"`
}

// protocol is /network-instances/network-instance/protocols/protocol: the
// leaves of BGP's that belong to the whole process.
type protocol struct {
	Identifier identity       `json:"identifier"`
	Name       string         `json:"name"`
	Config     protocolConfig `json:"config"`
	BGP        *bgp           `json:"bgp,omitempty"`
}

type protocolConfig struct {
	Identifier identity `json:"identifier"`
	Name       string   `json:"name"`
}

type bgp struct {
	Global struct {
		Config struct {
			AS       num    `json:"as,omitempty"`
			RouterID ipAddr `json:"router-id,omitempty"`
		} `json:"config"`
	} `json:"global"`
}

type neighbor struct {
	Address ipAddr         `json:"neighbor-address"`
	Config  neighborConfig `json:"config"`
	BFD     *enableBFD     `json:"enable-bfd,omitempty"`
	AFs     *afiSafis      `json:"afi-safis,omitempty"`
}

type neighborConfig struct {
	Address     ipAddr `json:"neighbor-address"`
	PeerAS      num    `json:"peer-as,omitempty"`
	Description string `json:"description,omitempty"`
	Enabled     *bool  `json:"enabled,omitempty"`
}

type enableBFD struct {
	Config struct {
		Enabled bool `json:"enabled"`
	} `json:"config"`
}

type afiSafis struct {
	List []afiSafi `json:"afi-safi"`
}

type afiSafi struct {
	Name   identity `json:"afi-safi-name"`
	Config struct {
		Name    identity `json:"afi-safi-name"`
		Enabled bool     `json:"enabled"`
	} `json:"config"`
	Policy struct {
		Config struct {
			Import []string `json:"import-policy,omitempty"`
			Export []string `json:"export-policy,omitempty"`
		} `json:"config"`
	} `json:"apply-policy"`
}

// bfdInterface is /bfd/interfaces/interface; intervals are microseconds.
type bfdInterface struct {
	ID     string `json:"id"`
	Config struct {
		ID         string `json:"id"`
		Enabled    bool   `json:"enabled"`
		TX         num    `json:"desired-minimum-tx-interval"`
		RX         num    `json:"required-minimum-receive"`
		Multiplier num    `json:"detection-multiplier"`
	} `json:"config"`
	Ref *interfaceRef `json:"interface-ref,omitempty"`
}

type interfaceRef struct {
	Config struct {
		Interface    string `json:"interface"`
		Subinterface num    `json:"subinterface"`
	} `json:"config"`
}

type static struct {
	Prefix ipPrefix `json:"prefix"`
	Config struct {
		Prefix ipPrefix `json:"prefix"`
	} `json:"config"`
	NextHops struct {
		List []nextHop `json:"next-hop"`
	} `json:"next-hops"`
}

type nextHop struct {
	Index  string `json:"index"`
	Config struct {
		Index   string   `json:"index"`
		NextHop identity `json:"next-hop"`
	} `json:"config"`
}

type connection struct {
	Src    identity `json:"src-protocol"`
	Dst    identity `json:"dst-protocol"`
	Family identity `json:"address-family"`
	Config struct {
		Src    identity `json:"src-protocol"`
		Dst    identity `json:"dst-protocol"`
		Family identity `json:"address-family"`
		Import []string `json:"import-policy"`
	} `json:"config"`
}

type prefixSet struct {
	Name   string `json:"name"`
	Config struct {
		Name string `json:"name"`
		Mode string `json:"mode"`
	} `json:"config"`
	Prefixes struct {
		List []setPrefix `json:"prefix,omitempty"`
	} `json:"prefixes"`
}

type setPrefix struct {
	Prefix ipPrefix `json:"ip-prefix"`
	Range  string   `json:"masklength-range"`
	Config struct {
		Prefix ipPrefix `json:"ip-prefix"`
		Range  string   `json:"masklength-range"`
	} `json:"config"`
}

type policyDefinition struct {
	Name   string `json:"name"`
	Config struct {
		Name string `json:"name"`
	} `json:"config"`
	Statements struct {
		List []statement `json:"statement"`
	} `json:"statements"`
}

type statement struct {
	Name   string `json:"name"`
	Config struct {
		Name string `json:"name"`
	} `json:"config"`
	Conditions *conditions `json:"conditions,omitempty"`
	Actions    actions     `json:"actions"`
}

type conditions struct {
	PrefixSet struct {
		Config struct {
			Set     string `json:"prefix-set"`
			Options string `json:"match-set-options"`
		} `json:"config"`
	} `json:"match-prefix-set"`
}

type actions struct {
	Config struct {
		Result string `json:"policy-result"`
	} `json:"config"`
	BGP *bgpActions `json:"bgp-actions,omitempty"`
}

type bgpActions struct {
	Config struct {
		LocalPref num `json:"set-local-pref"`
	} `json:"config"`
}

// num is an unsigned integer; devices send it as a number or as a string.
type num uint64

func (n *num) UnmarshalJSON(b []byte) error {
	u, err := strconv.ParseUint(strings.Trim(string(b), `"`), 10, 64)
	if err != nil {
		return fmt.Errorf("%s is not an unsigned integer", b)
	}
	*n = num(u)
	return nil
}

// identity is an identityref, "module:NAME"; one that was read has no module.
type identity string

func (i *identity) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("%s is not an identity", b)
	}
	*i = identity(bare(s))
	return nil
}

// is tells whether two identities are the same, with a module or without.
func (i identity) is(j identity) bool { return bare(string(i)) == bare(string(j)) }

// ipAddr and ipPrefix are in the form of net/netip when they are well-formed,
// and as they came when not: a foreign entry's fault is not ours.
type (
	ipAddr   string
	ipPrefix string
)

func (a *ipAddr) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("%s is not an address", b)
	}
	if p, err := netip.ParseAddr(s); err == nil {
		s = p.String()
	}
	*a = ipAddr(s)
	return nil
}

func (p *ipPrefix) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("%s is not a prefix", b)
	}
	if v, err := netip.ParsePrefix(s); err == nil {
		s = v.String()
	}
	*p = ipPrefix(s)
	return nil
}
