package tool

import (
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/wardnet/wardnet/edge/gnoi"
)

// Bounds of gnoi.proto.
const (
	maxPings, defaultPings             = 100, 4
	minIntervalMS, maxIntervalMS       = 100, 5000
	defaultIntervalMS, defaultWaitMS   = 1000, 1000
	maxSize, defaultSize               = 8972, 56
	maxPingWaitMS, maxTraceWaitMS      = 5000, 3000
	maxHops, defaultHops               = 64, 30
	maxProbes, defaultProbes           = 5, 3
	maxPackets, defaultPackets         = 10000, 1000
	maxSeconds, defaultSeconds         = 60, 10
	minSnap, maxSnap, defaultSnap      = 64, 1514, 96
	maxFileBytes, defaultFileBytes     = 8 << 20, 1 << 20
	maxFilter                          = 1000 // bytes
	maxPiece                           = 64 << 10
	leastWaitMS, leastBytes, leastSize = 1, 1, 0
)

// pingSpec is a ping within its bounds.
type pingSpec struct {
	to             netip.Addr
	from           From
	count, size    int
	interval, wait time.Duration
	dontFragment   bool
}

func readPing(m *gnoi.PingRequest) (pingSpec, error) {
	var f faults
	s := pingSpec{
		to: f.destination(m.GetDestination()), from: f.from(m.GetFrom()), dontFragment: m.GetDontFragment(),
		count:    f.bounded("count", m.GetCount(), 1, maxPings, defaultPings),
		size:     f.bounded("size_bytes", m.GetSizeBytes(), leastSize, maxSize, defaultSize),
		interval: ms(f.bounded("interval_ms", m.GetIntervalMs(), minIntervalMS, maxIntervalMS, defaultIntervalMS)),
		wait:     ms(f.bounded("wait_ms", m.GetWaitMs(), leastWaitMS, maxPingWaitMS, defaultWaitMS)),
	}
	return s, f.err()
}

// traceSpec is a traceroute within its bounds.
type traceSpec struct {
	to           netip.Addr
	from         From
	hops, probes int
	wait         time.Duration
}

func readTrace(m *gnoi.TracerouteRequest) (traceSpec, error) {
	var f faults
	s := traceSpec{
		to: f.destination(m.GetDestination()), from: f.from(m.GetFrom()),
		hops:   f.bounded("max_hops", m.GetMaxHops(), 1, maxHops, defaultHops),
		probes: f.bounded("probes", m.GetProbes(), 1, maxProbes, defaultProbes),
		wait:   ms(f.bounded("wait_ms", m.GetWaitMs(), leastWaitMS, maxTraceWaitMS, defaultWaitMS)),
	}
	return s, f.err()
}

// captureSpec is a capture within its bounds.
type captureSpec struct {
	on                   From
	filter               string
	packets, snap, bytes int
	time                 time.Duration
}

func readCapture(m *gnoi.CaptureRequest) (captureSpec, error) {
	var f faults
	s := captureSpec{
		on:      From{m.GetCircuit(), m.GetTunnel(), m.GetSegment()},
		filter:  strings.TrimSpace(m.GetFilter()),
		packets: f.bounded("max_packets", m.GetMaxPackets(), 1, maxPackets, defaultPackets),
		time:    time.Duration(f.bounded("max_seconds", m.GetMaxSeconds(), 1, maxSeconds, defaultSeconds)) * time.Second,
		snap:    f.bounded("snap_bytes", m.GetSnapBytes(), minSnap, maxSnap, defaultSnap),
		bytes:   f.bounded("max_bytes", m.GetMaxBytes(), leastBytes, maxFileBytes, defaultFileBytes),
	}
	if s.on.count() != 1 {
		f.add("name one of circuit, tunnel and segment to capture on")
	}
	switch {
	case len(s.filter) > maxFilter:
		f.add("filter has %d bytes, want at most %d", len(s.filter), maxFilter)
	case !utf8.ValidString(s.filter) || strings.ContainsFunc(s.filter, unicode.IsControl):
		f.add("filter has a character that does not print")
	}
	return s, f.err()
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }
