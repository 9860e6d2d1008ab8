package probe

import (
	"io"
	"log/slog"
	"math"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
)

var t0 = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

func TestSeries(t *testing.T) {
	s := newSeries(64)
	at := t0
	for i := range 20 { // every 200 ms; the third of four is lost, one answer takes 50 ms
		seq := s.send(at)
		took := 10 * time.Millisecond
		if i == 13 {
			took = 50 * time.Millisecond
		}
		if i%4 != 2 {
			s.answer(seq, at.Add(took))
			s.answer(seq, at.Add(time.Second)) // repeated by the network
		}
		at = at.Add(200 * time.Millisecond)
	}
	s.answer(1000, at) // never sent
	if got := s.over(at, 2*time.Second); got.Sent != 10 || got.Lost != 3 || got.JitterMS != 40 {
		t.Errorf("over 2 s: %+v, want 3 of 10 lost and 40 ms jitter", got)
	}
	if got := s.over(at, time.Minute); got.Sent != 16 || got.Lost != 4 {
		t.Errorf("over all: %+v, want 4 of the 16 that can be judged lost", got)
	}
	if got := s.over(at.Add(time.Minute), 2*time.Second); got != (Sample{}) {
		t.Errorf("a minute later: %+v, want nothing", got)
	}
}

// A late answer mends the count, and one for a slot that is used again does not.
func TestLateAnswers(t *testing.T) {
	s := newSeries(4)
	old := s.send(t0)
	now := t0.Add(1500 * time.Millisecond)
	if got := s.over(now, 2*time.Second); got.Lost != 1 {
		t.Errorf("without an answer: %+v", got)
	}
	s.answer(old, now)
	if got := s.over(now, 2*time.Second); got.Lost != 0 || got.LatencyMS != 1500 {
		t.Errorf("with a late answer: %+v", got)
	}
	for range 4 {
		s.send(now)
	}
	s.answer(old, now)
	if got := s.over(now.Add(patience), 2*time.Second); got.Lost != 4 {
		t.Errorf("an answer to an old probe counts: %+v", got)
	}
}

// The ring says what a list of all probes says.
func TestSeriesTwin(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		const size = 32
		s := newSeries(size)
		var all []shot
		now := t0
		for range rapid.IntRange(1, 80).Draw(r, "probes") {
			now = now.Add(time.Duration(rapid.IntRange(1, 400).Draw(r, "pause")) * time.Millisecond)
			all = append(all, shot{seq: s.send(now), sent: now})
			if i := len(all) - 1 - rapid.IntRange(0, 5).Draw(r, "back"); i >= 0 && !all[i].back {
				all[i].back, all[i].took = true, now.Sub(all[i].sent)
				s.answer(all[i].seq, now)
			}
		}
		span := time.Duration(rapid.IntRange(100, 5000).Draw(r, "span")) * time.Millisecond
		got := s.over(now, span)
		var want Sample
		for _, p := range all[max(0, len(all)-size):] {
			if age := now.Sub(p.sent); age >= patience && age < patience+span {
				want.Sent++
				if !p.back {
					want.Lost++
				}
			}
		}
		if got.Sent != want.Sent || got.Lost != want.Lost {
			r.Fatalf("%+v, want %+v", got, want)
		}
	})
}

// What is not an answer to our probe, from where we sent it, is dropped.
func TestForeignAnswers(t *testing.T) {
	remote := netip.MustParseAddr("172.16.0.1")
	p := &Prober{cfg: Config{Interval: time.Second, Window: time.Second, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}, nonce: 7, paths: map[string]*path{}, changed: make(chan struct{}, 1)}
	p.check.ok = map[string]time.Time{}
	p.Update([]Target{{Tunnel: "a", Dev: "lo", Local: netip.MustParseAddr("172.16.0.0"), Remote: remote}}, edge.Contract{}, netip.Addr{})
	seq := p.paths["a"].series.send(time.Now().Add(-1200 * time.Millisecond))
	reply := func(nonce byte, to netip.Addr, typ ipv4.ICMPType) []byte {
		data := make([]byte, payload)
		data[7], data[15] = nonce, byte(seq)
		a := to.As4()
		copy(data[8:], a[:])
		b, err := (&icmp.Message{Type: typ, Body: &icmp.Echo{ID: 7, Data: data}}).Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	other := netip.MustParseAddr("172.16.0.3")
	for name, try := range map[string]struct {
		src  netip.Addr
		data []byte
	}{
		"other nonce":  {remote, reply(8, remote, ipv4.ICMPTypeEchoReply)},
		"other source": {other, reply(7, remote, ipv4.ICMPTypeEchoReply)},
		"other target": {other, reply(7, other, ipv4.ICMPTypeEchoReply)},
		"a request":    {remote, reply(7, remote, ipv4.ICMPTypeEcho)},
		"short":        {remote, []byte{0, 0, 0}},
		"empty":        {remote, nil},
	} {
		p.answer(try.src, try.data, time.Now())
		if got := p.Quality("a"); got.LossRatio != 1 {
			t.Errorf("%s was taken: %+v", name, got)
		}
	}
	p.answer(remote, reply(7, remote, ipv4.ICMPTypeEchoReply), time.Now())
	if got := p.Quality("a"); got.LossRatio != 0 || got.LatencyMS < 1000 {
		t.Errorf("our answer was not taken: %+v", got)
	}
	if got := p.Quality("b"); got.LossRatio != 1 {
		t.Errorf("an unknown tunnel: %+v", got)
	}
}

// In a long run every tunnel is probed as often as it deserves, and few at once.
func TestPace(t *testing.T) {
	for _, tt := range []struct {
		ridden, others int
		quick          time.Duration
	}{
		{1, 0, 200 * time.Millisecond},
		{1, 5, 200 * time.Millisecond},
		{20, 0, 200 * time.Millisecond},
		{20, 20, 200 * time.Millisecond},
		{45, 90, 450 * time.Millisecond},
		{100, 0, time.Second},
		{0, 4, 0},
		{0, 90, 0},
		{0, 400, 0},
		{3, 400, 200 * time.Millisecond},
	} {
		p := &Prober{cfg: Config{Interval: 200 * time.Millisecond}, ridden: map[string]bool{}, changed: make(chan struct{}, 1)}
		for i := range tt.ridden + tt.others {
			x := &path{Target: Target{Tunnel: strconv.Itoa(i)}}
			p.order = append(p.order, x)
			p.ridden[x.Tunnel] = i < tt.ridden
		}
		p.sort()
		probed, took := map[string]int{}, time.Duration(0)
		for i := 0; took < time.Minute; i++ {
			now, pause := p.turn(i)
			took += pause
			if len(now) > 2*burst {
				t.Fatalf("%+v: %d are probed at once", tt, len(now))
			}
			for _, x := range now {
				probed[x.Tunnel]++
			}
		}
		for i, x := range p.order {
			every := slowest
			if i < tt.ridden {
				every = tt.quick
			}
			if got := p.interval(x.Tunnel); got != every {
				t.Fatalf("%+v: tunnel %d deserves %s, want %s", tt, i, got, every)
			}
			if want := time.Minute.Seconds() / every.Seconds(); math.Abs(float64(probed[x.Tunnel])-want) > 0.1*want {
				t.Fatalf("%+v: tunnel %d was probed %d times in a minute, want %.0f", tt, i, probed[x.Tunnel], want)
			}
		}
	}
}

// One spike in a window of fifty is no jitter; three are (RFC 5481: the 95th
// percentile).
func TestJitterIsAPercentile(t *testing.T) {
	for spikes, want := range map[int]float64{0: 0, 1: 0, 2: 0, 3: 60} {
		s, at := newSeries(64), time.Date(2026, 7, 1, 8, 0, 0, 0, time.UTC)
		for i := range 50 {
			took := 10 * time.Millisecond
			if i < spikes {
				took = 70 * time.Millisecond
			}
			s.answer(s.send(at), at.Add(took))
			at = at.Add(200 * time.Millisecond)
		}
		if got := s.over(at.Add(time.Second), 20*time.Second); got.JitterMS != want || got.Sent != 50 {
			t.Errorf("%d spikes: %+v, want %.0f ms", spikes, got, want)
		}
	}
}

func TestOften(t *testing.T) {
	for _, tt := range []struct {
		every []time.Duration
		want  time.Duration
	}{
		{[]time.Duration{0}, 300 * time.Millisecond},
		{[]time.Duration{50 * time.Millisecond}, 300 * time.Millisecond},
		{[]time.Duration{500 * time.Millisecond, 2 * time.Second}, 500 * time.Millisecond},
		{[]time.Duration{2 * time.Second, 3 * time.Second}, time.Second},
	} {
		p := &Prober{cfg: Config{Interval: 300 * time.Millisecond}, changed: make(chan struct{}, 1)}
		var ride []string
		for i, e := range tt.every {
			ride = append(ride, strconv.Itoa(i))
			p.order = append(p.order, &path{Target: Target{Tunnel: strconv.Itoa(i), Every: e}})
		}
		p.Ride(ride)
		if p.every != tt.want {
			t.Errorf("%v: every %s, want %s", tt.every, p.every, tt.want)
		}
		p.Ride(nil)
		if len(p.quick) != 0 || len(p.slow) != len(tt.every) {
			t.Errorf("%v: %d are probed quickly with nothing on them", tt.every, len(p.quick))
		}
	}
}
