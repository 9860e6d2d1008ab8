package tool

import (
	"time"

	"github.com/wardnet/wardnet/edge/gnoi"
)

// inFlight is how many probes of a traceroute are on their way at once.
const inFlight = 8

// reached is the state of a probe that the destination answered.
const reached = "reached"

// tracing is the state of one traceroute. It has no clock and no socket. A
// probe's sequence number is its place: hops rise, then probes. The path ends
// at the nearest hop that answered with more than "in transit".
type tracing struct {
	spec  traceSpec
	next  int // sequence to send, from 1
	last  int // hop the path ends at, as far as known
	told  int // sequences reported, all in order
	sent  map[int]time.Time
	ended map[int]*gnoi.TracerouteReply
}

func newTracing(spec traceSpec) *tracing {
	return &tracing{spec: spec, next: 1, last: spec.hops, sent: map[int]time.Time{}, ended: map[int]*gnoi.TracerouteReply{}}
}

func (t *tracing) hop(seq int) int { return (seq-1)/t.spec.probes + 1 }

// due returns the next probe to send, if there is room for one.
func (t *tracing) due(now time.Time) (seq, hop int, ok bool) {
	if hop = t.hop(t.next); hop > t.last || len(t.sent) >= inFlight {
		return 0, 0, false
	}
	seq = t.next
	t.next++
	t.sent[seq] = now
	return seq, hop, true
}

// end takes what became of a probe: who answered (empty: nobody) and the state.
func (t *tracing) end(seq int, now time.Time, address, state string) {
	sent, ok := t.sent[seq]
	if !ok {
		return
	}
	delete(t.sent, seq)
	r := &gnoi.TracerouteReply{Hop: uint32(t.hop(seq)), Probe: uint32((seq-1)%t.spec.probes + 1), Address: address, State: state}
	if address != "" {
		r.TimeNs = uint64(max(now.Sub(sent), 1))
	}
	t.ended[seq] = r
	if state != "" {
		t.last = min(t.last, t.hop(seq))
	}
}

// expire ends the probes that waited long enough.
func (t *tracing) expire(now time.Time) {
	for seq, sent := range t.sent {
		if now.Sub(sent) >= t.spec.wait {
			t.end(seq, now, "", "")
		}
	}
}

// take returns the probes that can be told now, in order, each once.
func (t *tracing) take() []*gnoi.TracerouteReply {
	var out []*gnoi.TracerouteReply
	for !t.done() && t.ended[t.told+1] != nil {
		t.told++
		out = append(out, t.ended[t.told])
		delete(t.ended, t.told)
	}
	return out
}

// wake is when something is to do if nothing is heard before.
func (t *tracing) wake() time.Time {
	var at time.Time
	for _, sent := range t.sent {
		if end := sent.Add(t.spec.wait); at.IsZero() || end.Before(at) {
			at = end
		}
	}
	return at
}

func (t *tracing) done() bool { return t.told >= t.last*t.spec.probes }
