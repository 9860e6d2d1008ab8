package controller

import (
	"net/netip"
	"testing"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// A rule that stands for another while a hub is staged must let all of it pass:
// a way to the internet is no list of prefixes, and no port is every port.
func TestCovers(t *testing.T) {
	src := []netip.Prefix{netip.MustParsePrefix("10.64.2.0/24")}
	web := []inventory.PortRange{{Proto: inventory.TCP, From: 443, To: 443}}
	local := edge.Rule{Src: src, Dst: []netip.Prefix{netip.MustParsePrefix("10.63.0.1/32")}, Ports: web}
	out, outWeb := edge.Rule{Src: src, Internet: true}, edge.Rule{Src: src, Internet: true, Ports: web}
	for name, tt := range map[string]struct {
		w, r edge.Rule
		want bool
	}{
		"itself":                           {local, local, true},
		"fewer destinations":               {local, edge.Rule{Src: src, Ports: web}, true},
		"more destinations":                {edge.Rule{Src: src, Ports: web}, local, false},
		"inside does not cover internet":   {local, out, false},
		"internet does not cover inside":   {out, local, false},
		"all ports cover one":              {out, outWeb, true},
		"one port does not cover all":      {outWeb, out, false},
		"internet with one port is itself": {outWeb, outWeb, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := covers(tt.w, tt.r); got != tt.want {
				t.Errorf("covers is %v, want %v", got, tt.want)
			}
		})
	}
}
