package render

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/internal/golden"
	"github.com/wardnet/wardnet/inventory"
)

// served is the ward of the fixtures with every kind of service.
func served() Input {
	in := ward()
	s := in.Config.Segments
	for i := range s {
		switch s[i].Kind {
		case inventory.Staff:
			s[i].DHCP = edge.DHCP{From: addr("10.64.16.50"), To: addr("10.64.16.250"), LeaseSeconds: 28800, Reservations: []edge.Reservation{
				{MAC: "02:00:00:00:00:05", Addr: addr("10.64.16.5"), Name: "Máy in tầng_2"}, {MAC: "02:00:00:00:00:06", Addr: addr("10.64.16.6")},
			}}
			s[i].DNS = []netip.Addr{addr("10.64.10.53"), addr("fd5a:1:0:5::53")}
			s[i].NTP = []netip.Addr{addr("10.64.10.123"), addr("fd5a:1:0:5::123")}
		case inventory.Public:
			s[i].DHCP = edge.DHCP{From: addr("10.64.18.50"), To: addr("10.64.19.250"), LeaseSeconds: 3600}
		case inventory.Voice:
			s[i].DHCP = edge.DHCP{Relay: addr("10.64.10.67")}
			s[i].NTP = []netip.Addr{addr("10.64.10.124")}
		}
	}
	return in
}

func TestServiceGolden(t *testing.T) {
	var b strings.Builder
	for _, d := range DNSMasq(served()) {
		fmt.Fprintf(&b, "== dnsmasq %s on %v, leases %v\n%s", d.Name, d.Ports, d.Leases, d.Text)
	}
	golden.Check(t, "ward.services", b.String()+"== chrony\n"+Chrony(served()))
	if d, c := DNSMasq(hub()), Chrony(hub()); len(d) != 0 || c != "" {
		t.Errorf("a site that serves nothing runs %v and %q", d, c)
	}
}

// Whatever is asked for, no segment's queries go to another segment's server or
// from another's address, and what has no server resolves nothing.
func TestSegmentsStayApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := served()
		own := map[string][]string{} // servers by segment
		for i := range in.Config.Segments {
			s := &in.Config.Segments[i]
			s.DNS = nil
			for range rapid.IntRange(0, 2).Draw(t, "servers") {
				a := addr(fmt.Sprintf("10.64.10.%d", rapid.IntRange(1, 250).Draw(t, "server")))
				s.DNS = append(s.DNS, a)
				own[string(s.Kind)] = append(own[string(s.Kind)], fmt.Sprintf("%s@%s", a, Gateway(s.V4).Addr()))
			}
		}
		for _, d := range DNSMasq(in) {
			var got []string
			for line := range strings.Lines(d.Text) {
				if u, ok := strings.CutPrefix(strings.TrimSpace(line), "server="); ok {
					got = append(got, u)
				}
			}
			if !reflect.DeepEqual(got, own[d.Name]) {
				t.Fatalf("%s asks %v, want %v", d.Name, got, own[d.Name])
			}
			if off := strings.Contains(d.Text, "port=0\n"); off != (len(got) == 0) {
				t.Fatalf("%s with servers %v: resolving is off: %v", d.Name, got, off)
			}
			delete(own, d.Name)
		}
		if len(own) > 0 {
			t.Fatalf("nobody resolves for %v", own)
		}
	})
}

func TestHostLabel(t *testing.T) {
	for name, want := range map[string]string{
		"Máy in_2": "my-in-2", "x\ndhcp-script=/bin/sh": "xdhcp-scriptbinsh", "-": "", strings.Repeat("a", 80): strings.Repeat("a", 63),
	} {
		if got := hostLabel(name); got != want {
			t.Errorf("hostLabel(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestShapeGolden(t *testing.T) {
	for name, in := range map[string]Input{"ward": ward(), "hub": hub()} {
		b, err := json.MarshalIndent(Shape(in, nil), "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		golden.Check(t, name+".shape", string(b)+"\n")
	}
}

// Guarantees never sum to more than the rate, every queue has room, everything
// that leaves by a circuit has one queue, and equal inputs give equal shapers.
func TestShapeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := ward()
		c := &in.Config
		c.Classes = nil
		for i := range rapid.IntRange(0, 20).Draw(t, "classes") {
			c.Classes = append(c.Classes, edge.Class{Name: fmt.Sprint(i), Share: rapid.Float64Range(0.001, 1).Draw(t, "share"), LatencyMS: rapid.IntRange(1, 2000).Draw(t, "latency")})
		}
		for i := range c.Circuits {
			c.Circuits[i].UpBPS = inventory.BitRate(rapid.Uint64Range(0, 10_000_000_000).Draw(t, "rate"))
			if c.Circuits[i].UpBPS < inventory.Mbps {
				c.Circuits[i].UpBPS = 0
			}
		}
		got := Shape(in, nil)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		shuffle(r, c.Circuits)
		shuffle(r, c.Tunnels)
		if again := Shape(in, nil); !reflect.DeepEqual(got, again) {
			t.Fatalf("order matters:\n%+v\n%+v", got, again)
		}
		for _, s := range got {
			var sum uint64
			for _, k := range s.Classes {
				sum += k.Rate
				if k.Rate == 0 || k.Ceil < k.Rate || k.Ceil > s.Rate || k.Limit < 10*1500 || k.Prio < 0 || k.Prio > 7 {
					t.Fatalf("%s: class %+v of %d bit/s", s.Circuit, k, s.Rate)
				}
			}
			if sum > s.Rate+8000*uint64(len(s.Classes)) { // each gets the least there is
				t.Fatalf("%s guarantees %d of %d bit/s", s.Circuit, sum, s.Rate)
			}
			if len(s.Classes) != len(c.Classes)+2 {
				t.Fatalf("%s has %d classes", s.Circuit, len(s.Classes))
			}
		}
		for _, circuit := range c.Circuits {
			n := 0
			for _, s := range got {
				if s.Circuit == circuit.Name {
					n++
				}
			}
			if want := map[bool]int{true: 1, false: 0}[circuit.UpBPS > 0]; n != want {
				t.Fatalf("circuit %+v has %d shapers", circuit, n)
			}
		}
	})
}
