package netlab

import (
	"encoding/binary"
	"net/netip"
)

// plus is the IPv4 address n behind a.
func plus(a netip.Addr, n int) netip.Addr {
	b := a.As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n))
	return netip.AddrFrom4(b)
}

// distance is how far the IPv4 address b lies behind a.
func distance(a, b netip.Addr) int {
	x, y := a.As4(), b.As4()
	return int(binary.BigEndian.Uint32(y[:])) - int(binary.BigEndian.Uint32(x[:]))
}

// lastBlock is the last block of a length in the IPv4 prefix p: where a legacy
// prefix of that length is translated to.
func lastBlock(p netip.Prefix, bits int) netip.Prefix {
	return netip.PrefixFrom(plus(p.Masked().Addr(), 1<<(32-p.Bits())-1<<(32-bits)), bits)
}
