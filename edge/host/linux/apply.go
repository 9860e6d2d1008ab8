package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/host/wireguard"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// restoreLimit bounds the way back, which also runs when the way forward took
// all the time there was.
const restoreLimit = 25 * time.Second

// step is one part of the box, brought to what it should be.
type step struct {
	name string
	do   func(context.Context, inForce) error
}

// steps in their order, the same for every change: the filter first and in one
// transaction, so that at any moment it is the old or the new one and a pair
// that both deny never passes, whatever else is half done; then what the filter
// speaks of. Forwarding is on only under a filter. FRR comes last: it needs the
// interfaces, and what it learns widens nothing.
func (h *Host) steps() []step {
	before := []step{
		{"filter", h.putFilter},
		{"tunnels", func(ctx context.Context, w inForce) error {
			return h.deps.Tunnels.Apply(ctx, h.cfg.Key(), w.box.WireGuard)
		}},
		{"ipsec", func(ctx context.Context, w inForce) error {
			if h.deps.IPsec == nil {
				return nil
			}
			return h.deps.IPsec.Apply(ctx, w.ipsec)
		}},
		{"links", func(_ context.Context, w inForce) error { return h.putLinks(w) }},
		{"kernel", func(_ context.Context, w inForce) error { return carryOut(kernelOps(w)) }},
		{"routes", func(_ context.Context, w inForce) error { return carryOut(routeOps(w.box.Routes)) }},
		{"rules", func(_ context.Context, w inForce) error { return carryOut(ruleOps(w.box.Rules)) }},
	}
	return append(append(before, h.partSteps()...), step{"routing", h.putRouting})
}

// Apply implements [agent.Host].
func (h *Host) Apply(ctx context.Context, c edge.Config, k edge.Credentials) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	start := time.Now()
	old := h.current()
	h.wan.set(append(slices.Clone(h.circuits(c)), h.circuits(old.config)...))
	want, err := h.make(c, k)
	if err == nil {
		err = h.check(ctx, want)
	}
	if err != nil {
		h.wan.set(h.circuits(old.config))
		h.metrics.applies.WithLabelValues(refused).Inc()
		return err
	}
	if err := h.converge(ctx, want); err != nil {
		return h.restore(ctx, old, k, err)
	}
	h.adopt(want)
	h.metrics.applies.WithLabelValues(done).Inc()
	h.metrics.seconds.Observe(time.Since(start).Seconds())
	return nil
}

// restore puts old in force again after cause; h.mu is held. On a box that this
// process has not configured yet there is no old one: what was done stays, the
// filter of the new configuration first of all, and the caller tries again.
func (h *Host) restore(ctx context.Context, old inForce, k edge.Credentials, cause error) error {
	h.wan.set(h.circuits(old.config))
	if !old.applied {
		h.metrics.applies.WithLabelValues(stuck).Inc()
		return cause
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), restoreLimit, fmt.Errorf("the way back took over %s", restoreLimit))
	defer cancel()
	if k.Epoch > old.keys.Epoch { // never rolled back: who was revoked stays out
		if now, err := h.make(old.config, k); err == nil {
			old = now
			h.adopt(old)
		}
	}
	if err := h.converge(ctx, old); err != nil {
		h.metrics.applies.WithLabelValues(stuck).Inc()
		h.heal()
		return errors.Join(cause, fmt.Errorf("the old configuration is not back yet, trying on: %w", err))
	}
	h.metrics.applies.WithLabelValues(restored).Inc()
	return cause
}

// adopt makes want what the box should be; h.mu is held.
func (h *Host) adopt(want inForce) {
	h.wan.set(h.circuits(want.config))
	h.viewMu.Lock()
	h.view, h.viewed, h.asked = want, time.Now(), answer{} // what routing said was of another configuration
	h.viewMu.Unlock()
	h.deps.Prober.Update(targets(want), want.config.Contract, want.config.Loopback)
	h.wake()
}

// converge brings every part of the box to want and reads it back in passing:
// each step looks before it changes anything.
func (h *Host) converge(ctx context.Context, want inForce) error {
	for _, s := range h.steps() {
		if h.between != nil {
			h.between(s.name)
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s: %w", s.name, context.Cause(ctx))
		}
		if err := s.do(ctx, want); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func (h *Host) putFilter(ctx context.Context, w inForce) error {
	replaced, err := h.filter.Load(ctx, w.box.NFT)
	if err != nil || !replaced && h.current().applied {
		return err
	}
	// A process that died here may have left flows of the filter before.
	cut, err := cutFlows(w.config)
	h.viewMu.Lock()
	h.cut = cut
	h.viewMu.Unlock()
	return err
}

func (h *Host) putRouting(ctx context.Context, w inForce) error {
	text := w.box.FRR
	if nothing(w.config) || strings.TrimSpace(text) == "" {
		if len(h.routing.Down()) > 0 {
			return nil // nothing to run, and nothing is run
		}
		text = "!\n"
	}
	return h.routing.Load(ctx, text)
}

// check lists what stands against putting w in force; it changes nothing.
func (h *Host) check(ctx context.Context, w inForce) error {
	c, box := w.config, w.box
	errs := []error{h.checkPorts(c), checkLinks(box), h.checkParts(ctx, w)}
	errs = append(errs, h.filter.Check(ctx, box.NFT))
	if !nothing(c) && strings.TrimSpace(box.FRR) != "" {
		errs = append(errs, h.routing.Check(ctx, box.FRR))
	}
	if len(w.ipsec) > 0 && h.deps.IPsec == nil {
		errs = append(errs, errors.New("this box has no IPsec; install strongSwan, or choose wireguard for its circuits"))
	}
	if len(box.WireGuard) > 0 && h.cfg.Key() == "" {
		errs = append(errs, errors.New("the device has no tunnel key yet; enrol it first"))
	}
	err := errors.Join(errs...)
	if err == nil || errors.Is(err, inventory.ErrInvalid) || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
}

// checkPorts lists the ports that this box does not have. On boot a missing
// modem must not take the rest down, so this is asked of a configuration that
// is not in force yet only.
func (h *Host) checkPorts(c edge.Config) error {
	if now := h.current(); nothing(c) || !now.applied || now.config.Hash() == c.Hash() {
		return nil
	}
	var errs []error
	used := map[string]string{}
	need := func(what, port string) {
		switch other, taken := used[port]; {
		case port == "":
			errs = append(errs, fmt.Errorf("%w: %s has no port; name the box's network interface", inventory.ErrInvalid, what))
			return
		case taken:
			errs = append(errs, fmt.Errorf("%w: %s and %s share port %s", inventory.ErrInvalid, what, other, port))
		}
		used[port] = what
		if _, err := net.InterfaceByName(port); err != nil {
			errs = append(errs, fmt.Errorf("%w: %s: this box has no port %s", inventory.ErrInvalid, what, port))
		}
	}
	for _, x := range c.Circuits {
		if x.Addressing == inventory.PPPoE && !h.wan.learned([]edge.Circuit{x})[x.Name].Address.IsValid() {
			errs = append(errs, fmt.Errorf("%w: circuit %s: PPPoE needs a PPP daemon that brings up interface %s; start pppd and name its interface as the port", inventory.ErrInvalid, x.Name, x.Port))
		}
		need("circuit "+x.Name, x.Port)
	}
	for _, s := range c.Segments {
		need("segment "+string(s.Kind), s.Port)
	}
	for _, u := range c.Uplinks {
		need("uplink "+u.Name, u.Port)
	}
	return errors.Join(errs...)
}

func checkLinks(box render.Box) error {
	var errs []error
	for _, l := range box.Links {
		if l.Name == "" || len(l.Name) > 15 || strings.ContainsAny(l.Name, "/ \t\n") {
			errs = append(errs, fmt.Errorf("%w: %s: %q is no interface name of at most 15 bytes", inventory.ErrInvalid, l.Alias, l.Name))
		}
	}
	return errors.Join(errs...)
}

// Equal lists how the whole box differs from c with the tunnel peers of k, part
// by part; none: they are equal. It changes nothing.
func (h *Host) Equal(ctx context.Context, c edge.Config, k edge.Credentials) ([]string, error) {
	w, err := h.make(c, k)
	if err != nil {
		return nil, err
	}
	return h.differences(ctx, w)
}

func (h *Host) differences(ctx context.Context, w inForce) ([]string, error) {
	var diff []string
	same, err := h.filter.InForce(ctx, w.box.NFT)
	if err != nil {
		return nil, err
	}
	if !same {
		diff = append(diff, "filter: the kernel runs another table than the configuration's")
	}
	devices, err := h.deps.Tunnels.State(ctx)
	switch {
	case errors.Is(err, edge.ErrUnreachable):
		if len(w.box.WireGuard) > 0 {
			diff = append(diff, "tunnels: "+err.Error())
		}
	case err != nil:
		return nil, err
	default:
		if err := wireguard.Check(h.cfg.Key(), w.box.WireGuard, devices); err != nil {
			diff = append(diff, "tunnels: "+err.Error())
		}
	}
	for _, part := range []struct {
		name string
		plan func() ([]op, error)
	}{
		{"links", func() ([]op, error) { return h.linkOps(w) }},
		{"kernel", func() ([]op, error) { return kernelOps(w) }},
		{"routes", func() ([]op, error) { return routeOps(w.box.Routes) }},
		{"rules", func() ([]op, error) { return ruleOps(w.box.Rules) }},
	} {
		ops, err := part.plan()
		if err != nil {
			return nil, err
		}
		for _, o := range ops {
			diff = append(diff, part.name+": "+o.what)
		}
	}
	parts, err := h.partDiffs(ctx, w)
	if err != nil {
		return nil, err
	}
	more, err := h.routingDiff(ctx, w)
	return append(append(diff, parts...), more...), err
}

func (h *Host) routingDiff(ctx context.Context, w inForce) ([]string, error) {
	text := w.box.FRR
	if nothing(w.config) || strings.TrimSpace(text) == "" {
		if len(h.routing.Down()) > 0 {
			return nil, nil
		}
		text = "!\n"
	}
	diff, err := h.routing.Diff(ctx, text)
	for i, d := range diff {
		diff[i] = "routing: " + d
	}
	return diff, err
}
