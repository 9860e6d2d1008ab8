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
	"github.com/vishvananda/netlink"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// leaseTime bounds a host's DHCP exchange: its box may be booting.
const leaseTime = time.Minute

// document is the lab's inventory as it is imported.
func (l *Lab) document() ([]byte, error) {
	var b bytes.Buffer
	if err := inventory.Encode(&b, l.City); err != nil {
		return nil, fmt.Errorf("write the inventory: %w", err)
	}
	return b.Bytes(), nil
}

// NextWard is the first ward of the sample that the lab does not have. The
// error wraps [inventory.ErrNotFound] when it has all.
func (l *Lab) NextWard() (inventory.SiteID, error) {
	for _, id := range spread(l.sample) {
		if _, there := l.Topology.Site(id); !there {
			return id, nil
		}
	}
	return "", fmt.Errorf("%w: the lab has all wards of the sample", inventory.ErrNotFound)
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
	if err := l.unplug(s); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), commandTime, fmt.Errorf("took over %s", commandTime))
	defer cancel()
	return run(ctx, "", l.tools.ip, "netns", "delete", s.NS)
}

// unplug removes the cables of a box by their far ends, which takes both ends
// at once: those of a namespace that is deleted linger until the kernel has
// cleaned it up.
func (l *Lab) unplug(s Site) error {
	return inParallel(l.Topology.around(s).Links, func(k Link) error {
		err := netns.Do(k.B.NS, func() error {
			far, err := netlink.LinkByName(k.B.Port)
			if errors.As(err, &netlink.LinkNotFoundError{}) {
				return nil
			}
			if err == nil {
				err = netlink.LinkDel(far)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("unplug %s of %s: %w", k.Name, s.ID, err)
		}
		return nil
	})
}

// Reboot cuts a box's power and starts its agent; the hosts behind it, whose
// cables were pulled, ask for their addresses again. It returns when they have
// them.
func (l *Lab) Reboot(ctx context.Context, s Site) error {
	if err := l.Rebuild(ctx, s); err != nil {
		return err
	}
	if err := l.StartEdge(s); err != nil {
		return err
	}
	return l.askAddresses(ctx, []Site{s})
}

// Crash kills everything that runs in a box; its interfaces, routes and filters
// stay. The agent is not started.
func (l *Lab) Crash(s Site) error { return endInside([]string{s.NS}) }

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
	ctx, cancel := context.WithTimeoutCause(ctx, leaseTime, fmt.Errorf("no answer within %s", leaseTime))
	defer cancel()
	var client *nclient4.Client
	err := netns.Do(h.NS, func() (err error) {
		client, err = nclient4.New(h.Port, nclient4.WithTimeout(time.Second), nclient4.WithRetry(int(leaseTime/time.Second)))
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
