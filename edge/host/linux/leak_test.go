//go:build lab

package linux

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge/host/hosttest"
)

// secret marks the packets of a leak.
var secret = []byte("denied by the old and by the new configuration")

// Hosts of segments on the box's ports, in ward and in otherWard. Nothing may
// pass between those of different ports in either.
var leakHosts = map[string][]string{
	"lan0": {"10.64.0.5/23", "fd00:64::5/64"},
	"lan1": {"10.64.2.5/23", "10.64.4.5/24", "fd00:64:0:1::5/64", "fd00:64:0:2::5/64"},
}

// leak sends, from the hosts on one port to those on the other, what both
// configurations deny, and looks for it on all ports.
type leak struct {
	sent, passed atomic.Int64
	stop         chan struct{}
	done         sync.WaitGroup

	mu   sync.Mutex
	seen []string // the first that passed: when, and from where to where
}

// watchLeaks starts a leak at the other ends of the ports of space.
func watchLeaks(t *testing.T, space string) *leak {
	t.Helper()
	out := space + "-out"
	for port, all := range leakHosts {
		for _, a := range all {
			hosttest.Run(t, "ip", "-n", out, "addr", "replace", a, "dev", port, "nodad")
		}
	}
	l := &leak{stop: make(chan struct{})}
	for _, port := range ports {
		fd := packetSocket(t, out, port)
		var frames [][]byte
		if leakHosts[port] != nil {
			frames = leakFrames(t, space, out, port)
		}
		l.done.Go(func() { l.look(port, fd, frames) })
	}
	return l
}

// look sends every frame and reads what comes, every 2 ms.
func (l *leak) look(port string, fd int, frames [][]byte) {
	defer unix.Close(fd)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	buf := make([]byte, 2048)
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		for _, f := range frames {
			if _, err := unix.Write(fd, f); err == nil { // the port may be down
				l.sent.Add(1)
			}
		}
		for {
			n, from, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
			if err != nil {
				break // nothing, or the port is down
			}
			if at, ok := from.(*unix.SockaddrLinklayer); ok && at.Pkttype != unix.PACKET_OUTGOING && forwarded(buf[:n]) {
				l.passed.Add(1)
				l.note(port, buf[:n])
			}
		}
	}
}

// forwarded tells a packet of ours that the box let through from the box's own
// answer to its sender, which quotes it (ICMP, RFC 4443 §3.1).
func forwarded(frame []byte) bool {
	proto := 14 + 9
	if len(frame) > 14 && frame[12] == 0x86 {
		proto = 14 + 6
	}
	return len(frame) > proto && frame[proto] == unix.IPPROTO_UDP && bytes.Contains(frame, secret)
}

func (l *leak) note(port string, frame []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.seen) >= 10 {
		return
	}
	from, to := frame[14+12:14+16], frame[14+16:14+20]
	if frame[12] == 0x86 {
		from, to = frame[14+8:14+24], frame[14+24:14+40]
	}
	src, _ := netip.AddrFromSlice(from)
	dst, _ := netip.AddrFromSlice(to)
	l.seen = append(l.seen, time.Now().Format("15:04:05.000")+" "+src.String()+" to "+dst.String()+" out of "+port)
}

// end stops the leak and says how many packets were sent and how many passed.
func (l *leak) end() (sent, passed int64) {
	close(l.stop)
	l.done.Wait()
	return l.sent.Load(), l.passed.Load()
}

// packetSocket hears one port of a namespace.
func packetSocket(t *testing.T, space, port string) int {
	t.Helper()
	fd, err := func() (int, error) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		back, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		defer unix.Close(back)
		there, err := unix.Open("/run/netns/"+space, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		defer unix.Close(there)
		if err := unix.Setns(there, unix.CLONE_NEWNET); err != nil {
			return -1, err
		}
		defer func() {
			if err := unix.Setns(back, unix.CLONE_NEWNET); err != nil {
				panic(err) // the thread would do the rest of the test elsewhere
			}
		}()
		dev, err := net.InterfaceByName(port)
		if err != nil {
			return -1, err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff}) // network order
		return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index})
	}()
	if err != nil {
		t.Fatalf("packet socket on %s in %s: %v", port, space, err)
	}
	return fd
}

// leakFrames are UDP packets from every host of a port to every host of the
// other one.
func leakFrames(t *testing.T, space, out, port string) (frames [][]byte) {
	t.Helper()
	own, box := mac(t, out, port), mac(t, space, port)
	for other, hosts := range leakHosts {
		if other == port {
			continue
		}
		for _, from := range leakHosts[port] {
			for _, to := range hosts {
				src, dst := netip.MustParsePrefix(from).Addr(), netip.MustParsePrefix(to).Addr()
				if src.Is4() == dst.Is4() {
					frames = append(frames, append(append(append([]byte{}, box...), own...), datagram(t, src, dst)...))
				}
			}
		}
	}
	if len(frames) == 0 {
		t.Fatal("nothing to send from " + port)
	}
	return frames
}

// datagram is the Ethernet type and an IP packet with the secret in UDP, whose
// checksum is left to those who care: IPv6 needs one (RFC 8200 §8.1).
func datagram(t *testing.T, src, dst netip.Addr) []byte {
	t.Helper()
	udp := make([]byte, 8, 8+len(secret))
	binary.BigEndian.PutUint16(udp, 40000)
	binary.BigEndian.PutUint16(udp[2:], 40001)
	binary.BigEndian.PutUint16(udp[4:], uint16(8+len(secret)))
	udp = append(udp, secret...)
	if src.Is4() {
		h := ipv4.Header{Version: 4, Len: 20, TotalLen: 20 + len(udp), TTL: 64, Protocol: unix.IPPROTO_UDP, Src: src.AsSlice(), Dst: dst.AsSlice()}
		b, err := h.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		binary.BigEndian.PutUint16(b[2:], uint16(h.TotalLen)) // network order on every system
		binary.BigEndian.PutUint16(b[10:], checksum(b))
		return append(append([]byte{0x08, 0x00}, b...), udp...)
	}
	h := make([]byte, 40)
	h[0], h[6], h[7] = 6<<4, unix.IPPROTO_UDP, 64
	binary.BigEndian.PutUint16(h[4:], uint16(len(udp)))
	copy(h[8:], src.AsSlice())
	copy(h[24:], dst.AsSlice())
	pseudo := append(append([]byte{}, h[8:40]...), 0, 0, 0, byte(len(udp)), 0, 0, 0, unix.IPPROTO_UDP)
	binary.BigEndian.PutUint16(udp[6:], checksum(append(pseudo, udp...)))
	return append(append([]byte{0x86, 0xdd}, h...), udp...)
}

// checksum is the Internet checksum (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i, c := range b {
		sum += uint32(c) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func mac(t *testing.T, space, port string) net.HardwareAddr {
	t.Helper()
	var links []struct{ Address string }
	raw := hosttest.Run(t, "ip", "-n", space, "-j", "link", "show", "dev", port)
	if err := json.Unmarshal([]byte(raw), &links); err != nil || len(links) != 1 {
		t.Fatal(errors.Join(err, errors.New("link "+port+": "+raw)))
	}
	a, err := net.ParseMAC(links[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
