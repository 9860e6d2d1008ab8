package linux

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge"
)

// Reach is how far WAN ports have come; each list names them.
type Reach struct {
	Links     []string // with a carrier
	Addresses []string // with an address to speak from, after it
	Routes    []string // with a default route
}

// Reached looks at the ports of circuits as the kernel has them now.
func Reached(circuits []edge.Circuit) (Reach, error) {
	var out Reach
	var errs []error
	for _, c := range circuits {
		link, err := netlink.LinkByName(c.Port)
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("look at port %s: %w", c.Port, err))
			continue
		}
		if link.Attrs().RawFlags&unix.IFF_LOWER_UP != 0 {
			out.Links = append(out.Links, c.Port)
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			errs = append(errs, fmt.Errorf("look at the addresses of port %s: %w", c.Port, err))
		}
		if len(addrs) > 0 {
			out.Addresses = append(out.Addresses, c.Port+" "+addrs[0].IPNet.String())
		}
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{LinkIndex: link.Attrs().Index, Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
		if err != nil {
			errs = append(errs, fmt.Errorf("look at the routes of port %s: %w", c.Port, err))
		}
		for _, r := range routes {
			if isDefault(r.Dst) {
				out.Routes = append(out.Routes, c.Port)
				break
			}
		}
	}
	return out, errors.Join(errs...)
}

// isDefault says whether dst is everything.
func isDefault(dst *net.IPNet) bool {
	if dst == nil {
		return true
	}
	ones, _ := dst.Mask.Size()
	return ones == 0
}
