package tool

import (
	"encoding/binary"
	"fmt"
)

// Sizes of a pcap file's header and of each record's (draft-ietf-opsawg-pcap).
const (
	fileHeader   = 24
	recordHeader = 16
)

// maxRecord bounds what a record may claim to hold; tcpdump cuts packets at the
// snap length.
const maxRecord = 256 << 10

// records cuts the stream of a pcap file at whole records, so that it is a valid
// file wherever it ends.
type records struct {
	limit   int // bytes of the file
	order   binary.ByteOrder
	rest    []byte // of a record that is not whole yet
	bytes   int    // given out
	packets int
	full    bool // the next record did not fit
}

// add takes the next piece of the stream and returns the records it completes.
func (r *records) add(piece []byte) ([]byte, error) {
	if r.full {
		return nil, nil
	}
	r.rest = append(r.rest, piece...)
	whole := 0
	if r.order == nil {
		if len(r.rest) < fileHeader {
			return nil, nil
		}
		switch binary.LittleEndian.Uint32(r.rest) {
		case 0xa1b2c3d4, 0xa1b23c4d: // µs, ns
			r.order = binary.LittleEndian
		case 0xd4c3b2a1, 0x4d3cb2a1:
			r.order = binary.BigEndian
		default:
			return nil, fmt.Errorf("tcpdump wrote %x, which begins no pcap file", r.rest[:4])
		}
		whole, r.bytes = fileHeader, fileHeader
	}
	for len(r.rest)-whole >= recordHeader {
		n := int(r.order.Uint32(r.rest[whole+8:]))
		if n > maxRecord {
			return nil, fmt.Errorf("tcpdump wrote a packet of %d bytes", n)
		}
		n += recordHeader
		if r.bytes+n > r.limit {
			r.full = true
			break
		}
		if len(r.rest)-whole < n {
			break
		}
		whole, r.bytes, r.packets = whole+n, r.bytes+n, r.packets+1
	}
	out := append([]byte(nil), r.rest[:whole]...)
	r.rest = append(r.rest[:0], r.rest[whole:]...)
	return out, nil
}
