package linux

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/edge/tool"
	"github.com/wardnet/wardnet/inventory"
)

// Leave implements [tool.Box].
func (h *Host) Leave(from tool.From, dst netip.Addr) (tool.Way, error) {
	conf := h.current().config
	switch {
	case from.Circuit != "":
		return h.leaveCircuit(conf, from.Circuit, dst)
	case from.Tunnel != "":
		return leaveTunnel(conf, from.Tunnel, dst)
	case from.Segment != "":
		s, err := segmentOf(conf, from.Segment)
		if err != nil {
			return tool.Way{}, err
		}
		own := s.V4
		if dst.Is6() {
			own = s.V6
		}
		if !own.IsValid() {
			return tool.Way{}, fmt.Errorf("%w: segment %s has no address of the family of %s", inventory.ErrInvalid, s.Kind, dst)
		}
		return tool.Way{Source: render.Gateway(own).Addr()}, nil
	}
	return tool.Way{}, nil
}

// leaveCircuit: what is marked takes the circuit's own table, and with the
// circuit's address so do the answers.
func (h *Host) leaveCircuit(conf edge.Config, name string, dst netip.Addr) (tool.Way, error) {
	c, err := h.circuitOf(conf, name)
	if err != nil {
		return tool.Way{}, err
	}
	address := c.Address
	if c.Addressing != inventory.Static {
		address = h.wan.learned([]edge.Circuit{c})[c.Name].Address
	}
	switch {
	case !address.IsValid():
		return tool.Way{}, fmt.Errorf("%w: circuit %s has no address now", inventory.ErrConflict, name)
	case address.Addr().Is4() != dst.Is4():
		return tool.Way{}, fmt.Errorf("%w: circuit %s has no address of the family of %s", inventory.ErrInvalid, name, dst)
	}
	return tool.Way{Source: address.Addr(), Mark: render.CircuitMark(name)}, nil
}

// leaveTunnel: from the tunnel's own end to its far end, and from the loopback,
// which all sites know, to what lies beyond.
func leaveTunnel(conf edge.Config, name string, dst netip.Addr) (tool.Way, error) {
	t, err := tunnelOf(conf, name)
	if err != nil {
		return tool.Way{}, err
	}
	if !slices.ContainsFunc(behind(t), func(p netip.Prefix) bool { return p.Contains(dst) }) {
		return tool.Way{}, fmt.Errorf("%w: %s is not reached by tunnel %s", inventory.ErrInvalid, dst, name)
	}
	w := tool.Way{Source: t.Local.Addr(), Interface: render.Interface(t), OnLink: t.Kind == edge.WireGuard && dst.Is4()}
	switch {
	case dst.Is6():
		w.Source = render.Inner(t.Local.Addr())
	case dst != t.Remote && conf.Loopback.Is4():
		w.Source = conf.Loopback
	}
	return w, nil
}

// Look implements [tool.Box].
func (h *Host) Look(from tool.From) (tool.Port, error) {
	conf := h.current().config
	switch {
	case from.Circuit != "":
		c, err := h.circuitOf(conf, from.Circuit)
		return tool.Port{Interface: c.Port}, err
	case from.Tunnel != "":
		t, err := tunnelOf(conf, from.Tunnel)
		if err != nil {
			return tool.Port{}, err
		}
		port := tool.Port{Interface: render.Interface(t)}
		if slices.ContainsFunc(conf.Tunnels, func(o edge.Tunnel) bool { return o.Name != t.Name && render.Interface(o) == port.Interface }) {
			port.Hosts = behind(t) // a hub's port, which its tunnels share
		}
		return port, nil
	}
	s, err := segmentOf(conf, from.Segment)
	return tool.Port{Interface: s.Port}, err
}

// behind is what a tunnel leads to.
func behind(t edge.Tunnel) []netip.Prefix {
	far := []netip.Addr{t.Remote, render.Inner(t.Remote)}
	out := slices.Clone(t.AllowedIPs)
	for _, a := range far {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

func (h *Host) circuitOf(conf edge.Config, name string) (edge.Circuit, error) {
	for _, c := range h.circuits(conf) {
		if c.Name == name {
			return c, nil
		}
	}
	return edge.Circuit{}, fmt.Errorf("%w: this device has no circuit %q", inventory.ErrInvalid, name)
}

func tunnelOf(conf edge.Config, name string) (edge.Tunnel, error) {
	for _, t := range conf.Tunnels {
		if t.Name == name {
			return t, nil
		}
	}
	return edge.Tunnel{}, fmt.Errorf("%w: this device has no tunnel %q", inventory.ErrInvalid, name)
}

func segmentOf(conf edge.Config, name string) (edge.Segment, error) {
	for _, s := range conf.Segments {
		if string(s.Kind) == name {
			return s, nil
		}
	}
	return edge.Segment{}, fmt.Errorf("%w: this device has no segment %q", inventory.ErrInvalid, name)
}
