package scenario

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab"
)

// toolTime bounds one call of a tool in the lab.
const toolTime = 15 * time.Second

// tools uses a ward's box to look at the network while a host's ping runs: from
// the underlay, and at the same packets in the segment, in the tunnel and on the
// circuit under it. Who may not is refused, and all of it is in the audit log.
func tools(ctx context.Context, p *play) error {
	ward := p.wards()[0]
	circuit := p.primary(ward).ID
	_, stop, err := p.watch(ctx, ward)
	if err != nil {
		return err
	}
	defer stop()
	begin := time.Now().Add(-time.Second)
	if err := p.as(netlab.Engineer, func(c *client.Client) error {
		return errors.Join(p.asks(ctx, c, ward, circuit), p.captures(ctx, c, ward, circuit))
	}); err != nil {
		return err
	}
	if err := p.as(netlab.Security, func(c *client.Client) error {
		_, err := c.Ping(ctx, ward.Device, client.NewPing{Destination: p.Lab.Topology.Internet.String()})
		p.event(Event{Name: "who may not is refused", OK: errors.Is(err, client.ErrForbidden), Detail: fmt.Sprint(err)})
		return nil
	}); err != nil {
		return err
	}
	return p.audited(ctx, ward, begin)
}

// asks pings and traces the internet by one circuit.
func (p *play) asks(ctx context.Context, c *client.Client, ward netlab.Site, circuit inventory.CircuitID) error {
	far, from := p.Lab.Topology.Internet.String(), client.ToolFrom{Circuit: string(circuit)}
	ctx, cancel := context.WithTimeout(ctx, 2*toolTime)
	defer cancel()
	ping, err := c.Ping(ctx, ward.Device, client.NewPing{Destination: far, From: from, Count: 5, IntervalMS: 200})
	if err != nil {
		return fmt.Errorf("ping %s from %s: %w", far, ward.Device, err)
	}
	p.event(Event{
		Name: "ping by " + string(circuit), Lost: int(ping.Summary.Sent - ping.Summary.Received), OK: ping.Summary.Sent == 5 && ping.Summary.Received == 5,
		Detail: fmt.Sprintf("%d sent to %s, %d received, %.1f ms on average", ping.Summary.Sent, far, ping.Summary.Received, float64(ping.Summary.AvgTimeNS)/1e6),
	})
	trace, err := c.Trace(ctx, ward.Device, client.NewTrace{Destination: far, From: from, WaitMS: 500})
	if err != nil {
		return fmt.Errorf("trace %s from %s: %w", far, ward.Device, err)
	}
	var hops []string
	for _, h := range trace.Probes {
		if h.Probe == 1 {
			hops = append(hops, h.Address)
		}
	}
	p.event(Event{Name: "trace by " + string(circuit), OK: trace.Reached && len(hops) > 1, Detail: fmt.Sprint(hops)})
	return nil
}

// captures looks at the host's ping in its segment and in the tunnel, where it
// must be, and on the circuit, where only the tunnel's packets may be.
func (p *play) captures(ctx context.Context, c *client.Client, ward netlab.Site, circuit inventory.CircuitID) error {
	hub, ok := p.Lab.Topology.Site(p.hubOf(ward))
	if !ok {
		return fmt.Errorf("%w: hub of %s", inventory.ErrNotFound, ward.ID)
	}
	take := func(want client.NewCapture) (client.CaptureResult, error) {
		ctx, cancel := context.WithTimeout(ctx, toolTime)
		defer cancel()
		want.MaxPackets, want.MaxSeconds = 40, 5
		r, err := c.Capture(ctx, ward.Device, want)
		if err != nil {
			return r, fmt.Errorf("capture at %s: %w", ward.Device, err)
		}
		return r, nil
	}
	flow, err := p.flow(ward)
	if err != nil {
		return err
	}
	own := "host " + flow.To.String()
	for _, where := range []client.NewCapture{
		{Segment: string(inventory.Staff), Filter: own},
		{Tunnel: string(circuit) + "--" + string(hub.Device), Filter: own},
		{Circuit: string(circuit), Filter: own},
	} {
		r, err := take(where)
		if err != nil {
			return err
		}
		bare := where.Circuit != ""
		p.event(Event{
			Name: "the host's ping in " + where.Segment + where.Tunnel + where.Circuit, OK: (r.Packets == 0) == bare,
			Detail: fmt.Sprintf("%d packets until %s", r.Packets, r.Ended),
		})
	}
	r, err := take(client.NewCapture{Circuit: string(circuit)})
	if err != nil {
		return err
	}
	var all seen
	for frame := range frames(r.Pcap) {
		all.look(frame)
	}
	p.event(Event{
		Name: "what " + string(circuit) + " carries", OK: all.tunnelled > 0 && len(all.other) == 0,
		Detail: fmt.Sprintf("%d packets, %d are a tunnel's; others: %v", all.packets, all.tunnelled, all.other),
	})
	return nil
}

// frames are the packets of a pcap file that we wrote: little-endian, with
// 24 bytes before all and 16 before each.
func frames(pcap []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		const file, record = 24, 16
		for rest := pcap[min(file, len(pcap)):]; len(rest) >= record; {
			n := int(binary.LittleEndian.Uint32(rest[8:]))
			if len(rest)-record < n || !yield(rest[record:record+n]) {
				return
			}
			rest = rest[record+n:]
		}
	}
}

// audited expects every call since begin in the audit log.
func (p *play) audited(ctx context.Context, ward netlab.Site, begin time.Time) error {
	return p.as(netlab.Engineer, func(c *client.Client) error {
		log, err := c.Audit(ctx, client.AuditFilter{Limit: 1000})
		if err != nil {
			return err
		}
		log = slices.DeleteFunc(log, func(e client.AuditEntry) bool { return e.At.Before(begin) })
		n := map[string]int{}
		for _, e := range log {
			if strings.Contains(e.Object, string(ward.Device)) {
				n[e.What+" "+e.Outcome]++
			}
		}
		p.event(Event{
			Name: "the audit log knows", Detail: fmt.Sprint(n),
			OK: n["ping-device done"] == 1 && n["trace-device done"] == 1 && n["capture-device done"] == 4 && n["ping-device refused"] == 1,
		})
		return nil
	})
}
