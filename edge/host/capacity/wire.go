package capacity

import (
	"encoding/binary"
	"errors"
	"time"
)

// A datagram is, in network byte order: magic (4 bytes), kind (1), zero (1),
// number of packets in the train (2), session (8), train (4), number of this
// packet from 0 (2), zero (2). In a train, zeroes follow up to the length of
// its packets. In an answer the time of arrival of each packet of the train
// follows, microseconds since the first that came, 4 bytes each, never for one
// that did not; then nothing.
const (
	magic  = 0x776e6361 // "wnca"
	header = 24
	stamp  = 4 // bytes of one time of arrival
	never  = 0xffffffff

	kindTrain  = 1
	kindAnswer = 2

	// longest train, packets: its answer still fits into one of its packets.
	longest = 256
	// payload of a train's packets, bytes: the tunnels of every circuit carry it
	// whole, the smallest MTU being 1280.
	payload = 1200
)

var errForeign = errors.New("not a datagram of a capacity measurement")

// head is what the datagrams of one train have in common.
type head struct {
	session uint64
	train   uint32
	count   int // packets in the train
}

// putTrain writes packet number seq of a train into b, whose rest is as it was.
func putTrain(b []byte, h head, seq int) {
	put(b, kindTrain, h)
	binary.BigEndian.PutUint16(b[20:], uint16(seq))
}

func put(b []byte, kind byte, h head) {
	binary.BigEndian.PutUint32(b, magic)
	b[4], b[5] = kind, 0
	binary.BigEndian.PutUint16(b[6:], uint16(h.count))
	binary.BigEndian.PutUint64(b[8:], h.session)
	binary.BigEndian.PutUint32(b[16:], h.train)
	binary.BigEndian.PutUint32(b[20:], 0)
}

// answer is the answer to a train whose packets came at these times, by number;
// negative: not at all.
func answer(h head, at []time.Duration) []byte {
	b := make([]byte, header+stamp*len(at))
	put(b, kindAnswer, h)
	for i, d := range at {
		us := uint32(never)
		if d >= 0 {
			us = uint32(min(d.Microseconds(), never-1))
		}
		binary.BigEndian.PutUint32(b[header+stamp*i:], us)
	}
	return b
}

// parse reads the head of a datagram, and the packet's number in a train. A
// train's packet is at least as long as its answer will be.
func parse(b []byte) (kind byte, h head, seq int, err error) {
	if len(b) < header || binary.BigEndian.Uint32(b) != magic {
		return 0, head{}, 0, errForeign
	}
	kind = b[4]
	h = head{session: binary.BigEndian.Uint64(b[8:]), train: binary.BigEndian.Uint32(b[16:]), count: int(binary.BigEndian.Uint16(b[6:]))}
	seq = int(binary.BigEndian.Uint16(b[20:]))
	long := header + stamp*h.count
	switch {
	case h.count < 2 || h.count > longest || seq >= h.count:
	case kind == kindTrain && len(b) >= long, kind == kindAnswer && len(b) == long && seq == 0:
		return kind, h, seq, nil
	}
	return 0, head{}, 0, errForeign
}

// arrivals are the times in an answer that parse took, of what arrived.
func arrivals(b []byte) []time.Duration {
	var out []time.Duration
	for b = b[header:]; len(b) >= stamp; b = b[stamp:] {
		if us := binary.BigEndian.Uint32(b); us != never {
			out = append(out, time.Duration(us)*time.Microsecond)
		}
	}
	return out
}
