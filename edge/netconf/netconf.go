// Package netconf drives devices over NETCONF (RFC 6241) on SSH (RFC 6242) by
// scrapligo. A [Box] holds what our own YANG module has, see
// edge/yang/wardnet-router.yang: loopback, circuits, segments, BGP with its
// neighbours, and uplinks. A device serves that module as it is or maps it to
// its own. Every change goes through the locked candidate datastore and is
// validated and committed whole; where the device has confirmed commits
// (§8.4) it returns by itself.
package netconf

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/foreign"
	"github.com/wardnet/wardnet/edge/sshwire"
)

const mostLost = 8 // sessions that broke, remembered

// Config says how to reach a device. Wire is required, its Subsystem is set
// here, and the rest has useful zeroes.
type Config struct {
	Wire sshwire.Config
	// Timeout bounds one operation; default 30 s. A commit is one.
	Timeout time.Duration
	// Idle is how long the session is kept after use; default 15 s. One with a
	// trial that ends with it is kept until that is over.
	Idle time.Duration
	// Emulate leaves the device's confirmed commits aside, for a device whose
	// are not to be trusted.
	Emulate bool
}

// Box is a device that talks NETCONF. It satisfies foreign.Box,
// foreign.Confirmer and foreign.Emulator.
type Box struct {
	cfg Config

	plain atomic.Bool // the device announced no confirmed commits

	mu   sync.Mutex // serialises all use
	s    *session   // nil: none is open
	lost []uint64   // sessions that broke; the device may think they are there
	idle *time.Timer
}

var (
	_ foreign.Box       = (*Box)(nil)
	_ foreign.Confirmer = (*Box)(nil)
	_ foreign.Emulator  = (*Box)(nil)
)

// New makes a Box; it connects when it is used.
func New(cfg Config) *Box {
	cfg.Wire.Subsystem = "netconf"
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Idle == 0 {
		cfg.Idle = 15 * time.Second
	}
	b := &Box{cfg: cfg}
	b.idle = time.AfterFunc(math.MaxInt64, b.rest)
	b.idle.Stop()
	return b
}

// Close ends the session. A trial of a device without persistent confirmed
// commits returns by that.
func (b *Box) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop()
	return nil
}

// Holds implements foreign.Box.
func (b *Box) Holds() []edge.Kind { return slices.Clone(holds) }

// Emulated implements foreign.Emulator.
func (b *Box) Emulated() bool { return b.cfg.Emulate || b.plain.Load() }

// Read implements foreign.Box, from the running datastore.
func (b *Box) Read(ctx context.Context, c edge.Config) (edge.Config, error) {
	err := b.with(ctx, func(s *session) error {
		r, err := s.rpc(ctx, getConfig{Source: running, Filter: filter{Type: "subtree", Router: &node{}}})
		if err != nil {
			return err
		}
		var have router
		if r.Data != nil && r.Data.Router != nil {
			have = *r.Data.Router
		}
		c, err = have.into(c)
		return err
	})
	if err != nil {
		return edge.Config{}, fmt.Errorf("get-config: %w", err)
	}
	return c, nil
}

// Tunnels implements foreign.Box: the BGP sessions, named as their tunnels. Those
// of a device that serves no container sessions are not known.
func (b *Box) Tunnels(ctx context.Context, c edge.Config) ([]edge.TunnelState, error) {
	seen, told := map[string]edge.TunnelState{}, false
	err := b.with(ctx, func(s *session) error {
		r, err := s.rpc(ctx, get{Filter: filter{Type: "subtree", States: &node{}}})
		var refused rpcError
		if errors.As(err, &refused) || err == nil && (r.Data == nil || r.Data.States == nil) {
			return nil
		}
		if err != nil {
			return err
		}
		told = true
		for _, x := range r.Data.States.Sessions {
			seen[x.Tunnel] = edge.TunnelState{Name: x.Tunnel, Up: x.Up, BFD: x.BFD, BGP: x.BGP}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	out := make([]edge.TunnelState, len(c.BGP.Neighbours))
	for i, n := range c.BGP.Neighbours {
		out[i] = seen[n.Tunnel]
		out[i].Name, out[i].Unknown = n.Tunnel, !told
	}
	return out, nil
}

// with runs fn on the session, which it opens where there is none.
func (b *Box) with(ctx context.Context, fn func(*session) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idle.Stop()
	if b.s != nil && !b.s.pipe.IsAlive() {
		b.drop()
	}
	if b.s == nil {
		s, err := open(ctx, b.cfg)
		if err != nil {
			return err
		}
		b.s = s
		b.plain.Store(!s.can(capConfirm, capPersist))
		// Numbers rise. A device that counts anew was restarted, and the sessions
		// that have those numbers now are somebody else's.
		if slices.ContainsFunc(b.lost, func(id uint64) bool { return id >= s.driver.SessionID() }) {
			b.lost = nil
		}
	}
	err := fn(b.s)
	switch {
	case b.s == nil: // fn ended it
	case b.s.broken:
		b.drop()
	case b.s.trial == "":
		b.idle.Reset(b.cfg.Idle)
	}
	return err
}

// rest closes a session that is not used.
func (b *Box) rest() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.s != nil && b.s.trial == "" {
		b.drop()
	}
}

// drop ends the session; b.mu is held. The device is told where it can be: it
// would keep the locks of one that it thinks is there.
func (b *Box) drop() {
	b.idle.Stop()
	s := b.s
	if s == nil {
		return
	}
	if b.s = nil; s.broken || !s.pipe.IsAlive() {
		b.lost = append(b.lost[max(0, len(b.lost)-mostLost+1):], s.driver.SessionID())
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, _ = s.rpc(ctx, closeSession)
	}
	s.close()
}
