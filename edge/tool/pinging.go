package tool

import (
	"math"
	"time"

	"github.com/wardnet/wardnet/edge/gnoi"
)

// pinging is the state of one ping. It has no clock and no socket: every
// sequence number from 1 to count is sent once and ends once, in an answer, an
// error or silence.
type pinging struct {
	spec     pingSpec
	next     int // sequence to send
	at       time.Time
	open     map[int]time.Time // sent, by sequence
	received int
	min, max time.Duration
	sum, sq  float64 // of round trips, ns and ns²
}

func newPinging(spec pingSpec, start time.Time) *pinging {
	return &pinging{spec: spec, next: 1, at: start, open: map[int]time.Time{}}
}

// due returns the sequence to send at now, if it is time.
func (p *pinging) due(now time.Time) (seq int, ok bool) {
	if p.next > p.spec.count || now.Before(p.at) {
		return 0, false
	}
	seq = p.next
	p.next, p.at = p.next+1, now.Add(p.spec.interval)
	p.open[seq] = now
	return seq, true
}

// answer takes the echo reply to seq; ok is false where none is waited for.
func (p *pinging) answer(seq int, now time.Time) (rtt time.Duration, ok bool) {
	sent, ok := p.open[seq]
	if !ok {
		return 0, false
	}
	delete(p.open, seq)
	rtt = max(now.Sub(sent), 1)
	if p.received++; p.received == 1 {
		p.min = rtt
	}
	p.min, p.max = min(p.min, rtt), max(p.max, rtt)
	p.sum, p.sq = p.sum+float64(rtt), p.sq+float64(rtt)*float64(rtt)
	return rtt, true
}

// fail ends seq without an answer; ok is false where it had ended.
func (p *pinging) fail(seq int) (ok bool) {
	_, ok = p.open[seq]
	delete(p.open, seq)
	return ok
}

// late ends the sequences that waited long enough, lowest first.
func (p *pinging) late(now time.Time) []int {
	var out []int
	for seq := 1; seq < p.next; seq++ {
		if sent, ok := p.open[seq]; ok && now.Sub(sent) >= p.spec.wait {
			delete(p.open, seq)
			out = append(out, seq)
		}
	}
	return out
}

// wake is when something is to do if nothing is heard before.
func (p *pinging) wake() time.Time {
	var at time.Time
	if p.next <= p.spec.count {
		at = p.at
	}
	for _, sent := range p.open {
		if end := sent.Add(p.spec.wait); at.IsZero() || end.Before(at) {
			at = end
		}
	}
	return at
}

func (p *pinging) done() bool { return p.next > p.spec.count && len(p.open) == 0 }

func (p *pinging) summary() *gnoi.PingSummary {
	s := &gnoi.PingSummary{Sent: uint32(p.next - 1), Received: uint32(p.received)}
	if n := float64(p.received); n > 0 {
		mean := p.sum / n
		s.MinTimeNs, s.MaxTimeNs, s.AvgTimeNs = uint64(p.min), uint64(p.max), uint64(mean)
		s.StdDevNs = uint64(math.Sqrt(max(p.sq/n-mean*mean, 0)))
	}
	return s
}
