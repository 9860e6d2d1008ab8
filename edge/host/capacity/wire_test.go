package capacity

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func FuzzParse(f *testing.F) {
	b := make([]byte, payload)
	putTrain(b, head{session: 1, train: 2, count: 48}, 7)
	f.Add(b)
	f.Add(answer(head{session: 1, train: 2, count: 3}, []time.Duration{0, -1, time.Millisecond}))
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, h, seq, err := parse(b)
		if err != nil {
			return
		}
		if h.count < 2 || h.count > longest || seq < 0 || seq >= h.count {
			t.Fatalf("%+v, packet %d", h, seq)
		}
		if kind == kindAnswer && len(arrivals(b)) > h.count {
			t.Fatalf("%d arrivals of %d packets", len(arrivals(b)), h.count)
		}
		if kind == kindTrain && len(answer(h, make([]time.Duration, h.count))) > len(b) {
			t.Fatal("the answer is longer than one packet of the train")
		}
	})
}

func TestWireRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := head{session: rapid.Uint64().Draw(t, "session"), train: rapid.Uint32().Draw(t, "train"), count: rapid.IntRange(2, longest).Draw(t, "count")}
		b := bytes.Repeat([]byte{0xaa}, payload)
		seq := rapid.IntRange(0, h.count-1).Draw(t, "seq")
		putTrain(b, h, seq)
		if kind, got, n, err := parse(b); err != nil || kind != kindTrain || got != h || n != seq {
			t.Fatalf("%d, %+v, %d, %v", kind, got, n, err)
		}
		var want []time.Duration
		at := make([]time.Duration, h.count)
		for i := range at {
			if at[i] = -1; rapid.Bool().Draw(t, "came") {
				at[i] = time.Duration(rapid.IntRange(0, 4_000_000).Draw(t, "us")) * time.Microsecond
				want = append(want, at[i])
			}
		}
		a := answer(h, at)
		if kind, got, _, err := parse(a); err != nil || kind != kindAnswer || got != h || !slices.Equal(arrivals(a), want) {
			t.Fatalf("%d, %+v, %v: %v, want %v", kind, got, err, arrivals(a), want)
		}
	})
}

// Whatever comes, a hub answers known peers only, each train once, no more
// bytes than one of its packets had, no more trains than the rest allows, and it
// holds no more than one train of each peer.
func TestCollectorIsBounded(t *testing.T) {
	known := []netip.Addr{netip.MustParseAddr("172.17.0.0"), netip.MustParseAddr("172.17.0.2")}
	stranger := netip.MustParseAddr("172.17.0.4")
	rapid.Check(t, func(t *rapid.T) {
		var c collector
		c.know(known)
		now := time.Unix(1000, 0)
		begin := now
		answered := map[netip.Addr]int{}
		seen := map[netip.Addr]map[head]bool{known[0]: {}, known[1]: {}}
		for range rapid.IntRange(1, 400).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "ms")) * time.Millisecond)
			h := head{session: rapid.Uint64Range(0, 2).Draw(t, "session"), train: rapid.Uint32Range(0, 50).Draw(t, "train"), count: rapid.IntRange(2, longest).Draw(t, "count")}
			c.take(rapid.SampledFrom(append(known, stranger)).Draw(t, "peer"), h, rapid.IntRange(0, h.count-1).Draw(t, "seq"), now)
			over, next := c.due(now)
			if !next.IsZero() && (!next.After(now) || next.Sub(now) > patience) {
				t.Fatalf("due again after %s", next.Sub(now))
			}
			for _, r := range over {
				_, h, _, err := parse(r.body)
				if err != nil || len(r.body) > payload || !slices.Contains(known, r.to) || len(arrivals(r.body)) == 0 {
					t.Fatalf("answer %+v to %s: %v", h, r.to, err)
				}
				seen[r.to][h] = true
				answered[r.to]++
			}
		}
		if len(c.peers) != len(known) {
			t.Fatalf("%d peers are kept", len(c.peers))
		}
		for p, n := range answered {
			if most := int(now.Sub(begin)/rest) + 1; n > most {
				t.Fatalf("%s got %d answers in %s", p, n, now.Sub(begin))
			}
		}
		c.know(nil)
		if over, next := c.due(now.Add(time.Hour)); len(over) > 0 || !next.IsZero() {
			t.Fatal("who is known no more is answered")
		}
	})
}

// A train that came whole is answered with its times, in any order of arrival,
// and repeated packets change nothing.
func TestCollectorAnswers(t *testing.T) {
	peer := netip.MustParseAddr("172.17.0.0")
	var c collector
	c.know([]netip.Addr{peer})
	start := time.Unix(1000, 0)
	h := head{session: 9, train: 1, count: 4}
	for i, seq := range []int{1, 0, 3, 1} {
		c.take(peer, h, seq, start.Add(time.Duration(i)*time.Millisecond))
	}
	if over, next := c.due(start.Add(100 * time.Millisecond)); len(over) > 0 || next != start.Add(2*time.Millisecond+silence) {
		t.Errorf("%d answers already, the next at %s", len(over), next)
	}
	over, _ := c.due(start.Add(time.Second))
	if len(over) != 1 || over[0].to != peer {
		t.Fatalf("%+v", over)
	}
	want := []time.Duration{time.Millisecond, 0, 2 * time.Millisecond}
	if got := arrivals(over[0].body); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	c.take(peer, h, 2, start.Add(2*time.Second)) // far too late: the train is over
	if over, next := c.due(start.Add(time.Minute)); len(over) > 0 || !next.IsZero() {
		t.Error("an old train is answered again")
	}
}
