// Package wireguard drives the WireGuard devices of a Linux box: exactly the
// interfaces that are asked for, with exactly their peers. It changes no more
// than differs, so a peer that stays keeps its session and the endpoint it was
// heard from, and a peer that goes is cut at once.
//
// The devices run in the process of package process, which this one starts,
// adopts, and starts again; or in the kernel, where it has WireGuard. The
// kernel's side is written against its documented interface; our test machines
// have no such kernel, so no test has run it.
package wireguard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// Config is how a box drives WireGuard.
type Config struct {
	RunDir string       // required; root's alone, cleared by a reboot: /run/wardnet-edge
	Binary string       // the program whose verb wg is the process; default this one
	Log    *slog.Logger // required
	// Kernel says whether the kernel's WireGuard is used. nil: if it has it.
	Kernel *bool
}

// Driver drives the devices of one box. Its methods may be called at any time.
type Driver struct {
	log     *slog.Logger
	back    backend
	process *client // nil: kernel

	mu      sync.Mutex // held while devices change
	journal *journal
	last    *wanted
	held    map[string]held // by interface
}

// wanted is what Apply was last asked for.
type wanted struct {
	private, public string // base64
	devices         []render.WireGuard
}

// backend is where devices run.
type backend interface {
	// ready starts what devices run in, if it must be started.
	ready(ctx context.Context) error
	// devices returns all devices this driver could have made.
	devices(ctx context.Context) (map[string]Device, error)
	// set makes the device name when there is none, and changes it by c.
	set(ctx context.Context, name, private string, c change) error
	// remove ends the device name with its interface. None is no error.
	remove(ctx context.Context, name string) error
}

// Open returns the driver of this box and touches no device. Only one may use
// a run directory.
func Open(cfg Config) (*Driver, error) {
	if cfg.RunDir == "" || cfg.Log == nil {
		return nil, fmt.Errorf("%w: WireGuard driver: run directory and log are required", inventory.ErrInvalid)
	}
	if cfg.Binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find our own program: %w", err)
		}
		cfg.Binary = self
	}
	if err := os.MkdirAll(cfg.RunDir, 0o700); err != nil {
		return nil, fmt.Errorf("make run directory: %w", err)
	}
	j, err := openJournal(filepath.Join(cfg.RunDir, "wg-devices.json"))
	if err != nil {
		return nil, err
	}
	d := &Driver{log: cfg.Log, journal: j}
	kernel := cfg.Kernel
	if kernel == nil {
		has, err := kernelHas()
		if err != nil {
			return nil, err
		}
		kernel = &has
	}
	if *kernel {
		d.back = &kernelBackend{known: j.names}
		return d, nil
	}
	d.process = &client{binary: cfg.Binary, dir: cfg.RunDir, log: cfg.Log}
	d.back = d.process
	return d, nil
}

// Apply makes the box run exactly devices with exactly their peers, all under
// the private key, base64. What is revoked goes first and goes even if
// something else fails. The error lists all faults; faults of the input wrap
// inventory.ErrInvalid and change nothing.
func (d *Driver) Apply(ctx context.Context, key string, devices []render.WireGuard) error {
	public, err := PublicKey(key)
	if len(devices) == 0 {
		err = nil // a box without tunnels may have no key yet
	}
	if err := errors.Join(err, check(public, devices)); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = &wanted{private: key, public: public, devices: slices.Clone(devices)}
	return d.converge(ctx, d.last)
}

// converge makes the box run w and reads it back. The caller holds mu.
func (d *Driver) converge(ctx context.Context, w *wanted) error {
	if err := d.back.ready(ctx); err != nil {
		return err
	}
	have, err := d.back.devices(ctx)
	if err != nil {
		return err
	}
	errs := []error{d.revoke(ctx, w, have)}
	if err := d.journal.extend(w.devices); err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, dev := range w.devices {
		old, ok := have[dev.Name]
		c := plan(old, dev, w.public, d.journal.configured(dev.Name))
		c.Peers = slices.DeleteFunc(c.Peers, func(p peerChange) bool { return p.Remove }) // done above
		if ok && c.empty() {
			continue
		}
		if err := d.back.set(ctx, dev.Name, w.private, c); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := d.journal.replace(w.devices); err != nil {
		return err
	}
	d.hold(ctx, w.devices)
	have, err = d.back.devices(ctx)
	if err != nil {
		return err
	}
	if diff := differences(w.public, w.devices, have); len(diff) > 0 {
		return fmt.Errorf("%w: WireGuard is not as it was set: %s", edge.ErrRejected, strings.Join(diff, "; "))
	}
	return nil
}

// revoke ends the devices and peers of have that w does not want, and the
// interfaces an earlier life left behind.
func (d *Driver) revoke(ctx context.Context, w *wanted, have map[string]Device) error {
	gone := map[string]bool{}
	for name := range have {
		gone[name] = true
	}
	for _, name := range d.journal.names() {
		gone[name] = true
	}
	var errs []error
	for _, dev := range w.devices {
		delete(gone, dev.Name)
		if c := (change{Peers: revoked(have[dev.Name], dev)}); !c.empty() {
			errs = append(errs, d.back.set(ctx, dev.Name, w.private, c))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		errs = append(errs, d.back.remove(ctx, name))
	}
	return errors.Join(errs...)
}

// State returns the devices that run, by interface name. It starts nothing: a
// process that does not run is edge.ErrUnreachable.
func (d *Driver) State(ctx context.Context) (map[string]Device, error) {
	return d.back.devices(ctx)
}

// Check compares what runs with what is wanted under the private key: nil if
// equal, else an error that names every difference. An endpoint that moved is
// no difference.
func Check(key string, want []render.WireGuard, have map[string]Device) error {
	public, err := PublicKey(key)
	if err != nil && len(want) > 0 {
		return err
	}
	if diff := differences(public, want, have); len(diff) > 0 {
		return fmt.Errorf("WireGuard differs: %s", strings.Join(diff, "; "))
	}
	return nil
}

// Kick makes the device forget its session with a peer and shake hands anew at
// once, or at the next packet where the peer has no keepalive. It is for a far
// end that is known to be dead: one that restarted without knowing where we
// are would otherwise be asked only 15 s after the first unanswered packet.
// The peer's counters start again.
func (d *Driver) Kick(ctx context.Context, device, peer string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil {
		return fmt.Errorf("%w: WireGuard device %q: nothing was applied yet", inventory.ErrNotFound, device)
	}
	for _, dev := range d.last.devices {
		for _, p := range dev.Peers {
			if dev.Name == device && p.PublicKey == peer {
				again := created(p)
				return d.back.set(ctx, device, d.last.private, change{Peers: []peerChange{{PublicKey: peer, Remove: true}, again}})
			}
		}
	}
	return fmt.Errorf("%w: WireGuard device %q with peer %s", inventory.ErrNotFound, device, peer)
}

// restore applies again what was applied last.
func (d *Driver) restore(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil {
		return nil
	}
	return d.converge(ctx, d.last)
}
