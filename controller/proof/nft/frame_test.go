//go:build lab

package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// inSpace does something in another network namespace.
func inSpace(name string, do func() (int, error)) (int, error) {
	runtime.LockOSThread() // not unlocked where the way back fails: the thread ends
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return 0, err
	}
	defer own.Close()
	other, err := os.Open("/run/netns/" + name)
	if err != nil {
		return 0, err
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		return 0, fmt.Errorf("enter %s: %w", name, err)
	}
	n, err := do()
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		return n, back
	}
	runtime.UnlockOSThread()
	return n, err
}

// encode writes p as an Ethernet frame to mac. id is the packet's number, which
// also makes its flow unlike any other: in the payload, or the TCP sequence.
func encode(p Packet, id uint32, mac []byte) []byte {
	var l4 []byte
	switch p.Proto {
	case TCP:
		l4 = make([]byte, 20)
		binary.BigEndian.PutUint32(l4[4:], id)
		l4[12], l4[13] = 5<<4, 2 // SYN
		binary.BigEndian.PutUint16(l4[14:], 1024)
	case UDP:
		l4 = make([]byte, 12)
		binary.BigEndian.PutUint16(l4[4:], 12)
		binary.BigEndian.PutUint32(l4[8:], id)
	default:
		l4 = make([]byte, 8)
		l4[0] = p.Type
		binary.BigEndian.PutUint32(l4[4:], id<<16|id>>16) // the identifier first: it tells flows apart
	}
	if p.Proto == TCP || p.Proto == UDP {
		binary.BigEndian.PutUint16(l4, p.SPort)
		binary.BigEndian.PutUint16(l4[2:], p.DPort)
	}
	at := map[uint8]int{TCP: 16, UDP: 6, ICMP: 2, ICMPv6: 2}[p.Proto]
	binary.BigEndian.PutUint16(l4[at:], checksum(p, l4))
	frame := append(append([]byte{}, mac...), 2, 0, 0, 0, 0, 9)
	if p.Src.Is4() {
		h := make([]byte, 20)
		h[0], h[8], h[9] = 0x45, p.TTL, p.Proto
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(l4)))
		copy(h[12:], p.Src.AsSlice())
		copy(h[16:], p.Dst.AsSlice())
		binary.BigEndian.PutUint16(h[10:], ^sum(0, h))
		return append(append(append(frame, 0x08, 0x00), h...), l4...)
	}
	h := make([]byte, 40)
	h[0], h[6], h[7] = 0x60, p.Proto, p.TTL
	binary.BigEndian.PutUint16(h[4:], uint16(len(l4)))
	copy(h[8:], p.Src.AsSlice())
	copy(h[24:], p.Dst.AsSlice())
	return append(append(append(frame, 0x86, 0xdd), h...), l4...)
}

// checksum is that of the transport header, over the pseudo header where there
// is one (RFC 1071, RFC 8200 §8.1).
func checksum(p Packet, l4 []byte) uint16 {
	if p.Proto == ICMP {
		return ^sum(0, l4)
	}
	pseudo := append(p.Src.AsSlice(), p.Dst.AsSlice()...)
	return ^sum(uint32(p.Proto)+uint32(len(l4))+uint32(sum(0, pseudo)), l4)
}

func sum(n uint32, b []byte) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		n += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return uint16(n)
}

// decode reads a frame that encode wrote, after the box changed it.
func decode(b []byte) (id uint32, src, dst netip.Addr, ok bool) {
	if len(b) < 14+28 {
		return
	}
	var proto byte
	var l4 []byte
	switch ip := b[14:]; {
	case b[12] == 0x08 && b[13] == 0x00:
		proto, l4 = ip[9], ip[20:]
		src, _ = netip.AddrFromSlice(ip[12:16])
		dst, _ = netip.AddrFromSlice(ip[16:20])
	case b[12] == 0x86 && b[13] == 0xdd && len(ip) >= 48:
		proto, l4 = ip[6], ip[40:]
		src, _ = netip.AddrFromSlice(ip[8:24])
		dst, _ = netip.AddrFromSlice(ip[24:40])
	default:
		return
	}
	at, known := map[byte]int{TCP: 4, UDP: 8, ICMP: 4, ICMPv6: 4}[proto]
	if !known || len(l4) < at+4 {
		return
	}
	id = binary.BigEndian.Uint32(l4[at:])
	if proto == ICMP || proto == ICMPv6 {
		id = id<<16 | id>>16
	}
	return id, src, dst, true
}
