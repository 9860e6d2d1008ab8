package linux

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge/render"
)

// ownedFile names the ports we configured, so that one that leaves the
// configuration is cleared, also by a later process.
const ownedFile = "ports.json"

// putLinks brings interfaces and addresses to w. What will be ours is written
// down before it is touched.
func (h *Host) putLinks(w inForce) error {
	ours := portsOf(w.box)
	before := h.owned()
	if err := h.own(append(slices.Clone(ours), before...)); err != nil {
		return err
	}
	if err := carryOut(h.linkOps(w)); err != nil {
		return err
	}
	return h.own(ours)
}

// portsOf are the interfaces of a box that stay when the box forgets them.
func portsOf(box render.Box) []string {
	var names []string
	for _, l := range box.Links {
		if !l.Overlay {
			names = append(names, l.Name)
		}
	}
	return names
}

func (h *Host) owned() []string {
	b, err := os.ReadFile(filepath.Join(h.cfg.RunDir, ownedFile))
	var names []string
	if err != nil || json.Unmarshal(b, &names) != nil {
		return nil // a first start, or a torn record: nothing is known to be ours
	}
	return names
}

func (h *Host) own(names []string) error {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)
	if slices.Equal(names, h.owned()) {
		return nil
	}
	b, err := json.Marshal(names)
	if err != nil {
		return fmt.Errorf("write down our ports: %w", err)
	}
	path := filepath.Join(h.cfg.RunDir, ownedFile)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("write down our ports: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write down our ports: %w", err)
	}
	return nil
}

// linkOps plans the links of w, and the clearing of ports that left it.
func (h *Host) linkOps(w inForce) ([]op, error) {
	hands := adopted(h.circuits(w.config))
	var ops []op
	for _, want := range w.box.Links {
		link, err := netlink.LinkByName(want.Name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			missing := op{what: "interface " + want.Name + " is missing"}
			if want.Overlay {
				missing.do = func() error { return errors.New("its driver did not make it") }
			}
			ops = append(ops, missing)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read interface %s: %w", want.Name, err)
		}
		more, err := oneLink(link, want, slices.Contains(hands, want.Name))
		if err != nil {
			return nil, err
		}
		ops = append(ops, more...)
	}
	ours := portsOf(w.box)
	for _, name := range h.owned() {
		if slices.Contains(ours, name) {
			continue
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			continue // gone, and its addresses with it
		}
		more, err := oneLink(link, render.Link{Name: name}, false)
		if err != nil {
			return nil, err
		}
		ops = append(ops, more...)
	}
	return ops, nil
}

// oneLink plans one interface. With keep its addresses are somebody else's.
func oneLink(link netlink.Link, want render.Link, keep bool) ([]op, error) {
	var ops []op
	at := link.Attrs()
	loopback := link.Type() == "loopback" || at.Name == "lo"
	if at.Alias != want.Alias && !loopback {
		ops = append(ops, op{fmt.Sprintf("%s alias %q", want.Name, want.Alias), func() error { return netlink.LinkSetAlias(link, want.Alias) }})
	}
	if want.MTU > 0 && at.MTU != want.MTU && !loopback {
		ops = append(ops, op{fmt.Sprintf("%s mtu %d", want.Name, want.MTU), func() error { return netlink.LinkSetMTU(link, want.MTU) }})
	}
	if at.RawFlags&unix.IFF_UP == 0 && want.Alias != "" {
		ops = append(ops, op{want.Name + " up", func() error { return netlink.LinkSetUp(link) }})
	}
	if keep {
		return ops, nil
	}
	more, err := addressOps(link, want)
	return append(ops, more...), err
}

// addressOps plans the addresses of one interface: new ones first, so that
// routes which lean on them survive a change.
func addressOps(link netlink.Link, want render.Link) ([]op, error) {
	have, err := addresses(link)
	if err != nil {
		return nil, err
	}
	var ops []op
	for _, p := range want.Addresses {
		if permanent, ok := have[p]; ok && permanent {
			continue
		}
		addr := &netlink.Addr{IPNet: toNet(p)}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD // the box is the gateway: it does not wait for itself
		}
		ops = append(ops, op{fmt.Sprintf("%s address %s", want.Name, p), func() error { return netlink.AddrReplace(link, addr) }})
	}
	for p := range have {
		if slices.Contains(want.Addresses, p) {
			continue
		}
		ops = append(ops, op{fmt.Sprintf("%s no address %s", want.Name, p), func() error {
			err := netlink.AddrDel(link, &netlink.Addr{IPNet: toNet(p)})
			if errors.Is(err, unix.EADDRNOTAVAIL) {
				return nil // gone with the one before it
			}
			return err
		}})
	}
	return ops, nil
}

// addresses are those that are neither the kernel's own nor the IPsec driver's,
// and whether each stays for ever.
func addresses(link netlink.Link) (map[netip.Prefix]bool, error) {
	list, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("read addresses of %s: %w", link.Attrs().Name, err)
	}
	out := map[netip.Prefix]bool{}
	for _, a := range list {
		p, ok := fromNet(a.IPNet)
		if !ok || p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast() && p.Addr().Is6() || render.VTEPBlock.Contains(p.Addr()) {
			continue
		}
		out[p] = a.Flags&unix.IFA_F_PERMANENT != 0
	}
	return out, nil
}
