package netlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// document is the lab's inventory as it is imported.
func (l *Lab) document() ([]byte, error) {
	var b bytes.Buffer
	if err := inventory.Encode(&b, l.City); err != nil {
		return nil, fmt.Errorf("write the inventory: %w", err)
	}
	return b.Bytes(), nil
}

// AddWard lets one more site of the sample come by zero-touch provisioning
// into the running lab: cables, carriers' DHCP, bundle, agent, revision. It
// returns when all is well again.
func (l *Lab) AddWard(ctx context.Context, id inventory.SiteID) error {
	before := l.Topology
	if _, there := before.Site(id); there {
		return fmt.Errorf("%w: site %s is in the lab already", inventory.ErrConflict, id)
	}
	l.begin = time.Now()
	next := l.state
	next.Shape.Sites = append(slices.Clone(next.Shape.Sites), id)
	city, top, err := City(l.sample, next.Shape)
	if err != nil {
		return err
	}
	more := top.beyond(before)
	l.City, l.Topology, l.state = city, top, next
	if err := l.save(); err != nil {
		return err
	}
	if err := l.tools.plumb(ctx, more); err != nil {
		return err
	}
	for _, c := range top.Carriers {
		if old, _ := before.Carrier(c.ID); slices.Equal(old.Leases, c.Leases) {
			continue
		}
		if err := l.procs.stop(dhcpName(c)); err != nil {
			return err
		}
		if err := l.startCarrier(ctx, c); err != nil {
			return err
		}
	}
	if err := l.startServices(ctx, "services-"+string(id), more.Services); err != nil {
		return err
	}
	return l.admit(ctx, more.Sites, "Thêm "+string(id))
}

// Rebuild makes a box's namespace anew, empty, with its cables: what a power
// cut leaves of it beside its disk. The agent is not started.
func (l *Lab) Rebuild(ctx context.Context, s Site) error {
	if err := l.PowerOff(s); err != nil {
		return err
	}
	if err := l.tools.plumb(ctx, l.Topology.around(s)); err != nil {
		return fmt.Errorf("rebuild %s: %w", s.ID, err)
	}
	return nil
}

// PowerOff kills everything in a box's namespace and removes it, with all that
// its boot forgets; its disk stays.
func (l *Lab) PowerOff(s Site) error {
	if err := endInside([]string{s.NS}); err != nil {
		return err
	}
	if err := l.procs.stop(string(s.Device)); err != nil {
		return err
	}
	if err := errors.Join(removeSockets(s.NS), os.RemoveAll(l.runDir(s))); err != nil {
		return err
	}
	if !netns.Exists(s.NS) {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), commandTime, fmt.Errorf("took over %s", commandTime))
	defer cancel()
	return run(ctx, "", l.tools.ip, "netns", "delete", s.NS)
}

// askAddresses lets the hosts that have no address of their own ask for one,
// and checks that it is the reserved one.
func (l *Lab) askAddresses(ctx context.Context, sites []Site) error {
	hosts := kept(l.Topology.Hosts, func(h Host) bool {
		_, ours := find(sites, func(s Site) bool { return s.ID == h.Site })
		return ours && h.DHCP
	})
	if len(hosts) == 0 {
		return nil
	}
	if err := inParallel(hosts, func(h Host) error { return l.askAddress(ctx, h) }); err != nil {
		return err
	}
	l.say("%d hosts got their address by DHCP", len(hosts))
	return nil
}

// askAddress is one host's DHCP exchange (RFC 2131 §3.1). The address stays;
// nobody else asks on that segment.
func (l *Lab) askAddress(ctx context.Context, h Host) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Second, fmt.Errorf("no answer within 15s"))
	defer cancel()
	var client *nclient4.Client
	err := netns.Do(h.NS, func() (err error) {
		client, err = nclient4.New(h.Port, nclient4.WithTimeout(time.Second), nclient4.WithRetry(8))
		return err
	})
	if err != nil {
		return fmt.Errorf("DHCP of %s: %w", h.NS, err)
	}
	defer client.Close()
	lease, err := client.Request(ctx)
	if err != nil {
		return fmt.Errorf("DHCP of %s: %w", h.NS, err)
	}
	if got := lease.ACK.YourIPAddr.String(); got != h.V4.Addr().String() {
		return fmt.Errorf("DHCP of %s: got %s; %s is reserved for it", h.NS, got, h.V4.Addr())
	}
	text := addAddress(h.Port, h.V4)
	for _, gw := range lease.ACK.Router() {
		text += fmt.Sprintf("route replace default via %s\n", gw)
		break
	}
	return run(ctx, text, l.tools.ip, "-n", h.NS, "-batch", "-")
}
