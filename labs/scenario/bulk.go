package scenario

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/impair"
	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/netlab/netns"
	"github.com/wardnet/wardnet/labs/probe"
)

// What a call is and must keep under load.
const (
	bulkRate   = 10 * inventory.Mbps // of the circuit, as contracted
	bulkLine   = 12 * inventory.Mbps // what the carrier lets pass, each way: what the machine kept waiting can catch up
	bulkOffer  = 18 * inventory.Mbps // what is offered: more than either
	bulkSize   = 1200                // bytes of a datagram's payload
	bulkFill   = 0.85                // of the contracted rate must be used, a ratio
	callPace   = 20 * time.Millisecond
	callIdle   = 6 * time.Second
	callLoaded = 12 * time.Second
	callLoss   = 0.01
	callJitter = 10 * time.Millisecond // more than without load
	expedited  = 46                    // DSCP of a telephone's voice, EF (RFC 3246)
)

// fillsUp puts a call on a ward's only circuit left, and fills that circuit.
func fillsUp(ctx context.Context, p *play) error {
	ward := p.wards()[0]
	call, load, err := p.callAndLoad(ward)
	if err != nil {
		return err
	}
	if err := p.narrow(ctx, ward); err != nil {
		return err
	}
	ping, err := probe.Start(ctx, call)
	if err != nil {
		return err
	}
	defer ping.Stop()
	all := []watched{{ward, ping}}
	if err := p.steady(ctx, 30*time.Second, all...); err != nil {
		return err
	}
	from := ping.Mark()
	if err := pause(ctx, callIdle); err != nil {
		return err
	}
	idle := ping.Since(from, ping.Mark()-settle)

	ports, err := impair.Ports(p.Lab.Topology, impair.Target{Circuit: p.primary(ward).ID})
	if err != nil {
		return err
	}
	offering, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- load.run(offering) }()
	if err := pause(ctx, 2*time.Second); err != nil { // until the queues are full
		return err
	}
	from = ping.Mark()
	before, err := passed(ports)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := pause(ctx, callLoaded); err != nil {
		return err
	}
	after, err := passed(ports)
	if err != nil {
		return err
	}
	used := inventory.BitRate(float64(8*(after.bytesIn-before.bytesIn)) / time.Since(begin).Seconds())
	loaded := ping.Since(from, ping.Mark()-settle)
	cancel()
	if err := <-ended; err != nil {
		return err
	}
	p.event(Event{
		Name: "the circuit is full", OK: float64(used) >= bulkFill*float64(bulkRate),
		Detail: fmt.Sprintf("%s at %s: %.1f Mbit/s pass of %d contracted, %d are offered on a line of %d", p.primary(ward).ID, ward.ID, float64(used)/float64(inventory.Mbps), bulkRate/inventory.Mbps, bulkOffer/inventory.Mbps, bulkLine/inventory.Mbps),
	})
	added := loaded.Variation - idle.Variation
	loss := float64(loaded.Lost) / float64(max(loaded.Sent, 1))
	p.event(Event{
		Name: "a call beside it", Lost: loaded.Lost, OutageMS: max(added, 0).Milliseconds(), ExpectedMS: callJitter.Milliseconds(),
		OK: loaded.Sent > 0 && loss < callLoss && added < callJitter,
		Detail: fmt.Sprintf("%.2f %% lost of %d; jitter %.1f ms, idle %.1f; median %.1f ms, idle %.1f; 99th percentile %.1f ms above it, idle %.1f",
			100*loss, loaded.Sent, ms(loaded.Variation), ms(idle.Variation), ms(loaded.Median), ms(idle.Median), ms(loaded.Jitter), ms(idle.Jitter)),
	})
	if err := p.heal(ctx); err != nil {
		return err
	}
	return p.undo(ctx)
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// narrow makes a ward's circuits slow ones, in the inventory and at the carrier,
// and takes all but the preferred one away.
func (p *play) narrow(ctx context.Context, ward netlab.Site) error {
	roll, err := p.change(ctx, "Đường truyền hẹp", func(inv *inventory.Inventory) {
		for i := range inv.Circuits {
			if c := &inv.Circuits[i]; c.Site == ward.ID {
				c.UpBPS, c.DownBPS = bulkRate, bulkRate
			}
		}
	})
	if err == nil {
		roll, err = p.ended(ctx, roll)
	}
	if err == nil && roll.State != "done" {
		err = fmt.Errorf("rollout %s ended as %s: %s", roll.ID, roll.State, roll.Reason)
	}
	if err != nil {
		return err
	}
	keep := p.primary(ward).ID
	for _, id := range ward.Circuits {
		f := impair.Fault{Kind: impair.Silence}
		if id == keep {
			f = impair.Fault{Kind: impair.Slow, RateBPS: bulkLine}
		}
		if err := p.fault(ctx, impair.Target{Circuit: id}, f); err != nil {
			return err
		}
	}
	return nil
}

// flood is a sender of datagrams that nobody answers.
type flood struct {
	namespace string
	to        netip.AddrPort
}

// callAndLoad finds two permitted flows of different service classes: one from
// the telephones to their own application, which answers datagrams, and one to a
// port range of another application whose middle nobody listens at.
func (p *play) callAndLoad(ward netlab.Site) (probe.Flow, flood, error) {
	phone, ok := p.Lab.Topology.Host(ward.ID, inventory.Voice)
	if !ok {
		return probe.Flow{}, flood{}, fmt.Errorf("%w: ward %s has no telephones", inventory.ErrInvalid, ward.ID)
	}
	city, x := p.Lab.City, p.Lab.City.Index()
	var call probe.Flow
	var class string
	for _, permit := range city.Permits {
		app, ok := x.Application(permit.ToApp)
		if !ok || len(permit.From) != 1 || permit.From[0] != inventory.Voice {
			continue
		}
		for _, r := range app.Ports {
			if r.Proto == inventory.UDP && r.From != r.To {
				call = probe.Flow{Namespace: phone.NS, To: app.Prefixes[0].Addr(), Port: r.From, Interval: callPace, DSCP: expedited}
				class = app.Class.Name
			}
		}
	}
	for _, permit := range city.Permits {
		app, ok := x.Application(permit.ToApp)
		if !ok || app.Class.Name == class || class == "" {
			continue
		}
		for _, kind := range permit.From {
			host, ok := p.Lab.Topology.Host(ward.ID, kind)
			for _, r := range app.Ports {
				if ok && !host.DHCP && r.Proto == inventory.UDP && r.To > r.From+1 {
					return call, flood{host.NS, netip.AddrPortFrom(app.Prefixes[0].Addr(), r.From+1)}, nil
				}
			}
		}
	}
	return probe.Flow{}, flood{}, fmt.Errorf("%w: the intent lets ward %s make no call, or send no datagrams of another class beside it", inventory.ErrInvalid, ward.ID)
}

// run offers bulkOffer until ctx ends. What cannot be sent is not offered; the
// far host's complaint that nobody listens is expected.
func (f flood) run(ctx context.Context) error {
	var conn net.Conn
	err := netns.Do(f.namespace, func() (err error) {
		conn, err = net.Dial("udp", f.to.String())
		return err
	})
	if err != nil {
		return fmt.Errorf("offer load: %w", err)
	}
	defer conn.Close()
	const beat = 5 * time.Millisecond
	tick := time.NewTicker(beat)
	defer tick.Stop()
	b := make([]byte, bulkSize)
	begin, sent := time.Now(), 0
	for {
		due := int(time.Since(begin).Seconds() * float64(bulkOffer) / (8 * bulkSize))
		for sent = max(sent, due-100); sent < due; sent++ { // a sender that slept does not burst
			_, _ = conn.Write(b)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
