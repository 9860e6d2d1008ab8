package controller

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

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
// is made once for each; the last few are kept.
func (c *Controller) proven(to *Compiled) Proof {
	c.proving.Lock()
	defer c.proving.Unlock()
	if p, ok := c.proofs[to.Revision]; ok {
		return p
	}
	start := time.Now()
	r, err := Prove(to)
	p, outcome := Proof{Result: r}, proofHolds
	switch {
	case err != nil:
		p.Why, outcome = err.Error(), proofUnknown
	case !r.Holds:
		outcome = proofFails
	}
	c.metrics.proofs.WithLabelValues(outcome).Inc()
	c.metrics.proof.Observe(time.Since(start).Seconds())
	if len(c.proofs) >= keptProofs {
		delete(c.proofs, slices.Min(slices.Collect(maps.Keys(c.proofs))))
	}
	c.proofs[to.Revision] = p
	return p
}

// keptProofs is how many proofs are remembered.
const keptProofs = 8

// Prove renders what every device of c would run, with every runtime set at its
// maximum, and proves that it lets nothing pass that the permits do not name.
func Prove(c *Compiled) (proof.Result, error) {
	boxes, err := proofBoxes(c)
	if err != nil {
		return proof.Result{}, fmt.Errorf("prove revision %d: %w", c.Revision, err)
	}
	r, err := proof.Segmentation(*c.Content, boxes)
	if err != nil {
		return r, fmt.Errorf("prove revision %d: %w", c.Revision, err)
	}
	return r, nil
}

func proofBoxes(c *Compiled) ([]proof.Box, error) {
	boxes := make([]proof.Box, 0, len(c.Devices))
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(c.Devices)) {
		b, err := proofBox(c.Devices[id].Config)
		if err != nil {
			errs = append(errs, fmt.Errorf("device %s: %w", id, err))
		}
		boxes = append(boxes, b)
	}
	return boxes, errors.Join(errs...)
}

// proofBox renders one device. Where the inventory names no port, as for
// simulated boxes, the proof gives it one: what is proven is the filter.
func proofBox(c edge.Config) (proof.Box, error) {
	b := proof.Box{
		Device: c.Device, Site: c.Site, Hub: c.Role == inventory.RoleHub, Own: slices.Clone(c.BGP.Networks),
		Segments: map[inventory.SegmentKind]string{},
	}
	c.Circuits, c.Segments, c.Uplinks = slices.Clone(c.Circuits), slices.Clone(c.Segments), slices.Clone(c.Uplinks)
	for i := range c.Circuits {
		x := &c.Circuits[i]
		x.Port = cmp.Or(x.Port, fmt.Sprintf("circuit%d", i))
		if x.Addressing == "" {
			x.Addressing = inventory.DHCP
		}
		b.Circuits = append(b.Circuits, x.Port)
	}
	for i := range c.Segments {
		x := &c.Segments[i]
		x.Port = cmp.Or(x.Port, fmt.Sprintf("segment%d", i))
		b.Segments[x.Kind] = x.Port
	}
	for _, u := range c.Uplinks {
		b.Uplinks = append(b.Uplinks, u.Port)
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
		if name := render.Interface(t); !seen[name] {
			seen[name] = true
			b.Tunnels = append(b.Tunnels, name)
		}
	}
	box, err := render.New(render.Input{Config: c, Credentials: keys})
	b.Filter = box.NFT
	return b, err
}
