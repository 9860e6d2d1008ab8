package inventory

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
)

// sharedSpace is RFC 6598, which carriers use on our WAN ports.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// SegmentPrefixes is the fixed cut of a site's blocks: segment n (the order of
// [SegmentKinds]) gets the n-th eighth of the IPv4 block (a /23 of a /20) and
// the n-th /64 of the IPv6 block, whose upper half of a /60 stays free. A
// family whose site block is the zero Prefix gives the zero Prefix. An error
// wraps [ErrInvalid]: unknown kind or block too small.
func SegmentPrefixes(site4, site6 netip.Prefix, kind SegmentKind) (v4, v6 netip.Prefix, err error) {
	n := segmentIndex(kind)
	if n == len(SegmentKinds) {
		return v4, v6, fmt.Errorf("%w: cut segment %q: unknown kind", ErrInvalid, kind)
	}
	if site4.IsValid() {
		if !site4.Addr().Is4() || site4.Bits() > maxSite4Bits {
			return v4, v6, fmt.Errorf("%w: cut segment %s out of %s: want an IPv4 block of /%d or larger", ErrInvalid, kind, site4, maxSite4Bits)
		}
		v4 = block(site4, site4.Bits()+3, uint64(n))
	}
	if site6.IsValid() {
		if !site6.Addr().Is6() || site6.Bits() > maxSite6Bits {
			return v4, v6, fmt.Errorf("%w: cut segment %s out of %s: want an IPv6 block of /%d or larger", ErrInvalid, kind, site6, maxSite6Bits)
		}
		v6 = block(site6, 64, uint64(n))
	}
	return v4, v6, nil
}

// Blocks must leave at least a /28 and a /64 to each of the eight segments.
const (
	maxSite4Bits = 25
	maxSite6Bits = 61
)

// TunnelEnds splits a tunnel's /31 (RFC 3021): the edge has the even address,
// the hub the odd one.
func TunnelEnds(link netip.Prefix) (edge, hub netip.Addr) {
	edge = link.Masked().Addr()
	return edge, edge.Next()
}

// block returns the n-th prefix of length length inside p. The caller keeps n
// below 1<<(length-p.Bits()).
func block(p netip.Prefix, length int, n uint64) netip.Prefix {
	return netip.PrefixFrom(advance(p.Masked().Addr(), length, n), length)
}

// advance adds n blocks of the given length to a.
func advance(a netip.Addr, length int, n uint64) netip.Addr {
	if a.Is4() {
		b := a.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n<<(32-length)))
		return netip.AddrFrom4(b)
	}
	b := a.As16()
	shift := 128 - length
	var addHi, addLo uint64
	if shift >= 64 {
		addHi = n << (shift - 64)
	} else {
		addLo = n << shift
		addHi = n >> (64 - shift) // 0 for shift 0: Go shifts by 64 give 0
	}
	lo, carry := bits.Add64(binary.BigEndian.Uint64(b[8:]), addLo, 0)
	hi, _ := bits.Add64(binary.BigEndian.Uint64(b[:8]), addHi, carry)
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	return netip.AddrFrom16(b)
}

// indexOf is the number of the block of the given length in p that holds a,
// which must lie in p; length-p.Bits() must be below 64.
func indexOf(p netip.Prefix, length int, a netip.Addr) uint64 {
	base := p.Masked().Addr()
	if a.Is4() {
		x, y := a.As4(), base.As4()
		return uint64(binary.BigEndian.Uint32(x[:])-binary.BigEndian.Uint32(y[:])) >> (32 - length)
	}
	x, y := a.As16(), base.As16()
	lo, borrow := bits.Sub64(binary.BigEndian.Uint64(x[8:]), binary.BigEndian.Uint64(y[8:]), 0)
	hi, _ := bits.Sub64(binary.BigEndian.Uint64(x[:8]), binary.BigEndian.Uint64(y[:8]), borrow)
	if shift := 128 - length; shift < 64 {
		return hi<<(64-shift) | lo>>shift
	} else {
		return hi >> (shift - 64)
	}
}

// contains says whether inner lies wholly inside outer.
func contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}
