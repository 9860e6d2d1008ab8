package probe

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

var (
	a  = netip.MustParseAddr
	px = netip.MustParsePrefix
)

// town is two wards with two segments each, two applications and a permit of
// every kind.
func town() inventory.Inventory {
	inv := inventory.Inventory{
		Pools: []inventory.Pool{
			{ID: "p4", Kind: inventory.PoolSite4, Prefix: px("10.64.0.0/10"), Bits: 20},
			{ID: "p6", Kind: inventory.PoolSite6, Prefix: px("fd00::/48"), Bits: 60},
		},
		Applications: []inventory.Application{
			{ID: "web", Prefixes: []netip.Prefix{px("10.63.0.10/32"), px("fd01::10/128")}, Ports: []inventory.PortRange{{Proto: inventory.TCP, From: 443, To: 443}}},
			{ID: "rtp", Prefixes: []netip.Prefix{px("10.63.0.11/32")}, Ports: []inventory.PortRange{{Proto: inventory.UDP, From: 6970, To: 6999}, {Proto: inventory.ICMP}}},
		},
		Permits: []inventory.Permit{
			{ID: "p-web", From: []inventory.SegmentKind{inventory.Staff}, ToApp: "web"},
			{ID: "p-rtp", From: []inventory.SegmentKind{inventory.IoT}, ToApp: "rtp"},
			{ID: "p-seg", From: []inventory.SegmentKind{inventory.Staff}, ToSeg: inventory.IoT, Ports: []inventory.PortRange{{Proto: inventory.TCP, From: 80, To: 80}}},
			{ID: "p-net", From: []inventory.SegmentKind{inventory.IoT}, ToInternet: true},
		},
	}
	for _, id := range []inventory.SiteID{"s-1", "s-2"} {
		inv.Sites = append(inv.Sites, inventory.Site{ID: id, Segments: []inventory.Segment{{Kind: inventory.Staff}, {Kind: inventory.IoT}, {Kind: inventory.DMZ, Unused: "none"}}})
	}
	inv, err := inventory.Allocate(inv)
	if err != nil {
		panic(err)
	}
	return inv
}

func TestVerdictFollowsThePermits(t *testing.T) {
	inv := town()
	x, err := newIntent(inv)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := inv.Index().SegmentBlocks("s-2")
	if err != nil {
		t.Fatal(err)
	}
	iot := blocks[1]
	for name, tt := range map[string]struct {
		from  inventory.SegmentKind
		to    netip.Addr
		proto inventory.Proto
		port  uint16
		want  Verdict
	}{
		"application":                {inventory.Staff, a("10.63.0.10"), inventory.TCP, 443, Allow},
		"application, IPv6":          {inventory.Staff, a("fd01::10"), inventory.TCP, 443, Allow},
		"another port":               {inventory.Staff, a("10.63.0.10"), inventory.TCP, 444, Deny},
		"another protocol":           {inventory.Staff, a("10.63.0.10"), inventory.UDP, 443, Deny},
		"ICMP not named":             {inventory.Staff, a("10.63.0.10"), inventory.ICMP, 0, Deny},
		"ICMP named":                 {inventory.IoT, a("10.63.0.11"), inventory.ICMP, 0, Allow},
		"another segment":            {inventory.IoT, a("10.63.0.10"), inventory.TCP, 443, Deny},
		"inside the range":           {inventory.IoT, a("10.63.0.11"), inventory.UDP, 6984, Allow},
		"past the range":             {inventory.IoT, a("10.63.0.11"), inventory.UDP, 7000, Deny},
		"segment":                    {inventory.Staff, iot.V4.Addr().Next(), inventory.TCP, 80, Allow},
		"segment, IPv6":              {inventory.Staff, iot.V6.Addr().Next(), inventory.TCP, 80, Allow},
		"segment, other port":        {inventory.Staff, iot.V4.Addr().Next(), inventory.TCP, 22, Deny},
		"the other way":              {inventory.IoT, blocks[0].V4.Addr().Next(), inventory.TCP, 80, Deny},
		"internet":                   {inventory.IoT, a("203.0.113.80"), inventory.TCP, 443, Allow},
		"internet is not ours":       {inventory.IoT, a("10.63.0.10"), inventory.TCP, 80, Deny},
		"internet is not a pool":     {inventory.IoT, a("10.127.0.1"), inventory.TCP, 80, Deny},
		"internet for others is not": {inventory.Staff, a("203.0.113.80"), inventory.TCP, 443, Deny},
	} {
		if got := x.verdict(tt.from, tt.to, tt.proto, tt.port); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestPlanAsksEverySegmentForEveryRange(t *testing.T) {
	inv := town()
	var hosts []Host
	for _, s := range inv.Sites {
		blocks, err := inv.Index().SegmentBlocks(s.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blocks {
			hosts = append(hosts, Host{Site: s.ID, Segment: b.Kind, Namespace: string(s.ID) + string(b.Kind), V4: b.V4.Addr().Next(), V6: b.V6.Addr().Next(), Gateways: []netip.Addr{b.V4.Addr()}})
		}
	}
	pairs, err := Plan(inv, hosts, []netip.Addr{a("203.0.113.80")})
	if err != nil {
		t.Fatal(err)
	}
	// Each of 4 hosts: a gateway; web at 2 addresses × (443 + 3 strangers); rtp
	// × (2 ranges, of which ICMP is a stranger too, + 2); the own other segment
	// and two of the other site × 2 families × (3 strangers, and 80 towards
	// IoT); the internet × (443 + 3).
	iotTargets := map[inventory.SegmentKind]int{inventory.Staff: 2, inventory.IoT: 1}
	want := 0
	for _, h := range hosts {
		want += 1 + 2*4 + 4 + 3*2*3 + 2*iotTargets[h.Segment] + 4
	}
	if len(pairs) != want {
		t.Errorf("%d pairs, want %d", len(pairs), want)
	}
	seen := map[Pair]bool{}
	counts := map[Verdict]int{}
	for _, p := range pairs {
		if seen[p] {
			t.Errorf("%s is asked twice", p)
		}
		seen[p] = true
		counts[p.Want]++
		if p.Application == "gateway" && p.Want != Allow {
			t.Errorf("%s is to be denied; a host that is cut off would go unnoticed", p)
		}
	}
	if counts[Allow] == 0 || counts[Deny] == 0 {
		t.Errorf("a plan that wants only one thing: %v", counts)
	}
	listen := Listen(inv)
	for _, p := range pairs {
		if one := (inventory.PortRange{Proto: p.Proto, From: p.Port, To: p.Port}); p.Proto != inventory.ICMP && p.Application != "internet" && !slices.Contains(listen, one) {
			t.Errorf("%s is asked for and nobody is told to listen there", p)
		}
	}
}

func TestTranslated(t *testing.T) {
	if got := translated(px("192.168.1.0/24"), px("10.64.16.0/24"), a("192.168.1.10")); got != a("10.64.16.10") {
		t.Error(got)
	}
}

func TestAnswersCarryTheirNumber(t *testing.T) {
	if seq, ok := answered(7, append(question(7, 0xabc), "\nname"...)); !ok || seq != 0xabc {
		t.Errorf("echo: %x %v", seq, ok)
	}
	dns := question(portDNS, 0x12345)
	if _, ok := answered(portDNS, dns); ok {
		t.Error("a DNS query passes for its answer")
	}
	dns[2] |= 0x80
	if seq, ok := answered(portDNS, dns); !ok || seq != 0x2345 {
		t.Errorf("DNS: %x %v", seq, ok)
	}
	ntp := question(portNTP, 77)
	copy(ntp[24:], ntp[40:])
	ntp[0] = 4<<3 | 4
	if seq, ok := answered(portNTP, ntp); !ok || seq != 77 {
		t.Errorf("NTP: %d %v", seq, ok)
	}
	for _, six := range []bool{false, true} {
		b, err := echo(six, 5, 9)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := echoed(six, 5, b); ok {
			t.Errorf("six=%v: an echo request passes for its reply", six)
		}
		b[0] = map[bool]byte{false: 0, true: 129}[six]
		if seq, ok := echoed(six, 5, b); !ok || seq != 9 {
			t.Errorf("six=%v: %d %v", six, seq, ok)
		}
		if _, ok := echoed(six, 6, b); ok {
			t.Errorf("six=%v: the reply to somebody else passes for ours", six)
		}
	}
}

func TestCourse(t *testing.T) {
	const ms = time.Millisecond
	beats := func(rtts ...int) []Beat {
		var out []Beat
		for i, r := range rtts {
			out = append(out, Beat{Sent: time.Duration(i) * 10 * ms, RTT: time.Duration(r) * ms})
		}
		return out
	}
	for name, tt := range map[string]struct {
		beats  []Beat
		lost   int
		outage time.Duration
	}{
		"nothing sent":       {nil, 0, 0},
		"all answered":       {beats(1, 1, 1, 1), 0, 0},
		"a gap":              {beats(1, -1, -1, 1), 2, 20 * ms},
		"the longest of two": {beats(1, -1, 1, -1, -1, -1, 1), 4, 30 * ms},
		"never back":         {beats(1, -1, -1), 2, 20 * ms},
		"none at first":      {beats(-1, -1, 1, 1), 2, 20 * ms},
		"none at all":        {beats(-1, -1, -1), 3, 30 * ms},
	} {
		c := course(tt.beats, 10*ms)
		if c.Lost != tt.lost || c.Outage != tt.outage || c.Sent != len(tt.beats) {
			t.Errorf("%s: %+v, want %d lost and %s", name, c, tt.lost, tt.outage)
		}
	}
	if c := course(beats(5, 5, 5, 25), 10*ms); c.Median != 5*ms || c.Jitter != 20*ms {
		t.Errorf("median %s, jitter %s", c.Median, c.Jitter)
	}
	if c := course(beats(5, 15, -1, 5, 5), 10*ms); c.Variation != 20*ms/3 { // in the order of sending
		t.Errorf("variation %s", c.Variation)
	}
}
