package agent

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// Host is the data plane under the agent: a Linux box, or a simulated one in a
// lab. The agent calls Apply one at a time; the other methods at any time.
type Host interface {
	// Validate says whether Apply could put c in force, changing nothing. The
	// error lists all faults and wraps inventory.ErrInvalid.
	Validate(ctx context.Context, c edge.Config) error
	// Apply puts c with the tunnel peers of k in force as one transaction: on
	// an error the host runs what it ran before. The zero Config means nothing.
	Apply(ctx context.Context, c edge.Config, k edge.Credentials) error
	// State returns what is observed now, at most a second old.
	State(ctx context.Context) (HostState, error)
	// Watch wakes its reader after an interface, BFD or BGP session changed
	// state; wake-ups coalesce. The channel is closed when ctx ends.
	Watch(ctx context.Context) <-chan struct{}
	// Dial connects over the underlay by any circuit that works. Connections
	// over a circuit that fails later return errors.
	Dial(ctx context.Context, network, addr string) (net.Conn, error)
}

// HostState is what a host observes of itself. Counters start at any value and
// only rise, until the host restarts.
type HostState struct {
	At       time.Time
	Platform inventory.Platform
	Circuits []CircuitState // those of the configuration in force
	Tunnels  []TunnelState  // those of the configuration in force
	// Holds are the items of the contract in force that hold, named as in
	// [edge.Contract.Items].
	Holds []string
	// Mends are the newest times that the host found itself changed past the
	// agent and put that back, oldest first; Mended counts all of its life.
	Mends  []edge.Mend
	Mended uint64
	// Leases are the addresses lent now, of each segment whose addresses the
	// host assigns, sorted by address.
	Leases map[inventory.SegmentKind][]Lease
}

// Lease is one address that a host of a segment has.
type Lease struct {
	Addr  netip.Addr `json:"addr"`
	MAC   string     `json:"mac"`            // lower-case, colons
	Name  string     `json:"name,omitempty"` // of its reservation
	Until time.Time  `json:"until,omitzero"` // zero: for good
}

// CircuitState is one WAN port as observed.
type CircuitState struct {
	Name     string
	Up       bool // passes traffic
	Counters Counters
	// UploadBPS is what the circuit was measured to carry upwards, bit/s; 0: it
	// was not measured lately.
	UploadBPS uint64
}

// TunnelState is one tunnel as observed.
type TunnelState struct {
	edge.TunnelState
	Counters Counters
	Probe    Probe
}

// Counters are totals since an arbitrary start, named as in
// openconfig-interfaces.
type Counters struct {
	InOctets, OutOctets   uint64 // bytes
	InPkts, OutPkts       uint64
	InErrors, OutDiscards uint64 // packets
}

// Probe is the quality of a tunnel's path over the last seconds.
type Probe struct {
	LossRatio float64 // in [0,1]; at 1 the two below are unknown
	LatencyMS float64 // round trip, milliseconds
	JitterMS  float64 // peak to peak, milliseconds
}
