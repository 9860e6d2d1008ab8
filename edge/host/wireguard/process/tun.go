package process

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

const clone = "/dev/net/tun"

// tunFlags is what our interfaces are, beside IFF_MULTI_QUEUE.
const tunFlags = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR

// port is a TUN interface under a WireGuard device.
type port struct {
	tun.Device
	in, out *gate
	events  chan tun.Event
	mu      sync.Mutex
	closed  bool // events is; guarded by mu
}

// openPort attaches to the interface name, which it makes when there is none,
// and sees that it stays when this process ends.
func openPort(name string, mtu int, in, out *gate) (*port, error) {
	fd, err := attach(name)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make interface %s persistent: %w", name, err)
	}
	// Nothing watches the interface for up and down: the device is up as long
	// as it exists, and nobody has to survive a burst of link messages.
	dev, _, err := tun.CreateUnmonitoredTUNFromFD(fd)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("open interface %s: %w", name, err)
	}
	p := &port{Device: dev, in: in, out: out, events: make(chan tun.Event, 1)}
	if err := p.raise(name, mtu); err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

// attach opens the interface name. A process that was killed just now may hold
// it for a moment.
func attach(name string) (int, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return -1, fmt.Errorf("interface name %q: %w", name, err)
	}
	flags := uint16(tunFlags | unix.IFF_MULTI_QUEUE) // for [Hold]; packets use one
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		fd, err := unix.Open(clone, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return -1, fmt.Errorf("open %s: %w; load the tun module", clone, err)
		}
		ifr.SetUint16(flags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
		if err == nil {
			return fd, nil
		}
		_ = unix.Close(fd)
		if errors.Is(err, unix.EINVAL) && flags != tunFlags {
			flags = tunFlags // an older version made it
			continue
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return -1, fmt.Errorf("attach to interface %s: %w", name, err)
		}
	}
}

// detach removes the interface name if it is a TUN that stayed behind. None is
// no error.
func detach(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up interface %s: %w", name, err)
	}
	if link.Type() != "tuntap" {
		return fmt.Errorf("interface %s is of type %s, none of ours: remove or rename it", name, link.Type())
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}

// raise sets the interface's MTU, where one is asked for, and sets it up.
func (p *port) raise(name string, mtu int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("look up interface %s: %w", name, err)
	}
	if mtu > 0 && link.Attrs().MTU != mtu {
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("set MTU %d of interface %s: %w", mtu, name, err)
		}
		p.mtuChanged()
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set interface %s up: %w", name, err)
	}
	return nil
}

func (p *port) mtuChanged() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	select {
	case p.events <- tun.EventMTUUpdate:
	default: // one is waiting to be read
	}
}

// Read implements tun.Device. One packet that cannot be read must not end the
// device, as it would in the module: only a lost file does.
func (p *port) Read(packets [][]byte, sizes []int, offset int) (int, error) {
	p.out.wait()
	n, err := p.Device.Read(packets, sizes, offset)
	p.out.arrived(n)
	var file *fs.PathError
	if err == nil || errors.Is(err, os.ErrClosed) || errors.Is(err, io.EOF) || errors.As(err, &file) {
		return n, err
	}
	return n, nil
}

// Write implements tun.Device.
func (p *port) Write(packets [][]byte, offset int) (int, error) {
	n, err := p.Device.Write(packets, offset)
	p.in.departed(len(packets))
	return n, err
}

// Events implements tun.Device.
func (p *port) Events() <-chan tun.Event { return p.events }

// Close implements tun.Device. The interface stays.
func (p *port) Close() error {
	err := p.Device.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		close(p.events)
	}
	return err
}
