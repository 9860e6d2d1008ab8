package tool

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Every request ends exactly once, whatever the network does, and the summary
// is what was heard.
func TestPingEndsEveryRequestOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := pingSpec{
			count:    rapid.IntRange(1, 20).Draw(t, "count"),
			interval: ms(rapid.IntRange(100, 1000).Draw(t, "interval")),
			wait:     ms(rapid.IntRange(1, 5000).Draw(t, "wait")),
		}
		start := time.Unix(1e9, 0)
		now, p := start, newPinging(spec, start)
		ended, sent := map[int]int{}, map[int]time.Time{}
		var times []time.Duration
		for !p.done() {
			for _, seq := range p.late(now) {
				if now.Sub(sent[seq]) < spec.wait {
					t.Fatalf("%d was given up after %s", seq, now.Sub(sent[seq]))
				}
				ended[seq]++
			}
			if seq, ok := p.due(now); ok {
				if seq != len(sent)+1 || seq > 1 && now.Sub(sent[seq-1]) < spec.interval {
					t.Fatalf("%d is sent at %s", seq, now.Sub(start))
				}
				sent[seq] = now
			}
			if p.done() {
				break
			}
			wake := p.wake()
			if wake.IsZero() {
				t.Fatal("nothing to wait for")
			}
			switch seq := rapid.IntRange(0, spec.count+1).Draw(t, "seq"); rapid.IntRange(0, 3).Draw(t, "event") {
			case 0:
				now = now.Add(ms(rapid.IntRange(0, 50).Draw(t, "sooner")))
				if rtt, ok := p.answer(seq, now); ok {
					times = append(times, rtt)
					ended[seq]++
				}
			case 1:
				if p.fail(seq) {
					ended[seq]++
				}
			default:
				if wake.After(now) {
					now = wake
				}
			}
			if now.Sub(start) > time.Hour {
				t.Fatal("it never ends")
			}
		}
		for seq := 1; seq <= spec.count; seq++ {
			if ended[seq] != 1 {
				t.Fatalf("%d ended %d times", seq, ended[seq])
			}
		}
		s := p.summary()
		if int(s.Sent) != spec.count || int(s.Received) != len(times) || len(ended) != spec.count {
			t.Fatalf("%v of %d, %d answers", s, spec.count, len(times))
		}
		if len(times) > 0 && (s.MinTimeNs > s.AvgTimeNs || s.AvgTimeNs > s.MaxTimeNs || s.StdDevNs > s.MaxTimeNs) {
			t.Fatalf("%v", s)
		}
	})
}

func TestPingSummaryByHand(t *testing.T) {
	p := newPinging(pingSpec{count: 3, interval: ms(100), wait: ms(1000)}, time.Unix(0, 0))
	for i, rtt := range []int{10, 20, 30} {
		now := time.Unix(0, 0).Add(ms(100 * i))
		seq, ok := p.due(now)
		if _, answered := p.answer(seq, now.Add(ms(rtt))); !ok || !answered {
			t.Fatal(seq, ok, answered)
		}
	}
	if s := p.summary(); s.MinTimeNs != 10e6 || s.AvgTimeNs != 20e6 || s.MaxTimeNs != 30e6 || s.StdDevNs < 8.1e6 || s.StdDevNs > 8.2e6 {
		t.Error(s)
	}
}

// path is a network as a traceroute meets it: which hop ends it and how, and
// who is silent.
type path struct {
	length int    // hops to where it ends; more than the most: nowhere
	state  string // of the end
	silent map[int]bool
}

func TestTraceTellsThePathInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := traceSpec{hops: rapid.IntRange(1, 64).Draw(t, "hops"), probes: rapid.IntRange(1, 5).Draw(t, "probes"), wait: ms(rapid.IntRange(1, 3000).Draw(t, "wait"))}
		net := path{length: rapid.IntRange(1, 70).Draw(t, "length"), state: rapid.SampledFrom([]string{reached, "prohibited"}).Draw(t, "state"), silent: map[int]bool{}}
		for _, hop := range rapid.SliceOf(rapid.IntRange(1, 70)).Draw(t, "silent") {
			net.silent[hop] = true
		}
		start := time.Unix(1e9, 0)
		now, tr := start, newTracing(spec)
		flying := map[int]int{} // hop by sequence
		told := 0
		for !tr.done() {
			tr.expire(now)
			for {
				seq, hop, ok := tr.due(now)
				if !ok {
					break
				}
				if flying[seq] = hop; len(tr.sent) > inFlight || hop > spec.hops {
					t.Fatalf("%d probes on their way, hop %d", len(tr.sent), hop)
				}
			}
			for _, r := range tr.take() {
				if int(r.Hop) != told/spec.probes+1 || int(r.Probe) != told%spec.probes+1 {
					t.Fatalf("probe %d of hop %d is told after %d", r.Probe, r.Hop, told)
				}
				told++
			}
			if tr.done() {
				break
			}
			var seqs []int
			for seq := 1; seq < tr.next; seq++ {
				if _, ok := flying[seq]; ok {
					seqs = append(seqs, seq)
				}
			}
			if len(seqs) > 0 && rapid.Bool().Draw(t, "answers") {
				seq := rapid.SampledFrom(seqs).Draw(t, "seq")
				hop := flying[seq]
				delete(flying, seq)
				now = now.Add(time.Microsecond)
				switch {
				case net.silent[hop]:
				case hop < net.length:
					tr.end(seq, now, "192.0.2.1", "")
				default: // the destination answers every hop from its own on
					tr.end(seq, now, "192.0.2.9", net.state)
				}
			} else if wake := tr.wake(); wake.After(now) {
				now = wake
			}
			if now.Sub(start) > 5*time.Minute {
				t.Fatal("it never ends")
			}
		}
		if told != tr.last*spec.probes || tr.last > spec.hops || tr.last < min(net.length, spec.hops) {
			t.Fatalf("%d probes told of %d hops, the path has %d", told, tr.last, net.length)
		}
	})
}

func TestTraceEndsAtTheNearestAnswer(t *testing.T) {
	tr := newTracing(traceSpec{hops: 30, probes: 1, wait: ms(1000)})
	now := time.Unix(0, 0)
	for range inFlight {
		tr.due(now)
	}
	if _, _, ok := tr.due(now); ok {
		t.Fatal("more on their way than may be")
	}
	tr.end(3, now, "192.0.2.9", reached) // before hop 2 is heard of
	tr.end(1, now.Add(ms(7)), "192.0.2.1", "")
	tr.end(3, now, "192.0.2.9", reached) // a duplicate
	if got := tr.take(); len(got) != 1 || got[0].TimeNs != 7e6 || tr.done() {
		t.Fatal(got)
	}
	tr.expire(now.Add(ms(1000)))
	got := tr.take()
	if len(got) != 2 || got[0].Address != "" || got[1].State != reached || !tr.done() || len(tr.take()) > 0 {
		t.Fatal(got)
	}
}
