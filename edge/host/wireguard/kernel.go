package wireguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// kernelHas tries whether the kernel can make a WireGuard interface.
func kernelHas() (bool, error) {
	probe := &netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("wgprobe%d", os.Getpid()%10000000)}}
	err := netlink.LinkAdd(probe)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("try the kernel's WireGuard: %w; run as root", err)
	}
	if err := netlink.LinkDel(probe); err != nil {
		return false, fmt.Errorf("remove the interface that tried the kernel's WireGuard: %w", err)
	}
	return true, nil
}

// kernelBackend runs devices in the kernel. No test has run it: see the package
// comment.
type kernelBackend struct {
	known func() []string // interfaces that may be ours
}

func (k *kernelBackend) ready(context.Context) error { return nil }

func (k *kernelBackend) devices(context.Context) (map[string]Device, error) {
	ctl, err := wgctrl.New()
	if err != nil {
		return nil, fmt.Errorf("open the kernel's WireGuard: %w", err)
	}
	defer ctl.Close()
	all := map[string]Device{}
	for _, name := range k.known() {
		dev, err := ctl.Device(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read WireGuard device %s: %w", name, err)
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			return nil, fmt.Errorf("look up interface %s: %w", name, err)
		}
		all[name] = fromKernel(dev, link.Attrs().MTU)
	}
	return all, nil
}

func fromKernel(dev *wgtypes.Device, mtu int) Device {
	d := Device{ListenPort: uint16(dev.ListenPort), Mark: uint32(dev.FirewallMark), MTU: mtu, Peers: map[string]Peer{}}
	if dev.PrivateKey != (wgtypes.Key{}) {
		d.PublicKey = dev.PublicKey.String()
	}
	for _, p := range dev.Peers {
		peer := Peer{
			KeepaliveSeconds: int(p.PersistentKeepaliveInterval / time.Second),
			LastHandshake:    p.LastHandshakeTime.UTC(),
			RxBytes:          uint64(p.ReceiveBytes),
			TxBytes:          uint64(p.TransmitBytes),
		}
		if p.LastHandshakeTime.Unix() <= 0 {
			peer.LastHandshake = time.Time{}
		}
		if p.Endpoint != nil {
			peer.Endpoint = plain(p.Endpoint.AddrPort())
		}
		var allowed []netip.Prefix
		for _, a := range p.AllowedIPs {
			addr, _ := netip.AddrFromSlice(a.IP)
			bits, _ := a.Mask.Size()
			allowed = append(allowed, netip.PrefixFrom(addr.Unmap(), bits))
		}
		peer.AllowedIPs = prefixes(allowed)
		d.Peers[p.PublicKey.String()] = peer
	}
	return d
}

func (k *kernelBackend) set(_ context.Context, name, private string, c change) error {
	ctl, err := wgctrl.New()
	if err != nil {
		return fmt.Errorf("open the kernel's WireGuard: %w", err)
	}
	defer ctl.Close()
	cfg, err := c.kernel(private)
	if err != nil {
		return err
	}
	link, err := kernelLink(name)
	if err != nil {
		return err
	}
	if c.MTU != 0 {
		if err := netlink.LinkSetMTU(link, c.MTU); err != nil {
			return fmt.Errorf("set MTU %d of interface %s: %w", c.MTU, name, err)
		}
	}
	if err := ctl.ConfigureDevice(name, cfg); err != nil {
		return fmt.Errorf("configure WireGuard device %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set interface %s up: %w", name, err)
	}
	return nil
}

// kernelLink returns the interface name, which it makes when there is none. A
// TUN of that name, left by the process before the kernel learned WireGuard, is
// replaced.
func kernelLink(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if err == nil && link.Type() == "tuntap" {
		if err := netlink.LinkDel(link); err != nil {
			return nil, fmt.Errorf("remove interface %s: %w", name, err)
		}
	} else if err == nil || !errors.As(err, &netlink.LinkNotFoundError{}) {
		return link, err
	}
	if err := netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		return nil, fmt.Errorf("make WireGuard interface %s: %w", name, err)
	}
	return netlink.LinkByName(name)
}

func (k *kernelBackend) remove(_ context.Context, name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}

// kernel writes the change for wgctrl. The kernel replaces a peer's prefixes
// in one step.
func (c change) kernel(private string) (wgtypes.Config, error) {
	var cfg wgtypes.Config
	if c.Key {
		k, err := wgtypes.ParseKey(private)
		if err != nil {
			return cfg, errors.New("private key is not 32 bytes in base64")
		}
		cfg.PrivateKey = &k
	}
	if c.Port != nil {
		port := int(*c.Port)
		cfg.ListenPort = &port
	}
	if c.Mark != nil {
		mark := int(*c.Mark)
		cfg.FirewallMark = &mark
	}
	for _, p := range c.Peers {
		k, err := wgtypes.ParseKey(p.PublicKey)
		if err != nil {
			return cfg, fmt.Errorf("public key %q: %w", p.PublicKey, err)
		}
		peer := wgtypes.PeerConfig{PublicKey: k, Remove: p.Remove, UpdateOnly: !p.Create && !p.Remove}
		if p.Endpoint.IsValid() {
			peer.Endpoint = net.UDPAddrFromAddrPort(p.Endpoint)
		}
		if p.Keepalive != nil {
			every := time.Duration(*p.Keepalive) * time.Second
			peer.PersistentKeepaliveInterval = &every
		}
		if len(p.Add)+len(p.Drop) > 0 {
			peer.ReplaceAllowedIPs = true
			for _, a := range p.Allowed {
				peer.AllowedIPs = append(peer.AllowedIPs, net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())})
			}
		}
		cfg.Peers = append(cfg.Peers, peer)
	}
	return cfg, nil
}
