//go:build lab

package render

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// oneTunnel cuts the fixtures down to one tunnel between two boxes.
func oneTunnel() (edge, centre Input) {
	edge, centre = ward(), hub()
	edge.Config.Tunnels, edge.Config.BGP.Neighbours = edge.Config.Tunnels[:1], edge.Config.BGP.Neighbours[:1]
	edge.Config.Circuits = edge.Config.Circuits[:1]
	centre.Config.Tunnels, centre.Config.BGP.Neighbours = centre.Config.Tunnels[:1], centre.Config.BGP.Neighbours[:1]
	return edge, centre
}

// Two boxes, hosts and a data centre: sessions come up under the filter, routes
// of both families are exchanged, and packets pass just where the rules say.
// A veth stands in for WireGuard.
func TestTwoBoxes(t *testing.T) {
	needRoot(t)
	edgeIn, hubIn := oneTunnel()
	edgeBox, hubBox := mustNew(t, edgeIn), mustNew(t, hubIn)
	e, h := space(t, "edge"), space(t, "hub")
	staff, public, servers, inet, dc, spare := space(t, "staff"), space(t, "public"), space(t, "srv"), space(t, "inet"), space(t, "dc"), space(t, "spare")
	wire(t, e, Interface(edgeIn.Config.Tunnels[0]), h, Interface(hubIn.Config.Tunnels[0]))
	wire(t, e, "lan.staff", staff, "eth0")
	wire(t, e, "lan.public", public, "eth0")
	wire(t, e, "lan.mgmt", spare, "eth0")
	wire(t, e, "lan.voice", spare, "eth1")
	wire(t, e, "wan0", inet, "eth0")
	wire(t, h, "srv0", servers, "eth0")
	wire(t, h, "up0", dc, "eth0")
	wire(t, h, "wan0", inet, "eth1")
	address(t, staff, "eth0", []string{"10.64.16.1", "fd5a:1:0:10::1"}, "10.64.16.9/23", "192.168.1.5/24", "fd5a:1:0:10::9/64", "10.64.17.66/32", "10.64.18.66/32")
	address(t, public, "eth0", []string{"10.64.18.1"}, "10.64.18.9/23")
	address(t, servers, "eth0", []string{"10.64.10.1", "fd5a:1:0:5::1"}, "10.64.10.53/23", "fd5a:1:0:5::53/64")
	address(t, inet, "eth0", nil, "203.0.113.1/30")
	address(t, dc, "eth0", nil, "198.18.0.1/30", "fd77:6172:646e::c612:1/126", "198.51.100.7/24")
	install(t, e, edgeBox)
	install(t, h, hubBox)
	route(t, e, edgeBox)
	route(t, h, hubBox)
	router := Box{FRR: `router bgp 65010
 bgp router-id 198.18.0.1
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 198.18.0.2 remote-as 4200000001
 neighbor 198.18.0.2 bfd
 neighbor 198.18.0.2 timers connect 1
 address-family ipv4 unicast
  network 198.51.100.0/24
  network 10.99.0.0/16
 exit-address-family
 address-family ipv6 unicast
  neighbor 198.18.0.2 activate
 exit-address-family
exit
`}
	run(t, "", "ip", "netns", "exec", dc, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	route(t, dc, router)
	start := time.Now()
	for ns, want := range map[string]int{e: 1, h: 2} {
		eventually(t, 40*time.Second, "BGP and BFD of "+ns, func() error { return sessionsUp(t, ns, want) })
	}
	t.Logf("sessions up after %s", time.Since(start).Round(100*time.Millisecond))
	for _, w := range []struct{ ns, dst, via string }{
		{e, "10.64.10.53", "172.17.0.1"},
		{e, "198.51.100.7", "172.17.0.1"},
		{e, "fd5a:1:0:5::53", "fd77:6172:646e::ac11:1"},
		{h, "10.64.16.9", "172.17.0.0"},
		{h, "fd5a:1:0:10::9", "fd77:6172:646e::ac11:0"},
		{h, "198.51.100.7", "198.18.0.1"},
		{dc, "10.64.16.9", "198.18.0.2"},
		{dc, "10.64.10.53", "198.18.0.2"},
		{dc, "fd5a:1:0:10::9", "fe80:"},
	} {
		eventually(t, 10*time.Second, fmt.Sprintf("route of %s to %s", w.ns, w.dst), func() error {
			out, err := try("", "ip", "-n", w.ns, "route", "get", w.dst)
			if err == nil && !strings.Contains(out, " via "+w.via) {
				err = fmt.Errorf("no via %s in %s", w.via, out)
			}
			return err
		})
	}
	for _, bad := range []string{"10.99.0.1", "10.80.0.1"} { // not accepted; not announced
		if out, err := try("", "ip", "-n", e, "route", "get", bad); err == nil {
			t.Errorf("%s goes %s", bad, out)
		}
	}
	checkPackets(t, staff, public, servers, inet, dc)
	checkSameText(t, e, edgeBox.FRR)
	checkSameText(t, h, hubBox.FRR)
}

// sessionsUp says whether all BGP sessions, of both families, and their BFD
// sessions are up.
func sessionsUp(t testing.TB, ns string, want int) error {
	var summary map[string]struct {
		Peers map[string]struct{ State string }
	}
	if err := decode(t, ns, "show bgp summary json", &summary); err != nil {
		return err
	}
	for _, family := range []string{"ipv4Unicast", "ipv6Unicast"} {
		up := 0
		for _, p := range summary[family].Peers {
			if p.State == "Established" {
				up++
			}
		}
		if up != want {
			return fmt.Errorf("%s: %d of %d established: %+v", family, up, want, summary)
		}
	}
	var bfd []struct {
		Status           string
		TransmitInterval int `json:"transmit-interval"`
	}
	if err := decode(t, ns, "show bfd peers json", &bfd); err != nil {
		return err
	}
	up := 0
	for _, p := range bfd {
		if p.Status == "up" && p.TransmitInterval == 300 {
			up++
		}
	}
	if up != want {
		return fmt.Errorf("%d of %d BFD sessions up: %+v", up, want, bfd)
	}
	return nil
}

// checkPackets sends what the rules of the fixtures permit and what they do not.
func checkPackets(t *testing.T, staff, public, servers, inet, dc string) {
	t.Helper()
	for _, s := range []struct{ ns, at string }{
		{servers, "10.64.10.53:53"},
		{servers, "10.64.10.53:22"},
		{servers, "[fd5a:1:0:5::53]:53"},
		{servers, "[fd5a:1:0:5::53]:22"},
		{dc, "198.51.100.7:443"},
		{dc, "198.51.100.7:80"},
		{inet, "203.0.113.1:80"},
		{public, "10.64.18.9:443"},
		{staff, "10.64.16.9:443"},
		{staff, "10.64.16.9:9100"},
		{staff, "192.168.1.5:9100"},
	} {
		serve(t, s.ns, s.at)
	}
	for name, tt := range map[string]struct{ ns, from, to, seen string }{
		"permitted":                 {staff, "10.64.16.9", "10.64.10.53:53", "10.64.16.9"},
		"permitted, IPv6":           {staff, "fd5a:1:0:10::9", "[fd5a:1:0:5::53]:53", "fd5a:1:0:10::9"},
		"translated":                {staff, "192.168.1.5", "10.64.10.53:53", "10.64.17.5"},
		"behind the uplink":         {staff, "10.64.16.9", "198.51.100.7:443", "10.64.16.9"},
		"translated, uplink":        {staff, "192.168.1.5", "198.51.100.7:443", "10.64.17.5"},
		"from the servers":          {servers, "10.64.10.53", "10.64.16.9:9100", "10.64.10.53"},
		"to a translated host":      {servers, "10.64.10.53", "10.64.17.5:9100", "10.64.10.53"},
		"to it untranslated":        {servers, "10.64.10.53", "192.168.1.5:9100", ""},
		"from another segment":      {public, "", "10.64.16.9:9100", ""},
		"breakout":                  {public, "", "203.0.113.1:80", "203.0.113.2"},
		"other port":                {staff, "10.64.16.9", "10.64.10.53:22", ""},
		"other port, IPv6":          {staff, "fd5a:1:0:10::9", "[fd5a:1:0:5::53]:22", ""},
		"other port, uplink":        {staff, "10.64.16.9", "198.51.100.7:80", ""},
		"other segment":             {public, "", "10.64.10.53:53", ""},
		"no breakout":               {staff, "10.64.16.9", "203.0.113.1:80", ""},
		"between segments":          {public, "", "10.64.16.9:443", ""},
		"between segments, back":    {staff, "10.64.16.9", "10.64.18.9:443", ""},
		"back through the tunnel":   {servers, "10.64.10.53", "10.64.16.9:443", ""},
		"from the data centre":      {dc, "198.51.100.7", "10.64.16.9:443", ""},
		"spoofed other segment":     {staff, "10.64.18.66", "203.0.113.1:80", ""},
		"spoofed translated source": {staff, "10.64.17.66", "10.64.10.53:53", ""},
		"the box":                   {staff, "10.64.16.9", "10.64.16.1:179", ""},
	} {
		seen, err := call(t, tt.ns, tt.from, tt.to)
		if tt.seen == "" && err == nil {
			t.Errorf("%s: passed, and was seen as %s", name, seen)
		} else if tt.seen != "" && (err != nil || seen != tt.seen) {
			t.Errorf("%s: seen as %q, %v; want %s", name, seen, err, tt.seen)
		}
	}
	for _, dst := range []string{"10.64.10.53", "10.64.16.1", "fd5a:1:0:5::53"} {
		if err := ping(t, staff, dst); err != nil {
			t.Errorf("ping %s: %v", dst, err)
		}
	}
	if ping(t, public, "10.64.10.53") == nil {
		t.Error("public pings a server")
	}
}

// checkSameText: FRR prints the configuration as it was rendered, so that
// loading it again changes nothing.
func checkSameText(t *testing.T, ns, want string) {
	t.Helper()
	out := run(t, "", "vtysh", "-N", ns, "-c", "show running-config no-header")
	_, got, ok := strings.Cut(out, "bgp route-map ")
	if got = "bgp route-map " + strings.TrimSuffix(got, "end\n"); !ok || got != want {
		t.Errorf("FRR prints\n%s\nwant\n%s", got, want)
	}
}
