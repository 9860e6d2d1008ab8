package controller

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/controller/proof"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

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
