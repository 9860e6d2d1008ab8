// Package strongswan drives the IPsec tunnels of a Linux box by strongSwan's
// charon: IKEv2 with device certificates, ESP in the kernel where it has it and
// in charon where not, and a VXLAN interface on each tunnel, so that routing
// sees the same as over WireGuard. ESP in the kernel is written against its
// documented interface; our test machines have none, so no test has run it.
//
// The driver has its own charon, speaks to it over its VICI socket, and wants
// nothing of /etc. charon outlives the driver's process: the next one adopts it.
package strongswan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/wardnet/wardnet/edge/host/program"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

// maxSocket is the longest path of a unix socket, sun_path less its end.
const maxSocket = 107

// nftWithin bounds one run of nft.
const nftWithin = 10 * time.Second

// Config is how a box drives IPsec.
type Config struct {
	RunDir string       // required; root's alone, cleared by a reboot: /run/wardnet-edge/ipsec
	Log    *slog.Logger // required
	Charon string       // charon-systemd; default: where the system has it
}

// Driver drives the IPsec tunnels of one box, that is of the network namespace
// its methods are called in. They may be called at any time.
type Driver struct {
	log    *slog.Logger
	charon charon
	nft    string

	mu     sync.Mutex // held while tunnels change or are looked at
	last   *wanted    // in force, by this process
	loaded loaded
	seen   map[string]seen    // by tunnel
	ask    map[string]backoff // by tunnel
	silent int                // looks in a row that charon did not answer
}

// wanted is what was last asked for.
type wanted struct {
	creds   material
	tunnels []render.IPsecTunnel
}

func (w *wanted) needsCharon() bool {
	return w != nil && slices.ContainsFunc(w.tunnels, func(t render.IPsecTunnel) bool { return t.Admitted })
}

// loaded is what a charon was given; another process id knows nothing of it.
type loaded struct {
	pid    int
	digest string
}

// Open finds the programs, asks the kernel for ESP, and touches no tunnel. Only one driver may use a run
// directory, and one a network namespace.
func Open(cfg Config) (*Driver, error) {
	if cfg.RunDir == "" || cfg.Log == nil {
		return nil, fmt.Errorf("%w: IPsec driver: run directory and log are required", inventory.ErrInvalid)
	}
	dir, err := filepath.Abs(cfg.RunDir)
	if err != nil {
		return nil, fmt.Errorf("IPsec driver: run directory: %w", err)
	}
	d := &Driver{
		log: cfg.Log, charon: charon{program: cfg.Charon, dir: dir, userESP: !kernelHasESP()},
		seen: map[string]seen{}, ask: map[string]backoff{},
	}
	if n := len(d.charon.socket()); n > maxSocket {
		return nil, fmt.Errorf("%w: IPsec driver: run directory %s makes a socket path of %d bytes; %d are possible", inventory.ErrInvalid, dir, n, maxSocket)
	}
	if cfg.Charon == "" {
		if d.charon.program, err = program.Find("charon-systemd"); err != nil {
			return nil, fmt.Errorf("IPsec driver: %w", err)
		}
	}
	if d.nft, err = program.Find("nft"); err != nil {
		return nil, fmt.Errorf("IPsec driver: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("IPsec driver: make run directory: %w", err)
	}
	return d, nil
}

// Apply makes exactly these tunnels: an interface for each, SAs for those
// admitted. A tunnel that stays as it is keeps its SAs, also when the identity
// is renewed; one that is missing or not admitted any more is cut at once. On an
// error what was in force before is put back. Addresses of the interfaces are
// the caller's.
func (d *Driver) Apply(ctx context.Context, id Identity, tunnels []render.IPsecTunnel) error {
	want := &wanted{tunnels: slices.Clone(tunnels)}
	if want.needsCharon() {
		var err error
		if want.creds, err = id.material(tunnels[0].Device); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.apply(ctx, want)
	if err == nil {
		d.last = want
		return nil
	}
	if d.last == nil {
		return err
	}
	if undo := d.apply(context.WithoutCancel(ctx), d.last); undo != nil {
		return errors.Join(err, fmt.Errorf("put the former tunnels back: %w", undo))
	}
	return err
}

func (d *Driver) apply(ctx context.Context, want *wanted) error {
	// The filter first: it cuts what is gone even from a charon that hangs,
	// and nothing that is new can leak before it is encrypted.
	if _, err := program.Run(ctx, nftWithin, []byte(render.IPsecNFT(want.tunnels)), d.nft, "-f", "-"); err != nil {
		return fmt.Errorf("IPsec filter: %w", err)
	}
	if err := makeLinks(want.tunnels); err != nil {
		return err
	}
	if !want.needsCharon() {
		d.seen, d.ask, d.loaded = map[string]seen{}, map[string]backoff{}, loaded{}
		return errors.Join(d.charon.stop(ctx), dropLinks(want.tunnels))
	}
	if err := d.keep(want); err != nil {
		return err
	}
	if err := d.converge(ctx, want); err != nil {
		return err
	}
	return dropLinks(want.tunnels)
}

// keep writes what charon is told as a swanctl.conf, for people to read.
func (d *Driver) keep(want *wanted) error {
	path := filepath.Join(d.charon.dir, "swanctl.conf")
	if err := os.WriteFile(path, []byte(render.IPsecText(want.tunnels)), 0o600); err != nil {
		return fmt.Errorf("IPsec tunnels: %w", err)
	}
	return nil
}

// converge gives charon the identity and the connections, and cuts every SA
// that is not of a wanted tunnel.
func (d *Driver) converge(ctx context.Context, want *wanted) error {
	s, pid, err := d.charon.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	conns := render.IPsecConnections(want.tunnels)
	have, err := s.call(ctx, "get-conns", nil)
	if err != nil {
		return err
	}
	for _, name := range have.lists["conns"] {
		if slices.ContainsFunc(conns, func(c render.IPsecSection) bool { return c.Name == name }) {
			continue
		}
		if _, err := s.call(ctx, "unload-conn", new(message).set("name", name)); err != nil {
			return err
		}
	}
	if err := d.cutUnwanted(ctx, s, want); err != nil {
		return err
	}
	if now := (loaded{pid, want.creds.digest}); d.loaded != now {
		if err := want.creds.load(ctx, s); err != nil {
			return err
		}
		d.loaded = now
	}
	for _, c := range conns {
		if _, err := s.call(ctx, "load-conn", new(message).section(c, want.creds.issuers)); err != nil {
			return fmt.Errorf("connection %s: %w", c.Name, err)
		}
	}
	return d.askFor(ctx, s, want)
}
