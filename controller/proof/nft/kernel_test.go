//go:build lab

package nft

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge/host/hosttest"
)

// world is where random filters and packets come from: a box between two
// neighbours, with two interfaces to each, and few addresses and ports, so that
// rules are hit.
type world struct{ *rand.Rand }

func (w world) of(all ...string) string { return all[w.IntN(len(all))] }

func (w world) iface() string { return w.of("l0", "l1", "r0", "r1") }

// addr is an address of area n: 1 and 2 lie behind r0 and r1, 3 is translated
// into 1.
func (w world) addr(v6 bool, n int) netip.Addr {
	if v6 {
		return netip.MustParseAddr(fmt.Sprintf("fd00:%d::%d", n, 1+w.IntN(4)))
	}
	return netip.MustParseAddr(fmt.Sprintf("10.%d.0.%d", n, 1+w.IntN(4)))
}

func (w world) prefix(v6 bool) string {
	a := w.addr(v6, w.IntN(4))
	bits := a.BitLen() - []int{0, 1, 2, 16}[w.IntN(4)]
	return netip.PrefixFrom(a, bits).Masked().String()
}

func (w world) list(n int, one func() string) string {
	set := map[string]bool{}
	for range 1 + w.IntN(n) {
		set[one()] = true
	}
	var all []string
	for x := range set {
		all = append(all, x)
	}
	slices.Sort(all)
	return "{ " + strings.Join(all, ", ") + " }"
}

func (w world) ports() string {
	from := w.IntN(6) * 10 // apart, for a set refuses what overlaps
	return w.of(fmt.Sprint(from), fmt.Sprintf("{ %d }", from), fmt.Sprintf("{ %d-%d, %d }", from, from+3, from+7))
}

// match is a condition about packets of one family and one protocol, for nft
// refuses a rule that no packet can match.
func (w world) match(v6 bool, proto string) string {
	family, set, ttl := "ip", "@s4", "ip ttl 64"
	if v6 {
		family, set, ttl = "ip6", "@s6", "ip6 hoplimit 63"
	}
	not := w.of("", "", "!= ")
	switch w.IntN(8) {
	case 0:
		return w.of("iifname ", "oifname ") + not + `"` + w.iface() + `"`
	case 1:
		return w.of("iifname ", "oifname ") + not + "@ports"
	case 2:
		return family + w.of(" saddr ", " daddr ") + not + w.prefix(v6)
	case 3:
		return family + w.of(" saddr ", " daddr ") + not + set
	case 4, 5, 6:
		switch {
		case proto != "icmp":
			return proto + w.of(" sport ", " dport ") + w.ports()
		case v6:
			return w.of("icmpv6 type echo-request", "icmpv6 type nd-redirect")
		}
		return w.of("icmp type echo-request", "icmp type { echo-reply, echo-request }")
	}
	if !v6 && w.IntN(3) == 0 {
		return "iifname . ip saddr @ends"
	}
	return w.of("ct state new", "ct state established,related", ttl)
}

// rule is one of a chain in which forward says that packets know where they go.
func (w world) rule(forward bool, chains []string) string {
	var all []string
	v6, proto := w.IntN(2) == 0, w.of("tcp", "udp", "udp", "icmp")
	for range w.IntN(4) {
		m := w.match(v6, proto)
		if !forward && strings.HasPrefix(m, "oifname") {
			continue
		}
		all = append(all, m)
	}
	verdicts := []string{"accept", "accept", "drop", "drop", "return", "counter"}
	for _, c := range chains {
		verdicts = append(verdicts, "jump "+c, "goto "+c)
	}
	return strings.Join(append(all, w.of(verdicts...)), " ")
}

const always = "udp sport 65535 accept" // what tells that all before it has passed

func (w world) filter() string {
	var b strings.Builder
	b.WriteString("table inet w {}\ndelete table inet w\ntable inet w {\n")
	fmt.Fprintf(&b, "\tset ports {\n\t\ttype ifname\n\t\telements = %s\n\t}\n", w.list(2, func() string { return `"` + w.iface() + `"` }))
	fmt.Fprintf(&b, "\tset s4 {\n\t\ttype ipv4_addr\n\t\tflags interval\n\t\telements = { 10.0.0.2/31, 10.1.0.1, 10.2.0.0/16 }\n\t}\n")
	fmt.Fprintf(&b, "\tset s6 {\n\t\ttype ipv6_addr\n\t\tflags interval\n\t\telements = { fd00:0::2/127, fd00:1::1, fd00:2::/32 }\n\t}\n")
	fmt.Fprintf(&b, "\tset ends {\n\t\ttype ifname . ipv4_addr\n\t\telements = { \"l0\" . 10.0.0.1, \"l1\" . 10.0.0.2 }\n\t}\n")
	chain := func(name, head string, forward bool, below []string) {
		fmt.Fprintf(&b, "\tchain %s {\n", name)
		if head != "" {
			fmt.Fprintf(&b, "\t\ttype filter hook %s; policy %s;\n\t\t%s\n", head, w.of("accept", "drop"), always)
		}
		for range 2 + w.IntN(6) {
			fmt.Fprintf(&b, "\t\t%s\n", w.rule(forward, below))
		}
		b.WriteString("\t}\n")
	}
	chain("c3", "", false, nil)
	chain("c2", "", false, []string{"c3"})
	chain("c1", "", true, []string{"c2", "c3"})
	chain("guard", "prerouting priority raw", false, []string{"c3"})
	chain("first", "forward priority filter", true, []string{"c1", "c2"})
	chain("last", "postrouting priority filter", true, nil)
	b.WriteString("\tchain in {\n\t\ttype nat hook prerouting priority dstnat; policy accept;\n\t\tdnat ip prefix to ip daddr map { 10.3.0.0/24 : 10.1.0.0/24 }\n\t}\n")
	fmt.Fprintf(&b, "\tchain out {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n\t\toifname %q snat ip prefix to ip saddr map { 10.0.0.0/30 : 10.9.0.0/30 }\n\t}\n}\n", w.of("r0", "r1"))
	return b.String()
}

func (w world) packet() Packet {
	v6 := w.IntN(3) == 0
	areas := 4
	if v6 {
		areas = 3 // translation is IPv4's
	}
	p := Packet{In: w.of("l0", "l1"), Src: w.addr(v6, 0), Dst: w.addr(v6, 1+w.IntN(areas-1)), State: New, TTL: uint8(63 + w.IntN(2))}
	switch w.IntN(5) {
	case 0:
		p.Proto, p.Type = ICMP, 8
		if v6 {
			p.Proto, p.Type = ICMPv6, 128
		}
	case 1, 2:
		p.Proto = TCP
	default:
		p.Proto = UDP
	}
	p.SPort, p.DPort = uint16(w.IntN(60)), uint16(w.IntN(60))
	if p.Type != 0 {
		p.SPort, p.DPort = 0, 0
	}
	return p
}

// packets are n packets of n flows that stay apart when they are translated: the
// kernel would choose other ports for one of two that meet.
func (w world) packets(n int) []Packet {
	type flow struct {
		src, dst     byte
		proto        uint8
		sport, dport uint16
		v6           bool
	}
	seen := map[flow]bool{}
	var out []Packet
	for len(out) < n {
		p := w.packet()
		f := flow{p.Src.AsSlice()[len(p.Src.AsSlice())-1], p.Dst.AsSlice()[len(p.Dst.AsSlice())-1], p.Proto, p.SPort, p.DPort, p.Src.Is6()}
		if p.Type == 0 && seen[f] {
			continue
		}
		seen[f] = true
		out = append(out, p)
	}
	return out
}

// wanted is what leaves the box: by which interface and with what addresses; ""
// nothing.
func wanted(t *Table, p Packet) string {
	in := t.At(Prerouting, p)
	if !in.Pass {
		return ""
	}
	p.Dst, p.Out = in.Dst, "r0"
	if netip.MustParsePrefix("10.2.0.0/16").Contains(p.Dst) || netip.MustParsePrefix("fd00:2::/32").Contains(p.Dst) {
		p.Out = "r1"
	}
	p.TTL-- // the box routes before it asks the hook forward
	if !t.At(Forward, p).Pass {
		return ""
	}
	out := t.At(Postrouting, p)
	if !out.Pass {
		return ""
	}
	return fmt.Sprintf("%s %s %s", p.Out, out.Src, out.Dst)
}

// The model and the kernel agree about random filters and random packets.
func TestKernelAgrees(t *testing.T) {
	if !hosttest.Enter(t, "left", "right") {
		return
	}
	k := newKernel(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := world{rand.New(rand.NewPCG(seed, 1))}
	passed, packets := 0, 0
	const filters, each = 120, 200
	for range filters {
		text := w.filter()
		table := read(t, text)
		k.load(t, text)
		all := w.packets(each)
		got := k.pass(t, all)
		for i, p := range all {
			packets++
			if got[i] != "" {
				passed++
			}
			if want := wanted(table, p); got[i] != want {
				t.Fatalf("seed %d: %+v\nthe kernel says %q, the model %q, of\n%s", seed, p, got[i], want, text)
			}
		}
	}
	t.Logf("%d packets through %d filters, %d passed: no difference", packets, filters, passed)
	if passed < packets/50 || passed > packets*49/50 {
		t.Errorf("%d of %d passed: that tells little", passed, packets)
	}
}

// kernel is a box in this namespace, with raw sockets at its neighbours.
type kernel struct {
	send map[string]int    // sockets of the left side, by the box's interface
	mac  map[string][]byte // of the box's interfaces
	see  map[string]int    // sockets of the right side
	next uint32            // number of the next packet
}

func newKernel(t *testing.T) *kernel {
	t.Helper()
	k := &kernel{send: map[string]int{}, mac: map[string][]byte{}, see: map[string]int{}}
	for _, name := range []string{"all", "default"} {
		put(t, "/proc/sys/net/ipv4/conf/"+name+"/rp_filter", "0")
	}
	for i, name := range []string{"l0", "l1", "r0", "r1"} {
		other := hosttest.Space("left")
		if name[0] == 'r' {
			other = hosttest.Space("right")
		}
		hosttest.Run(t, "ip", "link", "add", name, "type", "veth", "peer", "name", "far", "netns", other)
		hosttest.Run(t, "ip", "-n", other, "link", "set", "far", "name", "p-"+name)
		hosttest.Run(t, "ip", "-n", other, "link", "set", "p-"+name, "up")
		put(t, "/proc/sys/net/ipv6/conf/"+name+"/accept_dad", "0")
		hosttest.Run(t, "ip", "link", "set", name, "up")
		k.socket(t, name, other)
		if name[0] != 'r' {
			continue
		}
		for _, x := range []struct{ via, to, area string }{{fmt.Sprintf("192.0.2.%d", i), "-4", "10.%d.0.0/16"}, {fmt.Sprintf("fd00:ff::%d", i), "-6", "fd00:%d::/32"}} {
			hosttest.Run(t, "ip", x.to, "neigh", "add", x.via, "lladdr", "02:00:00:00:00:01", "nud", "permanent", "dev", name)
			hosttest.Run(t, "ip", x.to, "route", "add", fmt.Sprintf(x.area, i-1), "via", x.via, "dev", name, "onlink")
		}
	}
	hosttest.Run(t, "ip", "address", "add", "192.0.2.254/32", "dev", "lo") // a source for the box's own errors
	put(t, "/proc/sys/net/ipv4/ip_forward", "1")
	put(t, "/proc/sys/net/ipv6/conf/all/forwarding", "1")
	return k
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (k *kernel) load(t *testing.T, text string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s\n%s", err, out, text)
	}
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil { // what earlier filters translated
		t.Fatal(err)
	}
}

// pass sends packets and returns, for each, how it left the box; "": it did
// not. Every packet is a flow of its own.
func (k *kernel) pass(t *testing.T, all []Packet) []string {
	t.Helper()
	first := k.next
	for _, p := range all {
		k.emit(t, p)
	}
	last := map[string]uint32{}
	for i, in := range []string{"l0", "l1"} {
		last[in] = k.next
		k.emit(t, Packet{In: in, Src: netip.MustParseAddr("10.0.0.77"), Dst: netip.MustParseAddr(fmt.Sprintf("10.%d.0.77", 1+i)), Proto: UDP, SPort: 65535, DPort: 7, TTL: 64})
	}
	got := make([]string, len(all))
	seen := map[uint32]bool{}
	buf := make([]byte, 2048)
	for deadline := time.Now().Add(5 * time.Second); !seen[last["l0"]] || !seen[last["l1"]]; {
		if time.Now().After(deadline) {
			t.Fatal("the last packets did not pass")
		}
		for name, fd := range k.see {
			n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
			if err != nil {
				continue
			}
			if id, src, dst, ok := decode(buf[:n]); ok && id >= first {
				seen[id] = true
				if int(id-first) < len(all) {
					got[id-first] = fmt.Sprintf("%s %s %s", name, src, dst)
				}
			}
		}
	}
	return got
}

func (k *kernel) emit(t *testing.T, p Packet) {
	t.Helper()
	frame := encode(p, k.next, k.mac[p.In])
	k.next++
	if _, err := unix.Write(k.send[p.In], frame); err != nil {
		t.Fatal(err)
	}
}

// socket opens the neighbour's end of an interface of the box.
func (k *kernel) socket(t *testing.T, name, space string) {
	t.Helper()
	link, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	k.mac[name] = link.HardwareAddr
	fd, err := inSpace(space, func() (int, error) {
		far, err := net.InterfaceByName("p-" + name)
		if err != nil {
			return 0, err
		}
		proto := binary.BigEndian.Uint16([]byte{unix.ETH_P_ALL & 0xff, unix.ETH_P_ALL >> 8})
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(proto))
		if err != nil {
			return 0, err
		}
		return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: far.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if name[0] == 'l' {
		k.send[name] = fd
	} else {
		k.see[name] = fd
	}
}
