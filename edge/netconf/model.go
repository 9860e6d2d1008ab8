package netconf

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// Namespaces.
const (
	routerNS = "https://wardnet.dev/yang/wardnet-router" // edge/yang/wardnet-router.yang
	baseNS   = "urn:ietf:params:xml:ns:netconf:base:1.0"
)

// holds are the kinds of parts that the model has.
var holds = []edge.Kind{edge.KindLoopback, edge.KindCircuit, edge.KindSegment, edge.KindBGP, edge.KindNeighbour, edge.KindUplink}

// router is container router of the model. What is zero in a [edge.Config] is
// absent here.
type router struct {
	XMLName  xml.Name    `xml:"https://wardnet.dev/yang/wardnet-router router"`
	Base     string      `xml:"xmlns:nc,attr,omitempty"`
	Op       string      `xml:"nc:operation,attr,omitempty"`
	Loopback *netip.Addr `xml:"loopback"`
	Circuits []circuit   `xml:"circuit"`
	Segments []segment   `xml:"segment"`
	BGP      *bgp        `xml:"bgp"`
	Uplinks  []uplink    `xml:"uplink"`
	unknown
}

// unknown catches what the model does not have: a device that holds more than
// we can read is not read at all.
type unknown struct {
	Extra []struct{ XMLName xml.Name } `xml:",any"`
}

func (u unknown) check(in string) error {
	if len(u.Extra) > 0 {
		return fmt.Errorf("%s has an element %q that this controller does not know; the device's module is newer", in, u.Extra[0].XMLName.Local)
	}
	return nil
}

type circuit struct {
	Name       string                `xml:"name"`
	Kind       inventory.CircuitKind `xml:"kind,omitempty"`
	UpBPS      inventory.BitRate     `xml:"up-bps,omitempty"`
	MTU        int                   `xml:"mtu,omitempty"`
	Port       string                `xml:"port,omitempty"`
	Addressing inventory.Addressing  `xml:"addressing,omitempty"`
	Address    *netip.Prefix         `xml:"address"`
	Gateway    *netip.Addr           `xml:"gateway"`
	unknown
}

type segment struct {
	Kind inventory.SegmentKind `xml:"kind"`
	V4   *netip.Prefix         `xml:"v4"`
	V6   *netip.Prefix         `xml:"v6"`
	Port string                `xml:"port,omitempty"`
	DHCP *dhcp                 `xml:"dhcp"`
	DNS  []netip.Addr          `xml:"dns"`
	NTP  []netip.Addr          `xml:"ntp"`
	unknown
}

type dhcp struct {
	From         *netip.Addr   `xml:"from"`
	To           *netip.Addr   `xml:"to"`
	LeaseSeconds int           `xml:"lease-seconds,omitempty"`
	Relay        *netip.Addr   `xml:"relay"`
	Reservations []reservation `xml:"reservation"`
	unknown
}

type reservation struct {
	MAC  string     `xml:"mac"`
	Addr netip.Addr `xml:"addr"`
	Name string     `xml:"name,omitempty"`
	unknown
}

type bgp struct {
	ASN        uint32         `xml:"asn,omitempty"`
	RouterID   *netip.Addr    `xml:"router-id"`
	Networks   []netip.Prefix `xml:"network"`
	Accept     []netip.Prefix `xml:"accept"`
	Neighbours []neighbour    `xml:"neighbour"`
	unknown
}

type neighbour struct {
	Tunnel     string      `xml:"tunnel"`
	Addr       *netip.Addr `xml:"addr"`
	ASN        uint32      `xml:"asn,omitempty"`
	Preference int         `xml:"preference,omitempty"`
	BFDMinMS   int         `xml:"bfd-min-ms,omitempty"`
	BFDMult    int         `xml:"bfd-mult,omitempty"`
	unknown
}

type uplink struct {
	Name    string         `xml:"name"`
	Port    string         `xml:"port,omitempty"`
	Local   *netip.Prefix  `xml:"local"`
	Peer    *netip.Addr    `xml:"peer"`
	PeerASN uint32         `xml:"peer-asn,omitempty"`
	Accept  []netip.Prefix `xml:"accept"`
	unknown
}

// some is nil for the zero value.
func some[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// value is the zero value for nil.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// render is the part of c that the model has.
func render(c edge.Config) router {
	r := router{Loopback: some(c.Loopback)}
	for _, x := range c.Circuits {
		r.Circuits = append(r.Circuits, circuit{
			Name: x.Name, Kind: x.Kind, UpBPS: x.UpBPS, MTU: x.MTU, Port: x.Port,
			Addressing: x.Addressing, Address: some(x.Address), Gateway: some(x.Gateway),
		})
	}
	for _, x := range c.Segments {
		s := segment{Kind: x.Kind, V4: some(x.V4), V6: some(x.V6), Port: x.Port, DNS: x.DNS, NTP: x.NTP}
		h := x.DHCP
		if h.From.IsValid() || h.To.IsValid() || h.LeaseSeconds != 0 || h.Relay.IsValid() || len(h.Reservations) > 0 {
			s.DHCP = &dhcp{From: some(h.From), To: some(h.To), LeaseSeconds: h.LeaseSeconds, Relay: some(h.Relay)}
			for _, e := range h.Reservations {
				s.DHCP.Reservations = append(s.DHCP.Reservations, reservation{MAC: e.MAC, Addr: e.Addr, Name: e.Name})
			}
		}
		r.Segments = append(r.Segments, s)
	}
	b := bgp{ASN: c.BGP.ASN, RouterID: some(c.BGP.RouterID), Networks: c.BGP.Networks, Accept: c.BGP.Accept}
	for _, x := range c.BGP.Neighbours {
		b.Neighbours = append(b.Neighbours, neighbour{
			Tunnel: x.Tunnel, Addr: some(x.Addr), ASN: x.ASN, Preference: x.Preference, BFDMinMS: x.BFDMinMS, BFDMult: x.BFDMult,
		})
	}
	if b.ASN != 0 || b.RouterID != nil || len(b.Networks) > 0 || len(b.Accept) > 0 || len(b.Neighbours) > 0 {
		r.BGP = &b
	}
	for _, x := range c.Uplinks {
		r.Uplinks = append(r.Uplinks, uplink{
			Name: x.Name, Port: x.Port, Local: some(x.Local), Peer: some(x.Peer), PeerASN: x.PeerASN, Accept: x.Accept,
		})
	}
	return r
}

// into is c with the parts that the model has taken from r.
func (r router) into(c edge.Config) (edge.Config, error) {
	errs := []error{r.check("container router")}
	c.Loopback = value(r.Loopback)
	c.Circuits, c.Segments, c.Uplinks = nil, nil, nil
	for _, x := range r.Circuits {
		errs = append(errs, x.check("circuit "+x.Name))
		c.Circuits = append(c.Circuits, edge.Circuit{
			Name: x.Name, Kind: x.Kind, UpBPS: x.UpBPS, MTU: x.MTU, Port: x.Port,
			Addressing: x.Addressing, Address: value(x.Address), Gateway: value(x.Gateway),
		})
	}
	for _, x := range r.Segments {
		h := value(x.DHCP)
		errs = append(errs, x.check("segment "+string(x.Kind)), h.check("dhcp of segment "+string(x.Kind)))
		s := edge.Segment{Kind: x.Kind, V4: value(x.V4), V6: value(x.V6), Port: x.Port, DNS: x.DNS, NTP: x.NTP}
		s.DHCP = edge.DHCP{From: value(h.From), To: value(h.To), LeaseSeconds: h.LeaseSeconds, Relay: value(h.Relay)}
		for _, e := range h.Reservations {
			errs = append(errs, e.check("reservation "+e.MAC))
			s.DHCP.Reservations = append(s.DHCP.Reservations, edge.Reservation{MAC: e.MAC, Addr: e.Addr, Name: e.Name})
		}
		c.Segments = append(c.Segments, s)
	}
	b := value(r.BGP)
	errs = append(errs, b.check("bgp"))
	c.BGP = edge.BGP{ASN: b.ASN, RouterID: value(b.RouterID), Networks: b.Networks, Accept: b.Accept}
	for _, x := range b.Neighbours {
		errs = append(errs, x.check("neighbour "+x.Tunnel))
		c.BGP.Neighbours = append(c.BGP.Neighbours, edge.Neighbour{
			Tunnel: x.Tunnel, Addr: value(x.Addr), ASN: x.ASN, Preference: x.Preference, BFDMinMS: x.BFDMinMS, BFDMult: x.BFDMult,
		})
	}
	for _, x := range r.Uplinks {
		errs = append(errs, x.check("uplink "+x.Name))
		c.Uplinks = append(c.Uplinks, edge.Uplink{
			Name: x.Name, Port: x.Port, Local: value(x.Local), Peer: value(x.Peer), PeerASN: x.PeerASN, Accept: x.Accept,
		})
	}
	return c, errors.Join(errs...)
}

// parse reads one XML document into v; nothing may follow it.
func parse(doc []byte, v any) error {
	dec := xml.NewDecoder(bytes.NewReader(doc))
	if err := dec.Decode(v); err != nil {
		return err
	}
	for {
		switch t, err := dec.Token(); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		default:
			if text, ok := t.(xml.CharData); !ok || len(bytes.TrimSpace(text)) > 0 {
				return errors.New("something follows the document")
			}
		}
	}
}
