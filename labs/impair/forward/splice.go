package forward

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// spliced are the sockets around a shaped port.
type spliced struct {
	mac  net.HardwareAddr // of the port
	port *os.File         // sends out of the port, past traffic control
	pair *os.File         // the far end of the veth pair
	room *os.File         // the namespace it lies in, which ends with us
}

func (s *spliced) close() error {
	var errs []error
	for _, f := range []*os.File{s.port, s.pair, s.room} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// splice makes the pair and, last of all, hands the port's packets to it.
func splice(p Port) (*spliced, error) {
	s := &spliced{}
	room, err := newRoom()
	if err != nil {
		return nil, err
	}
	s.room = room
	err = netns.Do(p.Namespace, func() error {
		port, err := netlink.LinkByName(p.Name)
		if err != nil {
			return fmt.Errorf("find the port: %w", err)
		}
		s.mac = port.Attrs().HardwareAddr
		if err := addPair(p, port, room); err != nil {
			return err
		}
		s.port, err = packetSocket(port.Attrs().Index, 0)
		return err
	})
	if err == nil {
		err = within(room, func() error {
			far, err := netlink.LinkByName(farEnd)
			if err != nil {
				return fmt.Errorf("find the pair's far end: %w", err)
			}
			if err := netlink.LinkSetUp(far); err != nil {
				return fmt.Errorf("bring the pair's far end up: %w", err)
			}
			s.pair, err = packetSocket(far.Attrs().Index, unix.ETH_P_ALL)
			return err
		})
	}
	if err == nil {
		err = netns.Do(p.Namespace, func() error { return redirect(p) })
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

const farEnd = "far"

// addPair makes the veth pair beside the port, with the port's own address, so
// that frames from the box are taken there, and without offloads, so that the
// kernel cuts and sums what it hands over.
func addPair(p Port, port netlink.Link, room *os.File) error {
	if old, err := netlink.LinkByName(p.Shadow()); err == nil {
		if err := netlink.LinkDel(old); err != nil {
			return fmt.Errorf("remove an old %s: %w", p.Shadow(), err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = p.Shadow(), port.Attrs().HardwareAddr, port.Attrs().MTU
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: farEnd, PeerNamespace: netlink.NsFd(int(room.Fd())), PeerMTU: uint32(port.Attrs().MTU)}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("make the veth pair %s: %w", p.Shadow(), err)
	}
	if err := offloadsOff(p.Shadow()); err != nil {
		return err
	}
	conf := filepath.Join("/proc/sys/net/ipv4/conf", p.Shadow())
	for _, k := range []string{"rp_filter", "arp_ignore"} { // it never asks nor answers; sources lie behind the port
		v := map[string]string{"rp_filter": "0", "arp_ignore": "8"}[k]
		if err := os.WriteFile(filepath.Join(conf, k), []byte(v), 0); err != nil {
			return fmt.Errorf("prepare %s: %w", p.Shadow(), err)
		}
	}
	v6 := filepath.Join("/proc/sys/net/ipv6/conf", p.Shadow(), "addr_gen_mode")
	if err := os.WriteFile(v6, []byte("1"), 0); err != nil { // no link-local address
		return fmt.Errorf("prepare %s: %w", p.Shadow(), err)
	}
	if err := netlink.LinkSetUp(pair); err != nil {
		return fmt.Errorf("bring %s up: %w", p.Shadow(), err)
	}
	return nil
}

// packetSocket sends and, with a protocol, receives whole frames on one
// interface; it does not see what it sends, and sends past traffic control.
func packetSocket(index, proto int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "packet")
	errs := []error{
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(proto)>>8 | uint16(proto)<<8, Ifindex: index}),
	}
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(fmt.Errorf("set up a packet socket: %w", err), f.Close())
	}
	return f, nil
}
