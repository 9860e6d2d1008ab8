//go:build lab

package shape

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge/host/hosttest"
	"github.com/wardnet/wardnet/edge/render"
)

// Every packet waits in the queue of its class, in both families, and what is
// bound to the circuit already passes beside them.
func TestClassify(t *testing.T) {
	if !hosttest.Enter(t) {
		return
	}
	q, in := open(t), input()
	s := render.Shape(in, nil)[0]
	for _, name := range append([]string{"wan0"}, s.Tunnels...) {
		hosttest.Run(t, "ip", "tuntap", "add", name, "mode", "tun")
		hosttest.Run(t, "ip", "link", "set", name, "up")
		hosttest.Run(t, "sysctl", "-q", "-w", "net.ipv6.conf."+name+".addr_gen_mode=1")
	}
	for name, addrs := range map[string][]string{s.Tunnels[0]: {"10.9.0.1/24", "fd00:9::1/64"}, "wan0": {"198.51.100.2/24"}} {
		for _, a := range addrs {
			hosttest.Run(t, "ip", "addr", "add", a, "dev", name, "nodad")
		}
	}
	apply(t, q, in)
	for _, c := range []struct {
		to    string
		mark  uint32
		tos   int
		class string // none: beside the queue
	}{
		{"10.9.0.2:9", render.ClassMark(0), 0, "thoại"},
		{"10.9.0.2:9", render.ClassMark(1) | 0x1234, 0, "nền"},
		{"10.9.0.2:9", render.ClassMark(7), 0, bestEffort},
		{"10.9.0.2:9", render.MeasureMark, 48 << 2, ""},
		{"10.9.0.2:9", 0, 46 << 2, bestEffort},
		{"10.9.0.2:9", 0, 0, bestEffort},
		{"10.9.0.2:9", 0, 48 << 2, control},
		{"[fd00:9::2]:9", render.ClassMark(0), 0, "thoại"},
		{"[fd00:9::2]:9", 0, 48 << 2, control},
		{"[fd00:9::2]:9", 0, 46 << 2, bestEffort},
		{"198.51.100.1:9", 0, 0, bestEffort},
		{"198.51.100.1:9", s.Mark, 0, ""},
		{"198.51.100.1:9", s.Mark + 1, 0, bestEffort},
	} {
		before := packets(t, s)
		conn := dial(t, "udp", c.to, c.mark)
		raw, err := conn.(*net.UDPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) { // the packet shows whether it worked
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, c.tos)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_TCLASS, c.tos)
		})
		if _, err := conn.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close() // it has sent what it had to
		got := ""
		for name, n := range packets(t, s) {
			if n > before[name] {
				got += name
			}
		}
		if got != c.class {
			t.Errorf("%+v went to %q", c, got)
		}
	}
}

// Names of the queues that every shaper has.
const (
	control    = render.ControlClass
	bestEffort = render.BestEffortClass
)

func packets(t *testing.T, s render.Shaper) map[string]uint32 {
	t.Helper()
	link, err := netlink.LinkByName(s.Device)
	if err != nil {
		t.Fatal(err)
	}
	list, err := netlink.ClassList(link, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]uint32{}
	for _, c := range list {
		at := c.Attrs()
		if i := int(at.Handle&0xffff) - int(minor(0)); i >= 0 && at.Statistics != nil {
			out[s.Classes[i].Name] = at.Statistics.Basic.Packets
		}
	}
	return out
}
