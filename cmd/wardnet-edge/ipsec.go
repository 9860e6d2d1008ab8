package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wardnet/wardnet/edge/host/linux"
	"github.com/wardnet/wardnet/edge/host/strongswan"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// renewalLook is how often the certificate in use is compared with the one
// charon was given: often enough for one of seven days.
const renewalLook = time.Minute

// ipsec gives the host's IPsec tunnels the device's identity, and charon the
// renewed one.
type ipsec struct {
	driver   *strongswan.Driver
	identity *atomic.Pointer[enrol.Identity]
	log      *slog.Logger

	mu      sync.Mutex
	tunnels []render.IPsecTunnel // last applied
	serial  string               // of the certificate they were applied with
}

// openIPsec is nil, and linux.Deps then says what is missing, on a box without
// strongSwan.
func (b box) openIPsec(identity *atomic.Pointer[enrol.Identity]) (*ipsec, error) {
	d, err := strongswan.Open(strongswan.Config{RunDir: filepath.Join(b.runDir, "ipsec"), Log: b.log})
	if errors.Is(err, inventory.ErrNotFound) {
		b.log.Info("no IPsec on this box", "err", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &ipsec{driver: d, identity: identity, log: b.log}, nil
}

// deps leaves the interface nil when there is no driver.
func (i *ipsec) deps(d linux.Deps) linux.Deps {
	if i != nil {
		d.IPsec = i
	}
	return d
}

// Apply implements linux.IPsec.
func (i *ipsec) Apply(ctx context.Context, tunnels []render.IPsecTunnel) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.apply(ctx, tunnels)
}

// apply is Apply; i.mu is held.
func (i *ipsec) apply(ctx context.Context, tunnels []render.IPsecTunnel) error {
	id := i.identity.Load()
	if id == nil {
		if len(tunnels) > 0 {
			return errors.New("the device has no certificate for IPsec yet; enrol it first")
		}
		return i.driver.Apply(ctx, strongswan.Identity{}, nil)
	}
	pair, err := id.TLS().GetClientCertificate(nil)
	if err != nil {
		return fmt.Errorf("read the certificate for IPsec: %w", err)
	}
	if err := i.driver.Apply(ctx, strongswan.Identity{Certificate: pair, Root: id.Root()}, tunnels); err != nil {
		return err
	}
	i.tunnels, i.serial = tunnels, enrol.SerialOf(pair.Leaf)
	return nil
}

// run supervises charon and hands it renewed certificates until ctx ends.
func (i *ipsec) run(ctx context.Context) {
	if i == nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { i.driver.Run(ctx) })
	for tick := time.NewTicker(renewalLook); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			wg.Wait()
			return
		case <-tick.C:
		}
		i.mu.Lock()
		if id := i.identity.Load(); len(i.tunnels) > 0 && id != nil && enrol.SerialOf(id.Certificate()) != i.serial {
			if err := i.apply(ctx, i.tunnels); err != nil {
				i.log.WarnContext(ctx, "renewed certificate is not in use for IPsec yet", "err", err)
			}
		}
		i.mu.Unlock()
	}
}
