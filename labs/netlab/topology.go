package netlab

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/inventory"
)

// Topology is the lab's network as a value: what [Build] makes of a city and
// what is plumbed. All lists are sorted, so that equal cities give equal labs,
// and a lab with one ward more holds all of the smaller lab unchanged.
type Topology struct {
	Prefix     string // of every namespace's name, without its hyphen
	Namespaces []Namespace
	Links      []Link
	Carriers   []Carrier
	Sites      []Site
	Hosts      []Host
	Services   []Service
	Controller netip.Addr // where devices reach the controller, from every carrier
	Internet   netip.Addr // a host on the internet, for the local breakout
	DC         string     // namespace of the data centre's router and servers
}

// Role says what a namespace is.
type Role string

// Roles of namespaces.
const (
	RoleCarrier    Role = "carrier"    // a carrier's router
	RoleExchange   Role = "exchange"   // joins the public carriers; holds the internet host
	RoleController Role = "controller" // wardnet serve
	RoleDC         Role = "dc"         // the data centre's router and servers
	RoleBox        Role = "box"        // a hub or an edge: the agent's, nothing in it is ours
	RoleHost       Role = "host"       // one host of a segment
)

// Namespace is one network namespace with what the lab itself configures in it.
type Namespace struct {
	Name      string
	Role      Role
	Loopbacks []netip.Prefix // addresses on lo
	Routes    []Route
}

// Forwards says whether the lab makes the namespace a router. Boxes decide
// for themselves.
func (n Namespace) Forwards() bool {
	return n.Role == RoleCarrier || n.Role == RoleExchange || n.Role == RoleDC
}

// Route is a static route of the lab's own routers and hosts.
type Route struct {
	Dst netip.Prefix
	Via netip.Addr
}

// LinkKind says what a link is for.
type LinkKind string

// Kinds of link. A is always the box's end where there is one.
const (
	LinkCircuit LinkKind = "circuit" // A: box, B: carrier; Name is the circuit's id
	LinkSegment LinkKind = "segment" // A: box, B: host; Name is "<site>/<segment>"
	LinkUplink  LinkKind = "uplink"  // A: hub, B: data centre; Name is "<site>/<uplink>"
	LinkTransit LinkKind = "transit" // between the lab's own routers; Name is "<namespace>/<port>" of A
)

// Link is a veth pair: point to point, so that no shared ARP table limits the
// lab's size.
type Link struct {
	Name string
	Kind LinkKind
	A, B End
	MTU  int // bytes, both ends
}

// End is one end of a link. Boxes address their own ends.
type End struct {
	NS        string
	Port      string
	MAC       string         // fixed, so that a box that is built anew keeps its leases
	Addresses []netip.Prefix // set by the lab
}

// Carrier is one carrier's router with its access network.
type Carrier struct {
	ID      inventory.CarrierID
	NS      string
	Private bool       // the state's own network: joined to hubs and the controller only
	NAT     netip.Addr // what customers behind CGNAT are translated to; zero at a private one
	Leases  []Lease    // what its DHCP server gives out
}

// Lease is the one address a customer's port gets by DHCP.
type Lease struct {
	Circuit inventory.CircuitID
	Port    string // of the carrier's router
	MAC     string // of the customer
	Address netip.Prefix
	Gateway netip.Addr
	MTU     int
}

// Site is a box and where its ports lead.
type Site struct {
	ID       inventory.SiteID
	Device   inventory.DeviceID
	Role     inventory.DeviceRole
	NS       string
	Circuits []inventory.CircuitID // names of links
}

// Host is one host of a segment.
type Host struct {
	Site    inventory.SiteID
	Segment inventory.SegmentKind
	NS      string
	Port    string
	MAC     string
	V4, V6  netip.Prefix // as it is configured
	// Seen4 is what others know it by: not V4 where that is a legacy prefix's.
	Seen4 netip.Addr
	GW4   netip.Addr
	GW6   netip.Addr
	DHCP  bool // asks for V4 instead of having it; the address is reserved for it
}

// ServiceKind says what a [Service] speaks.
type ServiceKind string

// Kinds of service: HTTP answers 200 and names the service, echo returns the
// datagram followed by a newline and the service's name.
const (
	ServiceHTTP ServiceKind = "http"
	ServiceEcho ServiceKind = "echo"
	ServiceDNS  ServiceKind = "dns"
	ServiceNTP  ServiceKind = "ntp"
)

// Service is one listening socket. An unspecified address listens on all of
// its namespace.
type Service struct {
	NS    string          `json:"ns"`   // empty: of the process that serves
	Name  string          `json:"name"` // application id, "internet", or "<site>/<segment>"
	Kind  ServiceKind     `json:"kind"`
	Proto inventory.Proto `json:"proto"`
	Addr  netip.AddrPort  `json:"addr"`
}

// Namespace finds a namespace by its name.
func (t Topology) Namespace(name string) (Namespace, bool) {
	i, ok := slices.BinarySearchFunc(t.Namespaces, name, func(n Namespace, s string) int { return strings.Compare(n.Name, s) })
	if !ok {
		return Namespace{}, false
	}
	return t.Namespaces[i], true
}

// Site finds a box.
func (t Topology) Site(id inventory.SiteID) (Site, bool) {
	return find(t.Sites, func(s Site) bool { return s.ID == id })
}

// Circuit finds the link of a circuit.
func (t Topology) Circuit(id inventory.CircuitID) (Link, bool) {
	return find(t.Links, func(l Link) bool { return l.Kind == LinkCircuit && l.Name == string(id) })
}

// Carrier finds a carrier's router.
func (t Topology) Carrier(id inventory.CarrierID) (Carrier, bool) {
	return find(t.Carriers, func(c Carrier) bool { return c.ID == id })
}

// Host finds the host of a segment.
func (t Topology) Host(site inventory.SiteID, segment inventory.SegmentKind) (Host, bool) {
	return find(t.Hosts, func(h Host) bool { return h.Site == site && h.Segment == segment })
}

func find[T any](list []T, is func(T) bool) (T, bool) {
	if i := slices.IndexFunc(list, is); i >= 0 {
		return list[i], true
	}
	var zero T
	return zero, false
}

// Name is the name of a namespace of a lab with this prefix.
func Name(prefix string, parts ...string) string {
	return prefix + "-" + strings.Join(parts, "-")
}

// MAC is the fixed, locally administered address of a port; what names it.
func MAC(what string) string {
	sum := sha256.Sum256([]byte(what))
	return net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}.String()
}

// HostMAC is the address of a segment host's only port.
func HostMAC(site inventory.SiteID, segment inventory.SegmentKind) string {
	return MAC("host/" + string(site) + "/" + string(segment))
}

// HostAddresses are those of a segment's one host: the tenth of each prefix.
// The box is the first.
func HostAddresses(v4, v6 netip.Prefix) (netip.Prefix, netip.Prefix) {
	return nth(v4, hostNumber), nth(v6, hostNumber)
}

const hostNumber = 10

// nth is the n-th address of p with p's length; n is small.
func nth(p netip.Prefix, n int) netip.Prefix {
	a := p.Masked().Addr()
	for range n {
		a = a.Next()
	}
	return netip.PrefixFrom(a, p.Bits())
}

// around is the part of t that one box stands in: its namespace, its links
// with both ends, and the hosts behind it.
func (t Topology) around(site Site) Topology {
	names := map[string]bool{site.NS: true}
	for _, h := range t.Hosts {
		names[h.NS] = names[h.NS] || h.Site == site.ID
	}
	out := t
	out.Namespaces = kept(t.Namespaces, func(n Namespace) bool { return names[n.Name] })
	out.Links = kept(t.Links, func(l Link) bool { return l.A.NS == site.NS })
	return out
}

// beyond is the part of t that smaller lacks; a router that smaller has comes
// with the routes it lacks.
func (t Topology) beyond(smaller Topology) Topology {
	out := t
	out.Namespaces = nil
	isNew := map[string]bool{}
	for _, n := range t.Namespaces {
		old, there := smaller.Namespace(n.Name)
		isNew[n.Name] = !there
		n.Loopbacks = kept(n.Loopbacks, func(p netip.Prefix) bool { return !slices.Contains(old.Loopbacks, p) })
		n.Routes = kept(n.Routes, func(r Route) bool { return !slices.Contains(old.Routes, r) })
		if !there || len(n.Loopbacks)+len(n.Routes) > 0 {
			out.Namespaces = append(out.Namespaces, n)
		}
	}
	out.Links = kept(t.Links, func(l Link) bool { return isNew[l.A.NS] || isNew[l.B.NS] })
	out.Hosts = kept(t.Hosts, func(h Host) bool { return isNew[h.NS] })
	out.Sites = kept(t.Sites, func(s Site) bool { return isNew[s.NS] })
	out.Services = kept(t.Services, func(s Service) bool { return isNew[s.NS] })
	return out
}

func kept[T any](list []T, keep func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(list), func(v T) bool { return !keep(v) })
}

// port checks an interface name (Linux: at most 15 bytes).
func port(name string) (string, error) {
	if len(name) == 0 || len(name) > 15 || strings.ContainsAny(name, "/ \t\n:") {
		return "", fmt.Errorf("%w: %q cannot name a network interface; at most 15 bytes without slash, colon and space", inventory.ErrInvalid, name)
	}
	return name, nil
}
