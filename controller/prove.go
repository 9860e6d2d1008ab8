package controller

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wardnet/wardnet/controller/proof"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// Proof is what was proven of a revision: that in no state anything passes that
// its permits do not name.
type Proof struct {
	proof.Result
	Why string // why nothing could be proven; empty: the Result says what was
}

// proven returns the proof of a compiled revision. Revisions never change, so it
// is made once for each; the last few are remembered.
func (c *Controller) proven(to *Compiled) Proof {
	start := time.Now()
	r, err := prove(c.prover, to)
	p, outcome := Proof{Result: r}, proofHolds
	switch {
	case err != nil:
		p.Why, outcome = err.Error(), proofUnknown
	case !r.Holds:
		outcome = proofFails
	}
	c.metrics.proofs.WithLabelValues(outcome).Inc()
	c.metrics.proof.Observe(time.Since(start).Seconds())
	return p
}

// compare fills in what p newly lets pass and stops, compared with what is
// assigned to the devices now.
func (c *Controller) compare(ctx context.Context, p *Plan) error {
	to, err := c.compile(ctx, p.Revision, false)
	if err != nil {
		return err
	}
	c.mu.Lock()
	from := c.inForce()
	c.mu.Unlock()
	before := proof.Side{Boxes: proofBoxes(from)}
	if p.Base != 0 {
		base, err := c.compile(ctx, p.Base, false)
		if err != nil {
			return err
		}
		before.Intent, before.Inventory = base.Hash, *base.Content
	}
	p.Reachability, err = c.prover.Compare(before, proof.Side{Intent: to.Hash, Inventory: *to.Content, Boxes: proofBoxes(to.Devices)})
	return err
}

// Prove renders what every device of c would run, with every runtime set at its
// maximum, and proves that it lets nothing pass that the permits do not name.
func Prove(c *Compiled) (proof.Result, error) {
	var p proof.Prover
	return prove(&p, c)
}

func prove(p *proof.Prover, c *Compiled) (proof.Result, error) {
	r, err := p.Prove(proof.Side{Key: c.Hash, Intent: c.Hash, Inventory: *c.Content, Boxes: proofBoxes(c.Devices)})
	if err != nil {
		return r, fmt.Errorf("prove revision %d: %w", c.Revision, err)
	}
	return r, nil
}

func proofBoxes(devices map[inventory.DeviceID]Want) []proof.Box {
	ids := make([]inventory.DeviceID, 0, len(devices))
	for id, w := range devices {
		if w.Config.Role != inventory.RoleRouter { // the proof takes it to announce what the hub may take from it
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	boxes := make([]proof.Box, len(ids))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	const some = 256
	for from := 0; from < len(ids); from += some {
		g.Go(func() error {
			for i := from; i < min(from+some, len(ids)); i++ {
				w := devices[ids[i]]
				boxes[i] = proofBox(w.Config)
				boxes[i].Key = w.Hash
			}
			return nil
		})
	}
	_ = g.Wait() // nothing fails
	return boxes
}

// proofBox is one device. Where the inventory names no port, as for simulated
// boxes, the proof gives it one: what is proven is the filter.
func proofBox(c edge.Config) proof.Box {
	b := proof.Box{
		Device: c.Device, Site: c.Site, Hub: c.Role == inventory.RoleHub, Own: slices.Clone(c.BGP.Networks),
		Segments: map[inventory.SegmentKind]string{},
	}
	c.Circuits, c.Segments, c.Uplinks = slices.Clone(c.Circuits), slices.Clone(c.Segments), slices.Clone(c.Uplinks)
	near := make(map[string]netip.Addr, len(c.Circuits))
	for i := range c.Circuits {
		x := &c.Circuits[i]
		x.Port = cmp.Or(x.Port, fmt.Sprintf("circuit%d", i))
		if x.Addressing == "" {
			x.Addressing = inventory.DHCP
		}
		b.Circuits = append(b.Circuits, x.Port)
		b.CircuitIDs = append(b.CircuitIDs, inventory.CircuitID(x.Name))
		near[x.Name] = x.Address.Addr()
	}
	for i := range c.Segments {
		x := &c.Segments[i]
		x.Port = cmp.Or(x.Port, fmt.Sprintf("segment%d", i))
		b.Segments[x.Kind] = x.Port
	}
	for _, u := range c.Uplinks {
		b.Uplinks = append(b.Uplinks, u.Port)
		b.Routers = append(b.Routers, proof.Router{Name: u.Name, Peer: u.Peer, Accept: u.Accept})
	}
	for _, l := range c.Legacy {
		if b.Legacy == nil {
			b.Legacy = map[inventory.SegmentKind]netip.Prefix{}
		}
		b.Legacy[l.Segment] = l.Inside
	}
	keys := edge.Credentials{Keys: map[inventory.DeviceID]string{}}
	seen := map[string]bool{}
	for _, t := range c.Tunnels {
		keys.Keys[t.Peer] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" // admitted; the key itself is no matter
		name := render.Interface(t)
		if !seen[name] {
			seen[name] = true
			b.Tunnels = append(b.Tunnels, name)
		}
		b.Links = append(b.Links, proof.Link{
			Tunnel: t.Name, Interface: name, Peer: t.Peer, Local: t.Local.Addr(), Remote: t.Remote, Circuit: inventory.CircuitID(t.Circuit), MTU: t.MTU,
			Listen: cmp.Or(t.ListenPort, t.Endpoint.Port()), Near: near[t.Circuit], Far: t.Endpoint.Addr(),
		})
	}
	b.Render = func() (proof.Artefacts, error) {
		box, err := render.New(render.Input{Config: c, Credentials: keys})
		out := proof.Artefacts{Filter: box.NFT, Routing: box.FRR, Allowed: map[string][]netip.Prefix{}}
		for _, w := range box.WireGuard {
			for _, p := range w.Peers {
				out.Allowed[p.Tunnel] = p.AllowedIPs
			}
		}
		return out, err
	}
	return b
}
