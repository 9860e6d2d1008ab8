package linux

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/render"
	"github.com/wardnet/wardnet/inventory"
)

func TestPermitted(t *testing.T) {
	c := ward()
	c.Rules = append(c.Rules, edge.Rule{Permit: "p-net", From: inventory.Public, Src: c.Rules[0].Src[:0:0], Internet: true})
	c.Rules[1].Src = append(c.Rules[1].Src, prefix("10.64.2.0/23"))
	c.Legacy = []edge.Translation{{Segment: inventory.Staff, Inside: prefix("192.168.1.0/25"), Outside: prefix("10.64.1.128/25")}}
	for name, tt := range map[string]struct {
		src, dst string
		proto    uint8
		port     uint16
		want     bool
	}{
		"named":                 {"10.64.0.9", "10.0.0.10", 6, 443, true},
		"another port":          {"10.64.0.9", "10.0.0.10", 6, 80, false},
		"another protocol":      {"10.64.0.9", "10.0.0.10", 17, 443, false},
		"another destination":   {"10.64.0.9", "10.0.0.11", 6, 443, false},
		"another source":        {"10.64.4.9", "10.0.0.10", 6, 443, false},
		"the way back":          {"10.0.0.10", "10.64.0.9", 6, 443, false},
		"internet":              {"10.64.2.9", "192.0.2.1", 17, 53, true},
		"no internet":           {"10.64.0.9", "192.0.2.1", 17, 53, false},
		"translated":            {"192.168.1.5", "10.0.0.10", 6, 443, true},
		"outside of the legacy": {"192.168.1.200", "10.0.0.10", 6, 443, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := permitted(c, c.Rules, addr(tt.src), addr(tt.dst), tt.proto, tt.port) != ""; got != tt.want {
				t.Errorf("permitted = %v, want %v", got, tt.want)
			}
			f := flowFilter{config: c}
			flow := &netlink.ConntrackFlow{Forward: netlink.IPTuple{
				SrcIP: net.ParseIP(tt.src), DstIP: net.ParseIP(tt.dst), Protocol: tt.proto, DstPort: tt.port,
			}}
			if got := f.MatchConntrackFlow(flow); got == tt.want {
				t.Errorf("the flow is cut: %v", got)
			}
		})
	}
	if got := outside(c.Legacy, addr("192.168.1.5")); got != addr("10.64.1.133") {
		t.Errorf("outside = %s", got)
	}
}

func TestRoutesReadBackAsWritten(t *testing.T) {
	names := map[int]string{7: "wan0"}
	for _, want := range []render.Route{
		{Table: 254, Dst: prefix("0.0.0.0/0"), Via: addr("198.51.100.1"), Dev: "wan0", Metric: 1024},
		{Table: 1331355, Dst: prefix("198.51.100.0/24"), Dev: "wan0"},
		{Table: 254, Dst: prefix("10.0.0.0/8"), Blackhole: true, Metric: 255<<24 + 8192},
		{Table: 5, Dst: prefix("::/0"), Via: addr("2001:db8::1"), Dev: "wan0"},
	} {
		want = normal(want)
		k := *toKernel(want, 7)
		if got := fromKernel(k, names); got != want {
			t.Errorf("%s reads back as %s", describe(want), describe(got))
		}
	}
}

func TestRulesReadBackAsWritten(t *testing.T) {
	for _, want := range []render.PolicyRule{
		{Priority: 1000, Src: prefix("198.51.100.2/32"), Table: 1331355},
		{Priority: 1001, V6: true, Mark: 0x14509b, Mask: render.CircuitMask, Table: 1331355},
		{Priority: 1002, Mark: 1 << 24, Mask: render.ClassMask, Table: 0x200000},
	} {
		if got := ruleOf(*toRule(want)); got != want {
			t.Errorf("%s reads back as %s", describeRule(want), describeRule(got))
		}
	}
}
