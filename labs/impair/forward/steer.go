package forward

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/labs/netlab/netns"
)

// Legacy ethtool commands (linux/ethtool.h): the kernel switches off what
// depends on each, among it segmentation of UDP.
var offloads = []uint32{
	unix.ETHTOOL_STXCSUM,
	unix.ETHTOOL_STSO,
	unix.ETHTOOL_SGSO,
}

// ifreq is struct ifreq with a pointer (netdevice(7)).
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// offloadsOff makes the kernel hand over plain frames of at most the MTU with
// full checksums; with offloads on, a packet socket sees neither.
func offloadsOff(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("switch offloads of %s off: %w", name, err)
	}
	defer unix.Close(fd)
	for _, cmd := range offloads {
		value := struct{ cmd, data uint32 }{cmd, 0}
		req := ifreq{data: unsafe.Pointer(&value)}
		copy(req.name[:unix.IFNAMSIZ-1], name)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
		runtime.KeepAlive(&value)
		if errno != 0 {
			return fmt.Errorf("switch offloads of %s off (ethtool command %#x): %w", name, cmd, errno)
		}
	}
	return nil
}

// redirect hands the port's IP packets, both ways, to the pair. DHCP and
// neighbour discovery stay on the port, as ARP does, for they are about it.
func redirect(p Port) error {
	port, err := netlink.LinkByName(p.Name)
	if err != nil {
		return fmt.Errorf("find the port: %w", err)
	}
	pair, err := netlink.LinkByName(p.Shadow())
	if err != nil {
		return fmt.Errorf("find %s: %w", p.Shadow(), err)
	}
	index := port.Attrs().Index
	clsact := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	if err := netlink.QdiscReplace(clsact); err != nil {
		return fmt.Errorf("hook into traffic control of %s: %w", p.Name, err)
	}
	// The pass filters come first on both hooks, then the redirections: what
	// goes to the box before what comes from it, so that no answer overtakes.
	for _, hook := range []uint32{netlink.HANDLE_MIN_EGRESS, netlink.HANDLE_MIN_INGRESS} {
		rules := []struct {
			prio  uint16
			proto uint16
			sel   *netlink.TcU32Sel
		}{
			{1, unix.ETH_P_IP, match(key(8, 0x00ff0000, 17<<16), key(20, 0x0000ffff, 67))},
			{2, unix.ETH_P_IP, match(key(8, 0x00ff0000, 17<<16), key(20, 0x0000ffff, 68))},
			{3, unix.ETH_P_IPV6, match(key(4, 0x0000ff00, 58<<8), key(40, 0xfc000000, 132<<24))}, // types 132 to 135
			{4, unix.ETH_P_IPV6, match(key(4, 0x0000ff00, 58<<8), key(40, 0xff000000, 136<<24))},
			{5, unix.ETH_P_IP, nil},
			{6, unix.ETH_P_IPV6, nil},
		}
		for _, r := range rules {
			f := &netlink.U32{
				FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: hook, Priority: r.prio, Protocol: r.proto},
				Sel:         r.sel,
			}
			if r.sel == nil {
				f.Actions = []netlink.Action{netlink.NewMirredAction(pair.Attrs().Index)}
			} else {
				f.ClassId = netlink.MakeHandle(1, 1) // a match without an action passes
			}
			if err := netlink.FilterAdd(f); err != nil {
				return fmt.Errorf("add filter %d to traffic control of %s: %w", r.prio, p.Name, err)
			}
		}
	}
	return nil
}

func key(off int32, mask, val uint32) netlink.TcU32Key {
	return netlink.TcU32Key{Off: off, Mask: mask, Val: val}
}

func match(keys ...netlink.TcU32Key) *netlink.TcU32Sel {
	return &netlink.TcU32Sel{Flags: netlink.TC_U32_TERMINAL, Nkeys: uint8(len(keys)), Keys: keys}
}

// Remove leaves the port as it was, whoever shaped it. It is idempotent.
func Remove(p Port) error {
	err := netns.Do(p.Namespace, func() error {
		var errs []error
		if port, err := netlink.LinkByName(p.Name); err == nil {
			qdiscs, err := netlink.QdiscList(port)
			errs = append(errs, err)
			for _, q := range qdiscs {
				if q.Type() == "clsact" {
					errs = append(errs, netlink.QdiscDel(q))
				}
			}
		}
		if pair, err := netlink.LinkByName(p.Shadow()); err == nil {
			errs = append(errs, netlink.LinkDel(pair))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("end the shaping of port %s of namespace %s: %w", p.Name, p.Namespace, err)
	}
	return nil
}
