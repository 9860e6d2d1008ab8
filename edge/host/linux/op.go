package linux

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// op is one change the box needs. One without do cannot be made now: it waits
// for a port to appear.
type op struct {
	what string
	do   func() error
}

// carryOut makes the changes of a plan, in order, and tries all of them.
func carryOut(ops []op, err error) error {
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range ops {
		if o.do == nil {
			continue
		}
		if err := o.do(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", o.what, err))
		}
	}
	return errors.Join(errs...)
}

// toNet and fromNet convert between the two forms of a prefix; the address part
// is kept.
func toNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func fromNet(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, size := n.Mask.Size()
	if addr = addr.Unmap(); size == 128 && addr.Is4() {
		ones -= 96
	}
	return netip.PrefixFrom(addr, ones), ones >= 0 && size > 0
}
