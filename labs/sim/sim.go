// Package sim runs simulated edges: real agents with real identities, state
// directories and mTLS connections, each over a simulated host (package
// simhost). The carriers of their circuits are known here only and are never
// sent to the controller.
package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/edge/agent/disk"
	"github.com/wardnet/wardnet/edge/tool"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/simhost"
	"github.com/wardnet/wardnet/pki/enrol"
)

// File is what a simulator is started from. It holds enrolment tokens, so only
// its owner may read it.
type File struct {
	Edges []Edge `json:"edges"`
}

// Edge is one device to simulate.
type Edge struct {
	Device   inventory.DeviceID   `json:"device"`
	Serial   string               `json:"serial"`
	Site     inventory.SiteID     `json:"site"`
	Role     inventory.DeviceRole `json:"role"`
	Circuits []Circuit            `json:"circuits"` // in order of preference
	// Bundle is for the first contact; not needed once the device is enrolled.
	Bundle *enrol.Bundle `json:"bundle,omitempty"`
	// Dir is the device's state directory; empty: one under Config.StateDir.
	Dir string `json:"-"`
}

// Circuit is one WAN attachment of an edge.
type Circuit struct {
	ID      inventory.CircuitID   `json:"id"`
	Kind    inventory.CircuitKind `json:"kind"`
	Carrier inventory.CarrierID   `json:"carrier"`
}

// Load reads and checks a file; all faults at once, wrapping
// [inventory.ErrInvalid].
func Load(path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, fmt.Errorf("%w: simulator file: %w", inventory.ErrInvalid, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return File{}, fmt.Errorf("simulator file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return File{}, fmt.Errorf("%w: simulator file %s may be read by others (mode %04o) and holds enrolment tokens; run chmod 600 on it", inventory.ErrInvalid, path, info.Mode().Perm())
	}
	file, err := Parse(f)
	if err != nil {
		return File{}, fmt.Errorf("simulator file %s: %w", path, err)
	}
	return file, nil
}

// Parse reads and checks a file's content.
func Parse(r io.Reader) (File, error) {
	var file File
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return File{}, fmt.Errorf("%w: %w", inventory.ErrInvalid, err)
	}
	return file, file.Validate()
}

// Save writes the file for its owner alone.
func (f File) Save(path string) error {
	doc, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return fmt.Errorf("encode simulator file: %w", err)
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("simulator file: %w", err)
	}
	_, err = out.Write(append(doc, '\n'))
	if err = errors.Join(err, out.Chmod(0o600), out.Close()); err != nil {
		return fmt.Errorf("simulator file: %w", err)
	}
	return nil
}

// Validate reports every fault at once.
func (f File) Validate() error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{inventory.ErrInvalid}, args...)...))
	}
	if len(f.Edges) == 0 {
		fault("no edges")
	}
	devices, circuits := map[inventory.DeviceID]bool{}, map[inventory.CircuitID]inventory.DeviceID{}
	for i, e := range f.Edges {
		switch {
		case e.Device == "" || filepath.Base(string(e.Device)) != string(e.Device):
			fault("edges[%d]: device %q is no name", i, e.Device)
		case devices[e.Device]:
			fault("edges[%d]: device %q is listed twice", i, e.Device)
		}
		devices[e.Device] = true
		if e.Role != inventory.RoleHub && e.Role != inventory.RoleEdge {
			fault("device %q: role %q is not hub or edge", e.Device, e.Role)
		}
		if len(e.Circuits) == 0 {
			fault("device %q: no circuit", e.Device)
		}
		for _, c := range e.Circuits {
			if other, ok := circuits[c.ID]; ok || c.ID == "" {
				fault("device %q: circuit %q is empty or belongs to %q", e.Device, c.ID, other)
			}
			circuits[c.ID] = e.Device
		}
		if b := e.Bundle; b != nil && (b.Device != e.Device || b.Serial != e.Serial) {
			fault("device %q, serial %q: the bundle is for %q, serial %q", e.Device, e.Serial, b.Device, b.Serial)
		}
	}
	return errors.Join(errs...)
}

// Config of a simulator. Edges, StateDir and Log are required.
type Config struct {
	Edges    []Edge
	StateDir string // one directory per device below it
	Seed     uint64 // of traffic, latency and start order
	// Control is the path of the unix socket that takes a [Request] per line;
	// empty: none.
	Control string
	// Ramp is how long the starts are spread over; default 20 ms per edge.
	Ramp     time.Duration
	HalfOpen time.Duration // see simhost.Config
	// Spread lets each edge dial from a loopback address of its own, for
	// thousands of them against a controller on this machine.
	Spread bool
	// Flap is the ratio of the edges whose management connection is dropped per
	// minute, at random, once all have been connected; in [0,1].
	Flap float64
	// Watch, optional, is told once a second how the edges are.
	Watch func(Stats)
	Log   *slog.Logger
	// Adjust, optional, changes what an edge runs with, before it does.
	Adjust func(*agent.RunConfig)
}

// fleet is a running simulator.
type fleet struct {
	cfg   Config
	under *simhost.Underlay

	enrolled, connected, failed, dropped atomic.Int64
	flapping                             atomic.Uint64 // bits of the ratio per minute
	all                                  sync.Once
	whole                                chan struct{} // closed when all edges were connected at once
}

// Run simulates the edges until ctx ends. An edge that cannot start is logged
// and counted, and the others go on; when none is left Run returns why.
func Run(ctx context.Context, cfg Config) error {
	if err := (File{Edges: cfg.Edges}).Validate(); err != nil {
		return err
	}
	if cfg.Log == nil || cfg.StateDir == "" && cfg.Edges[0].Dir == "" {
		return fmt.Errorf("%w: simulator: Log and StateDir are required", inventory.ErrInvalid)
	}
	if cfg.Ramp == 0 {
		cfg.Ramp = time.Duration(len(cfg.Edges)) * 20 * time.Millisecond
	}
	if cfg.StateDir != "" && slices.ContainsFunc(cfg.Edges, func(e Edge) bool { return e.Dir == "" }) {
		if err := (disk.OS{}).MkdirAll(cfg.StateDir); err != nil {
			return fmt.Errorf("state directory of the simulator: %w", err)
		}
		release, err := disk.Lock(cfg.StateDir) // one for all: see agent.RunConfig.Held
		if err != nil {
			return err
		}
		defer release()
	}
	under, err := newUnderlay(cfg)
	if err != nil {
		return err
	}
	f := &fleet{cfg: cfg, under: under, whole: make(chan struct{})}
	if err := f.setFlap(cfg.Flap); err != nil {
		return err
	}
	if cfg.Control != "" {
		stop, err := f.listen(cfg.Control)
		if err != nil {
			return err
		}
		defer stop()
	}
	side, cancel := context.WithCancel(ctx)
	var aside sync.WaitGroup
	defer aside.Wait()
	defer cancel()
	if cfg.Watch != nil {
		aside.Go(func() { f.report(side) })
	}
	aside.Go(func() { f.flap(side) })
	rng := rand.New(rand.NewPCG(cfg.Seed, 0))
	ends := make([]error, len(cfg.Edges))
	var wg sync.WaitGroup
	for i, e := range cfg.Edges {
		pause := time.Duration(rng.Int64N(int64(cfg.Ramp) + 1))
		wg.Go(func() { ends[i] = f.live(ctx, e, pause) })
	}
	wg.Wait()
	return errors.Join(ends...)
}

// newUnderlay is the world with the circuits of all edges.
func newUnderlay(cfg Config) (*simhost.Underlay, error) {
	var all []simhost.Circuit
	for _, e := range cfg.Edges {
		for _, c := range e.Circuits {
			all = append(all, simhost.Circuit{ID: c.ID, Device: e.Device, Site: e.Site, Kind: c.Kind, Carrier: c.Carrier})
		}
	}
	under := simhost.Config{Seed: cfg.Seed, Circuits: all, HalfOpen: cfg.HalfOpen}
	if cfg.Spread {
		under.From = sources(cfg.Edges)
	}
	return simhost.New(under)
}

// live is one edge's life; the error is why it ended before ctx did.
func (f *fleet) live(ctx context.Context, e Edge, pause time.Duration) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(pause):
	}
	dir := e.Dir
	if dir == "" {
		dir = filepath.Join(f.cfg.StateDir, string(e.Device))
	}
	run := agent.RunConfig{
		Dir: dir, Bundle: e.Bundle, Log: f.cfg.Log, Held: e.Dir == "" && f.cfg.StateDir != "",
		Services: []func(*grpc.Server){tool.Absent("a simulated edge sends no packet; the tools run on a real one")},
		Host: func(id *enrol.Identity) (agent.Host, error) {
			return f.under.Host(e.Device, id.WireGuardPublicKey)
		},
		OnEnrolled: func(*enrol.Identity) { f.enrolled.Add(1) },
		OnUp: func() {
			if f.connected.Add(1) >= int64(len(f.cfg.Edges)) {
				f.all.Do(func() { close(f.whole) })
			}
		},
		OnDown: func() { f.connected.Add(-1) },
	}
	if f.cfg.Adjust != nil {
		f.cfg.Adjust(&run)
	}
	err := agent.Run(ctx, run)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	f.failed.Add(1)
	f.cfg.Log.ErrorContext(ctx, "edge does not run", "device", e.Device, "err", err)
	return fmt.Errorf("edge %s: %w", e.Device, err)
}
