package impair

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wardnet/wardnet/labs/impair/forward"
)

const table = "inet wardnet_fault"

// filterText is one nftables transaction that puts the faults of one namespace
// in force in place of all that were; no faults leave no trace. Packets are
// dropped before connection tracking and before anything is answered, in both
// directions, so that nobody is told. A port's shadow carries its packets while
// it is shaped.
func filterText(namespace string, faults []Fault) string {
	var in, out strings.Builder
	for _, f := range faults {
		drop := "counter drop"
		switch f.Kind {
		case Silence:
		case Loss:
			drop = fmt.Sprintf("numgen random mod 100000 < %d counter drop", int(f.LossRatio*100000+0.5))
		default:
			continue
		}
		if names := portsIn(namespace, f.Ports); len(names) > 0 {
			fmt.Fprintf(&in, "\t\tiifname { %s } %s\n", strings.Join(names, ", "), drop)
			fmt.Fprintf(&out, "\t\toifname { %s } %s\n", strings.Join(names, ", "), drop)
		}
	}
	text := fmt.Sprintf("table %[1]s\ndelete table %[1]s\n", table)
	if in.Len() == 0 {
		return text
	}
	return text + fmt.Sprintf(`table %s {
	chain entering {
		type filter hook prerouting priority -450; policy accept;
%s	}
	chain leaving {
		type filter hook postrouting priority 450; policy accept;
%s	}
}
`, table, in.String(), out.String())
}

// portsIn are the quoted names of the ports in a namespace, with their shadows.
func portsIn(namespace string, ports []forward.Port) []string {
	var out []string
	for _, p := range ports {
		if p.Namespace == namespace {
			out = append(out, fmt.Sprintf("%q", p.Name), fmt.Sprintf("%q", p.Shadow()))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// downPorts are the ports in a namespace that a fault holds down.
func downPorts(namespace string, faults []Fault) map[string]bool {
	out := map[string]bool{}
	for _, f := range faults {
		for _, p := range f.Ports {
			if f.Kind == Down && p.Namespace == namespace {
				out[p.Name] = true
			}
		}
	}
	return out
}

// shapes are the delays and rates in force by port: delays add up, the lowest
// rate holds.
func shapes(faults []Fault) map[forward.Port]Fault {
	out := map[forward.Port]Fault{}
	for _, f := range faults {
		if f.Kind != Slow {
			continue
		}
		for _, p := range f.Ports {
			s := out[p]
			s.DelayMS += f.DelayMS
			s.JitterMS += f.JitterMS
			if f.RateBPS > 0 && (s.RateBPS == 0 || f.RateBPS < s.RateBPS) {
				s.RateBPS = f.RateBPS
			}
			out[p] = s
		}
	}
	return out
}

// namespacesOf lists where faults have ports.
func namespacesOf(faults ...Fault) []string {
	var out []string
	for _, f := range faults {
		for _, p := range f.Ports {
			if !slices.Contains(out, p.Namespace) {
				out = append(out, p.Namespace)
			}
		}
	}
	slices.Sort(out)
	return out
}
