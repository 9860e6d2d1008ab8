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
	apart = 300 * time.Millisecond // at least, between two that something woke
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
	Log    *slog.Logger
}

// Run steers until ctx ends, then returns nil; the routes stay as they are.
func Run(ctx context.Context, deps Deps) error {
	if deps.Plane == nil || deps.Quality == nil || deps.Detour == nil || deps.Routed == nil || deps.Log == nil {
		return errors.New("steer: Deps has an empty field")
	}
	watch := deps.Plane.Watch(ctx)
	tick := time.NewTicker(pause)
	defer tick.Stop()
	var l loop
	var woken time.Time
	for {
		if err := l.turn(ctx, deps); err != nil && ctx.Err() == nil {
			if text := err.Error(); text != l.said {
				deps.Log.WarnContext(ctx, "classes are not steered", "err", err)
				l.said = text
			}
		} else {
			l.said = ""
		}
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
		}
	}
}

// loop is what one run remembers.
type loop struct {
	config  *edge.Config
	chooser *Chooser
	last    []Choice
	said    string
}

// turn looks once and moves what must move.
func (l *loop) turn(ctx context.Context, deps Deps) error {
	c := deps.Plane.inForce()
	if c == nil {
		return nil
	}
	if l.chooser == nil || c != l.config && !slices.Equal(c.Classes, l.config.Classes) {
		l.chooser, l.last = New(c.Classes), nil
	}
	l.config = c
	if len(c.Classes) == 0 {
		return deps.Detour(nil)
	}
	st, err := deps.Plane.State(ctx)
	if err != nil {
		return err
	}
	paths := Paths(*c, st, deps.Quality)
	choices := l.chooser.Choose(time.Now(), paths)
	for _, now := range choices {
		was := slices.IndexFunc(l.last, func(o Choice) bool { return o.Class == now.Class && o.Group == now.Group })
		if was >= 0 && l.last[was].Tunnel != now.Tunnel {
			deps.Log.InfoContext(ctx, "class moved", "class", now.Class, "tunnel", now.Tunnel, "from", l.last[was].Tunnel, "why", now.Why)
		}
	}
	l.last = choices
	routes := Deviations(*c, paths, choices)
	if len(routes) > 0 {
		main, err := deps.Routed()
		if err != nil {
			return err
		}
		routes = Follow(*c, routes, main)
	}
	return deps.Detour(routes)
}
