package tool

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge/gnoi"
	"github.com/wardnet/wardnet/inventory"
)

// lines counts the faults of an error; none is 0.
func lines(t *rapid.T, err error) int {
	if err == nil {
		return 0
	}
	if !errors.Is(err, inventory.ErrInvalid) {
		t.Fatalf("%v does not wrap ErrInvalid", err)
	}
	return strings.Count(err.Error(), "\n") + 1
}

func out(v, least, most uint32) int {
	if v != 0 && (v < least || v > most) {
		return 1
	}
	return 0
}

// Every field out of its range is one fault, and nothing else is.
func TestBoundsAreTheProtocols(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		num := func(name string, most uint32) uint32 {
			return rapid.OneOf(rapid.Uint32Range(0, most+2), rapid.Uint32()).Draw(t, name)
		}
		p := &gnoi.PingRequest{Destination: "192.0.2.1", Count: num("count", 100), IntervalMs: num("interval", 5000), SizeBytes: num("size", 8972), WaitMs: num("wait", 5000)}
		want := out(p.Count, 1, 100) + out(p.IntervalMs, 100, 5000) + out(p.SizeBytes, 0, 8972) + out(p.WaitMs, 1, 5000)
		spec, err := readPing(p)
		if got := lines(t, err); got != want {
			t.Fatalf("%v: %d faults, want %d: %v", p, got, want, err)
		}
		if err == nil && (spec.count < 1 || spec.count > 100 || spec.interval < ms(100) || spec.interval > ms(5000) || spec.size > 8972 || spec.wait < ms(1) || spec.wait > ms(5000)) {
			t.Fatalf("%+v", spec)
		}
		tr := &gnoi.TracerouteRequest{Destination: "2001:db8::1", MaxHops: num("hops", 64), Probes: num("probes", 5), WaitMs: num("wait", 3000)}
		want = out(tr.MaxHops, 1, 64) + out(tr.Probes, 1, 5) + out(tr.WaitMs, 1, 3000)
		if _, err := readTrace(tr); lines(t, err) != want {
			t.Fatalf("%v: want %d faults: %v", tr, want, err)
		}
		c := &gnoi.CaptureRequest{Circuit: "c", MaxPackets: num("packets", 10000), MaxSeconds: num("seconds", 60), SnapBytes: num("snap", 1514), MaxBytes: num("bytes", 8<<20)}
		want = out(c.MaxPackets, 1, 10000) + out(c.MaxSeconds, 1, 60) + out(c.SnapBytes, 64, 1514) + out(c.MaxBytes, 1, 8<<20)
		if _, err := readCapture(c); lines(t, err) != want {
			t.Fatalf("%v: want %d faults: %v", c, want, err)
		}
	})
}

func TestDefaults(t *testing.T) {
	p, err := readPing(&gnoi.PingRequest{Destination: "::ffff:192.0.2.1"})
	if err != nil || p.to.String() != "192.0.2.1" || p.count != 4 || p.interval != ms(1000) || p.size != 56 || p.wait != ms(1000) {
		t.Errorf("%+v, %v", p, err)
	}
	tr, err := readTrace(&gnoi.TracerouteRequest{Destination: "192.0.2.1"})
	if err != nil || tr.hops != 30 || tr.probes != 3 || tr.wait != ms(1000) {
		t.Errorf("%+v, %v", tr, err)
	}
	c, err := readCapture(&gnoi.CaptureRequest{Tunnel: "t"})
	if err != nil || c.packets != 1000 || c.time != ms(10000) || c.snap != 96 || c.bytes != 1<<20 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	for _, dst := range []string{"", "example.com", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "192.0.2.0/24"} {
		_, err := readPing(&gnoi.PingRequest{Destination: dst, Count: 101, From: &gnoi.From{Circuit: "c", Tunnel: "t"}})
		if err == nil || strings.Count(err.Error(), "\n") != 2 {
			t.Errorf("%q: %v", dst, err)
		}
	}
	for _, r := range []*gnoi.CaptureRequest{
		{},
		{Circuit: "c", Segment: "s"},
		{Circuit: "c", Filter: strings.Repeat("x", 1001)},
		{Circuit: "c", Filter: "icmp\nor udp"},
		{Circuit: "c", Filter: "a\x00b"},
		{Circuit: "c", Filter: "\xff"},
	} {
		if _, err := readCapture(r); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%v: %v", r, err)
		}
	}
}
