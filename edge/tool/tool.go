// Package tool lets an operator look at the network from an edge: echo
// requests, the path to an address, and the packets of a port. It serves
// gnoi.Tools on the management channel. Whatever is asked is bounded here, on
// the edge, and everything ends with the caller's stream.
package tool

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wardnet/wardnet/edge/gnoi"
	"github.com/wardnet/wardnet/inventory"
)

// atOnce is how many tools run at once: they share the box with its traffic.
const atOnce = 2

// From says where a packet leaves, or what port is looked at; one field at most
// is set.
type From struct{ Circuit, Tunnel, Segment string }

func (f From) String() string {
	switch {
	case f.Circuit != "":
		return "circuit " + f.Circuit
	case f.Tunnel != "":
		return "tunnel " + f.Tunnel
	case f.Segment != "":
		return "segment " + f.Segment
	}
	return "the box"
}

// Way is how packets to one destination leave the box. The zero Way is as the
// box routes.
type Way struct {
	Source netip.Addr // invalid: the box chooses
	Mark   uint32     // SO_MARK; 0: none
	// Interface is the network interface they leave by; empty: as routed.
	// Answers come as the other end routes.
	Interface string
	// OnLink sends by Interface whatever the routing table says: behind it there
	// is no gateway.
	OnLink bool
}

// Port is what a capture looks at.
type Port struct {
	Interface string
	// Hosts narrows a port that others share to packets from or to these
	// prefixes; empty: all of them.
	Hosts []netip.Prefix
}

// Box knows the circuits, tunnels and segments by name. Errors wrap
// [inventory.ErrInvalid] for what is asked wrongly, [inventory.ErrConflict] for
// what the box cannot do now.
type Box interface {
	// Leave returns the way to dst.
	Leave(from From, dst netip.Addr) (Way, error)
	// Look returns the port of from, one field of which is set.
	Look(from From) (Port, error)
}

// Server is gnoi.Tools of one box.
type Server struct {
	gnoi.UnimplementedToolsServer
	box   Box
	log   *slog.Logger
	slots chan struct{}
}

// New makes the tools of box.
func New(box Box, log *slog.Logger) *Server {
	return &Server{box: box, log: log, slots: make(chan struct{}, atOnce)}
}

// Register puts the service on s.
func (s *Server) Register(to *grpc.Server) { gnoi.RegisterToolsServer(to, s) }

// begin takes a place for one tool, given back by end.
func (s *Server) begin() (end func(), err error) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	default:
		return nil, status.Errorf(codes.ResourceExhausted, "%d tools run on this device already; wait until one ends", atOnce)
	}
}

// Absent registers a service that refuses every tool because of why, for a host
// that has no packets.
func Absent(why string) func(*grpc.Server) {
	return func(to *grpc.Server) { gnoi.RegisterToolsServer(to, absent{why: why}) }
}

type absent struct {
	gnoi.UnimplementedToolsServer
	why string
}

func (a absent) refuse() error { return status.Error(codes.Unimplemented, a.why) }

// Ping implements gnoi.ToolsServer.
func (a absent) Ping(*gnoi.PingRequest, grpc.ServerStreamingServer[gnoi.PingReply]) error {
	return a.refuse()
}

// Traceroute implements gnoi.ToolsServer.
func (a absent) Traceroute(*gnoi.TracerouteRequest, grpc.ServerStreamingServer[gnoi.TracerouteReply]) error {
	return a.refuse()
}

// Capture implements gnoi.ToolsServer.
func (a absent) Capture(*gnoi.CaptureRequest, grpc.ServerStreamingServer[gnoi.CaptureReply]) error {
	return a.refuse()
}

// toStatus is the one place where an error becomes a gRPC code. Of several
// faults each is a line.
func toStatus(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	code := codes.Internal
	switch {
	case errors.Is(err, inventory.ErrInvalid):
		code = codes.InvalidArgument
	case errors.Is(err, inventory.ErrConflict), errors.Is(err, inventory.ErrNotFound):
		code = codes.FailedPrecondition
	}
	return status.Error(code, err.Error())
}

// faults collects what is wrong with a request.
type faults []error

func (f *faults) add(format string, args ...any) {
	*f = append(*f, fmt.Errorf("%w: "+format, append([]any{inventory.ErrInvalid}, args...)...))
}

// bounded returns v, or its default for 0; out of [least, most] is a fault.
func (f *faults) bounded(name string, v, least, most, whenZero uint32) int {
	if v == 0 {
		return int(whenZero)
	}
	if v < least || v > most {
		f.add("%s is %d, want %d to %d", name, v, least, most)
	}
	return int(v)
}

// destination reads the address of a host.
func (f *faults) destination(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		f.add("destination %q is no IPv4 or IPv6 address", clip(text))
	case a.Zone() != "":
		f.add("destination %s has a zone; say with from where the packet leaves", a)
	case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		f.add("destination %s is not the address of one host", a)
	}
	return a.Unmap()
}

// from reads where a packet leaves.
func (f *faults) from(m *gnoi.From) From {
	out := From{m.GetCircuit(), m.GetTunnel(), m.GetSegment()}
	if out.count() > 1 {
		f.add("from names more than one of circuit, tunnel and segment")
	}
	return out
}

func (f From) count() int {
	n := 0
	for _, name := range []string{f.Circuit, f.Tunnel, f.Segment} {
		if name != "" {
			n++
		}
	}
	return n
}

func (f faults) err() error { return errors.Join(f...) }

// clip bounds a caller's text in an error.
func clip(text string) string {
	if len(text) > 60 {
		text = strings.ToValidUTF8(text[:60], "") + "…"
	}
	return text
}
