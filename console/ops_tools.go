package console

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

const (
	// maxPingTime bounds a whole ping: somebody waits for the answer.
	maxPingTime = 2 * time.Minute
	// toolTime bounds any tool. The connection's read deadline must outlive it,
	// for its passing ends the request.
	toolTime = 4 * time.Minute
)

func (c *Console) registerTools() {
	tool := func(path, id, summary string) huma.Operation {
		op := post("/devices/{id}/"+path, id, "inventory", summary)
		op.BodyReadTimeout = toolTime + time.Minute
		return op
	}
	write(c, tool("ping", "ping-device", "Have a device send echo requests"), c.ping)
	write(c, tool("traceroute", "trace-device", "Have a device find the path to an address"), c.trace)
	op := tool("capture", "capture-device", fmt.Sprintf("Have a device capture the packets of one of its ports; more than %d bytes of each for administrators only", client.HeadersOnly))
	op.Responses = map[string]*huma.Response{"200": {
		Description: "The capture as a pcap file; its counts are in headers",
		Content:     map[string]*huma.MediaType{pcapType: {Schema: &huma.Schema{Type: "string", Format: "binary"}}},
	}}
	write(c, op, c.capture)
}

// pcapType is the file's media type (IANA).
const pcapType = "application/vnd.tcpdump.pcap"

// asked notes a tool's use for the audit log: what was asked, which stays also
// when it fails, and what came of it.
func (c *Console) asked(ctx context.Context, id string, what any) (inventory.DeviceID, error) {
	about(ctx, "device/"+clip(id))
	changed(ctx, what, nil)
	if c.deps.Tools == nil {
		return "", fmt.Errorf("%w: this controller runs no tools on devices", inventory.ErrNotFound)
	}
	d, err := c.deps.Devices.Device(ctx, inventory.DeviceID(id))
	return d.ID, err
}

func (c *Console) ping(ctx context.Context, in *struct {
	ID   string `path:"id"`
	Body client.NewPing
},
) (*answer[client.PingResult], error) {
	id, err := c.asked(ctx, in.ID, in.Body)
	if err != nil {
		return nil, err
	}
	if t := time.Duration(in.Body.Count) * time.Duration(in.Body.IntervalMS) * time.Millisecond; t > maxPingTime {
		return nil, fmt.Errorf("%w: count × interval is %s, want at most %s", inventory.ErrInvalid, t, maxPingTime)
	}
	r, err := c.deps.Tools.Ping(ctx, id, in.Body)
	changed(ctx, in.Body, r.Summary)
	return answered(r, err)
}

func (c *Console) trace(ctx context.Context, in *struct {
	ID   string `path:"id"`
	Body client.NewTrace
},
) (*answer[client.TraceResult], error) {
	id, err := c.asked(ctx, in.ID, in.Body)
	if err != nil {
		return nil, err
	}
	r, err := c.deps.Tools.Trace(ctx, id, in.Body)
	changed(ctx, in.Body, map[string]any{"reached": r.Reached, "probes": len(r.Probes)})
	return answered(r, err)
}

// pcapAnswer is a pcap file with its counts.
type pcapAnswer struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Packets     uint32 `header:"Wardnet-Packets" doc:"in the file"`
	Dropped     uint32 `header:"Wardnet-Dropped" doc:"by the device's kernel, for want of room"`
	Ended       string `header:"Wardnet-Ended" enum:"packets,seconds,bytes" doc:"the bound that was reached first"`
	Body        []byte
}

func (c *Console) capture(ctx context.Context, in *struct {
	ID   string `path:"id"`
	Body client.NewCapture
},
) (*pcapAnswer, error) {
	id, err := c.asked(ctx, in.ID, in.Body)
	if err != nil {
		return nil, err
	}
	if in.Body.SnapBytes > client.HeadersOnly && !principal(ctx).Has(client.RoleAdmin) {
		c.metrics.refused.WithLabelValues("forbidden").Inc()
		return nil, &client.Problem{
			Status: http.StatusForbidden, Title: http.StatusText(http.StatusForbidden),
			Detail: fmt.Sprintf("%s may not capture %d bytes of each packet: what is beyond %d may hold what people say", principal(ctx).Name, in.Body.SnapBytes, client.HeadersOnly),
			Hint:   fmt.Sprintf("ask for %d bytes, or ask an administrator", client.HeadersOnly),
		}
	}
	r, err := c.deps.Tools.Capture(ctx, id, in.Body)
	if err != nil {
		return nil, err
	}
	changed(ctx, in.Body, map[string]any{"packets": r.Packets, "dropped": r.Dropped, "bytes": len(r.Pcap), "ended": r.Ended}) // never the packets
	return &pcapAnswer{
		ContentType: pcapType, Disposition: fmt.Sprintf("attachment; filename=%q", string(id)+"-"+time.Now().UTC().Format("20060102T150405Z")+".pcap"),
		Packets: r.Packets, Dropped: r.Dropped, Ended: r.Ended, Body: r.Pcap,
	}, nil
}
