package capacity

import (
	"net/netip"
	"time"
)

const (
	// silence after which a train is over.
	silence = 300 * time.Millisecond
	// patience is how long a train may take in all.
	patience = 4 * time.Second
	// rest is the least time between the beginnings of two trains that one peer
	// is answered.
	rest = 250 * time.Millisecond
)

// collector notes the trains of known peers, one of each at a time. It has no
// clock and does no I/O, and holds at most [longest] times for each peer.
type collector struct {
	peers map[netip.Addr]*arriving
}

// arriving is the train of a peer, or its last one.
type arriving struct {
	head
	open        bool
	first, last time.Time
	at          []time.Duration // by number; negative: not here
}

// know makes peers those who are answered.
func (c *collector) know(peers []netip.Addr) {
	next := make(map[netip.Addr]*arriving, len(peers))
	for _, p := range peers {
		if next[p] = c.peers[p]; next[p] == nil {
			next[p] = &arriving{}
		}
	}
	c.peers = next
}

// take notes packet seq of h, which came from peer at now. Of a train that
// begins while another one is noted, or too soon after it, nothing is kept.
func (c *collector) take(peer netip.Addr, h head, seq int, now time.Time) {
	a := c.peers[peer]
	if a == nil {
		return
	}
	if !a.open {
		if age := now.Sub(a.first); a.head == h || age >= 0 && age < rest {
			return
		}
		*a = arriving{head: h, open: true, first: now, last: now, at: make([]time.Duration, h.count)}
		for i := range a.at {
			a.at[i] = -1
		}
	}
	if a.head != h || a.at[seq] >= 0 {
		return
	}
	a.at[seq] = max(now.Sub(a.first), 0)
	if now.After(a.last) {
		a.last = now
	}
}

// reply is an answer to send.
type reply struct {
	to   netip.Addr
	body []byte
}

// due takes the trains that are over at now, and says when the next one is;
// zero: none is open.
func (c *collector) due(now time.Time) (over []reply, next time.Time) {
	for peer, a := range c.peers {
		if !a.open {
			continue
		}
		end := a.last.Add(silence)
		if limit := a.first.Add(patience); limit.Before(end) {
			end = limit
		}
		switch {
		case now.Before(end) && end.Sub(now) <= patience: // else the clock was set
			if next.IsZero() || end.Before(next) {
				next = end
			}
		default:
			over = append(over, reply{peer, answer(a.head, a.at)})
			a.open, a.at = false, nil
		}
	}
	return over, next
}
