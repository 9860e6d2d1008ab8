package agent

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/wardnet/wardnet/edge/agent/disk"
	"github.com/wardnet/wardnet/edge/channel"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// maxBackoff bounds the pause between two dials: short enough that a ward is
// back soon after its circuit is, long enough (with full jitter) for a city.
const maxBackoff = 15 * time.Second

// IdentityDir is the device's identity under its state directory.
func IdentityDir(state string) string { return filepath.Join(state, "identity") }

// RunConfig is what one device runs with. Dir, Host and Log are required.
type RunConfig struct {
	Dir string // state directory
	// Bundle is for the first contact; nil on a device that is enrolled.
	Bundle *enrol.Bundle
	// Host makes the data plane of the enrolled device; its tunnel key is in
	// the identity.
	Host func(*enrol.Identity) (Host, error)
	// Dial opens the connections for enrolment, renewal and the management
	// channel. A box whose circuits are its own sets it, for it must reach the
	// controller before it has an identity; nil: the host's Dial for the
	// channel, and as the machine routes for the rest.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Enrol enrols and renews, with Dial and Log where it has none of its own.
	Enrol enrol.Client
	// Services put what the device serves beside gNMI on the management channel.
	Services []func(*grpc.Server)
	Log      *slog.Logger

	Version string       // see [Deps]
	Hold    func() error // see [Deps]
	Strict  bool         // see [Deps]
	// Held says that the caller holds a lock over the state directory already:
	// a process with thousands of devices has not an open file for each.
	Held bool

	OnAgent      func(*Agent)          // optional, before it serves
	OnEnrolled   func(*enrol.Identity) // optional, before the first configuration
	OnUp, OnDown func()                // optional: the management channel
}

// Run is the whole life of an edge: enrol when there is no identity yet, put
// the last confirmed configuration in force, then stay connected and renew the
// certificate until ctx ends. It returns an error only when it cannot start.
func Run(ctx context.Context, cfg RunConfig) error {
	dir, err := disk.Open(disk.OS{}, cfg.Dir)
	if err != nil {
		return err
	}
	if !cfg.Held {
		release, err := disk.Lock(cfg.Dir)
		if err != nil {
			return err
		}
		defer release()
	}
	id, err := identity(ctx, cfg)
	if err != nil {
		return err
	}
	if cfg.OnEnrolled != nil {
		cfg.OnEnrolled(id)
	}
	host, err := cfg.Host(id)
	if err != nil {
		return fmt.Errorf("start host of %s: %w", id.Device(), err)
	}
	a, err := New(ctx, Deps{Device: id.Device(), Host: host, Dir: dir, Keys: pinned(id), Log: cfg.Log, Version: cfg.Version, Hold: cfg.Hold, Strict: cfg.Strict})
	if err != nil {
		return err
	}
	if cfg.OnAgent != nil {
		cfg.OnAgent(a)
	}
	server, _, err := net.SplitHostPort(id.Channel())
	if err != nil {
		return fmt.Errorf("%w: address of the management channel: %w; enrol again", inventory.ErrInvalid, err)
	}
	dial := cfg.Dial
	if dial == nil {
		dial = host.Dial
	}
	g, ctx := errgroup.WithContext(ctx)
	turnedAway := make(chan struct{}, 1)
	g.Go(func() error {
		rekey(ctx, cfg.client(), id, turnedAway)
		return nil
	})
	g.Go(func() error {
		a.Loop(ctx)
		return nil
	})
	g.Go(func() error {
		// Without a certificate the network still runs from its confirmed config.
		if err := cfg.client().RunRenewal(ctx, id); err != nil {
			cfg.Log.ErrorContext(ctx, "certificate cannot be renewed", "device", id.Device(), "err", err)
		}
		return nil
	})
	g.Go(func() error {
		return channel.Serve(ctx, channel.EdgeConfig{
			Dial: func(ctx context.Context) (net.Conn, error) {
				return dial(ctx, "tcp", id.Channel())
			},
			TLS:        id.TLS,
			ServerName: server,
			Register: func(s *grpc.Server) {
				a.Register(s)
				for _, add := range cfg.Services {
					add(s)
				}
			},
			Log: cfg.Log.With("device", id.Device()),
			OnRefused: func() {
				select {
				case turnedAway <- struct{}{}:
				default:
				}
			},
			OnUp:       func() { a.Channel(true); call(cfg.OnUp) },
			OnDown:     func() { a.Channel(false); call(cfg.OnDown) },
			MaxBackoff: maxBackoff,
		})
	})
	return g.Wait()
}

// client is the enrolment client with the defaults of cfg.
func (cfg RunConfig) client() enrol.Client {
	c := cfg.Enrol
	if c.Log == nil {
		c.Log = cfg.Log
	}
	if c.Dial == nil {
		c.Dial = cfg.Dial
	}
	return c
}

func call(f func()) {
	if f != nil {
		f()
	}
}

// identity loads the device's identity, or enrols.
func identity(ctx context.Context, cfg RunConfig) (*enrol.Identity, error) {
	dir := IdentityDir(cfg.Dir)
	id, err := cfg.Enrol.Load(dir)
	switch {
	case err == nil && cfg.Bundle != nil && cfg.Bundle.Device != id.Device():
		return nil, fmt.Errorf("%w: %s belongs to device %q, the bundle is for %q; use another state directory", inventory.ErrConflict, cfg.Dir, id.Device(), cfg.Bundle.Device)
	case err == nil:
		return id, nil
	case !errors.Is(err, inventory.ErrNotFound):
		return nil, fmt.Errorf("load identity: %w", err)
	case cfg.Bundle == nil:
		return nil, fmt.Errorf("%w: %s holds no identity; enrol the device with its bundle first", inventory.ErrInvalid, cfg.Dir)
	}
	if err := (disk.OS{}).MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("make identity directory: %w", err)
	}
	return cfg.client().Enrol(ctx, *cfg.Bundle, dir)
}

// pinned returns the revision keys as they are after the latest renewal.
func pinned(id *enrol.Identity) func() map[string]crypto.PublicKey {
	return func() map[string]crypto.PublicKey {
		keys := map[string]crypto.PublicKey{}
		for kid, k := range id.RevisionKeys() {
			keys[kid] = k
		}
		return keys
	}
}
