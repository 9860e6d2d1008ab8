package steer

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/edge/render"
)

const (
	pause = time.Second            // between two looks when nothing wakes the loop
	quick = 250 * time.Millisecond // the same while a tunnel that is ridden loses probes
	apart = 300 * time.Millisecond // at least, between two that something woke
	again = 10 * time.Second       // until routes that stay the same are set again, when nothing wakes the loop
	aged  = 10 * time.Second       // until the box and its routes are looked at again, when nothing wakes the loop
)

// Plane is a host that tells which configuration it runs. The agent applies
// through it, so that what is steered is what is in force.
type Plane struct {
	agent.Host

	mu     sync.Mutex // guards below
	config *edge.Config
}

// NewPlane wraps host.
func NewPlane(host agent.Host) *Plane { return &Plane{Host: host} }

// Apply implements [agent.Host].
func (p *Plane) Apply(ctx context.Context, c edge.Config, k edge.Credentials) error {
	if err := p.Host.Apply(ctx, c, k); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.config = &c
	return nil
}

// inForce is the configuration of the last Apply; nil before the first.
func (p *Plane) inForce() *edge.Config {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.config
}

// Deps are what [Run] needs; all required.
type Deps struct {
	Plane *Plane
	// Quality is a tunnel's over the last ten seconds or so.
	Quality func(tunnel string) Quality
	// Detour makes routes all that the tables of the service classes hold. It
	// is asked again and again, for an interface that is made anew lost them.
	Detour func(routes []render.Route) error
	// Routed returns the routes of the main table that leave by an interface;
	// of them Dst and Dev are read.
	Routed func() ([]render.Route, error)
	// Ridden is told which tunnels flows ride on, when that changes.
	Ridden func(tunnels []string)
	Log    *slog.Logger
}

// Run steers until ctx ends, then returns nil; the routes stay as they are.
func Run(ctx context.Context, deps Deps) error {
	if deps.Plane == nil || deps.Quality == nil || deps.Detour == nil || deps.Routed == nil || deps.Ridden == nil || deps.Log == nil {
		return errors.New("steer: Deps has an empty field")
	}
	watch := deps.Plane.Watch(ctx)
	tick := time.NewTimer(0)
	defer tick.Stop()
	var l loop
	var woken time.Time
	for {
		if err := l.turn(ctx, deps, time.Now()); err != nil && ctx.Err() == nil {
			if text := err.Error(); text != l.said {
				deps.Log.WarnContext(ctx, "classes are not steered", "err", err)
				l.said = text
			}
		} else {
			l.said = ""
		}
		tick.Reset(l.pause())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case _, ok := <-watch:
			if !ok {
				return nil
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(apart - time.Since(woken)):
			}
			woken = time.Now()
			l.stale = true // it may be that an interface is new and has none
			l.seen, l.read = time.Time{}, time.Time{}
		}
	}
}

// loop is what one run remembers.
type loop struct {
	config  *edge.Config
	chooser *Chooser
	last    []Choice
	said    string
	routes  []render.Route
	set     time.Time // when routes were; zero: set them
	stale   bool      // something woke the loop since
	state   agent.HostState
	seen    time.Time // when state was; zero: look again
	ridden  []string
	main    []render.Route
	read    time.Time // when main was; zero: read it again
	lossy   bool      // a tunnel that is ridden lost probes lately
}

// pause is the time until the next look.
func (l *loop) pause() time.Duration {
	if l.lossy {
		return quick
	}
	return pause
}

// turn looks once and moves what must move.
func (l *loop) turn(ctx context.Context, deps Deps, now time.Time) error {
	c := deps.Plane.inForce()
	if c == nil {
		return nil
	}
	if l.chooser == nil || c != l.config && !slices.Equal(c.Classes, l.config.Classes) {
		l.chooser, l.last = New(c.Classes), nil
	}
	if c != l.config {
		l.config, l.seen = c, time.Time{}
	}
	if len(c.Classes) == 0 {
		l.ride(deps, nil)
		return l.detour(deps, nil, now)
	}
	// The box wakes the loop when a session comes or goes: between, only the
	// quality changes, and looking at the box wakes all its daemons.
	if l.seen.IsZero() || now.Sub(l.seen) >= aged {
		st, err := deps.Plane.State(ctx)
		if err != nil {
			return err
		}
		l.state, l.seen = st, now
	}
	paths := Paths(*c, l.state, deps.Quality)
	choices := l.chooser.Choose(now, paths)
	for _, choice := range choices {
		was := slices.IndexFunc(l.last, func(o Choice) bool { return o.Class == choice.Class && o.Group == choice.Group })
		if was >= 0 && l.last[was].Tunnel != choice.Tunnel {
			deps.Log.InfoContext(ctx, "class moved", "class", choice.Class, "tunnel", choice.Tunnel, "from", l.last[was].Tunnel, "why", choice.Why)
		}
	}
	l.last = choices
	l.ride(deps, Ridden(*c, paths, choices))
	l.lossy = slices.ContainsFunc(paths, func(p Path) bool { return p.Lost > 0 && slices.Contains(l.ridden, p.Tunnel) })
	routes := Deviations(*c, paths, choices)
	if len(routes) > 0 {
		if l.read.IsZero() || now.Sub(l.read) >= aged {
			main, err := deps.Routed()
			if err != nil {
				return err
			}
			l.main, l.read = main, now
		}
		routes = Follow(*c, routes, l.main)
	}
	return l.detour(deps, routes, now)
}

// ride tells which tunnels are ridden, unless it is known.
func (l *loop) ride(deps Deps, tunnels []string) {
	if !slices.Equal(tunnels, l.ridden) {
		l.ridden = tunnels
		deps.Ridden(tunnels)
	}
}

// detour makes routes the detours, unless they were set to that just now.
func (l *loop) detour(deps Deps, routes []render.Route, now time.Time) error {
	age := again
	if l.stale {
		age = pause
	}
	if !l.set.IsZero() && now.Sub(l.set) < age && slices.Equal(l.routes, routes) {
		return nil
	}
	l.set, l.stale = time.Time{}, false
	if err := deps.Detour(routes); err != nil {
		return err
	}
	l.routes, l.set = slices.Clone(routes), now
	return nil
}
