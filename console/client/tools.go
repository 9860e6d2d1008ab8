package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/wardnet/wardnet/inventory"
)

// HeadersOnly is the longest piece of each packet, in bytes, that is taken for
// headers. More may hold what people say and is an administrator's to ask for.
const HeadersOnly = 96

// ToolFrom says where a tool's packets leave a device; empty: as it routes. One
// field at most is set.
type ToolFrom struct {
	Circuit string `json:"circuit,omitempty" maxLength:"64" doc:"over the underlay, by this circuit"`
	Tunnel  string `json:"tunnel,omitempty" maxLength:"200" doc:"into this tunnel"`
	Segment string `json:"segment,omitempty" maxLength:"64" doc:"with the device's address in this segment"`
}

// NewPing asks a device to send echo requests. Zero means the default.
type NewPing struct {
	Destination  string   `json:"destination" maxLength:"64" doc:"IPv4 or IPv6 address"`
	From         ToolFrom `json:"from,omitzero"`
	Count        uint32   `json:"count,omitempty" maximum:"100" doc:"default 4"`
	IntervalMS   uint32   `json:"interval_ms,omitempty" maximum:"5000" doc:"at least 100; default 1000"`
	SizeBytes    uint32   `json:"size_bytes,omitempty" maximum:"8972" doc:"of the payload; default 56"`
	DontFragment bool     `json:"dont_fragment,omitempty"`
	WaitMS       uint32   `json:"wait_ms,omitempty" maximum:"5000" doc:"for each reply; default 1000"`
}

// PingReply is what became of one echo request. Without source and error nobody
// answered in time.
type PingReply struct {
	Sequence uint32 `json:"sequence"`
	Source   string `json:"source,omitempty"`
	Bytes    uint32 `json:"bytes,omitempty"`
	HopLimit uint32 `json:"hop_limit,omitempty"`
	TimeNS   uint64 `json:"time_ns,omitempty"` // round trip
	Error    string `json:"error,omitempty"`
}

// PingSummary counts the replies; the times are round trips.
type PingSummary struct {
	Sent      uint32 `json:"sent"`
	Received  uint32 `json:"received"`
	MinTimeNS uint64 `json:"min_time_ns"`
	AvgTimeNS uint64 `json:"avg_time_ns"`
	MaxTimeNS uint64 `json:"max_time_ns"`
	StdDevNS  uint64 `json:"std_dev_ns"`
}

// PingResult is a ping that ended, answered or not.
type PingResult struct {
	Device      inventory.DeviceID `json:"device"`
	Destination string             `json:"destination"`
	Replies     []PingReply        `json:"replies"`
	Summary     PingSummary        `json:"summary"`
}

// NewTrace asks a device for the path to a destination. Zero means the default.
type NewTrace struct {
	Destination string   `json:"destination" maxLength:"64" doc:"IPv4 or IPv6 address"`
	From        ToolFrom `json:"from,omitzero"`
	MaxHops     uint32   `json:"max_hops,omitempty" maximum:"64" doc:"default 30"`
	Probes      uint32   `json:"probes,omitempty" maximum:"5" doc:"of each hop; default 3"`
	WaitMS      uint32   `json:"wait_ms,omitempty" maximum:"3000" doc:"for each probe; default 1000"`
}

// TraceProbe is one probe of one hop. Without address nobody answered in time,
// or the device itself could not send: then State says why.
type TraceProbe struct {
	Hop     uint32 `json:"hop"`
	Probe   uint32 `json:"probe"`
	Address string `json:"address,omitempty"`
	TimeNS  uint64 `json:"time_ns,omitempty"`
	State   string `json:"state,omitempty"` // empty in transit, "reached", or why the path ends here
}

// TraceResult is a path as far as it was found.
type TraceResult struct {
	Device      inventory.DeviceID `json:"device"`
	Destination string             `json:"destination"`
	Reached     bool               `json:"reached"`
	Probes      []TraceProbe       `json:"probes"`
}

// NewCapture asks a device for the packets of one port. Exactly one of Circuit,
// Tunnel and Segment is set; zero means the default.
type NewCapture struct {
	Circuit    string `json:"circuit,omitempty" maxLength:"64" doc:"the circuit's port"`
	Tunnel     string `json:"tunnel,omitempty" maxLength:"200"`
	Segment    string `json:"segment,omitempty" maxLength:"64" doc:"the segment's port"`
	Filter     string `json:"filter,omitempty" maxLength:"1000" doc:"pcap-filter(7); empty: everything"`
	MaxPackets uint32 `json:"max_packets,omitempty" maximum:"10000" doc:"default 1000"`
	MaxSeconds uint32 `json:"max_seconds,omitempty" maximum:"60" doc:"default 10"`
	SnapBytes  uint32 `json:"snap_bytes,omitempty" maximum:"1514" doc:"of each packet, at least 64; default 96; more than that for administrators only"`
	MaxBytes   uint32 `json:"max_bytes,omitempty" maximum:"8388608" doc:"of the file; default 1 MiB"`
}

// CaptureResult is a pcap file with its counts.
type CaptureResult struct {
	Packets uint32
	Dropped uint32 // by the device's kernel, for want of room
	Ended   string // "packets", "seconds" or "bytes": the bound that was reached first
	Pcap    []byte
}

// Headers of the answer to a capture; its body is the file.
const (
	HeaderPackets = "Wardnet-Packets"
	HeaderDropped = "Wardnet-Dropped"
	HeaderEnded   = "Wardnet-Ended"
)

// Ping has a device send echo requests.
func (c *Client) Ping(ctx context.Context, id inventory.DeviceID, want NewPing) (PingResult, error) {
	return write[PingResult](ctx, c, http.MethodPost, at("devices", string(id), "ping"), want)
}

// Trace has a device look for the path to a destination.
func (c *Client) Trace(ctx context.Context, id inventory.DeviceID, want NewTrace) (TraceResult, error) {
	return write[TraceResult](ctx, c, http.MethodPost, at("devices", string(id), "traceroute"), want)
}

// maxPcap bounds what is read of a capture: more than a device may send.
const maxPcap = 16 << 20

// Capture has a device capture packets.
func (c *Client) Capture(ctx context.Context, id inventory.DeviceID, want NewCapture) (CaptureResult, error) {
	r := request{method: http.MethodPost, path: at("devices", string(id), "capture"), body: want}
	res, err := c.send(ctx, r)
	if err != nil {
		return CaptureResult{}, err
	}
	defer res.Body.Close()
	out := CaptureResult{Ended: res.Header.Get(HeaderEnded)}
	for name, to := range map[string]*uint32{HeaderPackets: &out.Packets, HeaderDropped: &out.Dropped} {
		n, err := strconv.ParseUint(res.Header.Get(name), 10, 32)
		if err != nil {
			return out, fmt.Errorf("%s %s: header %s: %w", r.method, r.path, name, err)
		}
		*to = uint32(n)
	}
	if out.Pcap, err = io.ReadAll(io.LimitReader(res.Body, maxPcap)); err != nil {
		return out, fmt.Errorf("%s %s: read the capture: %w", r.method, r.path, err)
	}
	return out, nil
}
