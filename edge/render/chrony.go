package render

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/edge"
)

// Chrony is the configuration of the box's chronyd without the paths of its
// files, which the host adds; empty: no segment is served the time.
//
// It asks the sources of all segments from the gateway address of the first
// that has one, which the filters on the way permit. A box that reaches no
// source goes on serving its own clock at stratum 10, so that a site that is
// cut off keeps one time.
func Chrony(in Input) string {
	var sources, allowed []string
	var own4, own6 netip.Addr
	for _, s := range in.Config.Segments {
		if !ntpServed(s) {
			continue
		}
		for _, a := range s.NTP {
			gw := gatewayFor(s, a)
			switch {
			case !gw.IsValid():
				continue
			case a.Is4() && !own4.IsValid():
				own4 = gw
			case a.Is6() && !own6.IsValid():
				own6 = gw
			}
			sources = append(sources, fmt.Sprintf("server %s iburst", a))
		}
		for _, p := range some(s.V4, s.V6) {
			allowed = append(allowed, fmt.Sprintf("allow %s", p.Masked()))
		}
		for _, t := range in.Config.Legacy {
			if t.Segment == s.Kind {
				allowed = append(allowed, fmt.Sprintf("allow %s", t.Inside.Masked()))
			}
		}
	}
	if len(allowed) == 0 {
		return ""
	}
	var b strings.Builder
	for _, line := range slices.Concat(distinct(sources), distinct(allowed)) {
		b.WriteString(line + "\n")
	}
	for _, own := range []netip.Addr{own4, own6} {
		if own.IsValid() {
			fmt.Fprintf(&b, "bindacqaddress %s\n", own)
		}
	}
	b.WriteString("local stratum 10\ncmdport 0\nnoclientlog\n")
	return b.String()
}

// ntpServed says whether a segment gets the time from the box.
func ntpServed(s edge.Segment) bool {
	return slices.ContainsFunc(s.NTP, func(a netip.Addr) bool { return gatewayFor(s, a).IsValid() })
}
